//! Which server a limit asks: that of its alias, or none where limits are switched off by `VCACHE["ENABLED"]`, and in a
//! test run whose cache is one of Django's stand-ins. Also how a process meets it before its first call.

use std::sync::atomic::{AtomicU8, Ordering};

use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use vcache::Connection;
use vcache::admission::load_scripts;
use vcache::python::{Coroutine, connection_for};

use super::call::{Call, Outcome, plain};

/// The settings have not been read yet, or have changed since.
const UNKNOWN: u8 = 0;
const ON: u8 = 1;
const OFF: u8 = 2;

static LIMITS: AtomicU8 = AtomicU8::new(UNKNOWN);

/// The connection to ask; `None` if everything is admitted.
pub(super) fn server(py: Python<'_>, alias: &str) -> PyResult<Option<Connection>> {
    if !are_on(|| look(py))? {
        return Ok(None);
    }
    match connection_for(py, alias) {
        Ok(connection) => Ok(Some(connection)),
        Err(error) if is_stand_in(py, &error)? => Ok(None),
        Err(error) => Err(error),
    }
}

fn are_on<E>(look: impl FnOnce() -> Result<bool, E>) -> Result<bool, E> {
    match LIMITS.load(Ordering::Relaxed) {
        ON => Ok(true),
        OFF => Ok(false),
        _ => look(),
    }
}

/// Whether limits count, for a hot path.
pub(crate) fn limits_are_on() -> vcache::Result<bool> {
    are_on(|| Python::attach(look)).map_err(Into::into)
}

#[cold]
fn look(py: Python<'_>) -> PyResult<bool> {
    static ENABLED: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let enabled = ENABLED.import(py, "django_vcache.admission.settings", "limits_are_enabled")?;
    let enabled: bool = enabled.call0()?.extract()?;
    LIMITS.store(if enabled { ON } else { OFF }, Ordering::Relaxed);
    Ok(enabled)
}

/// Whether an alias has no server because a test run gave it a cache of Django's that needs none.
#[cold]
fn is_stand_in(py: Python<'_>, error: &PyErr) -> PyResult<bool> {
    static STAND_IN: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let class = STAND_IN.import(py, "django_vcache.backend", "StandInCache")?;
    error.value(py).is_instance(class)
}

/// Connects an alias and loads the scripts of limits. Raises the connection's errors.
#[pyfunction]
pub(crate) fn warm_up(py: Python<'_>, alias: &str) -> PyResult<Py<PyAny>> {
    warmed_up(py, alias)?.block(py)
}

/// As warm_up, to be awaited.
#[pyfunction]
pub(crate) fn awarm_up<'py>(py: Python<'py>, alias: &str) -> PyResult<Bound<'py, Coroutine>> {
    warmed_up(py, alias)?.defer(py, "awarm_up")
}

fn warmed_up(py: Python<'_>, alias: &str) -> PyResult<Call<impl Outcome<()> + use<>, ()>> {
    let connection = connection_for(py, alias)?;
    Ok(Call::new(async move { load_scripts(&connection).await }, plain))
}

/// The setting VCACHE has changed: the next limit looks again whether it is to count.
#[pyfunction]
pub(crate) fn forget_enabled() {
    LIMITS.store(UNKNOWN, Ordering::Relaxed);
}
