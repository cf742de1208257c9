//! What the Python half of hot routes needs of `vcache::http`: the same body for a target in Python as for one in Rust.

use std::borrow::Cow;

use pyo3::prelude::*;
use pyo3::types::PyBytes;
use vcache::python::bytes_to_python;

/// From this size on other Python threads may run meanwhile: to decode takes a fraction of a millisecond.
const DETACH_FROM: usize = 64 * 1024;

/// A body without its Content-Encoding, within a limit.
///
/// It takes gzip, x-gzip, deflate (with zlib's frame or without), br, zstd and identity.
///
/// Args:
///     content_encoding: the header's value; None or empty if there is none.
///     body: as it was sent.
///     most: the bytes that it may have when decoded.
///
/// Returns:
///     The bytes; the same object if they were not encoded.
///
/// Raises:
///     django_vcache.exceptions.RequestError: with ``status`` 415 for another encoding or several, 413 for more than
///         `most` bytes, 400 for data that is corrupt or ends early.
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
