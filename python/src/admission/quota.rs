//! `Quota`: so much in a calendar window.

use std::sync::{Arc, OnceLock};

use pyo3::exceptions::PyValueError;
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use pyo3::types::PyDict;
use vcache::admission::{Decision, Mode, Period, Quota, Receipt, Refund, RuleState};
use vcache::python::{Coroutine, to_exception};

use super::alias::Alias;
use super::call::{Call, Outcome, plain};
use super::decision::{PyDecision, PyRefund, PyRuleState, metrics};
use super::limit::{GivenLimit, cost as cost_of, limit as limit_of};
use super::scope::{Of, for_callable};
use super::server::server;
use super::settings::{self, Keywords};

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
    /// Shared with the calls that are under way.
    quota: Arc<Quota>,
    /// As a gate takes it, where that is something else: without the project's defaults, which the gate has itself.
    part: Option<Quota>,
    /// As it is in the gate that it was given to: there is where it is charged.
    joined: OnceLock<(Arc<Quota>, String)>,
    pub(super) limit: GivenLimit,
    pub(super) using: Alias,
}

impl PyQuota {
    pub(super) fn name(&self) -> &str {
        self.quota.name()
    }

    /// As it was made, for a gate.
    pub(super) fn made(&self) -> &Quota {
        self.part.as_ref().unwrap_or(&self.quota)
    }

    /// As it is asked.
    fn quota(&self) -> &Arc<Quota> {
        self.joined.get().map_or(&self.quota, |(quota, _)| quota)
    }

    pub(super) fn alias(&self) -> &str {
        self.joined.get().map_or(&self.using, |(_, using)| using)
    }

    /// From now on it is a part of a gate, asked where that charges.
    ///
    /// # Errors
    /// `ValueError` if it is a part of another gate already, which charges elsewhere.
    pub(super) fn join(&self, quota: &Quota, using: &str) -> PyResult<()> {
        self.using.release();
        let (known, alias) = self.joined.get_or_init(|| (Arc::new(quota.clone()), using.to_owned()));
        if known.is_same(quota) && alias == using {
            return Ok(());
        }
        Err(PyValueError::new_err(format!(
            "quota '{}' is a part of another gate, with another alias, prefix, owner or number of shards: make one for each",
            self.name()
        )))
    }

    /// The limit of a call: its own, or what the callable says.
    fn limit_for(&self, of: &Bound<'_, PyAny>, given: Option<&Bound<'_, PyAny>>) -> PyResult<Option<i64>> {
        match given {
            Some(given) => limit_of(given).map(Some),
            None => match &self.limit {
                GivenLimit::Fixed(_) => Ok(None),
                called @ GivenLimit::Called(_) => {
                    let scope = for_callable(self.quota().entries(), of)?;
                    scope.map_or(Ok(None), |scope| called.ask(self.name(), &scope))
                }
            },
        }
    }

    fn consumed(
        &self,
        of: &Bound<'_, PyAny>,
        cost: i64,
        limit: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Call<impl Outcome<Decision> + use<>, Decision>> {
        let limit = self.limit_for(of, limit)?;
        let conn = server(of.py(), self.alias())?;
        let (of, quota): (Of, _) = (of.extract()?, Arc::clone(self.quota()));
        Ok(Call::new(
            async move {
                let Some(conn) = conn else { return quota.waive(of.subject(), cost, limit) };
                match limit {
                    None => quota.consume(&conn, of.subject(), cost).await,
                    Some(limit) => quota.consume_at(&conn, of.subject(), cost, limit).await,
                }
            },
            PyDecision::make,
        ))
    }

    fn peeked(
        &self,
        of: &Bound<'_, PyAny>,
        limit: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Call<impl Outcome<RuleState> + use<>, RuleState>> {
        let limit = self.limit_for(of, limit)?;
        let conn = server(of.py(), self.alias())?;
        let (of, quota): (Of, _) = (of.extract()?, Arc::clone(self.quota()));
        Ok(Call::new(
            async move {
                let Some(conn) = conn else { return quota.untouched(of.subject(), limit) };
                match limit {
                    None => quota.peek(&conn, of.subject()).await,
                    Some(limit) => quota.peek_at(&conn, of.subject(), limit).await,
                }
            },
            PyRuleState::make,
        ))
    }

    fn refunded(
        &self,
        py: Python<'_>,
        receipt: &str,
    ) -> PyResult<Call<impl Outcome<Refund> + use<>, Refund>> {
        let receipt: Receipt = receipt.parse().map_err(|error| to_exception(py, &error))?;
        let (conn, quota) = (server(py, self.alias())?, Arc::clone(self.quota()));
        let refund = async move {
            match conn {
                Some(conn) => quota.refund(&conn, &receipt).await,
                None => Ok(Refund::default()),
            }
        };
        Ok(Call::new(refund, PyRefund::make))
    }

    fn forgotten(&self, of: &Bound<'_, PyAny>) -> PyResult<Call<impl Outcome<bool> + use<>, bool>> {
        let conn = server(of.py(), self.alias())?;
        let (of, quota): (Of, _) = (of.extract()?, Arc::clone(self.quota()));
        let forget = async move {
            match conn {
                Some(conn) => quota.reset(&conn, of.subject()).await,
                None => Ok(false),
            }
        };
        Ok(Call::new(forget, plain))
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
        let keywords = Keywords::new(py, settings, "Quota", settings::OF_RULES)?;
        let period: Period = period.parse()?;
        let mode: Mode = mode.parse()?;
        let limit = GivenLimit::new(limit)?;
        let mut quota = match &limit {
            GivenLimit::Fixed(limit) => Quota::new(name, *limit, period)?,
            GivenLimit::Called(_) => Quota::per_call(name, period)?,
        };
        quota = quota.timezone(timezone)?.mode(mode);
        if let Some(keep) = keep {
            quota = quota.keep(settings::seconds("keep", keep)?);
        }
        if let Some(key) = key {
            quota = quota.key(settings::key(key)?)?;
        }
        if let Some(outage) = keywords.outage {
            quota = quota.outage(outage);
        }
        Ok(Self {
            part: keywords.of_a_part().map(|said| quota.clone().settings(said.clone())).transpose()?,
            quota: Arc::new(quota.settings(keywords.settings)?),
            limit,
            using: Alias::new(keywords.using),
            joined: OnceLock::new(),
        })
    }

    /// The quota's name.
    #[getter]
    fn get_name(&self) -> &str {
        self.name()
    }

    /// The cache alias whose server counts.
    #[getter]
    fn get_using(&self) -> &str {
        self.alias()
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
        self.consumed(scope, cost, limit)?.block(scope.py())
    }

    /// As consume, to be awaited.
    #[pyo3(signature = (scope, cost = 1, *, limit = None))]
    fn aconsume<'py>(
        &self,
        scope: &Bound<'py, PyAny>,
        #[pyo3(from_py_with = cost_of)] cost: i64,
        limit: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Bound<'py, Coroutine>> {
        self.consumed(scope, cost, limit)?.defer(scope.py(), "Quota.aconsume")
    }

    /// How it stands in the window that is now.
    #[pyo3(signature = (scope, *, limit = None))]
    fn peek(&self, scope: &Bound<'_, PyAny>, limit: Option<&Bound<'_, PyAny>>) -> PyResult<Py<PyAny>> {
        self.peeked(scope, limit)?.block(scope.py())
    }

    /// As peek, to be awaited.
    #[pyo3(signature = (scope, *, limit = None))]
    fn apeek<'py>(
        &self,
        scope: &Bound<'py, PyAny>,
        limit: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Bound<'py, Coroutine>> {
        self.peeked(scope, limit)?.defer(scope.py(), "Quota.apeek")
    }

    /// Gives back what was taken under a receipt, once, in the window that it was taken in.
    ///
    /// Raises ValueError for a receipt of something else.
    fn refund(&self, py: Python<'_>, receipt: &str) -> PyResult<Py<PyAny>> {
        self.refunded(py, receipt)?.block(py)
    }

    /// As refund, to be awaited.
    fn arefund<'py>(&self, py: Python<'py>, receipt: &str) -> PyResult<Bound<'py, Coroutine>> {
        self.refunded(py, receipt)?.defer(py, "Quota.arefund")
    }

    /// Forgets what was counted in the window that is now; whether there was anything.
    fn reset(&self, scope: &Bound<'_, PyAny>) -> PyResult<Py<PyAny>> {
        self.forgotten(scope)?.block(scope.py())
    }

    /// As reset, to be awaited.
    fn areset<'py>(&self, scope: &Bound<'py, PyAny>) -> PyResult<Bound<'py, Coroutine>> {
        self.forgotten(scope)?.defer(scope.py(), "Quota.areset")
    }

    /// What it counted in this process, by name.
    fn metrics<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        metrics(py, self.quota().metrics())
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.limit.traverse(&visit)
    }

    fn __repr__(&self) -> String {
        match &self.limit {
            GivenLimit::Fixed(limit) => format!("<Quota '{}' {limit}>", self.name()),
            GivenLimit::Called(_) => format!("<Quota '{}'>", self.name()),
        }
    }
}
