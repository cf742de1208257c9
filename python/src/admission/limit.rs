//! Limits and rates that are not known before the call: a callable of the scope, or an argument of the call.

use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyInt, PyString};
use vcache::admission::Rate;
use vcache::python::to_exception;

/// No limit.
const UNLIMITED: i64 = -1;

/// What `Throttle(rate=...)` is.
pub(super) enum GivenRate {
    Fixed(Rate),
    Called(Py<PyAny>),
}

impl GivenRate {
    pub(super) fn new(given: &Bound<'_, PyAny>) -> PyResult<Self> {
        if given.is_callable() {
            return Ok(Self::Called(given.clone().unbind()));
        }
        rate(given).map(Self::Fixed)
    }

    /// Shows the callable to Python's garbage collector.
    pub(super) fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        match self {
            Self::Fixed(_) => Ok(()),
            Self::Called(callable) => visit.call(callable),
        }
    }

    /// The rate for a scope, unless it is the same for all.
    pub(super) fn ask(&self, name: &str, scope: &Bound<'_, PyAny>) -> PyResult<Option<Rate>> {
        let Self::Called(callable) = self else { return Ok(None) };
        let answer = answer(callable, "rate of the throttle", name, scope)?;
        if answer.is_none() {
            return unlimited().map(Some);
        }
        rate(&answer).map(Some).map_err(|error| blame(&answer, error, "rate of the throttle", name))
    }
}

/// What `Quota(limit=...)` is.
pub(super) enum GivenLimit {
    Fixed(i64),
    Called(Py<PyAny>),
}

impl GivenLimit {
    pub(super) fn new(given: &Bound<'_, PyAny>) -> PyResult<Self> {
        if given.is_callable() {
            return Ok(Self::Called(given.clone().unbind()));
        }
        limit(given).map(Self::Fixed)
    }

    /// Shows the callable to Python's garbage collector.
    pub(super) fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        match self {
            Self::Fixed(_) => Ok(()),
            Self::Called(callable) => visit.call(callable),
        }
    }

    /// The limit for a scope, unless it is the same for all.
    pub(super) fn ask(&self, name: &str, scope: &Bound<'_, PyAny>) -> PyResult<Option<i64>> {
        let Self::Called(callable) = self else { return Ok(None) };
        let answer = answer(callable, "limit of the quota", name, scope)?;
        if answer.is_none() {
            return Ok(Some(UNLIMITED));
        }
        limit(&answer).map(Some).map_err(|error| blame(&answer, error, "limit of the quota", name))
    }
}

/// A rate's text as a rate.
pub(super) fn rate(given: &Bound<'_, PyAny>) -> PyResult<Rate> {
    let Ok(text) = given.cast::<PyString>() else {
        let found = given.get_type().name()?;
        return Err(PyTypeError::new_err(format!("a rate is a str such as \"100/m\", not {found}")));
    };
    text.to_str()?.parse().map_err(|error| to_exception(given.py(), &error))
}

/// A whole number.
pub(super) fn limit(given: &Bound<'_, PyAny>) -> PyResult<i64> {
    if !given.is_instance_of::<PyInt>() || given.is_instance_of::<PyBool>() {
        let found = given.get_type().name()?;
        return Err(PyTypeError::new_err(format!("a limit is an int, not {found}")));
    }
    given.extract().map_err(|_| {
        PyValueError::new_err(format!("the limit {given} is larger than can be counted exactly"))
    })
}

/// What a call costs. What is no cost for other reasons is told by the rule.
pub(super) fn cost(given: &Bound<'_, PyAny>) -> PyResult<i64> {
    if !given.is_instance_of::<PyInt>() || given.is_instance_of::<PyBool>() {
        let found = given.get_type().name()?;
        return Err(PyTypeError::new_err(format!("a cost is an int, not {found}")));
    }
    given.extract().map_err(|_| {
        PyValueError::new_err(format!("the cost is {given}: give a whole number from 0 to 2^53"))
    })
}

fn unlimited() -> PyResult<Rate> {
    Ok(Rate::new(UNLIMITED, std::time::Duration::from_secs(1))?)
}

fn answer<'py>(
    callable: &Py<PyAny>,
    what: &str,
    name: &str,
    scope: &Bound<'py, PyAny>,
) -> PyResult<Bound<'py, PyAny>> {
    let py = scope.py();
    let answer = callable.bind(py).call1((scope,))?;
    if answer.hasattr(intern!(py, "__await__"))? {
        // Otherwise Python warns that it was never awaited.
        if let Ok(close) = answer.getattr(intern!(py, "close")) {
            close.call0()?;
        }
        return Err(PyTypeError::new_err(format!(
            "the {what} {name:?} is an async callable: it is called before anything is sent, and must answer at once"
        )));
    }
    Ok(answer)
}

/// The error of a callable's answer, told to be that.
fn blame(answer: &Bound<'_, PyAny>, error: PyErr, what: &str, name: &str) -> PyErr {
    let py = answer.py();
    let text = format!("the callable for the {what} {name:?} returned {answer:?}: {}", error.value(py));
    let told = if error.is_instance_of::<PyTypeError>(py) {
        PyTypeError::new_err(text)
    } else {
        PyValueError::new_err(text)
    };
    told.set_cause(py, Some(error));
    told
}
