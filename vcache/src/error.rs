//! The one error of the crate. It says what was wrong, with which cache alias and server, and what to do about it;
//! it never holds a password. [`Error::kind`] is what a program branches on, the text is for people.

use std::fmt;
use std::io;
use std::sync::Arc;

use redis::{ErrorKind as RedisErrorKind, RedisError, ServerError};

/// `Result` with this crate's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What went wrong, in the words that a program needs to tell cases apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The server could not be reached, or the connection was lost. Nothing is known to have been executed twice:
    /// a command that may have reached the server is re-sent only if it is idempotent.
    Connection,
    /// No reply within the deadline. The command may still be executed by the server.
    Timeout,
    /// The server answered with an error. [`Error::code`] is its first word, for example `WRONGTYPE`.
    Response,
    /// A URL, an option or an alias is wrong; nothing was sent.
    Configuration,
    /// A value cannot be sent, or a reply is not of the type asked for.
    Value,
    /// A hot path panicked. The process, the loop and the connection live on.
    Panic,
    /// A hot path refuses its HTTP request: [`Error::status`] is what the client is answered with, see [`Error::request`].
    Request,
    /// An exception of Python's: one that a hot path met, or a class of its own, see [`Error::raising`].
    Raised,
}

/// An error of a connection, of a configuration, or of a hot path.
///
/// It is cheap to clone. In Python each kind is an exception class of its own, see `django_vcache.exceptions`, and
/// [`ErrorKind::Raised`] is the exception that it holds.
///
/// ```
/// use vcache::{Config, ErrorKind};
///
/// let error = Config::from_url("http://localhost").unwrap_err();
/// assert_eq!(error.kind(), ErrorKind::Configuration);
/// ```
#[derive(Clone)]
pub struct Error(Arc<Inner>);

#[derive(Clone)]
struct Inner {
    kind: ErrorKind,
    code: Option<String>,
    message: String,
    alias: Option<Arc<str>>,
    #[cfg_attr(not(feature = "python"), allow(dead_code))]
    raised: Option<Raised>,
    /// What the client of a request is answered with.
    status: Option<u16>,
    /// Made by a hot path about its own input: no cache alias belongs to it.
    own: bool,
}

/// What Python gets for an error of the kind [`ErrorKind::Raised`].
#[derive(Clone)]
pub(crate) enum Raised {
    /// The class with this import path, made with the message.
    Class(#[cfg_attr(not(feature = "python"), allow(dead_code))] Arc<str>),
    /// This very exception.
    #[cfg(feature = "python")]
    Exception(Arc<dyn Exception>),
}

/// An exception that is kept until it is back in Python.
///
/// NOTE: behind a trait, so that only who makes such an error is linked to Python, and not everybody who drops an error:
/// the Rust tests of a hot path then start without a libpython, which the loader often does not find.
#[cfg(feature = "python")]
pub(crate) trait Exception: Send + Sync {
    fn get(&self) -> &pyo3::PyErr;
}

#[cfg(feature = "python")]
impl Exception for pyo3::PyErr {
    fn get(&self) -> &pyo3::PyErr {
        self
    }
}

impl Inner {
    /// Of a connection or a configuration, and of no alias yet.
    fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self {
            kind,
            code: None,
            message: message.into(),
            alias: None,
            raised: None,
            status: None,
            own: false,
        }
    }

    /// A hot path's.
    fn own(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self { own: true, ..Self::new(kind, message) }
    }
}

impl Error {
    /// An error with this kind and text.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self(Arc::new(Inner::new(kind, message)))
    }

    /// An exception of a Python class of the user's own: `class` is its import path, `message` its one argument.
    ///
    /// The class is imported when the exception is made. If it cannot be, Python gets a `RuntimeError` that says so and
    /// holds the message.
    ///
    /// ```
    /// use vcache::{Error, ErrorKind};
    ///
    /// let error = Error::raising("shop.errors.SoldOut", "none of these are left");
    /// assert_eq!(error.kind(), ErrorKind::Raised);
    /// assert_eq!(error.to_string(), "none of these are left");
    /// ```
    pub fn raising(class: &str, message: impl Into<String>) -> Self {
        let raised = Some(Raised::Class(class.into()));
        Self(Arc::new(Inner { raised, ..Inner::own(ErrorKind::Raised, message) }))
    }

    /// An error that another library has made.
    #[cfg(not(feature = "driver"))]
    pub(crate) fn from_parts(
        kind: ErrorKind,
        code: Option<String>,
        message: String,
        alias: Option<&str>,
    ) -> Self {
        Self(Arc::new(Inner { code, alias: alias.map(Into::into), ..Inner::new(kind, message) }))
    }

    /// A [`ErrorKind::Value`] error: what a hot path returns for input of its own that is wrong. In Python it is a
    /// `ValueError` with just this text.
    pub fn value(message: impl Into<String>) -> Self {
        Self(Arc::new(Inner::own(ErrorKind::Value, message)))
    }

    /// A [`ErrorKind::Request`] error: the hot path refuses the request that it answers, with a status from 400 to 599 and
    /// a text of one line, which **the client reads**. In Python it is a `RequestError` with this `status`.
    ///
    /// Another status is a mistake of the hot path's: it gives an [`ErrorKind::Value`] error, which a hot route answers with
    /// 500.
    ///
    /// ```
    /// use vcache::{Error, ErrorKind};
    ///
    /// let error = Error::request(403, "this key is not the project's");
    /// assert_eq!((error.kind(), error.status()), (ErrorKind::Request, Some(403)));
    /// assert_eq!(error.to_string(), "this key is not the project's");
    /// ```
    pub fn request(status: u16, message: impl Into<String>) -> Self {
        let message = message.into();
        if !(400..=599).contains(&status) {
            return Self::value(format!(
                "a request is refused with a status from 400 to 599, not with {status}; the text was: {message}"
            ));
        }
        Self(Arc::new(Inner { status: Some(status), ..Inner::own(ErrorKind::Request, message) }))
    }

    /// A value that a connection does not take or give.
    pub(crate) fn refused(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Value, message)
    }

    pub(crate) fn configuration(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Configuration, message)
    }

    /// The error of a future that is polled where nothing drives the connections.
    pub(crate) fn nobody_drives() -> Self {
        Self::configuration(
            "nothing drives the connection here: await it on an asyncio loop, in a tokio runtime with I/O and time enabled, \
             or inside vcache::block_on",
        )
    }

    pub(crate) fn connection(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Connection, message)
    }

    /// A call that needed a descriptor to wait on.
    #[cfg(feature = "driver")]
    pub(crate) fn no_descriptor(error: &io::Error) -> Self {
        Self::connection(format!(
            "the process cannot wait for a connection: {error}. If descriptors are used up, raise their number (ulimit -n) \
             or close some"
        ))
    }

    pub(crate) fn timeout(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Timeout, message)
    }

    /// What a server of a cluster says of keys in two slots.
    #[cfg(feature = "driver")]
    pub(crate) fn cross_slot(message: impl Into<String>) -> Self {
        let code = Some("CROSSSLOT".to_owned());
        Self(Arc::new(Inner { code, ..Inner::new(ErrorKind::Response, message) }))
    }

    pub(crate) fn response(error: &ServerError) -> Self {
        let code = error.code().to_owned();
        let message = match error.details() {
            Some(details) if !details.is_empty() => format!("{code} {details}"),
            _ => code.clone(),
        };
        Self(Arc::new(Inner { code: Some(code), ..Inner::new(ErrorKind::Response, message) }))
    }

    /// The same error, told to be that of a command after the first of a pipeline.
    fn in_pipeline(self, index: usize) -> Self {
        if index == 0 {
            return self;
        }
        let mut inner = (*self.0).clone();
        inner.message = format!("{} (command {} of a pipeline)", inner.message, index + 1);
        Self(Arc::new(inner))
    }

    /// The same error, told to belong to a cache alias, which its text then names. The first alias stays, and what a hot
    /// path says of its own, or an exception of Python's, is not the cache's.
    #[must_use]
    pub fn with_alias(self, alias: &str) -> Self {
        if self.0.alias.is_some() || self.0.own {
            return self;
        }
        let mut inner = (*self.0).clone();
        inner.alias = Some(alias.into());
        Self(Arc::new(inner))
    }

    /// The same error, with what to do about it, or more of what is known, behind its text.
    #[cfg(any(feature = "driver", feature = "admission"))]
    pub(crate) fn with_hint(&self, hint: &str) -> Self {
        let mut inner = (*self.0).clone();
        inner.message = format!("{}; {hint}", inner.message);
        Self(Arc::new(inner))
    }

    /// What went wrong.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// The server's error code (`WRONGTYPE`, `NOSCRIPT`, ...), if the server answered.
    #[must_use]
    pub fn code(&self) -> Option<&str> {
        self.0.code.as_deref()
    }

    /// The cache alias that it is of, if it is one's.
    #[must_use]
    pub fn alias(&self) -> Option<&str> {
        self.0.alias.as_deref()
    }

    /// The status that a request is answered with, if it is an error of [`Error::request`].
    #[must_use]
    pub fn status(&self) -> Option<u16> {
        self.0.status
    }

    #[cfg(feature = "python")]
    pub(crate) fn raised(&self) -> Option<&Raised> {
        self.0.raised.as_ref()
    }
}

/// Errors are equal if they say the same.
impl PartialEq for Error {
    fn eq(&self, other: &Self) -> bool {
        let said = |error: &Self| (error.kind(), error.status(), error.0.code.clone(), error.to_string());
        Arc::ptr_eq(&self.0, &other.0) || said(self) == said(other)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(alias) = &self.0.alias {
            write!(f, "cache '{alias}': ")?;
        }
        f.write_str(&self.0.message)
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}({self})", self.0.kind)
    }
}

impl std::error::Error for Error {}

/// redis-rs's traits want its own error: ours travels inside as an I/O error and is found again by the way back.
impl From<Error> for RedisError {
    fn from(error: Error) -> Self {
        let kind = match error.kind() {
            ErrorKind::Connection => io::ErrorKind::BrokenPipe,
            ErrorKind::Timeout => io::ErrorKind::TimedOut,
            _ => io::ErrorKind::Other,
        };
        io::Error::new(kind, error).into()
    }
}

impl From<RedisError> for Error {
    fn from(error: RedisError) -> Self {
        // NOTE: redis-rs gives its source as the `Arc` that it keeps it in.
        if let Some(ours) = std::error::Error::source(&error)
            .and_then(|source| source.downcast_ref::<Arc<dyn std::error::Error + Send + Sync>>())
            .and_then(|source| source.downcast_ref::<io::Error>())
            .and_then(io::Error::get_ref)
            .and_then(|inner| inner.downcast_ref::<Self>())
        {
            return ours.clone();
        }
        if let Some(told) = error.clone().into_server_errors()
            && let Some((index, first)) = told.first()
        {
            return Self::response(first).in_pipeline(*index);
        }
        let kind = match error.kind() {
            RedisErrorKind::Parse | RedisErrorKind::UnexpectedReturnType => ErrorKind::Value,
            RedisErrorKind::InvalidClientConfig => ErrorKind::Configuration,
            RedisErrorKind::Io => ErrorKind::Connection,
            _ => ErrorKind::Response,
        };
        let message = match (error.code(), error.detail()) {
            (Some(code), Some(detail)) => format!("{code} {detail}"),
            _ => error.to_string(),
        };
        Self(Arc::new(Inner { code: error.code().map(str::to_owned), ..Inner::new(kind, message) }))
    }
}

/// The exception itself is kept, and raised again where the error comes back to Python. Its text here is `Type: message`.
#[cfg(feature = "python")]
impl From<pyo3::PyErr> for Error {
    fn from(exception: pyo3::PyErr) -> Self {
        // NOTE: a plain attach hangs while the interpreter ends, and the text of a `PyErr` attaches.
        let message = pyo3::Python::try_attach(|_| exception.to_string())
            .unwrap_or_else(|| "an exception, while the interpreter ends".to_owned());
        let raised = Some(Raised::Exception(Arc::new(exception)));
        Self(Arc::new(Inner { raised, ..Inner::own(ErrorKind::Raised, message) }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_error_survives_the_way_through_redis_rs() {
        let error = Error::timeout("no reply").with_alias("default");
        let back = Error::from(RedisError::from(error));
        assert_eq!(back.kind(), ErrorKind::Timeout);
        assert_eq!(back.to_string(), "cache 'default': no reply");
    }

    #[test]
    fn a_server_error_keeps_its_code() {
        let redis::Value::ServerError(server) = redis::parse_redis_value(b"-WRONGTYPE bad\r\n").unwrap()
        else {
            panic!("an error reply parses as one");
        };
        let error = Error::response(&server);
        assert_eq!((error.kind(), error.code()), (ErrorKind::Response, Some("WRONGTYPE")));
        assert_eq!(error.to_string(), "WRONGTYPE bad");
        let through = Error::from(RedisError::from(server));
        assert_eq!(through.code(), Some("WRONGTYPE"));
        assert_eq!(through.to_string(), "WRONGTYPE bad");
    }

    #[test]
    fn a_server_error_of_one_word_reads_the_same_on_either_way() {
        let redis::Value::ServerError(server) = redis::parse_redis_value(b"-ALONE\r\n").unwrap() else {
            panic!("an error reply parses as one");
        };
        assert_eq!(Error::response(&server).to_string(), "ALONE");
        assert_eq!(Error::from(RedisError::from(server)).to_string(), "ALONE");
    }

    #[test]
    fn an_exception_of_the_users_own_is_not_the_caches() {
        let error = Error::raising("shop.errors.SoldOut", "none are left").with_alias("default");
        assert_eq!(error.to_string(), "none are left");
        let back = Error::from(RedisError::from(error));
        assert_eq!((back.kind(), back.to_string().as_str()), (ErrorKind::Raised, "none are left"));
    }

    #[test]
    fn a_refused_request_has_a_status_and_is_not_the_caches() {
        let error = Error::request(429, "slow down").with_alias("default");
        let back = Error::from(RedisError::from(error.clone()));
        assert_eq!(
            (back.kind(), back.status(), back.to_string().as_str()),
            (ErrorKind::Request, Some(429), "slow down")
        );
        assert_ne!(error, Error::request(403, "slow down"));
    }

    #[test]
    fn a_request_is_not_refused_with_a_status_of_success() {
        let error = Error::request(200, "as it should be");
        assert_eq!((error.kind(), error.status()), (ErrorKind::Value, None));
        assert_eq!(
            error.to_string(),
            "a request is refused with a status from 400 to 599, not with 200; the text was: as it should be"
        );
    }
}
