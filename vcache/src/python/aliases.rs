//! A hot path finds its connection. Python configures aliases lazily, so an alias that has not been used yet is asked for.

use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;

use super::exceptions::to_exception;
use super::shield::shield;
use crate::connection::Connection;

static ON_UNKNOWN: PyOnceLock<Py<PyAny>> = PyOnceLock::new();

/// Registers `callable(alias)`, which is called when a hot path wants an alias that is not configured, and which
/// configures it or raises. The first registration stays.
pub fn on_unknown_alias(callable: Py<PyAny>) {
    Python::attach(|py| {
        let _ = ON_UNKNOWN.set(py, callable);
    });
}

/// The connection of an alias, for a hot path called from Python.
///
/// # Errors
/// `ConfigurationError` if the alias is not configured and cannot be, or what the registered callable raised.
pub fn connection_for(py: Python<'_>, alias: &str) -> PyResult<Connection> {
    shield();
    match (crate::connection_for(alias), ON_UNKNOWN.get(py)) {
        (Ok(connection), _) => Ok(connection),
        (Err(_), Some(configure)) => {
            configure.call1(py, (alias,))?;
            crate::connection_for(alias).map_err(|error| to_exception(py, &error))
        }
        (Err(error), None) => Err(to_exception(py, &error)),
    }
}
