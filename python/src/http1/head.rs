//! The headers of a message: whether they are of the subset, and what they say of the body and the connection.

use pyo3::prelude::*;
use pyo3::types::PyBytes;

/// The most headers of a message. One with more is another parser's.
const MOST_HEADERS: usize = 96;
/// Digits of a length. More could not be held, and might not fit another parser's number.
const MOST_DIGITS: usize = 15;

/// What the headers of a message say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    /// Bytes of the body.
    pub length: u64,
    pub keep_alive: bool,
    pub host: Box<[u8]>,
    /// Whether a proxy has named a client or a scheme, in a header that uvicorn reads.
    pub is_forwarded: bool,
    /// Whether there is a header that only proxies write.
    pub names_proxy: bool,
}

impl Head {
    /// Reads header lines with the empty line that ends them. None if they are not of the subset.
    pub fn read(lines: &[u8]) -> Option<Self> {
        let mut space = [httparse::EMPTY_HEADER; MOST_HEADERS];
        // It refuses what is no token before the colon, spaces there, folded lines and control characters.
        let httparse::Status::Complete((end, headers)) = httparse::parse_headers(lines, &mut space).ok()?
        else {
            return None;
        };
        if end != lines.len() {
            return None;
        }
        let mut length = None;
        let mut host = None;
        let mut connection = None;
        let (mut is_forwarded, mut names_proxy) = (false, false);
        for header in headers {
            let (name, value) = (header.name, header.value);
            // The lengths tell most names apart.
            match name.len() {
                4 if name.eq_ignore_ascii_case("host") => once(&mut host, value)?,
                14 if name.eq_ignore_ascii_case("content-length") => once(&mut length, value)?,
                10 if name.eq_ignore_ascii_case("connection") => once(&mut connection, value)?,
                15 if name.eq_ignore_ascii_case("x-forwarded-for") => {
                    (is_forwarded, names_proxy) = (true, true);
                }
                9 if name.eq_ignore_ascii_case("forwarded") => names_proxy = true,
                9 if name.eq_ignore_ascii_case("x-real-ip") => names_proxy = true,
                17 if name.eq_ignore_ascii_case("x-forwarded-proto") => is_forwarded = true,
                6 if name.eq_ignore_ascii_case("expect") => return None,
                7 if name.eq_ignore_ascii_case("upgrade") => return None,
                17 if name.eq_ignore_ascii_case("transfer-encoding") => return None,
                // llhttp reads it as Connection.
                16 if name.eq_ignore_ascii_case("proxy-connection") => return None,
                _ => {}
            }
        }
        Some(Self {
            length: length.map_or(Some(0), number)?,
            keep_alive: connection.map_or(Some(true), keep_alive)?,
            host: host?.into(),
            is_forwarded,
            names_proxy,
        })
    }
}

/// A header by its name in lower case, of header lines as they came; None if there is no such header.
///
/// Several of the name are joined by commas.
#[pyfunction]
pub(crate) fn header_in<'py>(py: Python<'py>, lines: &[u8], name: &[u8]) -> Option<Bound<'py, PyBytes>> {
    let mut values = values(lines, name);
    let first = values.next()?;
    match values.next() {
        None => Some(PyBytes::new(py, first)),
        Some(second) => {
            let all: Vec<_> = [first, second].into_iter().chain(values).collect();
            Some(PyBytes::new(py, &all.join(&b',')))
        }
    }
}

/// The values of the headers of a name in lower case, of lines that [`Head::read`] has taken.
fn values<'h>(lines: &'h [u8], name: &[u8]) -> impl Iterator<Item = &'h [u8]> {
    lines.split(|byte| *byte == b'\n').filter_map(move |line| {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let is_it = line.get(name.len()) == Some(&b':') && line[..name.len()].eq_ignore_ascii_case(name);
        is_it.then(|| trimmed(&line[name.len() + 1..]))
    })
}

/// Without the spaces and tabs around it, as HTTP has it.
fn trimmed(value: &[u8]) -> &[u8] {
    let is_space = |byte: &u8| matches!(byte, b' ' | b'\t');
    let begin = value.iter().position(|byte| !is_space(byte)).unwrap_or(value.len());
    let end = value.iter().rposition(|byte| !is_space(byte)).map_or(begin, |last| last + 1);
    &value[begin..end]
}

/// Keeps the value of a header that may come once.
fn once<'h>(kept: &mut Option<&'h [u8]>, value: &'h [u8]) -> Option<()> {
    kept.replace(value).is_none().then_some(())
}

fn number(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() || digits.len() > MOST_DIGITS || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(digits).ok()?.parse().ok()
}

fn keep_alive(connection: &[u8]) -> Option<bool> {
    if connection.eq_ignore_ascii_case(b"keep-alive") {
        Some(true)
    } else if connection.eq_ignore_ascii_case(b"close") {
        Some(false)
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(lines: &str) -> Option<Head> {
        Head::read(format!("{lines}\r\n").as_bytes())
    }

    #[test]
    fn what_headers_say() {
        let host = Box::from(&b"a"[..]);
        let plain = Head { length: 0, keep_alive: true, host, is_forwarded: false, names_proxy: false };
        assert_eq!(read("Host: a\r\n"), Some(plain.clone()));
        assert_eq!(read("hOST:a\r\ncontent-LENGTH:  007 \r\n"), Some(Head { length: 7, ..plain.clone() }));
        assert_eq!(
            read("Host: a\r\nConnection: Close\r\n"),
            Some(Head { keep_alive: false, ..plain.clone() })
        );
        assert_eq!(read("Host: a\r\nConnection: keep-alive\r\n"), Some(plain.clone()));
        assert_eq!(
            read("Host: a\r\nX-Forwarded-Proto: b\r\n"),
            Some(Head { is_forwarded: true, ..plain.clone() })
        );
        assert_eq!(
            read("Host: a\r\nX-Forwarded-For: b\r\n"),
            Some(Head { is_forwarded: true, names_proxy: true, ..plain.clone() })
        );
        for name in ["forwarded", "X-Real-IP"] {
            let lines = format!("Host: a\r\n{name}: b\r\n");
            assert_eq!(read(&lines), Some(Head { names_proxy: true, ..plain.clone() }), "{name}");
        }
    }

    #[test]
    fn headers_are_found_by_their_name() {
        let lines = b"Host: a\r\nX-A:  b c \t\r\nx-a: d\r\nEmpty:\r\n";
        let found = |name: &[u8]| values(lines, name).collect::<Vec<_>>();
        assert_eq!(found(b"host"), [b"a"]);
        assert_eq!(found(b"x-a"), [&b"b c"[..], b"d"]);
        assert_eq!(found(b"empty"), [b""]);
        assert!(found(b"x").is_empty());
        assert!(found(b"hos").is_empty());
        assert_eq!(values(b"", b"host").next(), None);
    }

    #[test]
    fn what_is_not_of_the_subset() {
        for lines in [
            "",
            "Content-Length: 1\r\n",
            "Host: a\r\nHost: a\r\n",
            "Host: a\r\nContent-Length: 1\r\nContent-Length: 1\r\n",
            "Host: a\r\nContent-Length: 1, 1\r\n",
            "Host: a\r\nContent-Length: +1\r\n",
            "Host: a\r\nContent-Length: -1\r\n",
            "Host: a\r\nContent-Length: 0x1\r\n",
            "Host: a\r\nContent-Length: 1 1\r\n",
            "Host: a\r\nContent-Length:\r\n",
            "Host: a\r\nContent-Length: 9999999999999999\r\n",
            "Host: a\r\nContent-Length : 1\r\n",
            "Host: a\r\nTransfer-Encoding: chunked\r\n",
            "Host: a\r\ntransfer-encoding: identity\r\n",
            "Host: a\r\nExpect: 100-continue\r\n",
            "Host: a\r\nUpgrade: websocket\r\n",
            "Host: a\r\nConnection: upgrade\r\n",
            "Host: a\r\nConnection: close, keep-alive\r\n",
            "Host: a\r\nConnection: close\r\nConnection: close\r\n",
            "Host: a\r\nProxy-Connection: close\r\n",
            "Host: a\r\nFolded: b\r\n c\r\n",
            " Host: a\r\n",
            "Host: a\r\n: b\r\n",
            "Host: a\r\nNo colon\r\n",
            "Host: a\r\nX: a\0b\r\n",
            "Host: a\r\nX: a\x7fb\r\n",
            "Host: a\r\nX: a\rb\r\n",
            "Host: a\r\nX\u{e4}: b\r\n",
        ] {
            assert_eq!(read(lines), None, "{lines:?}");
        }
        let many = "X: y\r\n".repeat(MOST_HEADERS);
        assert_eq!(read(&format!("Host: a\r\n{many}")), None);
    }

    #[test]
    fn nothing_follows_the_empty_line() {
        assert_eq!(Head::read(b"Host: a\r\n\r\nHost: b\r\n\r\n"), None);
        assert_eq!(Head::read(b"Host: a\r\n"), None);
    }
}
