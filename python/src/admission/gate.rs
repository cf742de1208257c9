//! `Gate`: rules and a stream that say yes together or no.

use std::sync::Arc;

use pyo3::PyTypeInfo;
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};
use vcache::admission::{
    Admission, Decision, Event, Gate, Quota, Rate, Receipt, Refund, RuleState, Stream, Throttle,
};
use vcache::python::{Bytes, Coroutine, connection_for, to_exception};

use super::alias::Alias;
use super::call::{Call, Outcome, plain};
use super::decision::{PyDecision, PyRefund, PyRuleState, metrics};
use super::limit::{GivenLimit, GivenRate, cost as cost_of, limit, rate};
use super::quota::PyQuota;
use super::scope::{Given, Owned};
use super::server::server;
use super::settings::{self, Keywords};
use super::stream::PyStream;
use super::throttle::PyThrottle;

/// Throttles, quotas and a stream that say yes together or no, in one round trip: of a refusal nothing is charged and
/// nothing written.
///
/// Keywords: as for Throttle, and owner=None (the scope's entry that stands for the owner), dedupe_for=3600 (seconds),
/// max_payload=1048576 (bytes). They hold for the rules and the stream too, which have none but an `outage`. `using` is that
/// of the parts unless it is given.
///
/// Raises ValueError for two rules of one name, parts on several aliases or with settings that the gate would ignore, quotas
/// or shards without an owner, or nothing at all.
#[pyclass(frozen, subclass, name = "Gate", module = "django_vcache.admission")]
pub(crate) struct PyGate {
    /// Shared with the calls that are under way: to clone what it consists of would cost as much as to encode a call.
    gate: Arc<Gate>,
    using: Alias,
    throttles: Vec<Py<PyThrottle>>,
    quotas: Vec<Py<PyQuota>>,
}

/// What of an admission differs from call to call.
#[derive(Default)]
struct Terms {
    limits: Vec<(Arc<str>, i64)>,
    rates: Vec<(Arc<str>, Rate)>,
}

impl Terms {
    fn of<'a>(&'a self, mut admission: Admission<'a>) -> Admission<'a> {
        for (rule, limit) in &self.limits {
            admission = admission.limit(rule, *limit);
        }
        for (rule, rate) in &self.rates {
            admission = admission.rate(rule, *rate);
        }
        admission
    }
}

impl PyGate {
    /// The limits and rates of a call: those given, and for the other rules what their callables say.
    fn terms(
        &self,
        scope: &Bound<'_, PyAny>,
        limits: Option<&Bound<'_, PyDict>>,
        rates: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<Terms> {
        let mut terms = Terms::default();
        for (rule, given) in limits.into_iter().flatten() {
            terms.limits.push((rule.extract::<&str>()?.into(), limit(&given)?));
        }
        for (rule, given) in rates.into_iter().flatten() {
            terms.rates.push((rule.extract::<&str>()?.into(), rate(&given)?));
        }
        for throttle in &self.throttles {
            let throttle = throttle.get();
            if matches!(throttle.rate, GivenRate::Called(_))
                && !terms.rates.iter().any(|(rule, _)| **rule == *throttle.name())
                && let Some(rate) = throttle.rate.ask(throttle.name(), scope)?
            {
                terms.rates.push((throttle.name().into(), rate));
            }
        }
        for quota in &self.quotas {
            let quota = quota.get();
            if matches!(quota.limit, GivenLimit::Called(_))
                && !terms.limits.iter().any(|(rule, _)| **rule == *quota.name())
                && let Some(limit) = quota.limit.ask(quota.name(), scope)?
            {
                terms.limits.push((quota.name().into(), limit));
            }
        }
        Ok(terms)
    }

    fn admitted(
        &self,
        scope: &Bound<'_, PyAny>,
        payload: Option<Bytes>,
        cost: i64,
        dedupe: Option<String>,
        limits: Option<&Bound<'_, PyDict>>,
        rates: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<Call<impl Outcome<Decision> + use<>, Decision>> {
        let Given(owned) = scope.extract()?;
        let terms = self.terms(scope, limits, rates)?;
        let (conn, gate) = (server(scope.py(), &self.using)?, Arc::clone(&self.gate));
        // An event is stored also where everything is admitted.
        let store = match (&conn, &payload) {
            (None, Some(_)) => Some(connection_for(scope.py(), &self.using)?),
            _ => None,
        };
        Ok(Call::new(
            async move {
                let mut admission = terms.of(Admission::new(&owned).cost(cost));
                if let Some(payload) = &payload {
                    admission = admission.payload(&**payload);
                }
                if let Some(id) = &dedupe {
                    admission = admission.dedupe(id);
                }
                let Some(conn) = conn else {
                    let waived = gate.waive(admission)?;
                    let (Some(store), Some(payload), Some(stream)) = (store, &payload, gate.stream()) else {
                        return Ok(waived);
                    };
                    let mut event = Event::new(&**payload).scope(&owned);
                    if let Some(id) = &dedupe {
                        event = event.dedupe(id);
                    }
                    let mut decision = stream.add(&store, event).await?;
                    decision.rules = waived.rules;
                    return Ok(decision);
                };
                gate.admit(&conn, admission).await
            },
            PyDecision::make,
        ))
    }

    fn peeked(
        &self,
        scope: &Bound<'_, PyAny>,
        limits: Option<&Bound<'_, PyDict>>,
        rates: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<Call<impl Outcome<Vec<RuleState>> + use<>, Vec<RuleState>>> {
        let Given(owned) = scope.extract()?;
        let terms = self.terms(scope, limits, rates)?;
        let (conn, gate) = (server(scope.py(), &self.using)?, Arc::clone(&self.gate));
        let peek = async move {
            let admission = terms.of(Admission::new(&owned));
            match conn {
                Some(conn) => gate.peek(&conn, admission).await,
                None => gate.untouched(admission),
            }
        };
        Ok(Call::new(peek, PyRuleState::make_all))
    }

    fn refunded(
        &self,
        py: Python<'_>,
        receipt: &str,
    ) -> PyResult<Call<impl Outcome<Refund> + use<>, Refund>> {
        let receipt: Receipt = receipt.parse().map_err(|error| to_exception(py, &error))?;
        let (conn, gate) = (server(py, &self.using)?, Arc::clone(&self.gate));
        let refund = async move {
            match conn {
                Some(conn) => gate.refund(&conn, &receipt).await,
                None => Ok(Refund::default()),
            }
        };
        Ok(Call::new(refund, PyRefund::make))
    }

    fn forgotten(
        &self,
        py: Python<'_>,
        scope: Owned,
        rule: Option<String>,
    ) -> PyResult<Call<impl Outcome<u64> + use<>, u64>> {
        let (conn, gate) = (server(py, &self.using)?, Arc::clone(&self.gate));
        let forget = async move {
            match conn {
                Some(conn) => gate.reset(&conn, &scope, rule.as_deref()).await,
                None => Ok(0),
            }
        };
        Ok(Call::new(forget, plain))
    }
}

/// The alias that all parts name, unless the gate names one.
fn alias<'a>(given: Option<String>, parts: impl IntoIterator<Item = &'a str>) -> PyResult<String> {
    if let Some(given) = given {
        return Ok(given);
    }
    let mut parts = parts.into_iter();
    let first = parts.next().unwrap_or("default");
    match parts.find(|alias| *alias != first) {
        None => Ok(first.to_owned()),
        Some(other) => Err(PyValueError::new_err(format!(
            "the parts of this gate are on the aliases {first:?} and {other:?}: a gate is on one, say using="
        ))),
    }
}

/// Objects of one class, out of any iterable.
fn parts<'py, T: PyTypeInfo>(
    given: Option<&Bound<'py, PyAny>>,
    what: &str,
    class: &str,
) -> PyResult<Vec<Bound<'py, T>>> {
    let Some(given) = given else { return Ok(Vec::new()) };
    given
        .try_iter()?
        .map(|part| {
            part?.cast_into().map_err(|error| {
                let found = error.into_inner().get_type();
                PyTypeError::new_err(format!("{what} must hold a {class} each, not {found}"))
            })
        })
        .collect()
}

#[pymethods]
impl PyGate {
    #[new]
    #[pyo3(signature = (throttles = None, quotas = None, stream = None, **settings))]
    fn new(
        throttles: Option<&Bound<'_, PyAny>>,
        quotas: Option<&Bound<'_, PyAny>>,
        stream: Option<&Bound<'_, PyStream>>,
        settings: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<Self> {
        let Keywords { using, settings, .. } = Keywords::new(settings, "Gate", settings::OF_GATES)?;
        let throttles: Vec<Bound<'_, PyThrottle>> = parts(throttles, "throttles", "Throttle")?;
        let quotas: Vec<Bound<'_, PyQuota>> = parts(quotas, "quotas", "Quota")?;
        let aliases = throttles
            .iter()
            .map(|throttle| throttle.get().alias())
            .chain(quotas.iter().map(|quota| quota.get().alias()))
            .chain(stream.map(|stream| stream.get().alias()));
        let using = alias(using, aliases)?;
        let mut builder = Gate::builder().settings(settings);
        for throttle in &throttles {
            builder = builder.throttle(Throttle::clone(throttle.get().made()));
        }
        for quota in &quotas {
            builder = builder.quota(Quota::clone(quota.get().made()));
        }
        if let Some(stream) = stream {
            builder = builder.stream(Stream::clone(stream.get().made()));
        }
        let gate = builder.build()?;
        if let (Some(given), Some(stream)) = (stream, gate.stream()) {
            given.get().join(stream, &using)?;
        }
        for throttle in throttles.iter().map(Bound::get) {
            gate.throttle(throttle.name()).map_or(Ok(()), |placed| throttle.join(placed, &using))?;
        }
        for quota in quotas.iter().map(Bound::get) {
            gate.quota(quota.name()).map_or(Ok(()), |placed| quota.join(placed, &using))?;
        }
        Ok(Self {
            gate: Arc::new(gate),
            using: Alias::new(Some(using)),
            throttles: throttles.into_iter().map(Bound::unbind).collect(),
            quotas: quotas.into_iter().map(Bound::unbind).collect(),
        })
    }

    /// The cache alias whose server decides.
    #[getter]
    fn using(&self) -> &str {
        &self.using
    }

    /// The names of the rules: throttles, then quotas.
    #[getter]
    fn rules<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        let throttles = self.throttles.iter().map(|throttle| throttle.get().name());
        let names: Vec<_> = throttles.chain(self.quotas.iter().map(|quota| quota.get().name())).collect();
        PyTuple::new(py, names)
    }

    /// The stream, with the gate's prefix and shards; None if there is none.
    #[getter]
    fn stream(&self) -> Option<PyStream> {
        Some(PyStream::of(self.gate.stream()?.clone(), Some(self.using.to_string())))
    }

    /// Decides, charges and writes: all of it, or nothing.
    ///
    /// `payload` is written to the stream. `cost` is what every rule is charged; at 0 nothing is charged, and it is asked
    /// whether there is anything left. Under an id `dedupe` it is admitted once only. `limits` and `rates` are others for
    /// this call, by the rule's name.
    ///
    /// Raises ValueError for what cannot be decided, before anything is sent.
    #[pyo3(signature = (scope, *, payload = None, cost = 1, dedupe = None, limits = None, rates = None))]
    fn admit(
        &self,
        scope: &Bound<'_, PyAny>,
        payload: Option<Bytes>,
        #[pyo3(from_py_with = cost_of)] cost: i64,
        dedupe: Option<String>,
        limits: Option<&Bound<'_, PyDict>>,
        rates: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<Py<PyAny>> {
        self.admitted(scope, payload, cost, dedupe, limits, rates)?.block(scope.py())
    }

    /// As admit, to be awaited.
    #[pyo3(signature = (scope, *, payload = None, cost = 1, dedupe = None, limits = None, rates = None))]
    fn aadmit<'py>(
        &self,
        scope: &Bound<'py, PyAny>,
        payload: Option<Bytes>,
        #[pyo3(from_py_with = cost_of)] cost: i64,
        dedupe: Option<String>,
        limits: Option<&Bound<'_, PyDict>>,
        rates: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<Bound<'py, Coroutine>> {
        self.admitted(scope, payload, cost, dedupe, limits, rates)?.defer(scope.py(), "Gate.aadmit")
    }

    /// How every rule stands; nothing is charged.
    #[pyo3(signature = (scope, *, limits = None, rates = None))]
    fn peek(
        &self,
        scope: &Bound<'_, PyAny>,
        limits: Option<&Bound<'_, PyDict>>,
        rates: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<Py<PyAny>> {
        self.peeked(scope, limits, rates)?.block(scope.py())
    }

    /// As peek, to be awaited.
    #[pyo3(signature = (scope, *, limits = None, rates = None))]
    fn apeek<'py>(
        &self,
        scope: &Bound<'py, PyAny>,
        limits: Option<&Bound<'_, PyDict>>,
        rates: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<Bound<'py, Coroutine>> {
        self.peeked(scope, limits, rates)?.defer(scope.py(), "Gate.apeek")
    }

    /// Gives back to the quotas what was charged under a receipt, once, in the windows that it was charged in.
    ///
    /// Raises ValueError for a receipt of something else.
    fn refund(&self, py: Python<'_>, receipt: &str) -> PyResult<Py<PyAny>> {
        self.refunded(py, receipt)?.block(py)
    }

    /// As refund, to be awaited.
    fn arefund<'py>(&self, py: Python<'py>, receipt: &str) -> PyResult<Bound<'py, Coroutine>> {
        self.refunded(py, receipt)?.defer(py, "Gate.arefund")
    }

    /// Forgets what was charged for a scope, by one rule or by all; of how many there was anything.
    ///
    /// Raises ValueError for a rule that is not there, and for a scope that lacks an entry.
    #[pyo3(signature = (scope, rule = None))]
    fn reset(&self, py: Python<'_>, scope: Given, rule: Option<String>) -> PyResult<Py<PyAny>> {
        self.forgotten(py, scope.0, rule)?.block(py)
    }

    /// As reset, to be awaited.
    #[pyo3(signature = (scope, rule = None))]
    fn areset<'py>(
        &self,
        py: Python<'py>,
        scope: Given,
        rule: Option<String>,
    ) -> PyResult<Bound<'py, Coroutine>> {
        self.forgotten(py, scope.0, rule)?.defer(py, "Gate.areset")
    }

    /// What it counted in this process, by name.
    fn metrics<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        metrics(py, self.gate.metrics())
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.throttles.iter().try_for_each(|throttle| visit.call(throttle))?;
        self.quotas.iter().try_for_each(|quota| visit.call(quota))
    }

    fn __repr__(&self) -> String {
        let throttles = self.throttles.iter().map(|throttle| throttle.get().name());
        let names: Vec<_> = throttles.chain(self.quotas.iter().map(|quota| quota.get().name())).collect();
        format!("<Gate {}>", names.join(", "))
    }
}
