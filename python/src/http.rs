//! What the Python half of hot routes needs of `vcache::http`: the same body for a target in Python as for one in Rust.

use std::borrow::Cow;

use pyo3::prelude::*;
use pyo3::types::PyBytes;
use vcache::python::bytes_to_python;

/// From this size on other Python threads may run meanwhile: to decode takes a fraction of a millisecond.
const DETACH_FROM: usize = 64 * 1024;

/// A body without its Content-Encoding, within a limit.
#[pyfunction]
pub fn decoded<'py>(
    content_encoding: Option<&[u8]>,
    body: &Bound<'py, PyBytes>,
    most: usize,
) -> PyResult<Bound<'py, PyBytes>> {
    let (py, bytes) = (body.py(), body.as_bytes());
    let decode = || vcache::http::decoded(content_encoding, bytes, most);
    let made = if bytes.len() >= DETACH_FROM { py.detach(decode) } else { decode() };
    match made? {
        Cow::Borrowed(_) => Ok(body.clone()),
        Cow::Owned(plain) => bytes_to_python(py, &plain),
    }
}
