//! URLs of Sentinel: several hosts, and the name of the primary that they watch.

use std::fmt;

use url::Url;

use super::location::{bad_url, decode, servers, some_text};
use super::ssl::flag;
use super::{HostPort, SslOptions, Tls};
use crate::error::{Error, Result};

const DEFAULT_PORT: u16 = 26_379;

/// The sentinels to ask, and for what.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(crate) struct Sentinels {
    pub(crate) hosts: Vec<(String, u16)>,
    /// What the sentinels call the primary.
    pub(crate) service: String,
    pub(crate) username: Option<String>,
    pub(crate) password: Option<String>,
    /// How TLS is spoken with them.
    pub(crate) tls: Option<Tls>,
    /// Whether TLS is spoken, if it is not as with the primary.
    has_tls: Option<bool>,
    /// What is other than with the primary.
    ssl: SslOptions,
}

impl Sentinels {
    /// Takes a parameter of the query; false if it is not one of Sentinel's.
    pub(super) fn set(&mut self, name: &str, value: &str) -> Result<bool> {
        match name {
            "sentinel_username" => self.username = some_text(value.to_owned()),
            "sentinel_password" => self.password = Some(value.to_owned()),
            "sentinel_ssl" => self.has_tls = Some(flag(name, value)?),
            "service_name" | "sentinelMasterId" => {}
            _ => match name.strip_prefix("sentinel_") {
                Some(setting) if setting.starts_with("ssl_") => self.ssl.set(setting, value)?,
                _ => return Ok(false),
            },
        }
        Ok(true)
    }

    /// TLS is spoken as with the primary, but for what was said of sentinels.
    pub(super) fn set_tls(&mut self, of_primary: Option<&Tls>) -> Result<()> {
        let has_tls = self.has_tls.unwrap_or(of_primary.is_some());
        self.tls = match (has_tls, self.ssl.first()) {
            (true, _) => Some(of_primary.cloned().unwrap_or_default().with(self.ssl.clone())?),
            (false, None) => None,
            (false, Some(name)) => {
                return Err(Error::configuration(format!(
                    "sentinel_{name} is set, but no TLS is spoken with the sentinels: set sentinel_ssl=true"
                )));
            }
        };
        Ok(())
    }
}

impl fmt::Display for Sentinels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "'{}' of sentinel ", self.service)?;
        for (number, (host, port)) in self.hosts.iter().enumerate() {
            f.write_str(if number > 0 { "," } else { "" })?;
            HostPort(host, *port).fmt(f)?;
        }
        Ok(())
    }
}

/// Whether a scheme is one of Sentinel's, and whether it has TLS.
pub(super) fn scheme(scheme: &str) -> Option<bool> {
    match scheme {
        "sentinel" | "redis+sentinel" | "valkey+sentinel" | "redis-sentinel" => Some(false),
        "sentinels" | "rediss+sentinel" | "valkeys+sentinel" | "rediss-sentinel" => Some(true),
        _ => None,
    }
}

/// Reads the hosts and the service. The path is `/service` or `/service/db`.
pub(super) fn read(parsed: &Url, hosts: &[&str], url: &str) -> Result<(Sentinels, Option<String>)> {
    let found = servers(hosts, DEFAULT_PORT, url)?;
    let mut parts = parsed.path().trim_matches('/').splitn(2, '/');
    let in_path = some_text(decode(parts.next().unwrap_or_default(), url, "name of the primary")?);
    let db = parts.next().and_then(|db| some_text(db.to_owned()));
    let query = |names: &[&str]| {
        parsed
            .query_pairs()
            .find(|(name, _)| names.contains(&name.as_ref()))
            .map(|(_, value)| value.into_owned())
    };
    let (service, db) = match (query(&["service_name", "sentinelMasterId"]), in_path) {
        // The path is the database's then.
        (Some(service), in_path) => (service, in_path.filter(|_| db.is_none()).or(db)),
        (None, Some(service)) => (service, db),
        (None, None) => {
            return Err(bad_url(
                url,
                "it has no name of a primary: sentinel://host1:26379,host2:26379/mymaster/0",
            ));
        }
    };
    let sentinels = Sentinels {
        hosts: found,
        service,
        username: None,
        password: None,
        tls: None,
        has_tls: None,
        ssl: SslOptions::default(),
    };
    Ok((sentinels, db))
}
