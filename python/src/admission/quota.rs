//! `Quota`: so much in a calendar window.

use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use pyo3::types::PyDict;
use vcache::admission::{Mode, Period, Quota};
use vcache::python::Coroutine;

use super::limit::{GivenLimit, cost as cost_of};
use super::refund::refunded;
use super::rule::{Rule, Ruled, awaited};
use super::settings::{self, Keywords, Taker};

/// So many units in each calendar window, for each value of a scope's entry; exact within the window.
///
/// ```python
/// exports = Quota("exports", limit=100, period="month", key="org", timezone="Europe/Vienna")
/// decision = await exports.aconsume({"org": 1})
/// await exports.arefund(decision.receipt)
/// ```
///
/// - `name`: up to 64 letters, digits, `_`, `.` and `-`. On the server it is part of the key.
/// - `limit`: -1 only counts, 0 refuses all; or a callable of the scope that returns an int, or None for no limit. The
///   callable is called before anything is sent. An async one is awaited by the methods to await, and refused by those
///   that block.
/// - `period`: the window, by the calendar of `timezone`.
/// - `key`: the entry of the scope that it is keyed by, or several; if left out, the owner of the gate that it is in.
/// - `timezone`: a name of the IANA database.
/// - `mode`: `"strict"` refuses what would go over, `"crossing"` takes the one that crosses the limit and refuses those
///   after it, `"check_only"` refuses as `"strict"` and counts nothing, `"shadow"` counts and never refuses.
/// - `keep`: seconds after a window's end for which it can still be refunded; a day if left out.
/// - `using`, `policy`, `prefix`, `shards`, `outage`, `deny_cache`, `guard`, `processes`, `deadline`, `breaker`: as for
///   `Throttle`; a guard is for throttles only.
///
/// Raises ValueError for what is not a name, a period, a mode, a time zone or a limit, and settings out of range;
/// TypeError for wrong types and unknown keywords.
#[pyclass(frozen, subclass, name = "Quota", module = "django_vcache.admission")]
pub(crate) struct PyQuota {
    pub(super) rule: Rule<Quota>,
}

impl Ruled for PyQuota {
    type Of = Quota;

    fn rule(&self) -> &Rule<Quota> {
        &self.rule
    }
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

    /// Takes `cost` units of a scope, or of the value of its entry. Blocks, with the GIL released.
    ///
    /// A cost of 0 asks whether a unit is left, and counts nothing. `limit` is another limit for this call. The
    /// decision's `receipt` is for a refund. Raises as `Throttle.check`.
    #[pyo3(signature = (scope, cost = 1, *, limit = None))]
    fn consume(
        &self,
        scope: &Bound<'_, PyAny>,
        #[pyo3(from_py_with = cost_of)] cost: i64,
        limit: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Py<PyAny>> {
        let limit = self.rule.limit_now(scope, limit, "consume")?;
        self.rule.charged(scope, cost, limit)?.block(scope.py())
    }

    /// As `consume`, to be awaited. Nothing is asked before that. In a boolean context it raises TypeError: an `await`
    /// was forgotten.
    #[pyo3(signature = (scope, cost = 1, *, limit = None))]
    fn aconsume<'py>(
        slf: &Bound<'py, Self>,
        scope: &Bound<'py, PyAny>,
        #[pyo3(from_py_with = cost_of)] cost: i64,
        limit: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Bound<'py, Coroutine>> {
        const NAME: &str = "Quota.aconsume";
        awaited(slf, scope, limit, NAME, move |rule, of, limit| {
            rule.charged(of, cost, limit)?.defer(of.py(), NAME)
        })
    }

    /// How it stands in the window that is now. Raises as `Throttle.peek`.
    #[pyo3(signature = (scope, *, limit = None))]
    fn peek(&self, scope: &Bound<'_, PyAny>, limit: Option<&Bound<'_, PyAny>>) -> PyResult<Py<PyAny>> {
        let limit = self.rule.limit_now(scope, limit, "peek")?;
        self.rule.peeked(scope, limit)?.block(scope.py())
    }

    /// As `peek`, to be awaited.
    #[pyo3(signature = (scope, *, limit = None))]
    fn apeek<'py>(
        slf: &Bound<'py, Self>,
        scope: &Bound<'py, PyAny>,
        limit: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Bound<'py, Coroutine>> {
        const NAME: &str = "Quota.apeek";
        awaited(slf, scope, limit, NAME, |rule, of, limit| rule.peeked(of, limit)?.defer(of.py(), NAME))
    }

    /// Gives back what was taken under a receipt, once, in the window that it was taken in.
    ///
    /// A count never falls below 0, also if it was reset in between. The dedupe id of the call is not forgotten.
    ///
    /// Raises ValueError for what is not a receipt of this quota; ConnectionError, TimeoutError or ResponseError for a
    /// server that cannot be asked. It may be repeated after any error.
    fn refund(&self, py: Python<'_>, receipt: &str) -> PyResult<Py<PyAny>> {
        refunded(py, self.rule.placed.asked(), self.rule.alias(), receipt)?.block(py)
    }

    /// As `refund`, to be awaited.
    fn arefund<'py>(&self, py: Python<'py>, receipt: &str) -> PyResult<Bound<'py, Coroutine>> {
        refunded(py, self.rule.placed.asked(), self.rule.alias(), receipt)?.defer(py, "Quota.arefund")
    }

    /// Forgets what was counted in the window that is now; whether there was anything. Raises as `peek`.
    fn reset(&self, scope: &Bound<'_, PyAny>) -> PyResult<Py<PyAny>> {
        self.rule.forgotten(scope)?.block(scope.py())
    }

    /// As `reset`, to be awaited.
    fn areset<'py>(&self, scope: &Bound<'py, PyAny>) -> PyResult<Bound<'py, Coroutine>> {
        self.rule.forgotten(scope)?.defer(scope.py(), "Quota.areset")
    }

    /// What it decided in this process, standing alone; the names are those of `Throttle.metrics`.
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
