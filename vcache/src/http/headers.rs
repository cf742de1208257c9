//! The headers of a request: all in one buffer, looked up without case, and decoded only when one is asked for.

use std::borrow::Cow;
use std::ops::Range;

/// The headers of a request.
///
/// They follow Django's rules: a name with an underscore is left out, because a proxy that drops a client's `X-User`
/// may let its `X_User` through; a header that comes several times is one, joined with `,`, and cookies with `; `.
///
/// ```
/// use vcache::http::Request;
///
/// let request = Request::builder().header("Accept", "text/html").header("accept", "*/*").build();
/// assert_eq!(request.headers().get("ACCEPT").as_deref(), Some("text/html,*/*"));
/// ```
#[derive(Default)]
pub struct Headers {
    buffer: Vec<u8>,
    entries: Vec<Entry>,
}

struct Entry {
    name: Range<usize>,
    value: Range<usize>,
}

impl Headers {
    /// Room for so many.
    #[cfg(feature = "python")]
    pub(crate) fn with_capacity(count: usize) -> Self {
        Self { buffer: Vec::with_capacity(count * 32), entries: Vec::with_capacity(count) }
    }

    /// Headers as they were on the wire: `Name: value` and an end of line each.
    ///
    /// # Errors
    /// The number of the line that is not a header, counted from 1.
    #[cfg(feature = "python")]
    pub(crate) fn from_lines(lines: &[u8]) -> Result<Self, usize> {
        let mut headers = Self { buffer: lines.to_vec(), entries: Vec::with_capacity(16) };
        let (mut start, mut number) = (0, 0_usize);
        while start < lines.len() {
            number += 1;
            let rest = &lines[start..];
            let length = rest.iter().position(|byte| *byte == b'\n').unwrap_or(rest.len());
            let line = rest[..length].strip_suffix(b"\r").unwrap_or(&rest[..length]);
            let colon = line.iter().position(|byte| *byte == b':').ok_or(number)?;
            let behind = &line[colon + 1..];
            let is_space = |byte: &u8| matches!(byte, b' ' | b'\t');
            let blank = behind.iter().take_while(|byte| is_space(byte)).count();
            let value = &behind[blank..];
            let value = value.len() - value.iter().rev().take_while(|byte| is_space(byte)).count();
            let value_start = start + colon + 1 + blank;
            headers.note(start..start + colon, value_start..value_start + value);
            start += length + 1;
        }
        Ok(headers)
    }

    /// One more.
    pub(crate) fn push(&mut self, name: &[u8], value: &[u8]) {
        let start = self.buffer.len();
        self.buffer.extend_from_slice(name);
        self.buffer.extend_from_slice(value);
        self.note(start..start + name.len(), start + name.len()..self.buffer.len());
    }

    fn note(&mut self, name: Range<usize>, value: Range<usize>) {
        // A name of HTTP is ASCII: others cannot be asked for.
        if self.buffer[name.clone()].iter().all(|byte| byte.is_ascii() && *byte != b'_') {
            self.entries.push(Entry { name, value });
        }
    }

    /// A header's value, decoded as latin-1, which HTTP and Django say it is.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<Cow<'_, str>> {
        self.get_bytes(name).map(latin1)
    }

    /// A header's value as it was sent.
    #[must_use]
    pub fn get_bytes(&self, name: &str) -> Option<Cow<'_, [u8]>> {
        let mut found = self.entries.iter().filter(|entry| {
            entry.name.len() == name.len()
                && self.buffer[entry.name.clone()].eq_ignore_ascii_case(name.as_bytes())
        });
        let first = self.value(found.next()?, name);
        let Some(second) = found.next() else { return Some(Cow::Borrowed(first)) };
        let separator: &[u8] = if is_cookie(name) { b"; " } else { b"," };
        let mut joined = first.to_vec();
        for entry in std::iter::once(second).chain(found) {
            joined.extend_from_slice(separator);
            joined.extend_from_slice(self.value(entry, name));
        }
        Some(Cow::Owned(joined))
    }

    fn value(&self, entry: &Entry, name: &str) -> &[u8] {
        let mut value = &self.buffer[entry.value.clone()];
        while is_cookie(name)
            && let Some(shorter) = value.strip_suffix(b";").or_else(|| value.strip_suffix(b" "))
        {
            value = shorter;
        }
        value
    }

    /// Each header that was sent, in its order: the name, in the case that it came in, and the value.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.entries.iter().map(|entry| {
            let name = std::str::from_utf8(&self.buffer[entry.name.clone()]).unwrap_or_default();
            (name, &self.buffer[entry.value.clone()])
        })
    }
}

fn is_cookie(name: &str) -> bool {
    name.eq_ignore_ascii_case("cookie")
}

/// Each byte as the character of its number.
pub(super) fn latin1(bytes: Cow<'_, [u8]>) -> Cow<'_, str> {
    match bytes {
        Cow::Borrowed(bytes) if bytes.is_ascii() => String::from_utf8_lossy(bytes),
        bytes => bytes.iter().map(|byte| char::from(*byte)).collect::<String>().into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&[u8], &[u8])]) -> Headers {
        let mut headers = Headers::default();
        pairs.iter().for_each(|(name, value)| headers.push(name, value));
        headers
    }

    #[test]
    fn names_have_no_case_and_values_are_latin_1() {
        let headers = headers(&[(b"X-Name", b"caf\xe9"), (b"host", b"example.com")]);
        assert_eq!(headers.get("x-name").unwrap(), "café");
        assert_eq!(&*headers.get_bytes("X-NAME").unwrap(), b"caf\xe9");
        assert!(matches!(headers.get("HOST"), Some(Cow::Borrowed("example.com"))));
        assert!(headers.get("x-nam").is_none() && headers.get("").is_none());
    }

    #[test]
    fn headers_that_come_several_times_are_joined_as_django_joins_them() {
        let headers = headers(&[
            (b"a", b"1"),
            (b"cookie", b"b=1; "),
            (b"A", b""),
            (b"Cookie", b"c=2;"),
            (b"a", b"3"),
            (b"via", b"x; "),
        ]);
        assert_eq!(headers.get("a").unwrap(), "1,,3");
        assert_eq!(headers.get("cookie").unwrap(), "b=1; c=2");
        assert_eq!(headers.get("via").unwrap(), "x; ");
        assert_eq!(headers.iter().count(), 6);
    }

    #[test]
    fn names_that_could_pass_for_another_are_left_out() {
        let headers = headers(&[(b"x_user", b"admin"), (b"x-us\xe9r", b"admin"), (b"x-user", b"guest")]);
        assert_eq!(headers.get("x-user").unwrap(), "guest");
        assert!(headers.get("x_user").is_none());
        assert_eq!(headers.iter().collect::<Vec<_>>(), [("x-user", &b"guest"[..])]);
    }

    #[cfg(feature = "python")]
    #[test]
    fn lines_of_the_wire_are_the_same_headers() {
        let lines = b"Host: example.com\r\nX-Empty:\r\nX-Time: 12:30 \t\r\nx_user: a\r\nAccept:*/*\n";
        let headers = Headers::from_lines(lines).unwrap();
        assert_eq!(
            headers.iter().collect::<Vec<_>>(),
            [("Host", &b"example.com"[..]), ("X-Empty", b""), ("X-Time", b"12:30"), ("Accept", b"*/*")]
        );
        assert_eq!(Headers::from_lines(b"").unwrap().iter().count(), 0);
        assert_eq!(Headers::from_lines(b"a: 1\r\nno header\r\n").err(), Some(2));
        assert_eq!(Headers::from_lines(b"a: 1\r\n\r\n").err(), Some(2));
    }
}
