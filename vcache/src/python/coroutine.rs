//! What the form to await of a call returns: a coroutine to asyncio, which does nothing before it is awaited or scheduled.
//!
//! It is a type of our own, because a coroutine without its `await` is true, and `if not throttle.acheck(key)`
//! would let everybody in: this one raises in a boolean context. As with Python's own, one that was never awaited warns.

use std::future::Future;
use std::ptr;
use std::sync::Mutex;

use pyo3::exceptions::{PyRuntimeError, PyRuntimeWarning, PyStopIteration, PyTypeError};
use pyo3::ffi;
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::intern;
use pyo3::prelude::*;

#[cfg(feature = "driver")]
use super::pooled::Pooled;
use super::{Steps, spawn};
use crate::sync::lock;

/// What a coroutine does when it begins: it returns the loop's future.
trait Begin: Send {
    fn begin(self: Box<Self>, py: Python<'_>) -> PyResult<Bound<'_, PyAny>>;

    /// Shows Python's collector the objects that it holds, as far as they are known.
    fn traverse(&self, _visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        Ok(())
    }
}

struct Call<F, C> {
    steps: Steps,
    future: F,
    finish: C,
}

impl<F, C> Begin for Call<F, C>
where
    F: Future + Send + 'static,
    C: FnOnce(Python<'_>, F::Output) -> PyResult<Py<PyAny>> + Send + 'static,
{
    fn begin(self: Box<Self>, py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
        let Self { steps, future, finish } = *self;
        spawn(py, steps, future, finish)
    }
}

/// Goes on with what Python awaits.
pub trait Onward: Send {
    /// What is awaited once the call is.
    ///
    /// # Errors
    /// What the coroutine is to raise.
    fn begin(self: Box<Self>, py: Python<'_>) -> PyResult<Bound<'_, PyAny>>;

    /// Shows Python's collector the objects that it holds, for it may be part of a cycle.
    ///
    /// # Errors
    /// What `visit` returns.
    fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError>;
}

impl<O: Onward> Begin for O {
    fn begin(self: Box<Self>, py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
        Onward::begin(self, py)?.call_method0(intern!(py, "__await__"))
    }

    fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        Onward::traverse(self, visit)
    }
}

/// A call that begins when it is awaited.
#[pyclass(frozen, weakref, name = "coroutine", module = "django_vcache._vcache")]
pub struct Coroutine {
    name: &'static str,
    stage: Mutex<Stage>,
}

enum Stage {
    New(Box<dyn Begin>),
    /// A task sends into it: this is the future's iterator.
    Sent(Py<PyAny>),
    /// `await` has the future's iterator.
    Awaited,
    Over,
}

/// A coroutine that polls `future` on the loop that it is awaited on, and returns what `finish` makes of its output.
///
/// `name` is what its errors and warnings call it: `Throttle.acheck`.
///
/// # Errors
/// `MemoryError`.
pub fn coroutine<'py, F, C>(
    py: Python<'py>,
    name: &'static str,
    steps: Steps,
    future: F,
    finish: C,
) -> PyResult<Bound<'py, Coroutine>>
where
    F: Future + Send + 'static,
    C: FnOnce(Python<'_>, F::Output) -> PyResult<Py<PyAny>> + Send + 'static,
{
    Bound::new(py, Coroutine { name, stage: Mutex::new(Stage::New(boxed(steps, future, finish))) })
}

/// A coroutine that begins with an awaitable of Python's, which `onward` makes once this one is awaited, and has its
/// result.
///
/// # Errors
/// `MemoryError`.
pub fn coroutine_onward<'py>(
    py: Python<'py>,
    name: &'static str,
    onward: impl Onward + 'static,
) -> PyResult<Bound<'py, Coroutine>> {
    Bound::new(py, Coroutine { name, stage: Mutex::new(Stage::New(Box::new(onward))) })
}

fn boxed<F, C>(steps: Steps, future: F, finish: C) -> Box<dyn Begin>
where
    F: Future + Send + 'static,
    C: FnOnce(Python<'_>, F::Output) -> PyResult<Py<PyAny>> + Send + 'static,
{
    // A large future is put where it is to stay.
    #[cfg(feature = "driver")]
    if Pooled::<F>::FITS {
        return Box::new(Call { steps, future: Pooled::new(future), finish });
    }
    Box::new(Call { steps, future, finish })
}

/// What a step led to.
enum Step<'py> {
    Yielded(Bound<'py, PyAny>),
    Returned(Bound<'py, PyAny>),
}

impl Coroutine {
    /// Begins, and returns the iterator of the loop's future.
    fn begin<'py>(&self, py: Python<'py>, next: Stage) -> PyResult<Option<Bound<'py, PyAny>>> {
        let stage = std::mem::replace(&mut *lock(&self.stage), next);
        match stage {
            // What goes wrong ends it: `next` is then no more than what a second attempt finds.
            Stage::New(call) => call.begin(py)?.try_iter().map(|iterator| Some(iterator.into_any())),
            stage => {
                self.set(stage);
                Ok(None)
            }
        }
    }

    /// The next stage. What the one before held goes once the lock is free: Python may run then.
    fn set(&self, stage: Stage) {
        let before = std::mem::replace(&mut *lock(&self.stage), stage);
        drop(before);
    }

    fn reused(&self) -> PyErr {
        PyRuntimeError::new_err(format!("{}() was awaited already: call it again", self.name))
    }

    fn advance<'py>(&self, py: Python<'py>, value: &Bound<'py, PyAny>) -> PyResult<Step<'py>> {
        let sent = match &*lock(&self.stage) {
            Stage::Sent(iterator) => Some(iterator.bind(py).clone()),
            _ => None,
        };
        let iterator = match sent {
            Some(iterator) => iterator,
            None => {
                let iterator = self.begin(py, Stage::Over)?.ok_or_else(|| self.reused())?;
                self.set(Stage::Sent(iterator.clone().unbind()));
                iterator
            }
        };
        let mut result = ptr::null_mut();
        // SAFETY: both are objects, and there is a place for the result.
        let sent = unsafe { ffi::PyIter_Send(iterator.as_ptr(), value.as_ptr(), &raw mut result) };
        // SAFETY: an owned reference; null if an exception is set.
        let result = unsafe { Bound::from_owned_ptr_or_opt(py, result) };
        match (sent, result) {
            (ffi::PySendResult::PYGEN_NEXT, Some(result)) => Ok(Step::Yielded(result)),
            (ffi::PySendResult::PYGEN_RETURN, Some(result)) => {
                self.set(Stage::Over);
                Ok(Step::Returned(result))
            }
            _ => {
                self.set(Stage::Over);
                Err(PyErr::fetch(py))
            }
        }
    }

    /// Ends one that did not begin, without a warning.
    #[cfg(feature = "awaitable")]
    pub(super) fn close_if_new(&self) {
        drop(self.take_if_new());
    }

    /// Drops what never began, with a warning.
    fn drop_new(&self) {
        let call = self.take_if_new();
        if call.is_some() {
            warn(self.name);
        }
    }

    fn take_if_new(&self) -> Option<Box<dyn Begin>> {
        let mut stage = lock(&self.stage);
        match std::mem::replace(&mut *stage, Stage::Over) {
            Stage::New(call) => Some(call),
            other => {
                *stage = other;
                None
            }
        }
    }
}

#[pymethods]
impl Coroutine {
    fn __await__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        self.begin(py, Stage::Awaited)?.ok_or_else(|| self.reused())
    }

    /// Begins, or goes on.
    fn send<'py>(&self, py: Python<'py>, value: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        match self.advance(py, value)? {
            Step::Yielded(yielded) => Ok(yielded),
            Step::Returned(returned) => Err(PyStopIteration::new_err((returned.unbind(),))),
        }
    }

    /// Raises an exception where it waits.
    #[pyo3(signature = (r#type, value = None, traceback = None, /))]
    fn throw<'py>(
        &self,
        py: Python<'py>,
        r#type: &Bound<'py, PyAny>,
        value: Option<&Bound<'py, PyAny>>,
        traceback: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let _ = traceback;
        let exception = match value {
            Some(value) if value.is_instance_of::<pyo3::exceptions::PyBaseException>() => value.clone(),
            Some(value) => r#type.call1((value,))?,
            None if r#type.is_instance_of::<pyo3::types::PyType>() => r#type.call0()?,
            None => r#type.clone(),
        };
        if self.take_if_new().is_some() {
            return Err(PyErr::from_value(exception));
        }
        let iterator = match &*lock(&self.stage) {
            Stage::Sent(iterator) => iterator.bind(py).clone(),
            _ => return Err(self.reused()),
        };
        let thrown = iterator.call_method1(intern!(py, "throw"), (exception,));
        if thrown.is_err() {
            self.set(Stage::Over);
        }
        thrown
    }

    /// Ends it. One that did not begin never will.
    fn close(&self, py: Python<'_>) -> PyResult<()> {
        let stage = std::mem::replace(&mut *lock(&self.stage), Stage::Over);
        match stage {
            Stage::Sent(iterator) => iterator.call_method0(py, intern!(py, "close")).map(drop),
            Stage::New(_) | Stage::Awaited | Stage::Over => Ok(()),
        }
    }

    fn __bool__(&self, py: Python<'_>) -> PyResult<bool> {
        if !matches!(*lock(&self.stage), Stage::New(_)) || is_asked_by_asyncio(py) {
            return Ok(true);
        }
        Err(PyTypeError::new_err(format!(
            "{}() was not awaited, so there is no answer yet: write `await ...{}(...)`",
            self.name,
            self.__name__()
        )))
    }

    #[getter]
    fn __name__(&self) -> &'static str {
        self.name.rsplit('.').next().unwrap_or(self.name)
    }

    #[getter]
    fn __qualname__(&self) -> &'static str {
        self.name
    }

    /// What it waits for.
    #[getter]
    fn cr_await<'py>(&self, py: Python<'py>) -> Option<Bound<'py, PyAny>> {
        match &*lock(&self.stage) {
            Stage::Sent(iterator) => Some(iterator.bind(py).clone()),
            _ => None,
        }
    }

    fn __repr__(slf: &Bound<'_, Self>) -> String {
        format!("<coroutine object {} at {:p}>", slf.get().name, slf.as_ptr())
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        match self.stage.try_lock().as_deref() {
            Ok(Stage::New(call)) => call.traverse(&visit),
            Ok(Stage::Sent(iterator)) => visit.call(iterator),
            _ => Ok(()),
        }
    }

    /// Breaks a cycle that Python's collector has found. As with Python's own, one that was never awaited warns.
    fn __clear__(&self) {
        self.drop_new();
        self.set(Stage::Over);
    }
}

impl Drop for Coroutine {
    fn drop(&mut self) {
        self.drop_new();
    }
}

/// Whether Python code of asyncio's runs: it asks for the truth of a task's coroutine before it shows it.
#[cold]
fn is_asked_by_asyncio(py: Python<'_>) -> bool {
    // SAFETY: a borrowed reference, or null where no Python code runs.
    let globals = unsafe { Bound::from_borrowed_ptr_or_opt(py, ffi::PyEval_GetGlobals()) };
    let module = globals.and_then(|globals| globals.get_item(intern!(py, "__name__")).ok());
    module.is_some_and(|name| name.extract::<&str>().is_ok_and(|name| name.starts_with("asyncio.")))
}

/// As Python does of its own coroutines.
#[cold]
fn warn(name: &str) {
    // At the interpreter's end a warning reaches no one.
    Python::try_attach(|py| {
        // A coroutine may be dropped while an exception is on its way.
        let raised = PyErr::take(py);
        let text = format!("coroutine '{name}' was never awaited\0");
        let text =
            std::ffi::CStr::from_bytes_with_nul(text.as_bytes()).unwrap_or(c"a coroutine was never awaited");
        if let Err(error) = PyErr::warn(py, &py.get_type::<PyRuntimeWarning>(), text, 1) {
            error.write_unraisable(py, None);
        }
        if let Some(raised) = raised {
            raised.restore(py);
        }
    });
}
