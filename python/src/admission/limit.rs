//! Limits and rates that are not known before the call: a callable of the scope, or an argument of the call.

use std::fmt;
use std::time::Duration;

use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyInt, PyString};
use vcache::admission::Rate;
use vcache::python::to_exception;

/// No limit.
const UNLIMITED: i64 = -1;

/// A quota's limit, or a throttle's rate.
pub(super) trait Limit: Copy + fmt::Display + Send + Sync + 'static {
    /// What the errors call it.
    const WHAT: &'static str;

    /// # Errors
    /// `TypeError` or `ValueError` for what is no limit.
    fn read(given: &Bound<'_, PyAny>) -> PyResult<Self>;

    fn unlimited() -> vcache::Result<Self>;
}

impl Limit for i64 {
    const WHAT: &'static str = "limit of the quota";

    fn read(given: &Bound<'_, PyAny>) -> PyResult<Self> {
        if !given.is_instance_of::<PyInt>() || given.is_instance_of::<PyBool>() {
            let found = given.get_type().name()?;
            return Err(PyTypeError::new_err(format!("a limit is an int, not {found}")));
        }
        given.extract().map_err(|_| {
            PyValueError::new_err(format!("the limit {given} is larger than can be counted exactly"))
        })
    }

    fn unlimited() -> vcache::Result<Self> {
        Ok(UNLIMITED)
    }
}

impl Limit for Rate {
    const WHAT: &'static str = "rate of the throttle";

    fn read(given: &Bound<'_, PyAny>) -> PyResult<Self> {
        let Ok(text) = given.cast::<PyString>() else {
            let found = given.get_type().name()?;
            return Err(PyTypeError::new_err(format!("a rate is a str such as \"100/m\", not {found}")));
        };
        text.to_str()?.parse().map_err(|error| to_exception(given.py(), &error))
    }

    fn unlimited() -> vcache::Result<Self> {
        Self::new(UNLIMITED, Duration::from_secs(1))
    }
}

/// What `Quota(limit=...)` or `Throttle(rate=...)` is.
pub(super) enum GivenLimit<L> {
    Fixed(L),
    Called(Py<PyAny>),
}

impl<L: Limit> GivenLimit<L> {
    pub(super) fn new(given: &Bound<'_, PyAny>) -> PyResult<Self> {
        if given.is_callable() {
            return Ok(Self::Called(given.clone().unbind()));
        }
        L::read(given).map(Self::Fixed)
    }

    /// The limit, if it is the same for all scopes.
    pub(super) fn fixed(&self) -> Option<L> {
        match self {
            Self::Fixed(limit) => Some(*limit),
            Self::Called(_) => None,
        }
    }

    /// Shows the callable to Python's garbage collector.
    pub(super) fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        match self {
            Self::Fixed(_) => Ok(()),
            Self::Called(callable) => visit.call(callable),
        }
    }
}

/// The limit of one call.
pub(super) enum Said<L> {
    /// The rule's own.
    Own,
    This(L),
    /// What an async callable returned: the limit is what it comes to.
    Awaited(Py<PyAny>),
}

/// What a rule's callable says of a scope.
pub(super) fn ask<L: Limit>(callable: &Py<PyAny>, name: &str, scope: &Bound<'_, PyAny>) -> PyResult<Said<L>> {
    let py = scope.py();
    let answer = callable.bind(py).call1((scope,))?;
    if answer.hasattr(intern!(py, "__await__"))? {
        return Ok(Said::Awaited(answer.unbind()));
    }
    answered(&answer, name).map(Said::This)
}

/// The limit that a callable's answer is.
pub(super) fn answered<L: Limit>(answer: &Bound<'_, PyAny>, name: &str) -> PyResult<L> {
    if answer.is_none() {
        return Ok(L::unlimited()?);
    }
    L::read(answer).map_err(|error| blame(answer, error, L::WHAT, name))
}

/// The error of a call that blocks, and so cannot await what an async callable returned.
pub(super) fn not_awaited<L: Limit>(
    awaitable: &Bound<'_, PyAny>,
    name: &str,
    method: &str,
) -> PyResult<PyErr> {
    // Otherwise Python warns that it was never awaited. A future has no such method.
    _ = awaitable.call_method0(intern!(awaitable.py(), "close"));
    Ok(PyTypeError::new_err(format!(
        "the {} {name:?} is an async callable, which {method}() cannot await: call a{method}(), or give it one that \
         answers at once",
        L::WHAT
    )))
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
