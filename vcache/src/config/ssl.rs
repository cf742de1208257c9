//! How TLS is spoken. The settings have the names and the meaning that they have in redis-py, and may stand in a URL's query
//! or beside it.

use std::path::PathBuf;

use serde::Deserialize;

use crate::error::{Error, Result};

/// Settings of TLS beside a `rediss://` URL. Every field is optional; one that is given wins over the URL's.
///
/// ```
/// use vcache::{Config, Options, SslOptions};
///
/// let ssl = SslOptions { ca_certs: Some("/etc/valkey/ca.pem".into()), ..SslOptions::default() };
/// let options = Options { ssl, ..Options::default() };
/// let config = Config::from_url("rediss://cache.example:6379/0")?.with_options(options)?;
/// # Ok::<(), vcache::Error>(())
/// ```
#[derive(Clone, Default, PartialEq, Eq, Hash, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SslOptions {
    /// `required`, the default; `optional`, which is the same for a client; or `none`: every certificate is
    /// taken. The connection is then encrypted, but who comes between here and the server can read it.
    pub cert_reqs: Option<String>,
    /// Whether the certificate must be one for the URL's host. Default true.
    pub check_hostname: Option<bool>,
    /// A PEM file with the certificates to trust, in place of the system's.
    pub ca_certs: Option<PathBuf>,
    /// A folder of such files, named by hash as OpenSSL has them.
    pub ca_path: Option<PathBuf>,
    /// Their text.
    pub ca_data: Option<String>,
    /// A PEM file with the client's certificate, and those of the CAs between it and the one that the server trusts.
    pub certfile: Option<PathBuf>,
    /// A PEM file with its private key, not encrypted. Default: the key is in `certfile`.
    pub keyfile: Option<PathBuf>,
    /// `TLSv1_2`, the default, or `TLSv1_3`.
    pub min_version: Option<String>,
}

impl SslOptions {
    /// Sets one by its name in redis-py, such as `ssl_ca_certs`.
    ///
    /// # Errors
    /// [`ErrorKind::Configuration`](crate::ErrorKind::Configuration): there is no such setting, or it has no such value.
    pub fn set(&mut self, name: &str, value: &str) -> Result<()> {
        let path = || Some(PathBuf::from(value));
        match name {
            "ssl_cert_reqs" => self.cert_reqs = Some(value.to_owned()),
            "ssl_check_hostname" => self.check_hostname = Some(flag(name, value)?),
            "ssl_ca_certs" => self.ca_certs = path(),
            "ssl_ca_path" => self.ca_path = path(),
            "ssl_ca_data" => self.ca_data = Some(value.to_owned()),
            "ssl_certfile" => self.certfile = path(),
            "ssl_keyfile" => self.keyfile = path(),
            "ssl_min_version" => self.min_version = Some(value.to_owned()),
            _ => return Err(Error::configuration(unsupported(name))),
        }
        Ok(())
    }

    /// The name of one that is given.
    pub(super) fn first(&self) -> Option<&'static str> {
        [
            (self.cert_reqs.is_some(), "ssl_cert_reqs"),
            (self.check_hostname.is_some(), "ssl_check_hostname"),
            (self.ca_certs.is_some(), "ssl_ca_certs"),
            (self.ca_path.is_some(), "ssl_ca_path"),
            (self.ca_data.is_some(), "ssl_ca_data"),
            (self.certfile.is_some(), "ssl_certfile"),
            (self.keyfile.is_some(), "ssl_keyfile"),
            (self.min_version.is_some(), "ssl_min_version"),
        ]
        .into_iter()
        .find_map(|(is_given, name)| is_given.then_some(name))
    }
}

/// Which certificates of servers are taken.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) enum Verify {
    /// Those that a trusted CA gave to the host.
    Full,
    /// Those that a trusted CA gave to anybody.
    Chain,
    /// All.
    Nothing,
}

/// A pair of files.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(crate) struct Identity {
    pub(crate) certificate: PathBuf,
    pub(crate) key: PathBuf,
}

/// Validated settings of TLS.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(crate) struct Tls {
    pub(crate) verify: Verify,
    pub(crate) ca_file: Option<PathBuf>,
    pub(crate) ca_folder: Option<PathBuf>,
    pub(crate) ca_text: Option<String>,
    pub(crate) identity: Option<Identity>,
    /// TLS 1.3 and no older one.
    pub(crate) only_1_3: bool,
}

impl Default for Tls {
    fn default() -> Self {
        Self {
            verify: Verify::Full,
            ca_file: None,
            ca_folder: None,
            ca_text: None,
            identity: None,
            only_1_3: false,
        }
    }
}

impl Tls {
    /// Whether the system's CAs are trusted.
    pub(crate) fn trusts_the_system(&self) -> bool {
        self.ca_file.is_none() && self.ca_folder.is_none() && self.ca_text.is_none()
    }

    /// The settings with these over them.
    pub(super) fn with(mut self, options: SslOptions) -> Result<Self> {
        if let Some(word) = &options.cert_reqs {
            self.verify = match word.to_ascii_lowercase().as_str() {
                "required" | "optional" | "cert_required" | "cert_optional" => Verify::Full,
                "none" | "cert_none" => Verify::Nothing,
                _ => return Err(wrong("ssl_cert_reqs", word, "use required, optional or none")),
            };
        }
        self.verify = match (self.verify, options.check_hostname) {
            (Verify::Nothing, Some(true)) => {
                return Err(Error::configuration(
                    "ssl_check_hostname is true, but ssl_cert_reqs is none, with which no certificate is looked at: \
                     drop one of the two",
                ));
            }
            (Verify::Full | Verify::Chain, Some(true)) => Verify::Full,
            (Verify::Full | Verify::Chain, Some(false)) => Verify::Chain,
            (verify, _) => verify,
        };
        if let Some(word) = &options.min_version {
            self.only_1_3 = match word.trim_start_matches("TLSVersion.").trim_start_matches("TLSv") {
                "1_2" | "1.2" => false,
                "1_3" | "1.3" => true,
                _ => {
                    let advice = "use TLSv1_2 or TLSv1_3; older ones are not secure, and not supported";
                    return Err(wrong("ssl_min_version", word, advice));
                }
            };
        }
        self.ca_file = options.ca_certs.or(self.ca_file);
        self.ca_folder = options.ca_path.or(self.ca_folder);
        self.ca_text = options.ca_data.or(self.ca_text);
        let (known_certificate, known_key) =
            self.identity.map_or((None, None), |known| (Some(known.certificate), Some(known.key)));
        let is_new = options.certfile.is_some();
        self.identity = match (options.certfile.or(known_certificate), options.keyfile) {
            (Some(certificate), Some(key)) => Some(Identity { certificate, key }),
            (Some(certificate), None) => {
                let key = known_key.filter(|_| !is_new).unwrap_or_else(|| certificate.clone());
                Some(Identity { certificate, key })
            }
            (None, Some(_)) => {
                return Err(Error::configuration(
                    "ssl_keyfile is set without ssl_certfile, the certificate that the key belongs to",
                ));
            }
            (None, None) => None,
        };
        Ok(self)
    }
}

fn wrong(name: &str, value: &str, advice: &str) -> Error {
    Error::configuration(format!("{name} is '{value}': {advice}"))
}

pub(super) fn flag(name: &str, value: &str) -> Result<bool> {
    match value.to_ascii_lowercase().as_str() {
        "true" | "1" | "yes" | "on" => Ok(true),
        "false" | "0" | "no" | "off" => Ok(false),
        _ => Err(wrong(name, value, "use true or false")),
    }
}

/// What to do without a setting that redis-py has.
fn unsupported(name: &str) -> String {
    let advice = match name {
        "ssl_password" => {
            "encrypted keys are not read: write the key without a password (openssl pkey -in key.pem -out plain.pem) \
             where only the server's user can read it"
        }
        "ssl_ciphers" => {
            "TLS 1.2 and 1.3 are spoken with their secure ciphers, and with no other: leave it out"
        }
        "ssl_include_verify_flags" | "ssl_exclude_verify_flags" => {
            "certificates are verified strictly: leave it out"
        }
        "ssl_validate_ocsp" | "ssl_validate_ocsp_stapled" | "ssl_ocsp_context" | "ssl_ocsp_expected_cert" => {
            "OCSP is not asked: leave it out"
        }
        _ => {
            "the settings of TLS are ssl_cert_reqs, ssl_check_hostname, ssl_ca_certs, ssl_ca_path, ssl_ca_data, \
             ssl_certfile, ssl_keyfile and ssl_min_version"
        }
    };
    format!("{name} is not supported: {advice}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made(given: &[(&str, &str)]) -> Result<Tls> {
        let mut options = SslOptions::default();
        for (name, value) in given {
            options.set(name, value)?;
        }
        Tls::default().with(options)
    }

    #[test]
    fn certificates_are_verified_unless_it_is_said_otherwise() {
        for (given, expected) in [
            (&[][..], Verify::Full),
            (&[("ssl_cert_reqs", "required")], Verify::Full),
            (&[("ssl_cert_reqs", "CERT_OPTIONAL")], Verify::Full),
            (&[("ssl_check_hostname", "False")], Verify::Chain),
            (&[("ssl_cert_reqs", "none")], Verify::Nothing),
            (&[("ssl_cert_reqs", "none"), ("ssl_check_hostname", "0")], Verify::Nothing),
        ] {
            assert_eq!(made(given).unwrap_or_else(|error| panic!("{error}")).verify, expected, "{given:?}");
        }
    }

    #[test]
    fn what_is_given_later_wins_and_leaves_the_rest() {
        let first = made(&[("ssl_certfile", "a.pem"), ("ssl_keyfile", "a.key"), ("ssl_ca_certs", "ca.pem")]);
        let first = first.unwrap_or_else(|error| panic!("{error}"));
        let more = SslOptions { certfile: Some("b.pem".into()), ..SslOptions::default() };
        let second = first.clone().with(more).unwrap_or_else(|error| panic!("{error}"));
        let identity = second.identity.unwrap();
        assert_eq!(
            (identity.certificate, identity.key),
            ("b.pem".into(), "b.pem".into()),
            "a key fits one certificate"
        );
        assert_eq!(second.ca_file, first.ca_file);
        let same = first.clone().with(SslOptions::default()).unwrap_or_else(|error| panic!("{error}"));
        assert!(same == first);
    }

    #[test]
    fn a_setting_that_is_wrong_says_what_to_write() {
        for (given, expected) in [
            (&[("ssl_cert_reqs", "maybe")][..], "required, optional or none"),
            (&[("ssl_check_hostname", "perhaps")], "true or false"),
            (&[("ssl_min_version", "TLSv1")], "TLSv1_2 or TLSv1_3"),
            (&[("ssl_keyfile", "k.pem")], "without ssl_certfile"),
            (&[("ssl_password", "secret")], "openssl pkey"),
            (&[("ssl_ciphers", "ALL")], "leave it out"),
            (&[("ssl_nonsense", "1")], "ssl_ca_certs"),
            (&[("ssl_cert_reqs", "none"), ("ssl_check_hostname", "true")], "drop one of the two"),
        ] {
            let text = made(given).err().unwrap_or_else(|| panic!("{given:?}")).to_string();
            assert!(text.contains(expected) && !text.contains("secret"), "{given:?}: {text}");
        }
    }
}
