//! A connection's settings: from a URL and options to one validated value. Two equal configs share one connection, so
//! everything that changes how the server is reached, or how long we wait for it, is part of the equality.

use std::borrow::Cow;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use percent_encoding::percent_decode_str;
use serde::Deserialize;
use url::Url;

use crate::error::{Error, Result};

const DEFAULT_PORT: u16 = 6379;
/// A day: longer deadlines are mistakes (milliseconds given for seconds).
const LONGEST_TIMEOUT: f64 = 86_400.0;

/// Where the server listens.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(crate) enum Address {
    Tcp { host: String, port: u16 },
    Unix(PathBuf),
}

impl Address {
    /// Whether the server is on this machine, where no network can lose a connection in silence.
    pub(crate) fn is_local(&self) -> bool {
        matches!(self, Self::Unix(_))
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp { host, port } if host.contains(':') => write!(f, "[{host}]:{port}"),
            Self::Tcp { host, port } => write!(f, "{host}:{port}"),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
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
    pub(crate) username: Option<String>,
    pub(crate) password: Option<String>,
    pub(crate) db: i64,
    pub(crate) client_name: Option<String>,
    pub(crate) connect_timeout: Duration,
    pub(crate) response_timeout: Duration,
}

impl Config {
    /// Reads `redis://`, `valkey://` (`[user[:password]@]host[:port][/db]`) and `unix://` (`[user[:password]@]/path[?db=N]`)
    /// URLs.
    ///
    /// # Errors
    /// [`ErrorKind::Configuration`](crate::ErrorKind::Configuration) that says which part is wrong.
    pub fn from_url(url: &str) -> Result<Self> {
        let (text, userinfo) = without_userinfo(url);
        let parsed = Url::parse(&text).map_err(|error| bad_url(url, &format!("{error}")))?;
        if parsed.fragment().is_some() {
            return Err(bad_url(url, "it has a '#', which has no meaning here"));
        }
        let address = match parsed.scheme() {
            "redis" | "valkey" => tcp_address(&parsed, url)?,
            "unix" | "redis+unix" | "valkey+unix" => unix_address(&parsed, url)?,
            "rediss" | "valkeys" => {
                return Err(bad_url(url, "TLS is not supported yet: use redis:// or unix://"));
            }
            "embedded" => {
                return Err(bad_url(
                    url,
                    "embedded:// is for Django's development servers; a Rust program gives the server's own URL",
                ));
            }
            scheme if url.contains("://") => {
                return Err(bad_url(
                    url,
                    &format!("unknown scheme '{scheme}': use redis://, valkey://, unix:// or embedded://"),
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
            username: some_text(decode(username, url, "user name")?),
            password: password.map(|p| decode(p, url, "password")).transpose()?,
            db: 0,
            client_name: None,
            connect_timeout: Duration::from_secs(2),
            response_timeout: Duration::from_secs(5),
        };
        config.db = database(&parsed, &config.address, url)?;
        for (name, value) in parsed.query_pairs() {
            match name.as_ref() {
                "db" => {}
                "protocol" if value == "resp3" || value == "3" => {}
                "protocol" => return Err(bad_url(url, "the protocol is always RESP3")),
                "user" | "username" => config.username = some_text(value.into_owned()),
                "pass" | "password" => config.password = Some(value.into_owned()),
                "client_name" => config.client_name = Some(checked_client_name(value.into_owned())?),
                other => return Err(bad_url(url, &format!("unknown parameter '{other}'"))),
            }
        }
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
        Ok(self)
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

const NO_SCHEME: &str = "it has no scheme: begin it with redis://, valkey://, unix:// or embedded://";

/// What to do about a password that ends a URL's host in the middle.
const ENCODE: &str = "it has an '@' behind a '/', '?' or '#'. If the user name or the password holds one of these \
    characters, percent-encode it: '/' is %2F, '?' is %3F, '#' is %23, '@' is %40. Or give the password beside the \
    URL, as the option PASSWORD";

/// An error about a URL, which is not shown: each part of it may be a part of a password that is not encoded.
fn bad_url(url: &str, reason: &str) -> Error {
    match parts(url) {
        // The reason may show what was taken for a port, a database or a parameter.
        Some((scheme, rest)) if is_cut_off(rest) => {
            Error::configuration(format!("bad URL {scheme}://...: {ENCODE}"))
        }
        Some((scheme, _)) => Error::configuration(format!("bad URL {scheme}://...: {reason}")),
        None => Error::configuration(format!("bad URL: {NO_SCHEME}")),
    }
}

/// The scheme, and what follows it.
fn parts(url: &str) -> Option<(&str, &str)> {
    let (scheme, rest) = url.split_once("://")?;
    let is_scheme = scheme.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'-' | b'.'));
    (!scheme.is_empty() && is_scheme).then_some((scheme, rest))
}

/// Whether an `@` stands where it separates nothing, so that what is before it was probably to be a password.
fn is_cut_off(rest: &str) -> bool {
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    // A path that begins at once, as that of a socket does, may have one.
    end > 0 && rest[end..].contains('@')
}

/// A URL of a socket without its user name and password, and these: the crate `url` takes them only before a host.
fn without_userinfo(url: &str) -> (Cow<'_, str>, Option<&str>) {
    if let Some((scheme @ ("unix" | "redis+unix" | "valkey+unix"), rest)) = parts(url)
        && let end = rest.find(['/', '?', '#']).unwrap_or(rest.len())
        && let Some(at) = rest[..end].rfind('@')
    {
        return (Cow::Owned(format!("{scheme}://{}", &rest[at + 1..])), Some(&rest[..at]));
    }
    (Cow::Borrowed(url), None)
}

fn decode(text: &str, url: &str, part: &str) -> Result<String> {
    percent_decode_str(text)
        .decode_utf8()
        .map(std::borrow::Cow::into_owned)
        .map_err(|_| bad_url(url, &format!("the {part} is not UTF-8")))
}

fn some_text(text: String) -> Option<String> {
    (!text.is_empty()).then_some(text)
}

fn tcp_address(parsed: &Url, url: &str) -> Result<Address> {
    let host = parsed.host_str().filter(|host| !host.is_empty());
    let host = host.ok_or_else(|| bad_url(url, "it names no host"))?;
    let port = parsed.port().unwrap_or(DEFAULT_PORT);
    if port == 0 {
        return Err(bad_url(url, "port 0 cannot be connected to"));
    }
    let host = decode(host, url, "host")?;
    if host.contains([',', ';']) {
        return Err(bad_url(url, "it names several hosts: give one server"));
    }
    let host = host.strip_prefix('[').and_then(|h| h.strip_suffix(']')).map_or(host.clone(), str::to_owned);
    Ok(Address::Tcp { host, port })
}

fn unix_address(parsed: &Url, url: &str) -> Result<Address> {
    // `unix://relative/path` puts the first folder into the host part: an absolute path has three slashes.
    if parsed.host_str().is_some_and(|host| !host.is_empty()) {
        return Err(bad_url(url, "the path must be absolute: unix:///run/valkey.sock"));
    }
    let path = decode(parsed.path(), url, "path")?;
    if path.is_empty() || path == "/" {
        return Err(bad_url(url, "it names no socket: unix:///run/valkey.sock"));
    }
    Ok(Address::Unix(path.into()))
}

fn database(parsed: &Url, address: &Address, url: &str) -> Result<i64> {
    let in_query = parsed.query_pairs().find(|(name, _)| name == "db").map(|(_, value)| value.into_owned());
    let in_path = match address {
        Address::Tcp { .. } => Some(parsed.path().trim_matches('/').to_owned()),
        Address::Unix(_) => None,
    };
    match in_query.or(in_path).filter(|text| !text.is_empty()) {
        None => Ok(0),
        Some(text) => match text.parse() {
            Ok(db) if db >= 0 => Ok(db),
            _ => Err(bad_url(url, &format!("'{text}' is not a database number"))),
        },
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
            ("unix:///run/v.sock?db=2", "unix:/run/v.sock/2"),
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
            ("rediss://:secret@h", "TLS"),
            ("redis://:secret@", "empty host"),
            ("redis://:secret", "empty host"),
            ("redis://host:secret", "invalid port"),
            ("redis://host/0?password=secret@h&nonsense=1", "percent-encode"),
            ("redis://host/0?nonsense=1&password=a@secret", "percent-encode"),
            ("redis://host#secret", "'#'"),
            ("redis://:secret@one,two", "several hosts"),
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
    fn settings_that_differ_make_configs_that_differ() {
        let base = || Config::from_url("redis://h").unwrap();
        let other = base().with_options(Options { db: Some(1), ..Options::default() }).unwrap();
        assert_eq!(base(), base());
        assert_ne!(base(), other);
    }
}
