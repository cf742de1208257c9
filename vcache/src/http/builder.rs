//! Requests for the tests of hot paths, made as a server would make them.

use super::headers::Headers;
use super::request::{Body, Parts, Request, known_method, known_scheme};

/// What Django's `DATA_UPLOAD_MAX_MEMORY_SIZE` is by default.
const MOST: usize = 2_621_440;

/// Makes a [`Request`]; from [`Request::builder`].
///
/// It begins as `GET /` by HTTP, without headers and body, from a client that is not known.
///
/// ```
/// use vcache::http::Request;
///
/// let request = Request::builder()
///     .method("POST")
///     .path("/api/7/store/?sentry_key=abc")
///     .header("Content-Type", "application/json")
///     .body(r#"{"level": "error"}"#)
///     .peer("192.0.2.7")
///     .build();
/// assert_eq!(request.query("sentry_key").as_deref(), Some("abc"));
/// ```
#[must_use = "call `build()`"]
pub struct Builder(Parts);

impl Builder {
    pub(super) fn new() -> Self {
        Self(Parts {
            method: "GET".into(),
            path: "/".into(),
            query: Vec::new(),
            headers: Headers::default(),
            body: Body::Owned(Vec::new()),
            peer: None,
            scheme: "http".into(),
            proxies: 0,
            most: MOST,
        })
    }

    /// The method.
    pub fn method(mut self, method: &str) -> Self {
        self.0.method = known_method(method);
        self
    }

    /// The path, decoded, and behind a `?` the query as it is sent.
    pub fn path(mut self, path: &str) -> Self {
        let (path, query) = path.split_once('?').unwrap_or((path, ""));
        self.0.path = path.into();
        self.0.query = query.into();
        self
    }

    /// One header more.
    pub fn header(mut self, name: &str, value: impl AsRef<[u8]>) -> Self {
        self.0.headers.push(name.as_bytes(), value.as_ref());
        self
    }

    /// The body, as it is sent.
    pub fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.0.body = Body::Owned(body.into());
        self
    }

    /// A `POST` with an encoded form for its body.
    pub fn form(self, body: &str) -> Self {
        self.method("POST").header("Content-Type", "application/x-www-form-urlencoded").body(body)
    }

    /// The address of the socket's other end.
    pub fn peer(mut self, address: &str) -> Self {
        self.0.peer = Some(address.into());
        self
    }

    /// The number of trusted proxies, 0 unless it is given.
    pub fn proxies(mut self, proxies: usize) -> Self {
        self.0.proxies = proxies;
        self
    }

    /// `http` or `https`.
    pub fn scheme(mut self, scheme: &str) -> Self {
        self.0.scheme = known_scheme(scheme);
        self
    }

    /// The bytes that the decoded body may have, 2.5 MiB unless it is given.
    pub fn most(mut self, most: usize) -> Self {
        self.0.most = most;
        self
    }

    /// The request.
    #[must_use]
    pub fn build(self) -> Request {
        Request::new(self.0)
    }
}
