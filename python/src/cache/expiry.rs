//! Django's `timeout` becomes what the server is told.

use pyo3::exceptions::{PyOverflowError, PyTypeError, PyValueError};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyBool, PyDelta, PyFloat, PyInt, PyType};

use super::keys;

/// The server takes no more than fits its clock; this is some 3,000 years.
const LONGEST_MS: f64 = 1e14;

/// When a value goes away.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) enum Expiry {
    /// Never (`timeout=None`).
    Never,
    /// At once (`timeout` of 0 or below).
    AtOnce,
    /// After so many milliseconds, one at least.
    After(i64),
}

impl Expiry {
    /// Reads a `timeout` argument: `DEFAULT_TIMEOUT` is the backend's own, None is for ever, and otherwise it is seconds
    /// with fractions, or a timedelta. A class that overrides `get_backend_timeout` is asked first.
    pub(super) fn of(cache: &Bound<'_, PyAny>, timeout: &Bound<'_, PyAny>) -> PyResult<Self> {
        static DEFAULT: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
        let py = cache.py();
        if !has_plain_timeouts(cache)? {
            let seconds = cache.call_method1(intern!(py, "get_backend_timeout"), (timeout,))?;
            return Self::seconds(&seconds);
        }
        let default = DEFAULT.import(py, "django.core.cache.backends.base", "DEFAULT_TIMEOUT")?;
        if timeout.is(default) {
            return Self::seconds(&cache.getattr(intern!(py, "default_timeout"))?);
        }
        Self::seconds(timeout)
    }

    fn seconds(timeout: &Bound<'_, PyAny>) -> PyResult<Self> {
        let Some(seconds) = seconds_of(timeout)? else { return Ok(Self::Never) };
        if seconds <= 0.0 {
            return Ok(Self::AtOnce);
        }
        #[expect(clippy::cast_possible_truncation, reason = "bounded by LONGEST_MS")]
        Ok(Self::After((seconds * 1000.0).round().clamp(1.0, LONGEST_MS) as i64))
    }
}

/// Whether timeouts are read here. The backend's own class is known without asking it.
fn has_plain_timeouts(cache: &Bound<'_, PyAny>) -> PyResult<bool> {
    static BACKEND: PyOnceLock<Py<PyType>> = PyOnceLock::new();
    let py = cache.py();
    if cache.get_type().is(BACKEND.import(py, "django_vcache.backend", "ValkeyCache")?) {
        return Ok(true);
    }
    cache.getattr(intern!(py, "_plain_timeouts"))?.is_truthy()
}

/// A `timeout` argument in seconds; None stays None.
///
/// # Errors
/// `TypeError` or `ValueError` for what is no length of time. A bool is none either: it is a flag that another package
/// takes in this place.
pub(super) fn seconds_of(timeout: &Bound<'_, PyAny>) -> PyResult<Option<f64>> {
    if timeout.is_none() {
        return Ok(None);
    }
    if let Ok(seconds) = timeout.cast_exact::<PyFloat>() {
        return checked(seconds.value()).map(Some);
    }
    if let Ok(delta) = timeout.cast::<PyDelta>() {
        let seconds = delta.call_method0(intern!(timeout.py(), "total_seconds"))?.extract()?;
        return checked(seconds).map(Some);
    }
    let wrong = || {
        PyTypeError::new_err(format!(
            "timeout must be a number of seconds, a timedelta or None, not {}",
            keys::shown(timeout)
        ))
    };
    if timeout.is_instance_of::<PyBool>() {
        return Err(wrong());
    }
    match timeout.extract::<f64>() {
        Ok(seconds) => checked(seconds).map(Some),
        // An int of more than 308 digits.
        Err(error) if error.is_instance_of::<PyOverflowError>(timeout.py()) => {
            let is_past = timeout.is_instance_of::<PyInt>() && timeout.lt(0)?;
            Ok(Some(if is_past { f64::NEG_INFINITY } else { f64::INFINITY }))
        }
        Err(_) => Err(wrong()),
    }
}

fn checked(seconds: f64) -> PyResult<f64> {
    if seconds.is_nan() {
        return Err(PyValueError::new_err(
            "timeout must be a number of seconds, a timedelta or None, not nan",
        ));
    }
    Ok(seconds)
}
