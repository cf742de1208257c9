//! `Throttle`: a rate limit.

use std::sync::{Arc, OnceLock};

use pyo3::exceptions::PyValueError;
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use pyo3::types::PyDict;
use vcache::admission::{Decision, Rate, RuleState, Throttle};
use vcache::python::Coroutine;

use super::alias::Alias;
use super::call::{Call, Outcome, plain};
use super::decision::{PyDecision, PyRuleState, metrics};
use super::limit::{GivenRate, cost as cost_of, rate as rate_of};
use super::scope::{Of, for_callable};
use super::server::server;
use super::settings::{self, Keywords};

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
    /// Shared with the calls that are under way.
    throttle: Arc<Throttle>,
    /// As a gate takes it, where that is something else: without the project's defaults, which the gate has itself.
    part: Option<Throttle>,
    /// As it is in the gate that it was given to: there is where it is charged.
    joined: OnceLock<(Arc<Throttle>, String)>,
    pub(super) rate: GivenRate,
    pub(super) using: Alias,
}

impl PyThrottle {
    pub(super) fn name(&self) -> &str {
        self.throttle.name()
    }

    /// As it was made, for a gate.
    pub(super) fn made(&self) -> &Throttle {
        self.part.as_ref().unwrap_or(&self.throttle)
    }

    /// As it is asked.
    fn throttle(&self) -> &Arc<Throttle> {
        self.joined.get().map_or(&self.throttle, |(throttle, _)| throttle)
    }

    pub(super) fn alias(&self) -> &str {
        self.joined.get().map_or(&self.using, |(_, using)| using)
    }

    /// From now on it is a part of a gate, asked where that charges.
    ///
    /// # Errors
    /// `ValueError` if it is a part of another gate already, which charges elsewhere.
    pub(super) fn join(&self, throttle: &Throttle, using: &str) -> PyResult<()> {
        self.using.release();
        let (known, alias) = self.joined.get_or_init(|| (Arc::new(throttle.clone()), using.to_owned()));
        if known.is_same(throttle) && alias == using {
            return Ok(());
        }
        Err(PyValueError::new_err(format!(
            "throttle '{}' is a part of another gate, with another alias, prefix, owner or number of shards: make one for each",
            self.name()
        )))
    }

    /// The rate of a call: its own, or what the callable says.
    fn rate_for(&self, of: &Bound<'_, PyAny>, given: Option<&Bound<'_, PyAny>>) -> PyResult<Option<Rate>> {
        match given {
            Some(given) => rate_of(given).map(Some),
            None => match &self.rate {
                GivenRate::Fixed(_) => Ok(None),
                called @ GivenRate::Called(_) => {
                    let scope = for_callable(self.throttle().entries(), of)?;
                    scope.map_or(Ok(None), |scope| called.ask(self.name(), &scope))
                }
            },
        }
    }
}

impl PyThrottle {
    fn checked(
        &self,
        of: &Bound<'_, PyAny>,
        cost: i64,
        rate: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Call<impl Outcome<Decision> + use<>, Decision>> {
        let rate = self.rate_for(of, rate)?;
        let conn = server(of.py(), self.alias())?;
        let (of, throttle): (Of, _) = (of.extract()?, Arc::clone(self.throttle()));
        Ok(Call::new(
            async move {
                let Some(conn) = conn else { return throttle.waive(of.subject(), cost, rate) };
                match rate {
                    None => throttle.check(&conn, of.subject(), cost).await,
                    Some(rate) => throttle.check_at(&conn, of.subject(), cost, rate).await,
                }
            },
            PyDecision::make,
        ))
    }

    fn peeked(
        &self,
        of: &Bound<'_, PyAny>,
        rate: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Call<impl Outcome<RuleState> + use<>, RuleState>> {
        let rate = self.rate_for(of, rate)?;
        let conn = server(of.py(), self.alias())?;
        let (of, throttle): (Of, _) = (of.extract()?, Arc::clone(self.throttle()));
        Ok(Call::new(
            async move {
                let Some(conn) = conn else { return throttle.untouched(of.subject(), rate) };
                match rate {
                    None => throttle.peek(&conn, of.subject()).await,
                    Some(rate) => throttle.peek_at(&conn, of.subject(), rate).await,
                }
            },
            PyRuleState::make,
        ))
    }

    fn forgotten(&self, of: &Bound<'_, PyAny>) -> PyResult<Call<impl Outcome<bool> + use<>, bool>> {
        let conn = server(of.py(), self.alias())?;
        let (of, throttle): (Of, _) = (of.extract()?, Arc::clone(self.throttle()));
        let forget = async move {
            match conn {
                Some(conn) => throttle.reset(&conn, of.subject()).await,
                None => Ok(false),
            }
        };
        Ok(Call::new(forget, plain))
    }
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
        let keywords = Keywords::new(py, settings, "Throttle", settings::OF_RULES)?;
        let rate = GivenRate::new(rate)?;
        let mut throttle = match &rate {
            GivenRate::Fixed(rate) => Throttle::new(name, *rate)?,
            GivenRate::Called(_) => Throttle::per_call(name)?,
        };
        if let Some(burst) = burst {
            throttle = throttle.burst(settings::whole("burst", burst)?)?;
        }
        if let Some(key) = key {
            throttle = throttle.key(settings::key(key)?)?;
        }
        if let Some(outage) = keywords.outage {
            throttle = throttle.outage(outage);
        }
        Ok(Self {
            part: keywords.of_a_part().map(|said| throttle.clone().settings(said.clone())).transpose()?,
            throttle: Arc::new(throttle.settings(keywords.settings)?),
            rate,
            using: Alias::new(keywords.using),
            joined: OnceLock::new(),
        })
    }

    /// The throttle's name.
    #[getter]
    fn get_name(&self) -> &str {
        self.name()
    }

    /// The cache alias whose server counts.
    #[getter]
    fn get_using(&self) -> &str {
        self.alias()
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
        self.checked(scope, cost, rate)?.block(scope.py())
    }

    /// As check, to be awaited.
    #[pyo3(signature = (scope, cost = 1, *, rate = None))]
    fn acheck<'py>(
        &self,
        scope: &Bound<'py, PyAny>,
        #[pyo3(from_py_with = cost_of)] cost: i64,
        rate: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Bound<'py, Coroutine>> {
        self.checked(scope, cost, rate)?.defer(scope.py(), "Throttle.acheck")
    }

    /// How it stands; nothing is charged.
    #[pyo3(signature = (scope, *, rate = None))]
    fn peek(&self, scope: &Bound<'_, PyAny>, rate: Option<&Bound<'_, PyAny>>) -> PyResult<Py<PyAny>> {
        self.peeked(scope, rate)?.block(scope.py())
    }

    /// As peek, to be awaited.
    #[pyo3(signature = (scope, *, rate = None))]
    fn apeek<'py>(
        &self,
        scope: &Bound<'py, PyAny>,
        rate: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Bound<'py, Coroutine>> {
        self.peeked(scope, rate)?.defer(scope.py(), "Throttle.apeek")
    }

    /// Forgets what was charged; whether there was anything.
    fn reset(&self, scope: &Bound<'_, PyAny>) -> PyResult<Py<PyAny>> {
        self.forgotten(scope)?.block(scope.py())
    }

    /// As reset, to be awaited.
    fn areset<'py>(&self, scope: &Bound<'py, PyAny>) -> PyResult<Bound<'py, Coroutine>> {
        self.forgotten(scope)?.defer(scope.py(), "Throttle.areset")
    }

    /// What it counted in this process, by name.
    fn metrics<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        metrics(py, self.throttle().metrics())
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.rate.traverse(&visit)
    }

    fn __repr__(&self) -> String {
        match &self.rate {
            GivenRate::Fixed(rate) => format!("<Throttle '{}' {rate}>", self.name()),
            GivenRate::Called(_) => format!("<Throttle '{}'>", self.name()),
        }
    }
}

/// A rate's text as its limit and its period in seconds.
///
/// Raises ValueError for what is not a rate.
#[pyfunction]
pub(crate) fn parse_rate(rate: &Bound<'_, PyAny>) -> PyResult<(i64, f64)> {
    let rate = rate_of(rate)?;
    Ok((rate.limit(), rate.period().as_secs_f64()))
}
