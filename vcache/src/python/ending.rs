//! The interpreter's end: the thread that ends it may still call us, and other threads must not bring the process down.

use pyo3::prelude::*;

/// What is done for the end when an extension module is imported.
///
/// # Errors
/// What `atexit.register` raises.
pub(crate) fn prepare(py: Python<'_>) -> PyResult<()> {
    // PyO3 attaches to make most exceptions, although it is attached. Once the end has begun it panics instead, unless
    // it has attached before.
    py.detach(|| Python::attach(|_| ()));
    #[cfg(feature = "driver")]
    super::shield::watch(py)?;
    Ok(())
}
