//! What a hot path takes from Python and gives back: the glue that the `#[hotpath]` macro writes calls to.

use std::any::TypeId;
use std::ops::Deref;
use std::panic::{AssertUnwindSafe, catch_unwind};

use pyo3::exceptions::PyTypeError;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::pybacked::{PyBackedBytes, PyBackedStr};
use pyo3::types::PyMemoryView;

use super::exceptions::{panicked, to_exception};
use crate::error::{Error, Result};

/// The bytes of a Python `bytes`, `bytearray`, `memoryview` or `str` (as UTF-8), borrowed where they cannot change.
pub enum Bytes {
    /// From `bytes`, `bytearray` or `memoryview`.
    Bytes(PyBackedBytes),
    /// From `str`.
    Text(PyBackedStr),
    /// A default that the hot path's signature gives.
    Owned(Vec<u8>),
}

impl Bytes {
    /// A copy of them.
    #[must_use]
    pub fn into_vec(self) -> Vec<u8> {
        match self {
            Self::Owned(bytes) => bytes,
            borrowed => borrowed.to_vec(),
        }
    }
}

impl Deref for Bytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::Bytes(bytes) => bytes,
            Self::Text(text) => text.as_bytes(),
            Self::Owned(bytes) => bytes,
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

/// A default of a signature as the type that the call owns: `signature = (name = "x")` for a `name: &str`.
pub trait DefaultFor<T> {
    /// The owned value.
    fn into_default(self) -> T;
}

impl DefaultFor<String> for &str {
    fn into_default(self) -> String {
        self.to_owned()
    }
}

impl DefaultFor<Option<String>> for &str {
    fn into_default(self) -> Option<String> {
        Some(self.to_owned())
    }
}

impl DefaultFor<Option<String>> for Option<&str> {
    fn into_default(self) -> Option<String> {
        self.map(str::to_owned)
    }
}

impl<const N: usize> DefaultFor<Bytes> for &[u8; N] {
    fn into_default(self) -> Bytes {
        Bytes::Owned(self.to_vec())
    }
}

impl DefaultFor<Bytes> for &[u8] {
    fn into_default(self) -> Bytes {
        Bytes::Owned(self.to_vec())
    }
}

impl DefaultFor<Bytes> for Vec<u8> {
    fn into_default(self) -> Bytes {
        Bytes::Owned(self)
    }
}

impl<const N: usize> DefaultFor<Option<Bytes>> for &[u8; N] {
    fn into_default(self) -> Option<Bytes> {
        Some(Bytes::Owned(self.to_vec()))
    }
}

impl DefaultFor<Option<Bytes>> for Option<&[u8]> {
    fn into_default(self) -> Option<Bytes> {
        self.map(|bytes| Bytes::Owned(bytes.to_vec()))
    }
}

/// What a hot path returns that can fail: any `Result`, whatever it is called.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is called a `Result`, and is none",
    note = "return a `Result<T, E>`, or give a type with parameters a name that does not end in `Result`"
)]
pub trait HotResult {
    /// What Python gets.
    type Output;
    /// What becomes an exception.
    type Error;
    /// It, as a plain `Result`.
    ///
    /// # Errors
    /// Its own.
    fn into_result(self) -> std::result::Result<Self::Output, Self::Error>;
}

impl<T, E> HotResult for std::result::Result<T, E> {
    type Output = T;
    type Error = E;

    fn into_result(self) -> Self {
        self
    }
}

/// A hot path's result with the crate's own error, which names the alias it happened on.
///
/// # Errors
/// The hot path's.
pub fn into_hot_result<R: HotResult>(
    result: R,
    alias: &str,
    convert: impl FnOnce(R::Error) -> Error,
) -> Result<R::Output> {
    result.into_result().map_err(|error| convert(error).with_alias(alias))
}

/// The Python value of a hot path's result. `()` is `None`, as a function's that returns nothing.
///
/// # Errors
/// The exception for its error, or what the conversion raised; `HotPathPanic` if it panicked.
pub fn output_to_python<T>(py: Python<'_>, output: Result<T>) -> PyResult<Py<PyAny>>
where
    T: for<'py> IntoPyObject<'py> + 'static,
{
    use pyo3::IntoPyObjectExt;
    let output = output.map_err(|error| to_exception(py, &error))?;
    // NOTE: PyO3's `()` is the empty tuple, everywhere but as the result of a #[pyfunction].
    if TypeId::of::<T>() == TypeId::of::<()>() {
        return Ok(py.None());
    }
    catch_unwind(AssertUnwindSafe(|| output.into_py_any(py)))
        .unwrap_or_else(|payload| Err(panicked(py, payload)))
}
