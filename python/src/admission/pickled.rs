//! Decisions and what they hold, pickled: each is a dict of plain values, and the function that makes it of that again.

use pyo3::prelude::*;
use pyo3::types::PyTuple;
use vcache::admission::{Decision, Refund, Refusal, RuleState};
use vcache::python::{FromDict, ToDict};

use super::decision::{PyDecision, PyRefund, PyRefusal, PyRuleState};

/// What can be pickled.
pub(super) trait Pickled: serde::Serialize + Clone + Send + 'static {
    /// The function in `django_vcache._vcache`.
    const RESTORE: &'static str;
}

/// What `__reduce__` returns.
pub(super) fn reduce<'py, T: Pickled>(py: Python<'py>, value: &T) -> PyResult<Bound<'py, PyAny>> {
    let restore = py.import("django_vcache._vcache")?.getattr(T::RESTORE)?;
    let parts = PyTuple::new(py, [ToDict(value.clone()).into_pyobject(py)?])?;
    Ok(PyTuple::new(py, [restore, parts.into_any()])?.into_any())
}

macro_rules! pickled {
    ($($value:ty => $class:ident, $restore:ident;)+) => {$(
        impl Pickled for $value {
            const RESTORE: &'static str = stringify!($restore);
        }

        /// What was pickled.
        #[pyfunction]
        pub(crate) fn $restore(state: FromDict<$value>) -> $class {
            $class(state.0)
        }
    )+};
}

pickled! {
    Decision => PyDecision, _restore_decision;
    Refusal => PyRefusal, _restore_refusal;
    RuleState => PyRuleState, _restore_rule_state;
    Refund => PyRefund, _restore_refund;
}
