//! What a client has sent, as a hot path gets it: plain data that needs no interpreter, decoded where it is asked for.

use std::borrow::Cow;
use std::fmt;
use std::sync::OnceLock;

use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::builder::Builder;
use super::client::client;
use super::decode::decoded;
use super::headers::{Headers, latin1};
use crate::error::{Error, Result};
use crate::json;

/// A request to a hot route.
///
/// A hot path takes it as a parameter, by value, and returns a [`Response`](super::Response). Reading it makes no
/// Python object and needs no interpreter. What the client got wrong is an error of the kind
/// [`ErrorKind::Request`](crate::ErrorKind::Request), which `?` makes the answer: 400, 413 or 415.
///
/// ```
/// use vcache::http::Request;
///
/// let request = Request::builder().method("POST").path("/search/?q=b%C3%A4r").body(r#"{"page": 2}"#).build();
/// assert_eq!((request.method(), request.path()), ("POST", "/search/"));
/// assert_eq!(request.query("q").as_deref(), Some("bär"));
/// assert_eq!(request.json::<serde_json::Value>()?["page"], 2);
/// # Ok::<(), vcache::Error>(())
/// ```
pub struct Request {
    parts: Parts,
    /// The body without its encoding, once it was asked for.
    decoded: OnceLock<Result<Vec<u8>>>,
}

/// What a request is made of.
pub(crate) struct Parts {
    pub(crate) method: Cow<'static, str>,
    pub(crate) path: String,
    pub(crate) query: Vec<u8>,
    pub(crate) headers: Headers,
    pub(crate) body: Body,
    pub(crate) peer: Option<String>,
    pub(crate) scheme: Cow<'static, str>,
    pub(crate) proxies: usize,
    pub(crate) most: usize,
}

/// A body, as it came.
///
/// NOTE: another owner stands behind a trait, so that only who makes such a request is linked to Python; see
/// `error::Exception`.
pub(crate) enum Body {
    Owned(Vec<u8>),
    #[cfg(feature = "python")]
    Shared(Box<dyn AsRef<[u8]> + Send + Sync>),
}

impl Body {
    fn get(&self) -> &[u8] {
        match self {
            Self::Owned(bytes) => bytes,
            #[cfg(feature = "python")]
            Self::Shared(bytes) => (**bytes).as_ref(),
        }
    }
}

impl Request {
    /// Makes requests for tests of hot paths.
    pub fn builder() -> Builder {
        Builder::new()
    }

    pub(crate) fn new(parts: Parts) -> Self {
        Self { parts, decoded: OnceLock::new() }
    }

    /// The method, in capitals.
    #[must_use]
    pub fn method(&self) -> &str {
        &self.parts.method
    }

    /// The path: percent-decoded, from the `/` behind the root that the site is mounted at, as Django's `path_info`.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.parts.path
    }

    /// What stands behind the `?`, as it was sent; empty if nothing does.
    #[must_use]
    pub fn query_string(&self) -> &[u8] {
        &self.parts.query
    }

    /// A parameter of the query, decoded. Of several with this name it is the last, as in Django's `request.GET`.
    #[must_use]
    pub fn query(&self, name: &str) -> Option<Cow<'_, str>> {
        self.query_pairs().filter(|(key, _)| key == name).last().map(|(_, value)| value)
    }

    /// All parameters of the query, decoded, in their order. What is not UTF-8 in them is `U+FFFD`.
    pub fn query_pairs(&self) -> impl Iterator<Item = (Cow<'_, str>, Cow<'_, str>)> {
        form_urlencoded::parse(&self.parts.query)
    }

    /// The headers.
    #[must_use]
    pub fn headers(&self) -> &Headers {
        &self.parts.headers
    }

    /// A header's value, by [`Headers::get`].
    #[must_use]
    pub fn header(&self, name: &str) -> Option<Cow<'_, str>> {
        self.parts.headers.get(name)
    }

    /// The body as it was sent, compressed if the client has compressed it.
    #[must_use]
    pub fn raw_body(&self) -> &[u8] {
        self.parts.body.get()
    }

    /// The body without its Content-Encoding. It is decoded once, when it is first asked for.
    ///
    /// # Errors
    /// As [`decoded`](super::decoded), with the limit of the route: 413, 415 or 400.
    pub fn body(&self) -> Result<&[u8]> {
        let encoding = self.parts.headers.get_bytes("content-encoding");
        let raw = self.raw_body();
        if encoding.is_none() && raw.len() <= self.parts.most {
            return Ok(raw);
        }
        let made = self.decoded.get_or_init(|| {
            // An encoding that changes nothing costs a copy: no client sends one.
            decoded(encoding.as_deref(), raw, self.parts.most).map(Cow::into_owned)
        });
        made.as_deref().map_err(Clone::clone)
    }

    /// The body as JSON.
    ///
    /// `T` may borrow from the body: a struct with `&str` fields, which holds no text with escapes, or `Cow<str>` with
    /// `#[serde(borrow)]`. `serde_json::Value` and `sonic_rs::Value` are any JSON. Arrays and objects may lie in each
    /// other up to 128 levels deep. The Content-Type is not looked at.
    ///
    /// # Errors
    /// 400 with what is wrong and where, if it is not JSON or not a `T`; what [`body`](Self::body) gives.
    pub fn json<'a, T: Deserialize<'a>>(&'a self) -> Result<T> {
        json::from_slice(self.body()?).map_err(|what| Error::request(400, what))
    }

    /// The body as a form, `application/x-www-form-urlencoded`: a struct, of which a `Vec` takes a field that comes
    /// several times, or `Vec<(String, String)>`.
    ///
    /// ```
    /// use serde::Deserialize;
    /// use vcache::http::Request;
    ///
    /// #[derive(Deserialize)]
    /// struct Order {
    ///     sku: String,
    ///     #[serde(default)]
    ///     tag: Vec<String>,
    /// }
    ///
    /// let request = Request::builder().form("sku=A-1&tag=red&tag=new").build();
    /// let order: Order = request.form()?;
    /// assert_eq!((order.sku.as_str(), order.tag.len()), ("A-1", 2));
    /// # Ok::<(), vcache::Error>(())
    /// ```
    ///
    /// # Errors
    /// 415 if the Content-Type is another, 400 if a field is missing or not of its type; what [`body`](Self::body)
    /// gives.
    pub fn form<T: DeserializeOwned>(&self) -> Result<T> {
        if self.content_type().as_deref() != Some("application/x-www-form-urlencoded") {
            return Err(Error::request(415, "a form must come as application/x-www-form-urlencoded"));
        }
        serde_html_form::from_bytes(self.body()?).map_err(|error| {
            Error::request(400, format!("bad form: {}", json::without_payload(error.to_string())))
        })
    }

    /// The client's address, as the outermost trusted proxy saw it; an IPv6 client's as its /64 network. The rule is
    /// that of `django_vcache`'s throttles, with `VCACHE["TRUSTED_PROXIES"]`: the n-th entry of X-Forwarded-For from
    /// the right, or the socket's other end if there are fewer entries or it is not an address.
    ///
    /// It is `None` if no one tells it: the server listens on a Unix socket, and no proxy is trusted.
    ///
    /// ```
    /// use vcache::http::Request;
    ///
    /// let forwarded = || Request::builder().peer("10.0.0.1").header("X-Forwarded-For", "6.6.6.6, 192.0.2.7");
    /// assert_eq!(forwarded().build().client().as_deref(), Some("10.0.0.1"));
    /// assert_eq!(forwarded().proxies(1).build().client().as_deref(), Some("192.0.2.7"));
    /// ```
    #[must_use]
    pub fn client(&self) -> Option<Cow<'_, str>> {
        client(&self.parts.headers, self.parts.peer.as_deref(), self.parts.proxies)
    }

    /// The Host header, port included. The hot route has checked it against `ALLOWED_HOSTS`.
    #[must_use]
    pub fn host(&self) -> Option<Cow<'_, str>> {
        self.header("host")
    }

    /// `http` or `https`, by `SECURE_PROXY_SSL_HEADER` where a hot route has it set.
    #[must_use]
    pub fn scheme(&self) -> &str {
        &self.parts.scheme
    }

    /// The client, or the proxy in front, was spoken to by TLS.
    #[must_use]
    pub fn is_secure(&self) -> bool {
        self.parts.scheme == "https"
    }

    /// The media type of the body, in small letters and without parameters such as the charset.
    #[must_use]
    pub fn content_type(&self) -> Option<Cow<'_, str>> {
        let value = match self.parts.headers.get_bytes("content-type")? {
            Cow::Borrowed(value) => Cow::Borrowed(media_type(value)),
            Cow::Owned(value) => Cow::Owned(media_type(&value).to_vec()),
        };
        if value.iter().any(u8::is_ascii_uppercase) {
            return Some(latin1(value.to_ascii_lowercase().into()));
        }
        Some(latin1(value))
    }
}

fn media_type(value: &[u8]) -> &[u8] {
    value.split(|byte| *byte == b';').next().unwrap_or_default().trim_ascii()
}

/// A method; the usual ones are not allocated.
pub(crate) fn known_method(method: &str) -> Cow<'static, str> {
    for known in ["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"] {
        if method == known {
            return known.into();
        }
    }
    method.to_ascii_uppercase().into()
}

/// A scheme, likewise.
pub(crate) fn known_scheme(scheme: &str) -> Cow<'static, str> {
    match scheme {
        "http" => "http".into(),
        "https" => "https".into(),
        other => other.to_owned().into(),
    }
}

/// Without the query, the headers and the body, which may hold secrets.
impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Request({} {})", self.method(), self.path())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;

    fn refusal<T: fmt::Debug>(result: Result<T>) -> (u16, String) {
        let error = result.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Request);
        (error.status().unwrap(), error.to_string())
    }

    #[test]
    fn the_last_of_several_parameters_counts() {
        let request = Request::builder().path("/a/?x=1&y=%zz+b&x=%E4%F6&z&=e").build();
        assert_eq!(request.query_string(), b"x=1&y=%zz+b&x=%E4%F6&z&=e");
        assert_eq!(request.query("x").unwrap(), "\u{fffd}\u{fffd}");
        assert_eq!(request.query("y").unwrap(), "%zz b");
        assert_eq!(request.query("z").unwrap(), "");
        assert_eq!(request.query("w"), None);
        assert_eq!(request.query_pairs().count(), 5);
        assert_eq!(Request::builder().build().query_pairs().count(), 0);
    }

    #[test]
    fn a_body_that_is_not_compressed_is_not_copied() {
        let request = Request::builder().body("text").build();
        assert!(std::ptr::eq(request.body().unwrap(), request.raw_body()));
        let request = Request::builder().header("Content-Encoding", "identity").body("text").build();
        assert_eq!(request.body().unwrap(), b"text");
    }

    #[test]
    fn a_body_has_a_limit_however_it_comes() {
        let request = Request::builder().most(4).body("texts").build();
        assert_eq!(refusal(request.body()), (413, "the body is larger than 4 bytes when decoded".into()));
        assert_eq!(refusal(request.json::<String>()).0, 413);
        assert_eq!(request.raw_body(), b"texts");
        let request = Request::builder().header("content-encoding", "lz4").body("texts").build();
        let (status, text) = refusal(request.body());
        assert_eq!(status, 415);
        assert_eq!(text, "the Content-Encoding \"lz4\" is not known: use gzip, deflate, br, zstd or none");
        assert_eq!(refusal(request.body()), (415, text));
    }

    #[test]
    fn json_borrows_and_says_where_it_is_wrong() {
        #[derive(Debug, Deserialize)]
        struct Event<'a> {
            id: &'a str,
            level: Option<u8>,
        }
        let request = Request::builder().body(r#"{"id": "a", "other": []}"#).build();
        let Event { id, level } = request.json().unwrap();
        assert_eq!((id, level), ("a", None));
        let request = Request::builder().body("{\"id\": \"a\",\n\"level\": \"secret\"}").build();
        let (status, text) = refusal(request.json::<Event<'_>>());
        assert_eq!(status, 400);
        assert!(text.starts_with("bad JSON at line 2, column ") && !text.contains("secret"), "{text}");
        assert_eq!(refusal(Request::builder().build().json::<u8>()).0, 400);
        let deep = Request::builder().body("[".repeat(1_000_000)).build();
        assert_eq!(refusal(deep.json::<()>()), (400, "bad JSON: nested more than 128 levels deep".into()));
    }

    #[test]
    fn json_of_any_shape_is_a_value() {
        let request = Request::builder().body(r#"{"a": [1, 2.5, null, "\u00e9"]}"#).build();
        let value: serde_json::Value = request.json().unwrap();
        assert_eq!(value, serde_json::json!({"a": [1, 2.5, null, "é"]}));
        let value: sonic_rs::Value = request.json().unwrap();
        assert_eq!(sonic_rs::to_string(&value).unwrap(), r#"{"a":[1,2.5,null,"é"]}"#);
    }

    #[test]
    fn a_form_is_pairs_or_a_struct() {
        #[derive(Debug, Deserialize)]
        struct Order {
            sku: String,
            count: u8,
        }
        let request = Request::builder().form("sku=A%2D1+b&count=3").build();
        let order: Order = request.form().unwrap();
        assert_eq!((order.sku.as_str(), order.count), ("A-1 b", 3));
        let pairs: Vec<(String, String)> = request.form().unwrap();
        assert_eq!(pairs[1], ("count".into(), "3".into()));
        for (body, text) in [
            ("sku=a", "bad form: missing field `count`"),
            ("sku=a&count=300", "bad form: number too large to fit in target type"),
            ("sku=a&count=secret", "bad form: invalid digit found in string"),
        ] {
            assert_eq!(refusal(Request::builder().form(body).build().form::<Order>()), (400, text.into()));
        }
        let request = Request::builder().header("content-type", "text/plain").body("sku=a&count=1").build();
        assert_eq!(refusal(request.form::<Order>()).0, 415);
    }

    #[test]
    fn the_media_type_stands_alone() {
        for (value, found) in [
            ("application/json", "application/json"),
            (" Text/HTML ; charset=UTF-8", "text/html"),
            ("", ""),
            (";", ""),
        ] {
            let request = Request::builder().header("Content-Type", value).build();
            assert_eq!(request.content_type().unwrap(), found, "{value}");
        }
        assert_eq!(Request::builder().build().content_type(), None);
    }

    #[test]
    fn nothing_secret_is_shown() {
        let request =
            Request::builder().path("/a/?key=secret").header("x-key", "secret").body("secret").build();
        assert_eq!(format!("{request:?}"), "Request(GET /a/)");
    }

    #[test]
    fn a_request_is_shared_by_threads() {
        fn is_shared<T: Send + Sync + 'static>() {}
        is_shared::<Request>();
    }
}
