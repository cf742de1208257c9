//! What the settings ask of a request before a hot path is called, and of its answer: known hosts, https and the headers
//! of security. It holds what Python has worked out from Django's settings, so that a request of the usual kind is
//! admitted without asking there.

use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};

use pyo3::prelude::*;
use pyo3::types::PyBytes;

/// Hosts that are remembered: with a wildcard a client could name any number.
const MOST_HOSTS: usize = 1000;

/// Hosts, https and the headers of security, by Django's settings.
///
/// `plain` and `secure` are the headers that answers get which go by http and by https. With `only_https` a request by
/// http is redirected, which Python does.
#[pyclass(frozen, module = "django_vcache._vcache")]
pub struct HotPolicy {
    hosts: Mutex<HashSet<Box<[u8]>>>,
    plain: Vec<Header>,
    secure: Vec<Header>,
    only_https: bool,
}

/// A header that answers get.
pub struct Header {
    pub name: Vec<u8>,
    /// As it goes over the wire.
    pub line: Vec<u8>,
}

impl<'py> FromPyObject<'_, 'py> for Header {
    type Error = PyErr;

    /// From a name and a value.
    fn extract(pair: Borrowed<'_, 'py, PyAny>) -> PyResult<Self> {
        let (name, value): (Bound<'_, PyBytes>, Bound<'_, PyBytes>) = pair.extract()?;
        let name = name.as_bytes().to_ascii_lowercase();
        let line = [&name, &b": "[..], value.as_bytes(), b"\r\n"].concat();
        Ok(Self { name, line })
    }
}

#[pymethods]
impl HotPolicy {
    #[new]
    fn new(plain: Vec<Header>, secure: Vec<Header>, only_https: bool) -> Self {
        Self { hosts: Mutex::default(), plain, secure, only_https }
    }

    /// Remembers a Host header that ``ALLOWED_HOSTS`` admits.
    fn admit(&self, host: &[u8]) {
        let mut hosts = self.hosts.lock().unwrap_or_else(PoisonError::into_inner);
        if hosts.len() >= MOST_HOSTS {
            hosts.clear();
        }
        hosts.insert(host.into());
    }
}

impl HotPolicy {
    /// Whether nothing is to be said about a request. If not, Python says it, or finds that it is admitted.
    pub fn admits(&self, host: &[u8], is_secure: bool) -> bool {
        (is_secure || !self.only_https)
            && self.hosts.lock().unwrap_or_else(PoisonError::into_inner).contains(host)
    }

    pub fn headers(&self, is_secure: bool) -> &[Header] {
        if is_secure { &self.secure } else { &self.plain }
    }
}
