//! The request line. A path is decoded as uvicorn decodes it, where there is only one way to do so.

use std::ops::Range;

use percent_encoding::percent_decode;

/// The methods that are taken. Others, such as CONNECT, change what follows a head.
const METHODS: [&str; 7] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"];

/// What a request line says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestLine {
    pub method: &'static str,
    /// Decoded.
    pub path: String,
    /// Where the query is in the message; empty if there is none.
    pub query: Range<usize>,
}

impl RequestLine {
    /// Reads a line without its end, which stands at the beginning of a message. None if it is not of the subset.
    pub fn read(line: &[u8]) -> Option<Self> {
        let space = memchr::memchr(b' ', line)?;
        let method = METHODS.into_iter().find(|method| method.as_bytes() == &line[..space])?;
        let begin = space + 1;
        let target = line[begin..].strip_suffix(b" HTTP/1.1")?;
        // Visible ASCII: there is no second space, and a fragment is not for servers.
        if target.first() != Some(&b'/')
            || !target.iter().all(|byte| byte.is_ascii_graphic() && *byte != b'#')
        {
            return None;
        }
        let end = begin + target.len();
        let mark = memchr::memchr(b'?', target);
        let path = decoded(&target[..mark.unwrap_or(target.len())])?;
        let query = mark.map_or(end..end, |mark| begin + mark + 1..end);
        Some(Self { method, path, query })
    }
}

/// A path without its percent signs. None if one does not begin an octet, or if the octets are not UTF-8: there the
/// ways of decoding differ.
fn decoded(path: &[u8]) -> Option<String> {
    let mut rest = path;
    while let Some(percent) = memchr::memchr(b'%', rest) {
        let digits = rest.get(percent + 1..percent + 3)?;
        if !digits.iter().all(u8::is_ascii_hexdigit) {
            return None;
        }
        rest = &rest[percent + 3..];
    }
    Some(percent_decode(path).decode_utf8().ok()?.into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(line: &str) -> Option<String> {
        RequestLine::read(line.as_bytes()).map(|line| line.path)
    }

    #[test]
    fn a_line_is_taken_apart() {
        let line = b"POST /api/1/?a=%20b HTTP/1.1";
        let read = RequestLine::read(line).unwrap();
        assert_eq!((read.method, read.path.as_str()), ("POST", "/api/1/"));
        assert_eq!(&line[read.query], b"a=%20b");
    }

    #[test]
    fn a_path_is_decoded() {
        assert_eq!(path("GET /%C3%A4%2F+b HTTP/1.1").as_deref(), Some("/ä/+b"));
        assert_eq!(path("GET /? HTTP/1.1").as_deref(), Some("/"));
        assert_eq!(path("GET //host/a HTTP/1.1").as_deref(), Some("//host/a"));
    }

    #[test]
    fn what_is_not_of_the_subset() {
        for line in [
            "",
            "GET",
            "GET / HTTP/1.0",
            "GET / HTTP/2.0",
            "GET  / HTTP/1.1",
            "GET /  HTTP/1.1",
            "GET / HTTP/1.1 ",
            " GET / HTTP/1.1",
            "get / HTTP/1.1",
            "BREW / HTTP/1.1",
            "CONNECT a:1 HTTP/1.1",
            "OPTIONS * HTTP/1.1",
            "GET http://a/ HTTP/1.1",
            "GET /a#b HTTP/1.1",
            "GET /a\tb HTTP/1.1",
            "GET /a b HTTP/1.1",
            "GET /a\0b HTTP/1.1",
            "GET /\u{e4} HTTP/1.1",
            "GET /% HTTP/1.1",
            "GET /%4 HTTP/1.1",
            "GET /%zz HTTP/1.1",
            "GET /%FF HTTP/1.1",
            "GET /a\r HTTP/1.1",
        ] {
            assert_eq!(path(line), None, "{line:?}");
        }
    }
}
