//! What a hot path takes from Python and gives back: the glue that the `#[hotpath]` macro writes calls to.

use std::ops::Deref;

use pyo3::exceptions::PyTypeError;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::pybacked::{PyBackedBytes, PyBackedStr};
use pyo3::types::PyMemoryView;

use super::exceptions::to_exception;
use crate::error::{Error, Result};

/// The bytes of a Python `bytes`, `bytearray`, `memoryview` or `str` (as UTF-8), borrowed where they cannot change.
pub enum Bytes {
    /// From `bytes`, `bytearray` or `memoryview`.
    Bytes(PyBackedBytes),
    /// From `str`.
    Text(PyBackedStr),
}

impl Deref for Bytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::Bytes(bytes) => bytes,
            Self::Text(text) => text.as_bytes(),
        }
    }
}

impl<'py> FromPyObject<'_, 'py> for Bytes {
    type Error = PyErr;

    fn extract(object: Borrowed<'_, 'py, PyAny>) -> PyResult<Self> {
        if let Ok(text) = object.extract::<PyBackedStr>() {
            return Ok(Self::Text(text));
        }
        if object.is_exact_instance_of::<PyMemoryView>() {
            let copy = object.call_method0(intern!(object.py(), "tobytes"))?;
            return Ok(Self::Bytes(copy.extract()?));
        }
        object.extract::<PyBackedBytes>().map(Self::Bytes).map_err(|_| {
            let found = object.get_type().name().map_or_else(|_| "?".to_owned(), |name| name.to_string());
            PyTypeError::new_err(format!("bytes, bytearray, memoryview or str expected, not {found}"))
        })
    }
}

/// A hot path's result: a `Result` whose error becomes the crate's.
pub trait IntoHotResult {
    /// What Python gets.
    type Output;
    /// The result with the crate's own error, which names the alias it happened on.
    ///
    /// # Errors
    /// The hot path's.
    fn into_hot_result(self, alias: &str) -> Result<Self::Output>;
}

impl<T, E: Into<Error>> IntoHotResult for std::result::Result<T, E> {
    type Output = T;

    fn into_hot_result(self, alias: &str) -> Result<T> {
        self.map_err(|error| error.into().with_alias(alias))
    }
}

/// The Python value of a hot path's result.
///
/// # Errors
/// The exception for its error, or what the conversion raised.
pub fn output_to_python<T>(py: Python<'_>, output: Result<T>) -> PyResult<Py<PyAny>>
where
    T: for<'py> IntoPyObject<'py>,
{
    use pyo3::IntoPyObjectExt;
    output.map_err(|error| to_exception(py, &error))?.into_py_any(py)
}
