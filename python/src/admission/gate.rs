//! `Gate`: rules and a stream that say yes together or no.

use std::sync::Arc;

use pyo3::PyTypeInfo;
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};
use vcache::Connection;
use vcache::admission::{Admission, Decision, Gate, Rate, RuleState};
use vcache::python::{Bytes, Coroutine, connection_for};

use super::alias::Alias;
use super::asked::{Arguments, Asked, Named, Terms};
use super::call::{Call, Outcome, plain};
use super::decision::{PyDecision, PyRuleState, metrics};
use super::limit::{Limit as _, cost as cost_of};
use super::quota::PyQuota;
use super::refund::refunded;
use super::rule::{Limited, Rule};
use super::scope::{Given, Owned, pairs};
use super::server::server;
use super::settings::{Keywords, Taker};
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

impl PyGate {
    /// The limits and rates of a call: those given, and for the other rules what their callables say.
    fn terms(
        &self,
        scope: &Bound<'_, PyAny>,
        limits: Option<&Bound<'_, PyDict>>,
        rates: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<Terms> {
        let mut terms = Terms::default();
        for (rule, given) in limits.map(pairs).into_iter().flatten() {
            terms.limits.push((rule.extract::<&str>()?.into(), i64::read(&given)?));
        }
        for (rule, given) in rates.map(pairs).into_iter().flatten() {
            terms.rates.push((rule.extract::<&str>()?.into(), Rate::read(&given)?));
        }
        for throttle in &self.throttles {
            called(&throttle.get().rule, scope, &mut terms.rates)?;
        }
        for quota in &self.quotas {
            called(&quota.get().rule, scope, &mut terms.limits)?;
        }
        Ok(terms)
    }

    fn asked(&self, arguments: Arguments<'_, '_>) -> PyResult<Asked> {
        let terms = self.terms(arguments.scope, arguments.limits, arguments.rates)?;
        Asked::new(arguments, terms)
    }

    /// Where events are stored while limits are switched off.
    fn store(
        &self,
        py: Python<'_>,
        conn: Option<&Connection>,
        payload: bool,
    ) -> PyResult<Option<Connection>> {
        (conn.is_none() && payload).then(|| connection_for(py, &self.using)).transpose()
    }

    fn admitted(
        &self,
        arguments: Arguments<'_, '_>,
    ) -> PyResult<Call<impl Outcome<Decision> + use<>, Decision>> {
        let py = arguments.scope.py();
        let asked = self.asked(arguments)?;
        let (conn, gate) = (server(py, &self.using)?, Arc::clone(&self.gate));
        let store = self.store(py, conn.as_ref(), asked.has_payload())?;
        let admit = async move {
            match conn {
                Some(conn) => gate.admit(&conn, asked.admission()).await,
                None => asked.waived(&gate, store.as_ref()).await,
            }
        };
        Ok(Call::new(admit, PyDecision::make))
    }

    fn all_admitted(
        &self,
        admissions: &Bound<'_, PyAny>,
    ) -> PyResult<Call<impl Outcome<Vec<Decision>> + use<>, Vec<Decision>>> {
        let py = admissions.py();
        let mut asked = Vec::new();
        for given in admissions.try_iter()? {
            asked.push(self.asked(Named::read(&given?)?.arguments()?)?);
        }
        let (conn, gate) = (server(py, &self.using)?, Arc::clone(&self.gate));
        let store = self.store(py, conn.as_ref(), asked.iter().any(Asked::has_payload))?;
        let admit = async move {
            let admissions = || asked.iter().map(Asked::admission);
            if let Some(conn) = conn {
                return gate.admit_many(&conn, admissions()).await?.into_iter().collect();
            }
            // A mistake in any of them is raised before an event of another is stored.
            for admission in admissions() {
                gate.untouched(admission)?;
            }
            let mut decisions = Vec::with_capacity(asked.len());
            for one in &asked {
                decisions.push(one.waived(&gate, store.as_ref()).await?);
            }
            Ok(decisions)
        };
        Ok(Call::new(admit, PyDecision::make_all))
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

/// Adds what a rule's callable says, unless the call has a limit for the rule.
fn called<R: Limited>(
    rule: &Rule<R>,
    scope: &Bound<'_, PyAny>,
    limits: &mut Vec<(Arc<str>, R::Limit)>,
) -> PyResult<()> {
    if rule.is_called()
        && !limits.iter().any(|(known, _)| **known == *rule.name())
        && let Some(limit) = rule.limit_for(scope, None)?
    {
        limits.push((rule.name().into(), limit));
    }
    Ok(())
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
        py: Python<'_>,
        throttles: Option<&Bound<'_, PyAny>>,
        quotas: Option<&Bound<'_, PyAny>>,
        stream: Option<&Bound<'_, PyStream>>,
        settings: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<Self> {
        let Keywords { using, settings, .. } = Keywords::new(py, settings, "Gate", Taker::Gate)?;
        let throttles: Vec<Bound<'_, PyThrottle>> = parts(throttles, "throttles", "Throttle")?;
        let quotas: Vec<Bound<'_, PyQuota>> = parts(quotas, "quotas", "Quota")?;
        let aliases = throttles
            .iter()
            .map(|throttle| throttle.get().rule.alias())
            .chain(quotas.iter().map(|quota| quota.get().rule.alias()))
            .chain(stream.map(|stream| stream.get().placed.alias()));
        let using = alias(using, aliases)?;
        let mut builder = Gate::builder().settings(settings);
        for throttle in &throttles {
            builder = builder.throttle(throttle.get().rule.placed.made().clone());
        }
        for quota in &quotas {
            builder = builder.quota(quota.get().rule.placed.made().clone());
        }
        if let Some(stream) = stream {
            builder = builder.stream(stream.get().placed.made().clone());
        }
        let gate = builder.build()?;
        if let (Some(given), Some(stream)) = (stream, gate.stream()) {
            given.get().placed.join(stream, &using)?;
        }
        for throttle in throttles.iter().map(|throttle| &throttle.get().rule) {
            gate.throttle(throttle.name()).map_or(Ok(()), |rule| throttle.placed.join(rule, &using))?;
        }
        for quota in quotas.iter().map(|quota| &quota.get().rule) {
            gate.quota(quota.name()).map_or(Ok(()), |rule| quota.placed.join(rule, &using))?;
        }
        Ok(Self {
            gate: Arc::new(gate),
            using: Alias::new(Some(using), stream.is_some()),
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
        let throttles = self.throttles.iter().map(|throttle| throttle.get().rule.name());
        let names: Vec<_> =
            throttles.chain(self.quotas.iter().map(|quota| quota.get().rule.name())).collect();
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
    /// whether a unit is left. `costs` is what some rules are charged instead, by their names; a rule that costs 0 then is
    /// left out. Under an id `dedupe` it is admitted once only. `limits` and `rates` are others for this call, by the rule's name.
    ///
    /// Raises ValueError for what cannot be decided, before anything is sent.
    #[pyo3(signature = (scope, *, payload = None, cost = 1, costs = None, dedupe = None, limits = None, rates = None))]
    #[expect(clippy::too_many_arguments, reason = "they are keywords")]
    fn admit(
        &self,
        scope: &Bound<'_, PyAny>,
        payload: Option<Bytes>,
        #[pyo3(from_py_with = cost_of)] cost: i64,
        costs: Option<&Bound<'_, PyDict>>,
        dedupe: Option<String>,
        limits: Option<&Bound<'_, PyDict>>,
        rates: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<Py<PyAny>> {
        let arguments = Arguments { scope, payload, cost, costs, dedupe, limits, rates };
        self.admitted(arguments)?.block(scope.py())
    }

    /// As admit, to be awaited.
    #[pyo3(signature = (scope, *, payload = None, cost = 1, costs = None, dedupe = None, limits = None, rates = None))]
    #[expect(clippy::too_many_arguments, reason = "they are keywords")]
    fn aadmit<'py>(
        &self,
        scope: &Bound<'py, PyAny>,
        payload: Option<Bytes>,
        #[pyo3(from_py_with = cost_of)] cost: i64,
        costs: Option<&Bound<'py, PyDict>>,
        dedupe: Option<String>,
        limits: Option<&Bound<'_, PyDict>>,
        rates: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<Bound<'py, Coroutine>> {
        let arguments = Arguments { scope, payload, cost, costs, dedupe, limits, rates };
        self.admitted(arguments)?.defer(scope.py(), "Gate.aadmit")
    }

    /// As admit for each of several: mappings with admit's arguments. Each is decided by itself, in this
    /// order, and the decisions have the same order.
    ///
    /// Raises ValueError if any of them cannot be decided, before anything is sent.
    fn admit_many(&self, admissions: &Bound<'_, PyAny>) -> PyResult<Py<PyAny>> {
        self.all_admitted(admissions)?.block(admissions.py())
    }

    /// As admit_many, to be awaited.
    fn aadmit_many<'py>(&self, admissions: &Bound<'py, PyAny>) -> PyResult<Bound<'py, Coroutine>> {
        self.all_admitted(admissions)?.defer(admissions.py(), "Gate.aadmit_many")
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
        refunded(py, &self.gate, &self.using, receipt)?.block(py)
    }

    /// As refund, to be awaited.
    fn arefund<'py>(&self, py: Python<'py>, receipt: &str) -> PyResult<Bound<'py, Coroutine>> {
        refunded(py, &self.gate, &self.using, receipt)?.defer(py, "Gate.arefund")
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
        let throttles = self.throttles.iter().map(|throttle| throttle.get().rule.name());
        let names: Vec<_> =
            throttles.chain(self.quotas.iter().map(|quota| quota.get().rule.name())).collect();
        format!("<Gate {}>", names.join(", "))
    }
}
