//! The reader of one connection. It holds the bytes of a message that is not complete, and those of the messages after
//! the one that is being answered.

use std::sync::Arc;

use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyString, PyTuple};

use super::framer::{Framer, Look, Message, Routes};
use super::request::HotRequest;
use crate::routing::{RouteTable, Target};

/// Reads the requests of one connection that are for hot routes below ASGI.
///
/// `table` has the routes. `root` is what the server puts before each path, and `script` what the application then takes
/// away. `most_head` is the bytes that a head may have. `ends` are the addresses and ports of the connection's client and
/// server, `scheme` is "http" or "https".
#[pyclass(module = "django_vcache._vcache")]
pub struct HotReader {
    framer: Framer<Found>,
    site: Site,
    client: Py<PyAny>,
    peer: Py<PyAny>,
    server: Py<PyAny>,
    scheme: Py<PyAny>,
    /// The message's bytes, and those after it, from `begin` on.
    kept: Vec<u8>,
    begin: usize,
}

/// The hot routes, and where they are mounted.
struct Site {
    table: Py<RouteTable>,
    /// What the server puts before each path.
    root: String,
    /// What the application then takes away, if a path begins with it.
    script: String,
}

/// A route that a path fits.
struct Found {
    target: Arc<Target>,
    params: Py<PyDict>,
    /// The path within the application, if it is another one than the request's.
    path: Option<String>,
}

impl Site {
    /// The path within the application, of the one in a request, as Django makes it.
    fn within(&self, path: &str) -> Option<String> {
        if self.root == self.script {
            return None;
        }
        let full = format!("{}{path}", self.root);
        let inner = full.strip_prefix(&self.script).filter(|rest| rest.is_empty() || rest.starts_with('/'));
        Some(inner.map_or_else(|| full.clone(), str::to_owned))
    }
}

impl Routes for Site {
    type Route = Found;
    type Error = PyErr;

    fn find(&self, path: &str) -> PyResult<Option<(Found, u64)>> {
        let inner = self.within(path);
        let table = self.table.get();
        let Some(found) = table.look(inner.as_deref().unwrap_or(path)) else { return Ok(None) };
        let params = Python::attach(|py| Ok::<_, PyErr>(table.parameters(py, &found)?.map(Bound::unbind)))?;
        let target = Arc::clone(table.target(&found));
        let limit = target.limit;
        Ok(params.map(|params| (Found { target, params, path: inner }, limit)))
    }
}

/// What a reader says of the bytes that it has seen.
#[derive(IntoPyObject)]
enum Step<'py> {
    Request(Bound<'py, HotRequest>),
    Foreign(Bound<'py, PyBytes>),
}

#[pymethods]
impl HotReader {
    #[new]
    fn new(
        table: Py<RouteTable>,
        root: String,
        script: &str,
        most_head: usize,
        ends: (Option<Bound<'_, PyTuple>>, Py<PyAny>),
        scheme: Py<PyAny>,
        py: Python<'_>,
    ) -> PyResult<Self> {
        let (client, server) = ends;
        let (client, peer) = match client {
            None => (py.None(), py.None()),
            Some(client) => {
                let peer = client.get_item(0)?.unbind();
                (client.into_any().unbind(), peer)
            }
        };
        let site = Site { table, root, script: script.trim_end_matches('/').to_owned() };
        Ok(Self {
            framer: Framer::new(most_head),
            site,
            client,
            peer,
            server,
            scheme,
            kept: Vec::new(),
            begin: 0,
        })
    }

    /// Takes what has come, and says what it is.
    ///
    /// That is None if it needs more, a request, or the bytes that are another parser's: all that are kept.
    fn feed<'py>(&mut self, py: Python<'py>, data: &Bound<'py, PyBytes>) -> PyResult<Option<Step<'py>>> {
        let bytes = data.as_bytes();
        if self.begin < self.kept.len() {
            self.keep(bytes);
            return self.next(py);
        }
        // What comes complete is not copied.
        match self.framer.look(bytes, &self.site)? {
            Look::More => {
                self.keep(bytes);
                Ok(None)
            }
            Look::Foreign => Ok(Some(Step::Foreign(data.clone()))),
            Look::TooLarge(message) => self.request(py, bytes, message, true).map(Some),
            Look::Whole(message) => {
                let end = message.body.end;
                let request = self.request(py, bytes, message, false)?;
                if end < bytes.len() {
                    self.keep(&bytes[end..]);
                }
                Ok(Some(request))
            }
        }
    }

    /// Takes what has come, for `next`.
    fn keep(&mut self, data: &[u8]) {
        if self.begin == self.kept.len() {
            self.kept.clear();
            self.begin = 0;
        } else if self.begin > self.kept.len() / 2 {
            self.kept.drain(..self.begin);
            self.begin = 0;
        }
        self.kept.extend_from_slice(data);
    }

    /// As `feed`, of what is kept.
    fn next<'py>(&mut self, py: Python<'py>) -> PyResult<Option<Step<'py>>> {
        let bytes = &self.kept[self.begin..];
        if bytes.is_empty() {
            return Ok(None);
        }
        let step = match self.framer.look(bytes, &self.site)? {
            Look::More => return Ok(None),
            Look::Foreign => {
                let bytes = PyBytes::new(py, bytes);
                self.begin = self.kept.len();
                Step::Foreign(bytes)
            }
            Look::TooLarge(message) => {
                let request = self.request(py, bytes, message, true)?;
                self.begin = self.kept.len();
                request
            }
            Look::Whole(message) => {
                let end = message.body.end;
                let request = self.request(py, bytes, message, false)?;
                self.begin += end;
                request
            }
        };
        if self.begin == self.kept.len() {
            // A large body's memory is not kept for the next small one.
            self.kept = Vec::new();
            self.begin = 0;
        }
        Ok(Some(step))
    }

    /// Bytes that have come and are no part of a request that was given out.
    #[getter]
    fn kept(&self) -> usize {
        self.kept.len() - self.begin
    }

    /// Whether a request for a hot route has begun, and its body is waited for.
    #[getter]
    fn is_in_body(&self) -> bool {
        self.framer.is_in_body()
    }
}

impl HotReader {
    fn request<'py>(
        &self,
        py: Python<'py>,
        bytes: &[u8],
        message: Message<Found>,
        is_too_large: bool,
    ) -> PyResult<Step<'py>> {
        let Message { route: found, line, head, headers, body } = message;
        let text = |text: &str| PyString::new(py, text).unbind();
        let raw = |range: std::ops::Range<usize>| PyBytes::new(py, &bytes[range]).unbind();
        let full_path = if self.site.root.is_empty() {
            text(&line.path)
        } else {
            text(&format!("{}{}", self.site.root, line.path))
        };
        let path = match &found.path {
            Some(path) => text(path),
            None if self.site.root.is_empty() => full_path.clone_ref(py),
            None => text(&line.path),
        };
        let request = HotRequest {
            method: method(py, line.method).clone().unbind(),
            path,
            full_path,
            query: raw(line.query),
            headers: raw(headers),
            body: if is_too_large { raw(0..0) } else { raw(body.clone()) },
            target: found.target,
            params: found.params,
            client: self.client.clone_ref(py),
            peer: self.peer.clone_ref(py),
            server: self.server.clone_ref(py),
            scheme: self.scheme.clone_ref(py),
            // What has not come of it.
            length: if is_too_large { head.length.saturating_sub(body.len() as u64) } else { 0 },
            is_too_large,
            is_forwarded: head.is_forwarded,
            names_proxy: head.names_proxy,
            host: head.host,
            keep_alive: head.keep_alive && !is_too_large,
            is_head: line.method == "HEAD",
            started: None,
        };
        Bound::new(py, request).map(Step::Request)
    }
}

/// A method as Python's text, which is made once.
fn method<'py>(py: Python<'py>, name: &str) -> &'py Bound<'py, PyString> {
    match name {
        "GET" => intern!(py, "GET"),
        "HEAD" => intern!(py, "HEAD"),
        "PUT" => intern!(py, "PUT"),
        "PATCH" => intern!(py, "PATCH"),
        "DELETE" => intern!(py, "DELETE"),
        "OPTIONS" => intern!(py, "OPTIONS"),
        _ => intern!(py, "POST"),
    }
}
