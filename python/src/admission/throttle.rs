//! `Throttle`: a rate limit.

use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use pyo3::types::PyDict;
use vcache::admission::{Rate, Throttle};
use vcache::python::Coroutine;

use super::limit::{GivenLimit, Limit, cost as cost_of};
use super::rule::Rule;
use super::settings::{self, Keywords, Taker};

/// A rate limit for each value of a scope's entry.
///
/// In any window of W seconds at most `burst + rate * W` units pass. `rate` is "100/m" or "10/30s", or a callable of the
/// scope that returns one, or None for no limit; "-1/s" is no limit, a limit of 0 refuses all. `burst` is the rate's limit
/// unless it is said. `key` names the entry of the scope that it is keyed by, or several; unless it is said, the one called as
/// the throttle.
///
/// Keywords: using="default" (the cache alias), prefix="vcache", shards=1, outage="open" ("closed", "local", "raise"),
/// deny_cache=True, guard=None, processes=None, deadline=0.1 (seconds, None is the alias's RESPONSE_TIMEOUT), breaker=True.
///
/// Raises ValueError for what is not a name or not a rate, and for a burst of 0.
#[pyclass(frozen, subclass, name = "Throttle", module = "django_vcache.admission")]
pub(crate) struct PyThrottle {
    pub(super) rule: Rule<Throttle>,
}

#[pymethods]
impl PyThrottle {
    #[new]
    #[pyo3(signature = (name, rate, burst = None, key = None, **settings))]
    fn new(
        py: Python<'_>,
        name: &str,
        rate: &Bound<'_, PyAny>,
        burst: Option<&Bound<'_, PyAny>>,
        key: Option<&Bound<'_, PyAny>>,
        settings: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<Self> {
        let keywords = Keywords::new(py, settings, "Throttle", Taker::Rule)?;
        let rate = GivenLimit::new(rate)?;
        let mut throttle = match rate.fixed() {
            Some(rate) => Throttle::new(name, rate)?,
            None => Throttle::per_call(name)?,
        };
        if let Some(burst) = burst {
            throttle = throttle.burst(settings::whole("burst", burst)?)?;
        }
        Ok(Self { rule: Rule::new(throttle, rate, key, keywords)? })
    }

    /// The throttle's name.
    #[getter]
    fn name(&self) -> &str {
        self.rule.name()
    }

    /// The cache alias whose server counts.
    #[getter]
    fn using(&self) -> &str {
        self.rule.alias()
    }

    /// Spends `cost` units of a scope, or of the value of its entry. A cost of 0 asks, and charges nothing. `rate` is
    /// another rate for this call.
    ///
    /// Raises ValueError for a negative or too large cost and for a scope that lacks an entry, before anything is sent.
    #[pyo3(signature = (scope, cost = 1, *, rate = None))]
    fn check(
        &self,
        scope: &Bound<'_, PyAny>,
        #[pyo3(from_py_with = cost_of)] cost: i64,
        rate: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Py<PyAny>> {
        self.rule.charged(scope, cost, rate)?.block(scope.py())
    }

    /// As check, to be awaited.
    #[pyo3(signature = (scope, cost = 1, *, rate = None))]
    fn acheck<'py>(
        &self,
        scope: &Bound<'py, PyAny>,
        #[pyo3(from_py_with = cost_of)] cost: i64,
        rate: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Bound<'py, Coroutine>> {
        self.rule.charged(scope, cost, rate)?.defer(scope.py(), "Throttle.acheck")
    }

    /// How it stands; nothing is charged.
    #[pyo3(signature = (scope, *, rate = None))]
    fn peek(&self, scope: &Bound<'_, PyAny>, rate: Option<&Bound<'_, PyAny>>) -> PyResult<Py<PyAny>> {
        self.rule.peeked(scope, rate)?.block(scope.py())
    }

    /// As peek, to be awaited.
    #[pyo3(signature = (scope, *, rate = None))]
    fn apeek<'py>(
        &self,
        scope: &Bound<'py, PyAny>,
        rate: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Bound<'py, Coroutine>> {
        self.rule.peeked(scope, rate)?.defer(scope.py(), "Throttle.apeek")
    }

    /// Forgets what was charged; whether there was anything.
    fn reset(&self, scope: &Bound<'_, PyAny>) -> PyResult<Py<PyAny>> {
        self.rule.forgotten(scope)?.block(scope.py())
    }

    /// As reset, to be awaited.
    fn areset<'py>(&self, scope: &Bound<'py, PyAny>) -> PyResult<Bound<'py, Coroutine>> {
        self.rule.forgotten(scope)?.defer(scope.py(), "Throttle.areset")
    }

    /// What it counted in this process, by name.
    fn metrics<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        self.rule.metrics(py)
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.rule.traverse(&visit)
    }

    fn __repr__(&self) -> String {
        self.rule.repr("Throttle")
    }
}

/// A rate's text as its limit and its period in seconds.
///
/// Raises ValueError for what is not a rate.
#[pyfunction]
pub(crate) fn parse_rate(rate: &Bound<'_, PyAny>) -> PyResult<(i64, f64)> {
    let rate = Rate::read(rate)?;
    Ok((rate.limit(), rate.period().as_secs_f64()))
}
