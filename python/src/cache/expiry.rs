//! Django's `timeout` becomes what the server is told.

use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;

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
    /// Reads a `timeout` argument: `DEFAULT_TIMEOUT` is the backend's own, None is for ever, a number is seconds with
    /// fractions.
    pub(super) fn of(cache: &Bound<'_, PyAny>, timeout: &Bound<'_, PyAny>) -> PyResult<Self> {
        static DEFAULT: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
        let py = cache.py();
        let default = DEFAULT.import(py, "django.core.cache.backends.base", "DEFAULT_TIMEOUT")?;
        if timeout.is(default) {
            return Self::seconds(&cache.getattr(intern!(py, "default_timeout"))?);
        }
        Self::seconds(timeout)
    }

    fn seconds(timeout: &Bound<'_, PyAny>) -> PyResult<Self> {
        if timeout.is_none() {
            return Ok(Self::Never);
        }
        let seconds: f64 = timeout.extract().map_err(|_| {
            let shown = timeout.repr().map_or_else(|_| "?".to_owned(), |r| r.to_string());
            PyTypeError::new_err(format!("timeout must be a number of seconds or None, not {shown}"))
        })?;
        if seconds.is_nan() {
            return Err(PyValueError::new_err("timeout is not a number of seconds: nan"));
        }
        if seconds <= 0.0 {
            return Ok(Self::AtOnce);
        }
        #[expect(clippy::cast_possible_truncation, reason = "bounded by LONGEST_MS")]
        Ok(Self::After((seconds * 1000.0).round().clamp(1.0, LONGEST_MS) as i64))
    }
}
