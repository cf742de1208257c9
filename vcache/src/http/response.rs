//! What a client is answered with. It is checked where it is made, so that nothing in it can end a header and begin
//! another.

use std::borrow::Cow;
use std::fmt::{self, Display};

use serde::Serialize;

use crate::error::{Error, Result};

/// Headers that frame the answer, or speak of the socket: the server writes them.
const OF_THE_SERVER: [&str; 7] =
    ["connection", "content-length", "keep-alive", "te", "trailer", "transfer-encoding", "upgrade"];

/// The answer of a hot route.
///
/// ```
/// use serde::Serialize;
/// use vcache::http::Response;
///
/// #[derive(Serialize)]
/// struct Left {
///     left: u64,
/// }
///
/// let created = Response::new(201).json(&Left { left: 3 })?;
/// assert_eq!((created.status(), created.body()), (201, &br#"{"left":3}"#[..]));
///
/// let later = Response::new(429).header("Retry-After", 60)?.text("slow down");
/// assert_eq!(later.get("content-type").as_deref(), Some("text/plain; charset=utf-8"));
///
/// let page = Response::new(200).bytes("image/gif", *b"GIF89a")?;
/// assert!(Response::new(200).header("X-Name", "a\r\nSet-Cookie: b").is_err());
/// # Ok::<(), vcache::Error>(())
/// ```
#[derive(Clone, PartialEq, Eq)]
#[must_use = "a hot path returns it"]
pub struct Response {
    status: u16,
    headers: Vec<(Cow<'static, str>, Cow<'static, [u8]>)>,
    body: Vec<u8>,
}

impl Response {
    /// One with this status, and neither headers nor a body.
    ///
    /// # Panics
    /// If the status is not one of a whole answer, from 200 to 599.
    pub fn new(status: u16) -> Self {
        assert!((200..=599).contains(&status), "an answer has a status from 200 to 599, not {status}");
        Self { status, headers: Vec::new(), body: Vec::new() }
    }

    /// The same with a header more. A Content-Type takes the place of the one before it; others may come several times.
    ///
    /// # Errors
    /// [`ErrorKind::Value`](crate::ErrorKind::Value) for a name that HTTP does not allow, for a value with line breaks,
    /// other control characters or characters beyond latin-1, and for headers that the server writes itself:
    /// Content-Length, Transfer-Encoding, Connection and the like.
    pub fn header(mut self, name: &str, value: impl Display) -> Result<Self> {
        if name.is_empty() || !name.bytes().all(is_token) {
            return Err(Error::value(format!(
                "{name:?} is no name of a header: use letters, digits and dashes"
            )));
        }
        if OF_THE_SERVER.iter().any(|own| name.eq_ignore_ascii_case(own)) {
            return Err(Error::value(format!("the header {name} is written by the server: leave it out")));
        }
        let bytes: Option<Vec<u8>> = value.to_string().chars().map(byte_of_a_value).collect();
        let Some(bytes) = bytes else {
            return Err(Error::value(format!(
                "the value of the header {name} has a line break, another control character or one beyond latin-1: \
                 encode it"
            )));
        };
        self.add(name.to_owned().into(), bytes.into());
        Ok(self)
    }

    fn add(&mut self, name: Cow<'static, str>, value: Cow<'static, [u8]>) {
        if is_content_type(&name) {
            self.headers.retain(|(other, _)| !is_content_type(other));
        }
        self.headers.push((name, value));
    }

    /// The type of the body that follows, unless one was given.
    fn typed(mut self, content_type: &'static str) -> Self {
        if !self.headers.iter().any(|(name, _)| is_content_type(name)) {
            self.add("Content-Type".into(), content_type.as_bytes().into());
        }
        self
    }

    /// The same with text for its body: `text/plain; charset=utf-8`, unless a Content-Type was given before.
    pub fn text(mut self, text: impl Into<String>) -> Self {
        self.body = text.into().into_bytes();
        self.typed("text/plain; charset=utf-8")
    }

    /// The same with JSON for its body: `application/json`, unless a Content-Type was given before.
    ///
    /// # Errors
    /// [`ErrorKind::Value`](crate::ErrorKind::Value) if `value` cannot be JSON, such as a map whose keys are neither
    /// text nor numbers.
    pub fn json(mut self, value: &(impl Serialize + ?Sized)) -> Result<Self> {
        self.body = sonic_rs::to_vec(value)
            .map_err(|error| Error::value(format!("an answer that cannot be JSON: {error}")))?;
        Ok(self.typed("application/json"))
    }

    /// The same with bytes of this type for its body.
    ///
    /// # Errors
    /// As [`header`](Self::header).
    pub fn bytes(self, content_type: &str, body: impl Into<Vec<u8>>) -> Result<Self> {
        let mut response = self.header("Content-Type", content_type)?;
        response.body = body.into();
        Ok(response)
    }

    /// The status.
    #[must_use]
    pub fn status(&self) -> u16 {
        self.status
    }

    /// The headers in their order, as they are sent.
    pub fn headers(&self) -> impl ExactSizeIterator<Item = (&str, &[u8])> {
        self.headers.iter().map(|(name, value)| (&**name, &**value))
    }

    /// The first header of this name, in any case.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<Cow<'_, str>> {
        let mut found = self.headers().filter(|(other, _)| other.eq_ignore_ascii_case(name));
        found.next().map(|(_, value)| super::headers::latin1(value.into()))
    }

    /// The body.
    #[must_use]
    pub fn body(&self) -> &[u8] {
        &self.body
    }

    /// The body alone.
    #[cfg(feature = "python")]
    pub(crate) fn into_body(self) -> Vec<u8> {
        self.body
    }
}

fn is_content_type(name: &str) -> bool {
    name.eq_ignore_ascii_case("content-type")
}

/// Of RFC 9110, 5.6.2.
fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

fn byte_of_a_value(character: char) -> Option<u8> {
    let byte = u8::try_from(u32::from(character)).ok()?;
    (byte == b'\t' || !(byte < b' ' || byte == 0x7f)).then_some(byte)
}

/// Without the headers and the body, which may hold secrets.
impl fmt::Debug for Response {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Response({}, {} bytes)", self.status, self.body.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_cannot_begin_another() {
        for value in ["a\r\nb: c", "a\nb", "a\rb", "a\0", "\u{7f}", "水"] {
            let error = Response::new(200).header("X-Name", value).unwrap_err();
            assert!(
                error.to_string().starts_with("the value of the header X-Name has a line break"),
                "{error}"
            );
        }
        for name in ["", "X Name", "X-Name:", "X\r\nY", "é"] {
            let error = Response::new(200).header(name, "a").unwrap_err();
            assert!(error.to_string().contains("is no name of a header"), "{error}");
        }
        for name in ["Content-Length", "transfer-encoding", "CONNECTION"] {
            let error = Response::new(200).header(name, 1).unwrap_err();
            assert_eq!(
                error.to_string(),
                format!("the header {name} is written by the server: leave it out")
            );
        }
        assert!(Response::new(200).bytes("text/plain\r\na: b", "text").is_err());
    }

    #[test]
    fn values_go_out_as_latin_1() {
        let response = Response::new(200).header("X-Name", "caf\u{e9}\tx").unwrap();
        assert_eq!(response.headers().collect::<Vec<_>>(), [("X-Name", &b"caf\xe9\tx"[..])]);
        assert_eq!(response.get("x-name").unwrap(), "café\tx");
    }

    #[test]
    fn there_is_one_content_type_and_the_authors_stays() {
        let types = |response: Response| {
            let types: Vec<_> =
                response.headers().map(|(_, value)| String::from_utf8_lossy(value).into_owned()).collect();
            types.join(" | ")
        };
        assert_eq!(types(Response::new(200).json(&[1]).unwrap()), "application/json");
        let problem = "application/problem+json";
        assert_eq!(
            types(Response::new(400).header("content-type", problem).unwrap().json(&[1]).unwrap()),
            problem
        );
        assert_eq!(
            types(Response::new(400).json(&[1]).unwrap().header("Content-Type", problem).unwrap()),
            problem
        );
        assert_eq!(types(Response::new(200).text("a").bytes("image/gif", "b").unwrap()), "image/gif");
    }

    #[test]
    fn cookies_may_be_several() {
        let response =
            Response::new(204).header("Set-Cookie", "a=1").unwrap().header("Set-Cookie", "b=2").unwrap();
        assert_eq!(response.headers().len(), 2);
        assert_eq!(response.get("set-cookie").unwrap(), "a=1");
        assert!(response.body().is_empty());
    }

    #[test]
    fn json_that_cannot_be_says_so() {
        let map = std::collections::BTreeMap::from([(vec![1], 2)]);
        let error = Response::new(200).json(&map).unwrap_err();
        assert!(error.to_string().starts_with("an answer that cannot be JSON: "), "{error}");
    }

    #[test]
    #[should_panic(expected = "an answer has a status from 200 to 599, not 100")]
    fn an_answer_is_a_whole_one() {
        let _ = Response::new(100);
    }
}
