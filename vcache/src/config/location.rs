//! Reading a URL: where the server is, who we are, and what stands in the query. Its errors do
//! not show it, since each part of it may be a part of a password.

use std::borrow::Cow;

use percent_encoding::percent_decode_str;
use url::Url;

use super::Address;
use crate::error::{Error, Result};

pub(super) const DEFAULT_PORT: u16 = 6379;

pub(super) const NO_SCHEME: &str =
    "it has no scheme: begin it with redis://, valkey://, unix:// or embedded://";

/// What to do about a password that ends a URL's host in the middle.
pub(super) const ENCODE: &str = "it has an '@' behind a '/', '?' or '#'. If the user name or the password holds one of these \
    characters, percent-encode it: '/' is %2F, '?' is %3F, '#' is %23, '@' is %40. Or give the password beside the \
    URL, as the option PASSWORD";

/// An error about a URL, which is not shown: each part of it may be a part of a password that is not encoded.
pub(super) fn bad_url(url: &str, reason: &str) -> Error {
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
pub(super) fn without_userinfo(url: &str) -> (Cow<'_, str>, Option<&str>) {
    if let Some((scheme @ ("unix" | "redis+unix" | "valkey+unix"), rest)) = parts(url)
        && let end = rest.find(['/', '?', '#']).unwrap_or(rest.len())
        && let Some(at) = rest[..end].rfind('@')
    {
        return (Cow::Owned(format!("{scheme}://{}", &rest[at + 1..])), Some(&rest[..at]));
    }
    (Cow::Borrowed(url), None)
}

pub(super) fn decode(text: &str, url: &str, part: &str) -> Result<String> {
    percent_decode_str(text)
        .decode_utf8()
        .map(Cow::into_owned)
        .map_err(|_| bad_url(url, &format!("the {part} is not UTF-8")))
}

pub(super) fn some_text(text: String) -> Option<String> {
    (!text.is_empty()).then_some(text)
}

/// A URL with the first of its hosts only, which the crate `url` can read, and all hosts, if there are several.
pub(super) fn split_hosts(url: &str) -> Option<(String, Vec<&str>)> {
    let (scheme, rest) = parts(url)?;
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let start = rest[..end].rfind('@').map_or(0, |at| at + 1);
    let hosts: Vec<_> = rest[start..end].split([',', ';']).map(str::trim).collect();
    let first = hosts.first()?;
    Some((format!("{scheme}://{}{first}{}", &rest[..start], &rest[end..]), hosts))
}

/// The hosts and ports of servers, each as a URL has it.
pub(super) fn servers(hosts: &[&str], default_port: u16, url: &str) -> Result<Vec<(String, u16)>> {
    let mut found = Vec::new();
    for host in hosts.iter().filter(|host| !host.is_empty()) {
        let one = Url::parse(&format!("redis://{host}")).map_err(|error| bad_url(url, &error.to_string()))?;
        found.push(server(&one, default_port, url)?);
    }
    if found.is_empty() {
        return Err(bad_url(url, "it names no host"));
    }
    Ok(found)
}

fn server(parsed: &Url, default_port: u16, url: &str) -> Result<(String, u16)> {
    let host = parsed.host_str().filter(|host| !host.is_empty());
    let host = host.ok_or_else(|| bad_url(url, "it names no host"))?;
    let port = parsed.port().unwrap_or(default_port);
    if port == 0 {
        return Err(bad_url(url, "port 0 cannot be connected to"));
    }
    let host = decode(host, url, "host")?;
    let host = host.strip_prefix('[').and_then(|h| h.strip_suffix(']')).map_or(host.clone(), str::to_owned);
    Ok((host, port))
}

/// Where one server is, or several are: nodes of a cluster, or a primary and its replicas.
pub(super) fn tcp_address(parsed: &Url, hosts: &[&str], url: &str) -> Result<Address> {
    if hosts.len() > 1 {
        return Ok(Address::Several(servers(hosts, DEFAULT_PORT, url)?));
    }
    let (host, port) = server(parsed, DEFAULT_PORT, url)?;
    Ok(Address::Tcp { host, port })
}

/// Reads `host:port`, the host of an IPv6 address in brackets.
pub(super) fn host_and_port(text: &str) -> Option<(String, u16)> {
    let (host, port) = text.rsplit_once(':')?;
    let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    let port = port.parse().ok().filter(|port| *port != 0)?;
    (!host.is_empty()).then(|| (host.to_owned(), port))
}

pub(super) fn unix_address(parsed: &Url, url: &str) -> Result<Address> {
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

/// `found` is what stands in a path that has more than the number.
pub(super) fn database(parsed: &Url, address: &Address, found: Option<String>, url: &str) -> Result<i64> {
    let in_query = parsed.query_pairs().find(|(name, _)| name == "db").map(|(_, value)| value.into_owned());
    let in_path = match address {
        Address::Tcp { .. } | Address::Several(_) => Some(parsed.path().trim_matches('/').to_owned()),
        Address::Unix(_) | Address::Node { .. } => None,
        Address::Sentinel(_) => found,
    };
    match in_query.or(in_path).filter(|text| !text.is_empty()) {
        None => Ok(0),
        Some(text) => match text.parse() {
            Ok(db) if db >= 0 => Ok(db),
            _ => Err(bad_url(url, &format!("'{text}' is not a database number"))),
        },
    }
}
