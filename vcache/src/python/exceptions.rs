//! The exceptions have one home, in Python: `django_vcache.exceptions`. Here the crate's error finds its class there.

use std::any::Any;

use pyo3::exceptions::{PyException, PyRuntimeError, PyStopIteration, PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyType;

use crate::abi::border::discard;
use crate::error::{Error, ErrorKind, Raised};

const HOME: &str = "django_vcache.exceptions";

/// The class for a kind of error; `None` where a builtin serves.
fn class(py: Python<'_>, kind: ErrorKind) -> PyResult<Option<&Bound<'_, PyType>>> {
    static CONNECTION: PyOnceLock<Py<PyType>> = PyOnceLock::new();
    static TIMEOUT: PyOnceLock<Py<PyType>> = PyOnceLock::new();
    static RESPONSE: PyOnceLock<Py<PyType>> = PyOnceLock::new();
    static CONFIGURATION: PyOnceLock<Py<PyType>> = PyOnceLock::new();
    static PANIC: PyOnceLock<Py<PyType>> = PyOnceLock::new();
    static REQUEST: PyOnceLock<Py<PyType>> = PyOnceLock::new();
    let (cell, name) = match kind {
        ErrorKind::Connection => (&CONNECTION, "ConnectionError"),
        ErrorKind::Timeout => (&TIMEOUT, "TimeoutError"),
        ErrorKind::Response => (&RESPONSE, "ResponseError"),
        ErrorKind::Configuration => (&CONFIGURATION, "ConfigurationError"),
        ErrorKind::Panic => (&PANIC, "HotPathPanic"),
        ErrorKind::Request => (&REQUEST, "RequestError"),
        ErrorKind::Value | ErrorKind::Raised => return Ok(None),
    };
    cell.import(py, HOME, name).map(Some)
}

/// The exception for an error: `ConnectionError`, `TimeoutError`, `ResponseError` (with `.code`), `ConfigurationError`,
/// `HotPathPanic`, `RequestError` (with `.status`) of `django_vcache.exceptions`, or the builtin `ValueError`; for [`ErrorKind::Raised`] the exception that
/// it holds.
#[must_use]
pub fn to_exception(py: Python<'_>, error: &Error) -> PyErr {
    match error.raised() {
        Some(Raised::Exception(exception)) => return raised_again(py, exception.get()),
        Some(Raised::Class(path)) => return of_class(py, path, &error.to_string()),
        None => {}
    }
    let made = class(py, error.kind()).and_then(|class| match class {
        None => Ok(PyValueError::new_err(error.to_string())),
        Some(class) => {
            let exception = class.call1((error.to_string(),))?;
            if let Some(code) = error.code() {
                // The class has a default for it; not being able to set it is no reason to hide the error.
                let _ = exception.setattr("code", code);
            }
            if let Some(status) = error.status() {
                exception.setattr("status", status)?;
            }
            Ok(PyErr::from_value(exception))
        }
    });
    made.unwrap_or_else(|missing| {
        let fallback = PyRuntimeError::new_err(error.to_string());
        fallback.set_cause(py, Some(missing));
        fallback
    })
}

/// The same exception object. A `StopIteration` would end whatever iterates, and a future does not take it: it becomes a
/// `RuntimeError`, as one that leaves a generator.
fn raised_again(py: Python<'_>, exception: &PyErr) -> PyErr {
    let exception = exception.clone_ref(py);
    if !exception.is_instance_of::<PyStopIteration>(py) {
        return exception;
    }
    let instead = PyRuntimeError::new_err("a hot path raised StopIteration");
    instead.set_cause(py, Some(exception));
    instead
}

/// An exception of the class at an import path, or one that says why there is none, with the message all the same.
fn of_class(py: Python<'_>, path: &str, message: &str) -> PyErr {
    let made = import_class(py, path).and_then(|class| class.call1((message,)));
    made.map_or_else(
        |reason| {
            let text = format!("a hot path cannot raise '{path}' ({reason}); its message was: {message}");
            let instead = PyRuntimeError::new_err(text);
            instead.set_cause(py, Some(reason));
            instead
        },
        PyErr::from_value,
    )
}

fn import_class<'py>(py: Python<'py>, path: &str) -> PyResult<Bound<'py, PyType>> {
    let (module, name) = path.rsplit_once('.').ok_or_else(|| {
        PyValueError::new_err("an import path has a module and a class, such as 'shop.errors.SoldOut'")
    })?;
    let class = py.import(module)?.getattr(name)?;
    match class.cast_into::<PyType>() {
        Ok(class) if class.is_subclass_of::<PyException>()? => Ok(class),
        _ => Err(PyTypeError::new_err("it is not a class of exceptions")),
    }
}

impl From<Error> for PyErr {
    fn from(error: Error) -> Self {
        Python::attach(|py| to_exception(py, &error))
    }
}

/// The exception for what a hot path panicked with.
pub(crate) fn panicked(py: Python<'_>, payload: Box<dyn Any + Send>) -> PyErr {
    let exception = to_exception(py, &panic_message(&*payload));
    discard(payload);
    exception
}

/// A caught panic as an error, with the text it was raised with.
#[must_use]
pub fn panic_message(payload: &(dyn Any + Send)) -> Error {
    let text = payload
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| payload.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("a panic without a message");
    Error::new(ErrorKind::Panic, format!("a hot path panicked: {text}"))
}
