//! Attaching to Python when it is not sure that this library knows whether its thread is.
//!
//! PyO3 counts attachments for each shared object by itself. When we are attached and call Python, which calls another
//! extension module, which detaches and comes back to us by the table, then our count still says "attached", and
//! `Python::try_attach` does nothing, although this thread does not hold the GIL.

use pyo3::{Python, ffi};

/// Runs `body` with the GIL held, whatever PyO3 thinks. `None` if the interpreter is not there, or ends.
pub(crate) fn really_attached<R>(body: impl FnOnce(Python<'_>) -> R) -> Option<R> {
    Python::try_attach(|py| {
        let _held = Held::take();
        body(py)
    })
}

struct Held(ffi::PyGILState_STATE);

impl Held {
    fn take() -> Self {
        // SAFETY: the interpreter is there; on a thread that holds the GIL this only counts.
        Self(unsafe { ffi::PyGILState_Ensure() })
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        // SAFETY: taken once, on this thread.
        unsafe { ffi::PyGILState_Release(self.0) };
    }
}
