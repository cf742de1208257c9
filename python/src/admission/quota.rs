//! `Quota`: so much in a calendar window.

use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use pyo3::types::PyDict;
use vcache::admission::{Mode, Period, Quota};
use vcache::python::Coroutine;

use super::limit::{GivenLimit, cost as cost_of};
use super::refund::refunded;
use super::rule::Rule;
use super::settings::{self, Keywords, Taker};

/// So many units in each calendar window, exact within it, for each value of a scope's entry.
///
/// `limit` is an int, or a callable of the scope that returns one, or None for no limit; -1 only counts, 0 refuses all.
/// `period` is "hour", "day" or "month", by the calendar of `timezone`. `key` names the entry of the scope that it is keyed
/// by, or several; without one it is keyed by the owner of the gate that it is in. `mode` is "strict", "crossing" (takes the one that crosses the limit),
/// "check_only" (counts nothing) or "shadow" (never refuses). `keep` is for how many seconds after a window's end it can
/// still be refunded.
///
/// Keywords: as for Throttle.
///
/// Raises ValueError for what is not a name, a period, a mode or a time zone.
#[pyclass(frozen, subclass, name = "Quota", module = "django_vcache.admission")]
pub(crate) struct PyQuota {
    pub(super) rule: Rule<Quota>,
}

#[pymethods]
impl PyQuota {
    #[new]
    #[pyo3(signature = (
        name, limit, period, key = None, timezone = "UTC", mode = "strict", keep = None, **settings
    ))]
    #[expect(clippy::too_many_arguments, reason = "one keyword for each")]
    fn new(
        py: Python<'_>,
        name: &str,
        limit: &Bound<'_, PyAny>,
        period: &str,
        key: Option<&Bound<'_, PyAny>>,
        timezone: &str,
        mode: &str,
        keep: Option<&Bound<'_, PyAny>>,
        settings: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<Self> {
        let keywords = Keywords::new(py, settings, "Quota", Taker::Rule)?;
        let period: Period = period.parse()?;
        let mode: Mode = mode.parse()?;
        let limit = GivenLimit::new(limit)?;
        let mut quota = match limit.fixed() {
            Some(limit) => Quota::new(name, limit, period)?,
            None => Quota::per_call(name, period)?,
        };
        quota = quota.timezone(timezone)?.mode(mode);
        if let Some(keep) = keep {
            quota = quota.keep(settings::seconds("keep", keep)?);
        }
        Ok(Self { rule: Rule::new(quota, limit, key, keywords)? })
    }

    /// The quota's name.
    #[getter]
    fn name(&self) -> &str {
        self.rule.name()
    }

    /// The cache alias whose server counts.
    #[getter]
    fn using(&self) -> &str {
        self.rule.alias()
    }

    /// Takes `cost` units of a scope, or of the value of its entry. A cost of 0 asks, and counts nothing. `limit` is another
    /// limit for this call. The decision's `receipt` is for a refund.
    ///
    /// Raises ValueError for a negative or too large cost and for a scope that lacks an entry, before anything is sent.
    #[pyo3(signature = (scope, cost = 1, *, limit = None))]
    fn consume(
        &self,
        scope: &Bound<'_, PyAny>,
        #[pyo3(from_py_with = cost_of)] cost: i64,
        limit: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Py<PyAny>> {
        self.rule.charged(scope, cost, limit)?.block(scope.py())
    }

    /// As consume, to be awaited.
    #[pyo3(signature = (scope, cost = 1, *, limit = None))]
    fn aconsume<'py>(
        &self,
        scope: &Bound<'py, PyAny>,
        #[pyo3(from_py_with = cost_of)] cost: i64,
        limit: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Bound<'py, Coroutine>> {
        self.rule.charged(scope, cost, limit)?.defer(scope.py(), "Quota.aconsume")
    }

    /// How it stands in the window that is now.
    #[pyo3(signature = (scope, *, limit = None))]
    fn peek(&self, scope: &Bound<'_, PyAny>, limit: Option<&Bound<'_, PyAny>>) -> PyResult<Py<PyAny>> {
        self.rule.peeked(scope, limit)?.block(scope.py())
    }

    /// As peek, to be awaited.
    #[pyo3(signature = (scope, *, limit = None))]
    fn apeek<'py>(
        &self,
        scope: &Bound<'py, PyAny>,
        limit: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Bound<'py, Coroutine>> {
        self.rule.peeked(scope, limit)?.defer(scope.py(), "Quota.apeek")
    }

    /// Gives back what was taken under a receipt, once, in the window that it was taken in.
    ///
    /// Raises ValueError for a receipt of something else.
    fn refund(&self, py: Python<'_>, receipt: &str) -> PyResult<Py<PyAny>> {
        refunded(py, self.rule.placed.asked(), self.rule.alias(), receipt)?.block(py)
    }

    /// As refund, to be awaited.
    fn arefund<'py>(&self, py: Python<'py>, receipt: &str) -> PyResult<Bound<'py, Coroutine>> {
        refunded(py, self.rule.placed.asked(), self.rule.alias(), receipt)?.defer(py, "Quota.arefund")
    }

    /// Forgets what was counted in the window that is now; whether there was anything.
    fn reset(&self, scope: &Bound<'_, PyAny>) -> PyResult<Py<PyAny>> {
        self.rule.forgotten(scope)?.block(scope.py())
    }

    /// As reset, to be awaited.
    fn areset<'py>(&self, scope: &Bound<'py, PyAny>) -> PyResult<Bound<'py, Coroutine>> {
        self.rule.forgotten(scope)?.defer(scope.py(), "Quota.areset")
    }

    /// What it counted in this process, by name.
    fn metrics<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        self.rule.metrics(py)
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.rule.traverse(&visit)
    }

    fn __repr__(&self) -> String {
        self.rule.repr("Quota")
    }
}
