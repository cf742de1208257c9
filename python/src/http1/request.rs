//! A request for a hot route, as Python has it.

use std::sync::Arc;

use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyList, PyString};

use super::{direct, response};
use crate::routing::{HotPolicy, Target};

/// A request for a hot route: its head is of the strict subset of HTTP/1.1.
#[pyclass(module = "django_vcache._vcache")]
pub struct HotRequest {
    #[pyo3(get)]
    pub method: Py<PyString>,
    /// The path within the application.
    #[pyo3(get)]
    pub path: Py<PyString>,
    /// The path with the server's root path.
    #[pyo3(get)]
    pub full_path: Py<PyString>,
    #[pyo3(get)]
    pub query: Py<PyBytes>,
    #[pyo3(get)]
    pub headers: Py<PyBytes>,
    #[pyo3(get)]
    pub body: Py<PyBytes>,
    pub target: Arc<Target>,
    #[pyo3(get)]
    pub params: Py<PyDict>,
    #[pyo3(get, set)]
    pub client: Py<PyAny>,
    #[pyo3(get, set)]
    pub peer: Py<PyAny>,
    #[pyo3(get)]
    pub server: Py<PyAny>,
    #[pyo3(get, set)]
    pub scheme: Py<PyAny>,
    #[pyo3(get)]
    pub length: u64,
    #[pyo3(get)]
    pub is_too_large: bool,
    #[pyo3(get)]
    pub is_forwarded: bool,
    #[pyo3(get)]
    pub names_proxy: bool,
    #[pyo3(get, set)]
    pub keep_alive: bool,
    pub host: Box<[u8]>,
    pub is_head: bool,
    /// What held when its hot path was called: the settings, and whether the request came by https.
    pub started: Option<(Py<HotPolicy>, bool)>,
}

#[pymethods]
impl HotRequest {
    /// The route that answers.
    #[getter]
    fn route(&self, py: Python<'_>) -> Py<PyAny> {
        self.target.route.clone_ref(py)
    }

    /// Whether its hot path can be called by `start`.
    #[getter]
    fn is_direct(&self) -> bool {
        self.target.direct.is_some()
    }

    /// Calls the hot path of the route, if the route has to do nothing else for this request; None if it has.
    ///
    /// `scheme` is that which a trusted proxy names, `proxies` the number of trusted proxies. Returns what the hot path
    /// answered, and the loop's future of its answer: one of the two is None.
    ///
    /// Raises what the hot path raised.
    fn start<'py>(
        &mut self,
        py: Python<'py>,
        policy: Bound<'py, HotPolicy>,
        scheme: &Bound<'py, PyString>,
        proxies: usize,
    ) -> PyResult<Option<direct::Started<'py>>> {
        let is_secure = scheme.to_str()? == "https";
        if !policy.get().admits(&self.host, is_secure) {
            return Ok(None);
        }
        self.started = Some((policy.unbind(), is_secure));
        direct::start(py, self, scheme, proxies)
    }

    /// The response that the answer of a started hot path makes, as it goes over the wire; None if the route has to make
    /// it. Sets `keep_alive`.
    ///
    /// `lines` has the status lines, `defaults` the header lines of the server.
    ///
    /// Raises ValueError as `response` does.
    fn answer<'py>(
        &mut self,
        py: Python<'py>,
        answer: &Bound<'py, PyAny>,
        lines: &Bound<'py, PyDict>,
        defaults: &[u8],
    ) -> PyResult<Option<Bound<'py, PyBytes>>> {
        let (Some(direct), Some((policy, is_secure))) = (&self.target.direct, &self.started) else {
            return Ok(None);
        };
        let Some((status, headers, body)) = direct::parts(answer) else { return Ok(None) };
        let Some(line) = lines.get_item(status)? else { return Ok(None) };
        let mut written = response::Response::new(status, &headers)?;
        written.add(policy.get().headers(*is_secure), &direct.headers);
        written.close |= !self.keep_alive;
        self.keep_alive = !written.close;
        let line = line.cast::<PyBytes>()?.as_bytes();
        written.bytes(py, line, defaults, body.as_bytes(), self.is_head).map(Some)
    }

    /// The response as it goes over the wire. Sets `keep_alive`.
    ///
    /// Raises ValueError for a header that would break the response, and for a length that is not the body's.
    fn response<'py>(
        &mut self,
        py: Python<'py>,
        status: u16,
        line: &[u8],
        defaults: &[u8],
        headers: &Bound<'py, PyList>,
        body: &[u8],
    ) -> PyResult<Bound<'py, PyBytes>> {
        let mut written = response::Response::new(status, headers)?;
        written.close |= !self.keep_alive;
        self.keep_alive = !written.close;
        written.bytes(py, line, defaults, body, self.is_head)
    }
}
