//! `Throttle`: a rate limit.

use std::sync::{Mutex, PoisonError};

use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use pyo3::types::PyDict;
use vcache::admission::{Rate, Throttle};
use vcache::python::Coroutine;

use super::budgets::Entry;
use super::limit::{GivenLimit, Limit, cost as cost_of};
use super::rule::{Rule, Ruled, awaited};
use super::settings::{self, Keywords, Taker};

/// A rate limit for each value of a scope's entry. Make it once, as a global of a module.
///
/// In any window of W seconds at most `burst + rate * W` units pass.
///
/// ```python
/// lookups = Throttle("customer", "20/m", burst=5)
/// decision = lookups.check(42)
/// decision = await lookups.acheck({"customer": 42, "org": 1}, cost=3)
/// ```
///
/// - `name`: up to 64 letters, digits, `_`, `.` and `-`. On the server it is part of the key.
/// - `rate`: `"100/m"` or `"10/30s"`; or a callable of the scope that returns one, or None for no limit. `"-1/s"` is no
///   limit, a limit of 0 refuses all. The callable is called before anything is sent. An async one is
///   awaited by the methods to await, and refused by those that block.
/// - `burst`: units that may come at once; the rate's limit if left out.
/// - `key`: the entry of the scope that it is keyed by, or several; if left out, the one that has the throttle's name.
/// - `using`: the cache alias whose server counts, a `django_vcache.ValkeyCache`.
/// - `policy`: the name of a policy in `VCACHE["POLICIES"]`, for keywords that are not given here.
/// - `prefix`: what the keys on the server begin with, behind the `KEY_PREFIX` of the alias.
/// - `shards`: over how many hash tags they are spread, 1 to 9999. A change leaves old counters behind.
/// - `outage`: without the server: `"open"` admits, `"closed"` refuses with a 503, `"local"` counts in this process,
///   `"raise"` raises.
/// - `deny_cache`: whether this process remembers a refusal until it ends, for 5 seconds at most.
/// - `guard`: times the limit beyond which this process refuses by itself, 1.0 or more; None is never.
/// - `processes`: among how many processes the limit is divided under `"local"`; as many as there are CPUs if left out.
/// - `deadline`: seconds that the server may take for a decision; None is the alias's `RESPONSE_TIMEOUT`.
/// - `breaker`: whether a server that failed five times in a row is left alone for 1 to 10 seconds.
///
/// Raises ValueError for what is not a name or not a rate, a burst of 0, and settings out of range; TypeError for wrong
/// types and unknown keywords.
#[pyclass(frozen, subclass, name = "Throttle", module = "django_vcache.admission")]
pub(crate) struct PyThrottle {
    pub(super) rule: Rule<Throttle>,
    /// For the system checks.
    entry: Mutex<Entry>,
}

impl PyThrottle {
    /// Where it counts is another place now: it has become a part of a gate.
    pub(super) fn move_entry(&self) {
        let entry = Entry::of(self.rule.placed.asked(), self.rule.alias());
        *self.entry.lock().unwrap_or_else(PoisonError::into_inner) = entry;
    }
}

impl Ruled for PyThrottle {
    type Of = Throttle;

    fn rule(&self) -> &Rule<Throttle> {
        &self.rule
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
        let keywords = Keywords::new(py, settings, "Throttle", Taker::Rule)?;
        let rate = GivenLimit::new(rate)?;
        let mut throttle = match rate.fixed() {
            Some(rate) => Throttle::new(name, rate)?,
            None => Throttle::per_call(name)?,
        };
        if let Some(burst) = burst {
            throttle = throttle.burst(settings::whole("burst", burst)?)?;
        }
        let rule = Rule::new(throttle, rate, key, keywords)?;
        let entry = Entry::of(rule.placed.asked(), rule.alias());
        Ok(Self { rule, entry: Mutex::new(entry) })
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

    /// Spends `cost` units of a scope, or of the value of its entry. Blocks, with the GIL released.
    ///
    /// A cost of 0 asks whether a unit would be let through, and charges nothing. `rate` is another rate for this call.
    ///
    /// Raises, before anything is sent, ValueError for a negative or too large cost and for a scope that lacks an
    /// entry, TypeError for wrong types, ConfigurationError for an alias that cannot count. Under `outage="raise"`
    /// ConnectionError, TimeoutError or ResponseError for a server that cannot be asked; under any policy ResponseError
    /// for what the server refuses otherwise, such as NOPERM. The last four are of `django_vcache.exceptions`.
    #[pyo3(signature = (scope, cost = 1, *, rate = None))]
    fn check(
        &self,
        scope: &Bound<'_, PyAny>,
        #[pyo3(from_py_with = cost_of)] cost: i64,
        rate: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Py<PyAny>> {
        let rate = self.rule.limit_now(scope, rate, "check")?;
        self.rule.charged(scope, cost, rate)?.block(scope.py())
    }

    /// As `check`, to be awaited. Nothing is asked before that. In a boolean context it raises TypeError: an `await`
    /// was forgotten.
    #[pyo3(signature = (scope, cost = 1, *, rate = None))]
    fn acheck<'py>(
        slf: &Bound<'py, Self>,
        scope: &Bound<'py, PyAny>,
        #[pyo3(from_py_with = cost_of)] cost: i64,
        rate: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Bound<'py, Coroutine>> {
        const NAME: &str = "Throttle.acheck";
        awaited(slf, scope, rate, NAME, move |rule, of, rate| {
            rule.charged(of, cost, rate)?.defer(of.py(), NAME)
        })
    }

    /// How it stands; nothing is charged.
    ///
    /// It has the alias's `RESPONSE_TIMEOUT` and no outage policy: raises as `check` under `outage="raise"`.
    #[pyo3(signature = (scope, *, rate = None))]
    fn peek(&self, scope: &Bound<'_, PyAny>, rate: Option<&Bound<'_, PyAny>>) -> PyResult<Py<PyAny>> {
        let rate = self.rule.limit_now(scope, rate, "peek")?;
        self.rule.peeked(scope, rate)?.block(scope.py())
    }

    /// As `peek`, to be awaited.
    #[pyo3(signature = (scope, *, rate = None))]
    fn apeek<'py>(
        slf: &Bound<'py, Self>,
        scope: &Bound<'py, PyAny>,
        rate: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Bound<'py, Coroutine>> {
        const NAME: &str = "Throttle.apeek";
        awaited(slf, scope, rate, NAME, |rule, of, rate| rule.peeked(of, rate)?.defer(of.py(), NAME))
    }

    /// Forgets what was charged; whether there was anything. Raises as `peek`.
    ///
    /// Other processes may still remember a refusal, for 5 seconds at most.
    fn reset(&self, scope: &Bound<'_, PyAny>) -> PyResult<Py<PyAny>> {
        self.rule.forgotten(scope)?.block(scope.py())
    }

    /// As `reset`, to be awaited.
    fn areset<'py>(&self, scope: &Bound<'py, PyAny>) -> PyResult<Bound<'py, Coroutine>> {
        self.rule.forgotten(scope)?.defer(scope.py(), "Throttle.areset")
    }

    /// What it decided in this process, standing alone.
    ///
    /// `admitted`, `refused`, `duplicates`, `deny_cache` and `guard` (whom they refused), `outages` and of these
    /// `outage_open`, `outage_closed` and `outage_local`, `breaker_opened`, `replayed` (sent again under the dedupe id)
    /// and `stale_windows` (sent again because a quota's window had just ended).
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

/// A rate's text as its limit and its period in seconds: `parse_rate("10/30s") == (10, 30.0)`.
///
/// Raises ValueError for what is not a rate, TypeError for what is not a str.
#[pyfunction]
pub(crate) fn parse_rate(rate: &Bound<'_, PyAny>) -> PyResult<(i64, f64)> {
    let rate = Rate::read(rate)?;
    Ok((rate.limit(), rate.period().as_secs_f64()))
}
