//! The exceptions have one home, in Python: `django_vcache.exceptions`. Here the crate's error finds its class there.

use std::any::Any;

use pyo3::exceptions::{PyRuntimeError, PyValueError};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyType;

use crate::error::{Error, ErrorKind};

const HOME: &str = "django_vcache.exceptions";

/// The class for a kind of error; `None` where a builtin serves.
fn class(py: Python<'_>, kind: ErrorKind) -> PyResult<Option<&Bound<'_, PyType>>> {
    static CONNECTION: PyOnceLock<Py<PyType>> = PyOnceLock::new();
    static TIMEOUT: PyOnceLock<Py<PyType>> = PyOnceLock::new();
    static RESPONSE: PyOnceLock<Py<PyType>> = PyOnceLock::new();
    static CONFIGURATION: PyOnceLock<Py<PyType>> = PyOnceLock::new();
    static PANIC: PyOnceLock<Py<PyType>> = PyOnceLock::new();
    let (cell, name) = match kind {
        ErrorKind::Connection => (&CONNECTION, "ConnectionError"),
        ErrorKind::Timeout => (&TIMEOUT, "TimeoutError"),
        ErrorKind::Response => (&RESPONSE, "ResponseError"),
        ErrorKind::Configuration => (&CONFIGURATION, "ConfigurationError"),
        ErrorKind::Panic => (&PANIC, "HotPathPanic"),
        ErrorKind::Value => return Ok(None),
    };
    cell.import(py, HOME, name).map(Some)
}

/// The exception for an error: `ConnectionError`, `TimeoutError`, `ResponseError` (with `.code`), `ConfigurationError`,
/// `HotPathPanic` of `django_vcache.exceptions`, or the builtin `ValueError`.
#[must_use]
pub fn to_exception(py: Python<'_>, error: &Error) -> PyErr {
    match class(py, error.kind()) {
        Ok(None) => PyValueError::new_err(error.to_string()),
        Ok(Some(class)) => {
            let exception = PyErr::from_type(class.clone(), (error.to_string(),));
            if let Some(code) = error.code() {
                // The class has a default for it; not being able to set it is no reason to hide the error.
                let _ = exception.value(py).setattr("code", code);
            }
            exception
        }
        Err(missing) => {
            let fallback = PyRuntimeError::new_err(error.to_string());
            fallback.set_cause(py, Some(missing));
            fallback
        }
    }
}

impl From<Error> for PyErr {
    fn from(error: Error) -> Self {
        Python::attach(|py| to_exception(py, &error))
    }
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
