//! A connection's settings: from a URL and options to one validated value. Two equal configs share one connection, so
//! everything that changes how the server is reached, or how long we wait for it, is part of the equality.

mod address;
mod credentials;
mod location;
mod sentinel;
mod ssl;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use url::Url;

pub(crate) use self::address::Address;
use self::address::HostPort;
pub(crate) use self::credentials::Provider;
pub use self::credentials::{CredentialProvider, Credentials};
use self::location::{
    NO_SCHEME, bad_url, database, decode, some_text, tcp_address, unix_address, without_userinfo,
};
pub(crate) use self::sentinel::Sentinels;
pub use self::ssl::SslOptions;
pub(crate) use self::ssl::{Identity, Tls, Verify};
use crate::error::{Error, Result};

/// A day: longer deadlines are mistakes (milliseconds given for seconds).
const LONGEST_TIMEOUT: f64 = 86_400.0;

/// Which nodes of a cluster answer calls that only read.
#[derive(Clone, Default, PartialEq, Eq, Hash, Debug)]
pub(crate) enum ReadFrom {
    #[default]
    Primary,
    /// A replica; the primary when no replica can.
    PreferReplica,
    /// A replica in this zone; the primary when there is none.
    Zone(String),
}

impl ReadFrom {
    pub(crate) fn wants_replicas(&self) -> bool {
        *self != Self::Primary
    }
}

/// What may be given beside the URL. Every field is optional; one that is given wins over the URL's.
///
/// Times are seconds, fractions allowed. It deserialises, so that a program can take it from its settings file.
#[derive(Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Options {
    /// Seconds to connect, handshake included. Default 2.
    pub connect_timeout: Option<f64>,
    /// Seconds to wait for a reply. Default 5.
    pub response_timeout: Option<f64>,
    /// The name shown by `CLIENT LIST`.
    pub client_name: Option<String>,
    /// The ACL user.
    pub username: Option<String>,
    /// Its password.
    pub password: Option<String>,
    /// The database number.
    pub db: Option<i64>,
    /// How TLS is spoken, if the URL is one with it.
    pub ssl: SslOptions,
    /// Whether a server that is one of a cluster's leads to the others. Default true. With false it is used as if it were
    /// alone.
    pub cluster: Option<bool>,
    /// Where nodes of a cluster are that announce addresses which cannot be reached from here: from `host:port` to
    /// `host:port`, or from host to host.
    pub address_map: BTreeMap<String, String>,
    /// Which nodes of a cluster answer calls that only read: `primary` (the default), `prefer_replica`, or `az`, which is a
    /// replica in the zone of `availability_zone`. A replica may be behind its primary.
    pub read_from: Option<String>,
    /// The availability zone that this process is in, as the servers name it.
    pub availability_zone: Option<String>,
}

/// A validated connection config.
///
/// ```
/// use vcache::{Config, Options};
///
/// let config = Config::from_url("redis://:secret@localhost/1")?
///     .with_options(Options { response_timeout: Some(0.25), ..Options::default() })?;
/// assert_eq!(format!("{config:?}"), "Config(localhost:6379/1)"); // no password, ever
/// # Ok::<(), vcache::Error>(())
/// ```
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Config {
    pub(crate) address: Address,
    /// None: in the clear.
    pub(crate) tls: Option<Tls>,
    pub(crate) username: Option<String>,
    pub(crate) password: Option<String>,
    /// Where these come from, if they change.
    pub(crate) provider: Option<Provider>,
    pub(crate) db: i64,
    pub(crate) client_name: Option<String>,
    pub(crate) connect_timeout: Duration,
    pub(crate) response_timeout: Duration,
    /// Whether a server that is one of a cluster's leads to the others.
    pub(crate) cluster: bool,
    /// Where nodes of a cluster are that announce other addresses.
    pub(crate) address_map: BTreeMap<String, String>,
    /// Which nodes of a cluster answer calls that only read.
    pub(crate) read_from: ReadFrom,
}

impl Config {
    /// Reads `redis://`, `valkey://` (`[user[:password]@]host[:port][/db]`), the same with TLS as `rediss://` and
    /// `valkeys://`, and `unix://` (`[user[:password]@]/path[?db=N]`) URLs. The settings of [`SslOptions`] may stand in the
    /// query, as in `rediss://host?ssl_ca_certs=/etc/ca.pem`.
    ///
    /// Several hosts, as in `redis://n1:6379,n2:6379`, are nodes of a cluster, or a primary and its replicas.
    ///
    /// With Sentinel: `redis+sentinel://`, `valkey+sentinel://` or `sentinel://`, and with TLS `rediss+sentinel://`,
    /// `valkeys+sentinel://` or `sentinels://`, as `[user[:password]@]host[:port][,host[:port]...]/service[/db]`. The user is
    /// that of the primary; the sentinels' stands in the query (`sentinel_username`, `sentinel_password`), as does what is
    /// different about their TLS (`sentinel_ssl`, `sentinel_ssl_ca_certs`, ...).
    ///
    /// # Errors
    /// [`ErrorKind::Configuration`](crate::ErrorKind::Configuration) that says which part is wrong.
    pub fn from_url(url: &str) -> Result<Self> {
        let (text, userinfo) = without_userinfo(url);
        let (text, hosts) = match location::split_hosts(url) {
            Some((text, hosts)) if hosts.len() > 1 => (text, hosts),
            Some((_, hosts)) => (text.into_owned(), hosts),
            None => (text.into_owned(), Vec::new()),
        };
        let parsed = Url::parse(&text).map_err(|error| bad_url(url, &format!("{error}")))?;
        let of_sentinel = sentinel::scheme(parsed.scheme());
        let has_tls = of_sentinel.unwrap_or(matches!(parsed.scheme(), "rediss" | "valkeys"));
        let mut ssl = SslOptions::default();
        match parsed.fragment() {
            None => {}
            // As other clients have it.
            Some("insecure") if has_tls => ssl.cert_reqs = Some("none".to_owned()),
            Some(_) => return Err(bad_url(url, "it has a '#', which has no meaning here")),
        }
        let mut db_in_path = None;
        let address = match parsed.scheme() {
            _ if of_sentinel.is_some() => {
                let (sentinels, db) = sentinel::read(&parsed, &hosts, url)?;
                db_in_path = db;
                Address::Sentinel(Box::new(sentinels))
            }
            "redis" | "valkey" | "rediss" | "valkeys" => tcp_address(&parsed, &hosts, url)?,
            "unix" | "redis+unix" | "valkey+unix" => unix_address(&parsed, url)?,
            "embedded" => {
                return Err(bad_url(
                    url,
                    "embedded:// is for Django's development servers; a Rust program gives the server's own URL",
                ));
            }
            scheme if url.contains("://") => {
                return Err(bad_url(
                    url,
                    &format!(
                        "unknown scheme '{scheme}': use redis://, rediss://, valkey://, valkeys://, unix://, \
                         redis+sentinel://, rediss+sentinel:// or embedded://"
                    ),
                ));
            }
            _ => return Err(bad_url(url, NO_SCHEME)),
        };
        let (username, password) = match userinfo {
            Some(userinfo) => {
                userinfo.split_once(':').map_or((userinfo, None), |(user, word)| (user, Some(word)))
            }
            None => (parsed.username(), parsed.password()),
        };
        let mut config = Self {
            address,
            tls: has_tls.then(Tls::default),
            username: some_text(decode(username, url, "user name")?),
            password: password.map(|p| decode(p, url, "password")).transpose()?,
            provider: None,
            db: 0,
            client_name: None,
            connect_timeout: Duration::from_secs(2),
            response_timeout: Duration::from_secs(5),
            cluster: true,
            address_map: BTreeMap::new(),
            read_from: ReadFrom::Primary,
        };
        config.db = database(&parsed, &config.address, db_in_path, url)?;
        for (name, value) in parsed.query_pairs() {
            if let Address::Sentinel(sentinels) = &mut config.address
                && sentinels.set(&name, &value).map_err(|error| bad_url(url, &error.to_string()))?
            {
                continue;
            }
            match name.as_ref() {
                "db" => {}
                "protocol" if value == "resp3" || value == "3" => {}
                "protocol" => return Err(bad_url(url, "the protocol is always RESP3")),
                "user" | "username" => config.username = some_text(value.into_owned()),
                "pass" | "password" => config.password = Some(value.into_owned()),
                "client_name" => config.client_name = Some(checked_client_name(value.into_owned())?),
                name if name.starts_with("ssl_") => {
                    ssl.set(name, &value).map_err(|error| bad_url(url, &error.to_string()))?;
                }
                other => return Err(bad_url(url, &format!("unknown parameter '{other}'"))),
            }
        }
        config.set_tls(ssl).map_err(|error| bad_url(url, &error.to_string()))?;
        Ok(config)
    }

    /// The config with these options over it.
    ///
    /// # Errors
    /// [`ErrorKind::Configuration`](crate::ErrorKind::Configuration) that names the option and its value.
    pub fn with_options(mut self, options: Options) -> Result<Self> {
        if let Some(seconds) = options.connect_timeout {
            self.connect_timeout = timeout("CONNECT_TIMEOUT", seconds)?;
        }
        if let Some(seconds) = options.response_timeout {
            self.response_timeout = timeout("RESPONSE_TIMEOUT", seconds)?;
        }
        if let Some(name) = options.client_name {
            self.client_name = Some(checked_client_name(name)?);
        }
        if let Some(db) = options.db {
            if db < 0 {
                return Err(Error::configuration(format!("DB is {db}: a database number is 0 or more")));
            }
            self.db = db;
        }
        self.username = options.username.or(self.username);
        self.password = options.password.or(self.password);
        self.set_tls(options.ssl)?;
        self.cluster = options.cluster.unwrap_or(self.cluster);
        for (from, to) in &options.address_map {
            let is_address = location::host_and_port(from).is_some();
            let is_wrong = if is_address { location::host_and_port(to).is_none() } else { to.is_empty() };
            if is_wrong {
                return Err(Error::configuration(format!(
                    "ADDRESS_MAP has '{from}': '{to}': give an address for an address, as '10.0.0.1:6379':                      'localhost:7001', or a host for a host"
                )));
            }
        }
        self.address_map.extend(options.address_map);
        self.read_from = match (options.read_from.as_deref(), options.availability_zone) {
            (None, _) => self.read_from,
            (Some("primary"), _) => ReadFrom::Primary,
            (Some("prefer_replica"), _) => ReadFrom::PreferReplica,
            (Some("az"), Some(zone)) if !zone.is_empty() => ReadFrom::Zone(zone),
            (Some("az"), _) => {
                return Err(Error::configuration(
                    "READ_FROM is 'az', and AVAILABILITY_ZONE does not say which zone this process is in",
                ));
            }
            (Some(other), _) => {
                return Err(Error::configuration(format!(
                    "READ_FROM is '{other}': it is 'primary', 'prefer_replica' or 'az'"
                )));
            }
        };
        Ok(self)
    }

    /// The config with credentials that are asked for at each connect, in place of a user name and a password.
    ///
    /// # Errors
    /// [`ErrorKind::Configuration`](crate::ErrorKind::Configuration): there is no TLS to the server, and `in_the_clear`,
    /// which allows that, is false. Sockets of this machine need none.
    pub fn with_credentials(
        mut self,
        provider: Arc<dyn CredentialProvider>,
        in_the_clear: bool,
    ) -> Result<Self> {
        if self.tls.is_none() && !self.address.is_local() && !in_the_clear {
            return Err(Error::configuration(
                "CREDENTIALS would be sent in the clear: begin the URL with rediss:// or valkeys://, or set \
                 ALLOW_PLAINTEXT_CREDENTIALS to True for a network that is yours alone",
            ));
        }
        self.provider = Some(Provider(provider));
        Ok(self)
    }

    /// Where a node of a cluster is that announces this address.
    pub(crate) fn mapped(&self, host: &str, port: u16) -> (String, u16) {
        let full = HostPort(host, port).to_string();
        if let Some(to) = self.address_map.get(&full).and_then(|to| location::host_and_port(to)) {
            return to;
        }
        (self.address_map.get(host).map_or(host, String::as_str).to_owned(), port)
    }

    /// Which certificates of the server are taken: `full` for those that a trusted CA gave to the host, `chain` for those
    /// of any host (`ssl_check_hostname=false`), `none` for all (`ssl_cert_reqs=none`). None without TLS.
    ///
    /// ```
    /// use vcache::Config;
    ///
    /// assert_eq!(Config::from_url("rediss://localhost")?.tls_verification(), Some("full"));
    /// # Ok::<(), vcache::Error>(())
    /// ```
    pub fn tls_verification(&self) -> Option<&'static str> {
        self.tls.as_ref().map(|tls| match tls.verify {
            Verify::Full => "full",
            Verify::Chain => "chain",
            Verify::Nothing => "none",
        })
    }

    fn set_tls(&mut self, options: SslOptions) -> Result<()> {
        match (self.tls.take(), options.first()) {
            (Some(tls), _) => self.tls = Some(tls.with(options)?),
            (None, None) => {}
            (None, Some(name)) => {
                return Err(Error::configuration(format!(
                    "{name} is set, but there is no TLS in the URL: begin it with rediss:// or valkeys://"
                )));
            }
        }
        if let Address::Sentinel(sentinels) = &mut self.address {
            sentinels.set_tls(self.tls.as_ref())?;
        }
        Ok(())
    }
}

impl fmt::Display for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.address)?;
        if self.db != 0 { write!(f, "/{}", self.db) } else { Ok(()) }
    }
}

impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Config({self})")
    }
}

fn timeout(option: &str, seconds: f64) -> Result<Duration> {
    if seconds.is_finite() && seconds > 0.0 && seconds <= LONGEST_TIMEOUT {
        return Ok(Duration::from_secs_f64(seconds).max(Duration::from_micros(1)));
    }
    Err(Error::configuration(format!(
        "{option} is {seconds}: give seconds above 0 and up to {LONGEST_TIMEOUT}; fractions are fine"
    )))
}

fn checked_client_name(name: String) -> Result<String> {
    if name.is_empty() || name.bytes().any(|b| !(b'!'..=b'~').contains(&b)) {
        return Err(Error::configuration(
            "CLIENT_NAME must be printable ASCII without spaces (the server accepts nothing else)",
        ));
    }
    Ok(name)
}

#[cfg(test)]
mod tests {
    use super::location::ENCODE;
    use super::*;

    fn reason(url: &str) -> String {
        Config::from_url(url).unwrap_err().to_string()
    }

    #[test]
    fn urls_of_every_scheme_are_read() {
        for (url, shown) in [
            ("redis://localhost", "localhost:6379"),
            ("redis://localhost:6380/3", "localhost:6380/3"),
            ("valkey://user:p%40ss@h/0", "h:6379"),
            ("redis://[::1]:7000", "[::1]:7000"),
            ("rediss://h/2", "h:6379/2"),
            ("valkeys://h?ssl_cert_reqs=none", "h:6379"),
            ("unix:///run/v.sock?db=2", "unix:/run/v.sock/2"),
            ("redis://:word@n1:7000,n2,[::1]:7002/3", "n1:7000,n2:6379,[::1]:7002/3"),
            ("valkey+unix:///run/v.sock", "unix:/run/v.sock"),
        ] {
            assert_eq!(Config::from_url(url).unwrap().to_string(), shown, "{url}");
        }
        let config = Config::from_url("valkey://user:p%40ss@h").unwrap();
        assert_eq!((config.username.as_deref(), config.password.as_deref()), (Some("user"), Some("p@ss")));
    }

    #[test]
    fn a_bad_url_says_what_is_wrong_and_shows_no_secret() {
        for (url, expected) in [
            ("http://:secret@h", "unknown scheme 'http'"),
            ("redis://:secret@h:99999", "invalid port"),
            ("redis://:secret@h/x", "'x' is not a database number"),
            ("redis://:secret@h/-1", "not a database number"),
            ("redis://:secret@h?nonsense=secret", "unknown parameter 'nonsense'"),
            ("unix://secret@relative/v.sock", "absolute"),
            ("rediss://:secret@h?ssl_cert_reqs=maybe", "required, optional or none"),
            ("rediss://:secret@h#secure", "'#'"),
            ("redis://:secret@h#insecure", "'#'"),
            ("redis://:secret@h?ssl_ca_certs=/ca.pem", "rediss://"),
            ("redis://:secret@", "empty host"),
            ("redis://:secret", "empty host"),
            ("redis://host:secret", "invalid port"),
            ("redis://host/0?password=secret@h&nonsense=1", "percent-encode"),
            ("redis://host/0?nonsense=1&password=a@secret", "percent-encode"),
            ("redis://host#secret", "'#'"),
            ("localhost:6379", "no scheme"),
            ("secret:word@localhost:6379", "no scheme"),
            (":secret@localhost:6379", "no scheme"),
            ("secret@h://host", "no scheme"),
        ] {
            let text = reason(url);
            assert!(text.contains(expected), "{url}: {text}");
            assert!(!text.contains("secret"), "{text}");
        }
    }

    #[test]
    fn a_password_that_is_not_encoded_gets_a_hint_and_is_not_shown_in_part() {
        for scheme in ["redis", "valkey", "unix", "redis+unix", "rediss"] {
            for user in ["", "alice", "12"] {
                for cut in ['/', '?', '#'] {
                    for (before, behind) in
                        [("se", "cr"), ("7", "8"), ("", "cret"), ("a@s", "b@t"), ("%", "=1&db=2")]
                    {
                        let host = if scheme.ends_with("unix") { "/run/v.sock" } else { "h:6379/0" };
                        let url = format!("{scheme}://{user}:{before}{cut}{behind}@{host}");
                        let text = reason(&url);
                        let shown = text.strip_prefix(&format!("bad URL {scheme}://...: ")).unwrap();
                        assert_eq!(shown, ENCODE, "{url}");
                    }
                }
            }
        }
    }

    #[test]
    fn a_socket_has_a_user_name_and_a_password_as_a_host_has() {
        for (url, username, password, path) in [
            ("unix://:pw@/run/v.sock", None, Some("pw"), "/run/v.sock"),
            ("unix://alice:p%2Fw%40@/run/v.sock", Some("alice"), Some("p/w@"), "/run/v.sock"),
            ("redis+unix://alice@/run/v.sock", Some("alice"), None, "/run/v.sock"),
            ("valkey+unix://a:b:c@d@/v@1.sock", Some("a"), Some("b:c@d"), "/v@1.sock"),
            ("unix:///run/v@1.sock", None, None, "/run/v@1.sock"),
        ] {
            let config = Config::from_url(&format!("{url}?db=3")).unwrap();
            assert_eq!(config.to_string(), format!("unix:{path}/3"), "{url}");
            assert_eq!(
                (config.username.as_deref(), config.password.as_deref()),
                (username, password),
                "{url}"
            );
        }
    }

    #[test]
    fn an_at_sign_is_as_good_as_an_encoded_one_where_it_is_clear() {
        let config = Config::from_url("redis://h/0?password=p@ss").unwrap();
        assert_eq!(config.password.as_deref(), Some("p@ss"));
        let config = Config::from_url("redis://:p@ss@h/0").unwrap();
        assert_eq!(config.password.as_deref(), Some("p@ss"));
        assert!(reason("unix:///run/v@1.sock?db=x").contains("'x' is not a database number"));
    }

    #[test]
    fn timeouts_are_positive_seconds() {
        for bad in [0.0, -1.0, f64::NAN, f64::INFINITY, 1e9] {
            let options = Options { response_timeout: Some(bad), ..Options::default() };
            let error = Config::from_url("redis://h").unwrap().with_options(options).unwrap_err();
            assert!(error.to_string().contains("RESPONSE_TIMEOUT"), "{error}");
        }
    }

    #[test]
    fn tls_is_in_the_scheme_and_how_in_query_and_options() {
        let tls = |url: &str| Config::from_url(url).unwrap().tls;
        assert!(tls("redis://h").is_none() && tls("unix:///v.sock").is_none());
        assert_eq!(tls("rediss://h").unwrap().verify, Verify::Full);
        assert_eq!(tls("rediss://h#insecure").unwrap().verify, Verify::Nothing);
        assert_eq!(tls("valkeys://h?ssl_check_hostname=false").unwrap().verify, Verify::Chain);
        let ssl = SslOptions { cert_reqs: Some("none".to_owned()), ..SslOptions::default() };
        let options = || Options { ssl: ssl.clone(), ..Options::default() };
        let config =
            Config::from_url("rediss://h?ssl_certfile=c.pem").unwrap().with_options(options()).unwrap();
        let tls = config.tls.unwrap();
        assert_eq!(tls.verify, Verify::Nothing);
        assert!(tls.identity.is_some());
        let error = Config::from_url("redis://h").unwrap().with_options(options()).unwrap_err().to_string();
        assert!(error.contains("rediss://"), "{error}");
    }

    #[test]
    fn settings_that_differ_make_configs_that_differ() {
        let base = || Config::from_url("redis://h").unwrap();
        let other = base().with_options(Options { db: Some(1), ..Options::default() }).unwrap();
        assert_eq!(base(), base());
        assert_ne!(base(), other);
    }
}
