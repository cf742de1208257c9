//! The bridge to Python by way of the host's executor: the same functions that [`crate::python`] has with the driver in
//! this library.

use std::future::Future;
use std::ptr;

use pyo3::exceptions::PySystemError;
use pyo3::ffi::PyObject;
use pyo3::prelude::*;

use super::calls::Handle;
use super::find::{find, table};
use super::tasks::{Body, drive, task};
use crate::abi::border::contained;
use crate::abi::table::Status;
use crate::connection::Connection;
use crate::python::{Steps, ending, panicked, to_exception};

/// What a module of hot paths does first when it is imported: it finds the wheel's table.
///
/// # Errors
/// `ABIMismatch` with both versions and the command that mends it.
pub fn prepare() -> PyResult<()> {
    Python::attach(|py| {
        find(py)?;
        ending::prepare(py)
    })
}

/// The connection of an alias, for a hot path called from Python.
///
/// # Errors
/// `ConfigurationError` if the alias is not configured.
pub fn connection_for(py: Python<'_>, alias: &str) -> PyResult<Connection> {
    find(py)?;
    Handle::find(alias).map(Connection::on).map_err(|error| to_exception(py, &error))
}

/// Polls `future` on the running asyncio loop and returns an `asyncio.Future` of what `finish` makes of its output.
///
/// The first poll happens now, so that a call is on its way when this returns.
///
/// # Errors
/// `RuntimeError` if no loop runs on this thread.
pub fn spawn<'py, F, C>(py: Python<'py>, steps: Steps, future: F, finish: C) -> PyResult<Bound<'py, PyAny>>
where
    F: Future + Send + 'static,
    C: FnOnce(Python<'_>, F::Output) -> PyResult<Py<PyAny>> + Send + 'static,
{
    let table = table().map_err(|error| to_exception(py, &error))?;
    let body = Box::into_raw(Box::new(Body::new(future, Some(finish))));
    let task = task(steps, body);
    let mut awaitable: *mut PyObject = ptr::null_mut();
    // SAFETY: we are attached, and the host takes the task over. Null is the running loop.
    let status = unsafe { (table.loop_spawn)(ptr::null_mut(), &raw const task, &raw mut awaitable) };
    // SAFETY: the contract: an owned reference, or null.
    match unsafe { Bound::from_owned_ptr_or_opt(py, awaitable) } {
        Some(awaitable) if status == Status::OK => Ok(awaitable),
        _ => Err(raised(py, status)),
    }
}

/// Runs `future` to its end with the GIL released. Ctrl-C is seen while it waits, and ends it.
///
/// # Errors
/// What a signal handler raised, or `HotPathPanic`.
pub fn block_on<F>(py: Python<'_>, future: F) -> PyResult<F::Output>
where
    F: Future + Send,
    F::Output: Send,
{
    let (outcome, interrupted) = py.detach(|| {
        let mut body = Body::new(future, None);
        let mut exception: *mut PyObject = ptr::null_mut();
        let status = drive(&mut body, Some(&mut exception));
        let outcome = status.map(|status| (status, body.take_output()));
        // Its destructor may panic, if it was interrupted.
        contained((), || drop(body));
        (outcome, exception as usize)
    });
    // SAFETY: the contract: an owned reference, or null.
    let interrupted = unsafe { Bound::from_owned_ptr_or_opt(py, interrupted as *mut PyObject) };
    match outcome {
        Ok((_, Some(Ok(output)))) => Ok(output),
        Ok((_, Some(Err(payload)))) => Err(panicked(py, payload)),
        Ok((status, None)) => Err(match interrupted {
            Some(exception) => PyErr::from_value(exception),
            None => raised(py, status),
        }),
        Err(error) => Err(to_exception(py, &error)),
    }
}

fn raised(py: Python<'_>, status: Status) -> PyErr {
    PyErr::take(py).unwrap_or_else(|| {
        PySystemError::new_err(format!(
            "django-vcache failed without an exception (status {}); please report it",
            status.0
        ))
    })
}
