//! Limits that async callables say: their coroutines are awaited when the call is, and before it asks the server.

use std::sync::{Mutex, PoisonError};

use pyo3::exceptions::PyRuntimeError;
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyList, PyTuple};
use vcache::python::{Coroutine, Onward, coroutine_onward};

/// What async callables returned, in their order. What is not awaited in the end is closed, so that Python does not warn of
/// it beside the call that it was for.
#[derive(Default)]
pub(super) struct Later {
    awaitables: Vec<Py<PyAny>>,
    /// Whether they are for several admissions, which do not wait for one another's.
    at_once: bool,
}

impl Later {
    pub(super) fn of_many() -> Self {
        Self { awaitables: Vec::new(), at_once: true }
    }

    pub(super) fn push(&mut self, awaitable: Py<PyAny>) {
        self.awaitables.push(awaitable);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.awaitables.is_empty()
    }

    /// A coroutine called `name`, which awaits them all and then what `ask` makes of their results with the objects `held`.
    pub(super) fn then<'py, H, F>(
        self,
        py: Python<'py>,
        name: &'static str,
        held: H,
        ask: F,
    ) -> PyResult<Bound<'py, Coroutine>>
    where
        H: Held,
        F: for<'a> FnOnce(&H, &Bound<'a, PyTuple>) -> PyResult<Bound<'a, Coroutine>> + Send + 'static,
    {
        coroutine_onward(py, name, Call { later: self, ask: Box::new((held, ask)) })
    }
}

impl Drop for Later {
    fn drop(&mut self) {
        if self.awaitables.is_empty() {
            return;
        }
        // At the interpreter's end there is nothing to close.
        Python::try_attach(|py| {
            // A call may be dropped while an exception is on its way, with which no Python code may run.
            let raised = PyErr::take(py);
            for awaitable in &self.awaitables {
                // A future has no such method, and goes on.
                _ = awaitable.call_method0(py, intern!(py, "close"));
            }
            if let Some(raised) = raised {
                raised.restore(py);
            }
        });
    }
}

/// Objects that a call holds until it asks.
pub(super) trait Held: Send + 'static {
    fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError>;
}

impl<T: 'static> Held for Py<T>
where
    Self: Send,
{
    fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(self)
    }
}

impl<A: Held, B: Held> Held for (A, B) {
    fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.0.traverse(visit)?;
        self.1.traverse(visit)
    }
}

/// What asks the server, with the limits that were awaited.
trait Asks: Send {
    fn ask<'py>(self: Box<Self>, answers: &Bound<'py, PyTuple>) -> PyResult<Bound<'py, Coroutine>>;

    fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError>;
}

impl<H, F> Asks for (H, F)
where
    H: Held,
    F: for<'a> FnOnce(&H, &Bound<'a, PyTuple>) -> PyResult<Bound<'a, Coroutine>> + Send,
{
    fn ask<'py>(self: Box<Self>, answers: &Bound<'py, PyTuple>) -> PyResult<Bound<'py, Coroutine>> {
        let (held, ask) = *self;
        ask(&held, answers)
    }

    fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.0.traverse(visit)
    }
}

/// A call that has not begun.
struct Call {
    later: Later,
    ask: Box<dyn Asks>,
}

impl Onward for Call {
    fn begin(self: Box<Self>, py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
        static AFTER: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
        let after = AFTER.import(py, "django_vcache.admission._later", "after")?;
        let Self { mut later, ask } = *self;
        let awaitables = PyList::new(py, std::mem::take(&mut later.awaitables))?;
        after.call1((awaitables, Ask(Mutex::new(Some(ask))), later.at_once))
    }

    fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.later.awaitables.iter().try_for_each(|awaitable| visit.call(awaitable))?;
        self.ask.traverse(visit)
    }
}

/// The same, once the awaitables are awaited: Python calls it with their results.
#[pyclass(frozen, name = "ask", module = "django_vcache._vcache")]
struct Ask(Mutex<Option<Box<dyn Asks>>>);

impl Ask {
    fn take(&self) -> Option<Box<dyn Asks>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

#[pymethods]
impl Ask {
    #[pyo3(signature = (*answers))]
    fn __call__<'py>(&self, answers: &Bound<'py, PyTuple>) -> PyResult<Bound<'py, Coroutine>> {
        let ask = self.take().ok_or_else(|| PyRuntimeError::new_err("a call begins once"))?;
        ask.ask(answers)
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        match self.0.try_lock().as_deref() {
            Ok(Some(ask)) => ask.traverse(&visit),
            _ => Ok(()),
        }
    }

    fn __clear__(&self) {
        drop(self.take());
    }
}
