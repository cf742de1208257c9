//! A request for a hot route, as Python has it.

use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList, PyString};

use super::response;

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
    #[pyo3(get)]
    pub route: Py<PyAny>,
    #[pyo3(get)]
    pub params: Py<PyAny>,
    #[pyo3(get, set)]
    pub client: Py<PyAny>,
    #[pyo3(get, set)]
    pub peer: Py<PyAny>,
    #[pyo3(get, set)]
    pub scheme: Py<PyAny>,
    #[pyo3(get)]
    pub length: u64,
    #[pyo3(get)]
    pub is_too_large: bool,
    #[pyo3(get)]
    pub is_forwarded: bool,
    #[pyo3(get, set)]
    pub keep_alive: bool,
    pub is_head: bool,
}

#[pymethods]
impl HotRequest {
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
