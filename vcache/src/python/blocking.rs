//! Blocking calls from Python: the GIL is released, and the calling thread drives the connections.

use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};

use pyo3::prelude::*;

use super::exceptions::panicked;
use super::shield::shield;
use crate::blocking::block_on_until;

/// Runs `future` to its end with the GIL released. Ctrl-C is seen while it waits, and ends it.
///
/// # Errors
/// What a signal handler raised, or `HotPathPanic`.
pub fn block_on<F>(py: Python<'_>, future: F) -> PyResult<F::Output>
where
    F: Future + Send,
    F::Output: Send,
{
    shield();
    let outcome = py.detach(|| catch_unwind(AssertUnwindSafe(|| block_on_until(future, interrupted))));
    outcome.unwrap_or_else(|payload| Err(panicked(py, payload)))
}

/// What a signal handler raised, if one did.
pub(super) fn interrupted() -> PyResult<()> {
    // At the interpreter's end there is nothing to attach to, and nothing to interrupt.
    Python::try_attach(|py| py.check_signals()).unwrap_or(Ok(()))
}
