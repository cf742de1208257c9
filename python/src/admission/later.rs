//! Limits that async callables say: their coroutines are awaited when the call is, and before it asks the server.

use std::sync::Mutex;

use pyo3::exceptions::PyRuntimeError;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyCFunction, PyDict, PyList, PyTuple};
use vcache::python::{Coroutine, coroutine_onward};

/// What async callables returned, in their order. What is not awaited in the end is closed, so that Python does not warn of
/// it beside the call that it was for.
#[derive(Default)]
pub(super) struct Later(Vec<Py<PyAny>>);

impl Later {
    pub(super) fn push(&mut self, awaitable: Py<PyAny>) {
        self.0.push(awaitable);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// A coroutine called `name`, which awaits them all and then what `ask` makes of their results.
    pub(super) fn then<'py, F>(
        mut self,
        py: Python<'py>,
        name: &'static str,
        ask: F,
    ) -> PyResult<Bound<'py, Coroutine>>
    where
        F: for<'a> FnOnce(&Bound<'a, PyTuple>) -> PyResult<Bound<'a, Coroutine>> + Send + 'static,
    {
        coroutine_onward(py, name, move |py| {
            static AFTER: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
            let after = AFTER.import(py, "django_vcache.admission._later", "after")?;
            let ask = Mutex::new(Some(ask));
            let once = move |answers: &Bound<'_, PyTuple>, _: Option<&Bound<'_, PyDict>>| {
                let ask = ask.lock().ok().and_then(|mut ask| ask.take());
                let ask = ask.ok_or_else(|| PyRuntimeError::new_err("a call begins once"))?;
                ask(answers).map(Bound::unbind)
            };
            let once = PyCFunction::new_closure(py, None, None, once)?;
            let awaitables = PyList::new(py, std::mem::take(&mut self.0))?;
            after.call1((awaitables, once)).map(Bound::unbind)
        })
    }
}

impl Drop for Later {
    fn drop(&mut self) {
        if self.0.is_empty() {
            return;
        }
        // At the interpreter's end there is nothing to close.
        Python::try_attach(|py| {
            // A call may be dropped while an exception is on its way, with which no Python code may run.
            let raised = PyErr::take(py);
            for awaitable in &self.0 {
                // A future has no such method, and goes on.
                _ = awaitable.call_method0(py, intern!(py, "close"));
            }
            if let Some(raised) = raised {
                raised.restore(py);
            }
        });
    }
}
