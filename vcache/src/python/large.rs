//! Large strings of bytes on their way to Python: copied and freed while other threads of Python, an event loop among them,
//! go on. To copy 32 MiB takes some ten milliseconds, most of it for the fresh memory.

use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::PyBytes;

/// From this size on it takes longer than to give the GIL away and take it back.
const LARGE: usize = 256 * 1024;

/// `bytes`, as Python has them.
///
/// # Errors
/// `MemoryError`.
pub fn bytes_to_python<'py>(py: Python<'py>, bytes: &[u8]) -> PyResult<Bound<'py, PyBytes>> {
    if bytes.len() < LARGE {
        return Ok(PyBytes::new(py, bytes));
    }
    // A slice is never longer than that.
    let length = bytes.len() as ffi::Py_ssize_t;
    // SAFETY: attached; with a null pointer it allocates without writing, and the result is checked.
    let made: Bound<'py, PyAny> = unsafe {
        Bound::from_owned_ptr_or_err(py, ffi::PyBytes_FromStringAndSize(std::ptr::null(), length))
    }?;
    // SAFETY: it is a bytes object, whose memory stays where it is.
    let target = unsafe { ffi::PyBytes_AsString(made.as_ptr()) } as usize;
    py.detach(|| {
        // SAFETY: the object has room for that many bytes, and nothing else knows it yet.
        unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), target as *mut u8, bytes.len()) }
    });
    Ok(made.cast_into::<PyBytes>()?)
}

/// Frees `bytes`.
pub fn free(py: Python<'_>, bytes: Vec<u8>) {
    if bytes.capacity() >= LARGE {
        py.detach(|| drop(bytes));
    }
}
