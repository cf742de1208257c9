//! A call in its two forms. Each method is written once, as a future and what to make of its outcome.

use std::future::Future;

use pyo3::IntoPyObjectExt;
use pyo3::prelude::*;
use vcache::python::{Coroutine, Steps, block_on, coroutine, to_exception};

/// The future of a call.
pub(super) trait Outcome<T>: Future<Output = vcache::Result<T>> + Send + 'static {}

impl<T, F: Future<Output = vcache::Result<T>> + Send + 'static> Outcome<T> for F {}

/// What is awaited, and what Python gets for it.
pub(super) struct Call<F, T> {
    future: F,
    make: fn(Python<'_>, T) -> PyResult<Py<PyAny>>,
}

impl<F: Outcome<T>, T: Send + 'static> Call<F, T> {
    pub(super) fn new(future: F, make: fn(Python<'_>, T) -> PyResult<Py<PyAny>>) -> Self {
        Self { future, make }
    }

    /// Blocks until it is over, with the GIL released.
    pub(super) fn block(self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        let outcome = block_on(py, self.future)?;
        (self.make)(py, outcome.map_err(|error| to_exception(py, &error))?)
    }

    /// A coroutine, which asks nothing before it is awaited. `name` is the method's: `Throttle.acheck`.
    pub(super) fn defer<'py>(self, py: Python<'py>, name: &'static str) -> PyResult<Bound<'py, Coroutine>> {
        let make = self.make;
        coroutine(py, name, Steps::Many, self.future, move |py, outcome| {
            make(py, outcome.map_err(|error| to_exception(py, &error))?)
        })
    }
}

/// A plain value.
pub(super) fn plain<T>(py: Python<'_>, value: T) -> PyResult<Py<PyAny>>
where
    T: for<'py> IntoPyObject<'py>,
{
    value.into_py_any(py)
}
