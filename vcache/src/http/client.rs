//! The client's address behind proxies, by the rule that `django_vcache.admission` has for throttles: the two must not
//! tell the same client apart.

use std::borrow::Cow;
use std::net::{Ipv4Addr, Ipv6Addr};

use super::headers::Headers;

/// The entry of X-Forwarded-For that the outermost trusted proxy has written, or the socket's other end.
pub(super) fn client<'a>(headers: &Headers, peer: Option<&'a str>, proxies: usize) -> Option<Cow<'a, str>> {
    if proxies > 0
        && let Some(header) = headers.get("x-forwarded-for").filter(|header| !header.is_empty())
        && let Some(entry) = header.rsplit(',').nth(proxies - 1)
        && let Some(address) = network(entry)
    {
        return Some(address.into());
    }
    let peer = peer.filter(|peer| !peer.is_empty())?;
    Some(network(peer).map_or(Cow::Borrowed(peer), Cow::Owned))
}

/// The address in an entry, which some proxies write with a port; an IPv6 client's is its /64 network, as one that has
/// an address of it has all of them.
fn network(entry: &str) -> Option<String> {
    // What Python takes for space.
    let text = entry.trim_matches(|c: char| c.is_whitespace() || matches!(c, '\u{1c}'..='\u{1f}'));
    let text = if let Some(bracketed) = text.strip_prefix('[') {
        bracketed.split(']').next().unwrap_or_default()
    } else {
        match text.split_once(':') {
            Some((address, port)) if !port.contains(':') => address,
            _ => text,
        }
    };
    if let Ok(address) = text.parse::<Ipv4Addr>() {
        return Some(address.to_string());
    }
    let address = ipv6(text)?;
    let [a, b, c, d, e, f, g, h] = address.segments();
    let last = Ipv4Addr::from((u32::from(g) << 16) | u32::from(h));
    match [a, b, c, d, e, f] {
        // IPv4 as IPv6 sees it (RFC 4291), and as a network of IPv6 alone does (NAT64, RFC 6052).
        [0, 0, 0, 0, 0, 0xffff] | [0x64, 0xff9b, 0, 0, 0, 0] => Some(last.to_string()),
        _ => Some(format!("{}/64", Ipv6Addr::from([a, b, c, d, 0, 0, 0, 0]))),
    }
}

/// An IPv6 address that may have a zone, as Python reads it.
fn ipv6(text: &str) -> Option<Ipv6Addr> {
    let address = match text.split_once('%') {
        Some((_, zone)) if zone.is_empty() || zone.contains(['%', '/']) => return None,
        Some((address, _)) => address,
        None => text,
    };
    address.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn behind(proxies: usize, forwarded: &str) -> Option<String> {
        let mut headers = Headers::default();
        headers.push(b"x-forwarded-for", forwarded.as_bytes());
        client(&headers, Some("10.0.0.1"), proxies).map(Cow::into_owned)
    }

    #[test]
    fn the_outermost_trusted_proxy_says_who_the_client_is() {
        assert_eq!(behind(0, "192.0.2.7").unwrap(), "10.0.0.1");
        assert_eq!(behind(1, "6.6.6.6, 192.0.2.7").unwrap(), "192.0.2.7");
        assert_eq!(behind(2, "6.6.6.6, 192.0.2.7").unwrap(), "6.6.6.6");
        assert_eq!(behind(3, "6.6.6.6, 192.0.2.7").unwrap(), "10.0.0.1");
        assert_eq!(behind(1, "6.6.6.6, unknown").unwrap(), "10.0.0.1");
        assert_eq!(behind(1, "").unwrap(), "10.0.0.1");
    }

    #[test]
    fn an_address_has_one_form() {
        for (entry, address) in [
            (" 192.0.2.7:443 ", "192.0.2.7"),
            ("[2001:db8:1:2:3::4]:443", "2001:db8:1:2::/64"),
            ("2001:DB8::1", "2001:db8::/64"),
            ("::ffff:192.0.2.7", "192.0.2.7"),
            ("64:ff9b::192.0.2.7", "192.0.2.7"),
            ("fe80::1%eth0", "fe80::/64"),
        ] {
            assert_eq!(network(entry).as_deref(), Some(address), "{entry}");
        }
        for entry in ["", "unknown", "192.0.2.07", "192.0.2", "fe80::1%", "fe80::1%a/b", "[", "1:2"] {
            assert_eq!(network(entry), None, "{entry}");
        }
    }

    #[test]
    fn a_peer_that_has_no_address_keeps_its_name() {
        let headers = Headers::default();
        assert_eq!(client(&headers, Some("testclient"), 1).unwrap(), "testclient");
        assert_eq!(client(&headers, Some("::1"), 0).unwrap(), "::/64");
        assert_eq!(client(&headers, Some(""), 0), None);
        assert_eq!(client(&headers, None, 0), None);
    }
}
