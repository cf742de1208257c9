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
use super::asked::{Arguments, Asked, Named, Open, OpenTerm, Terms};
use super::call::{Call, Outcome, plain};
use super::decision::{PyDecision, PyRuleState, metrics};
use super::form::{Form, called};
use super::later::Later;
use super::limit::{Limit as _, cost as cost_of};
use super::quota::PyQuota;
use super::refund::refunded;
use super::scope::{Given, Owned, pairs};
use super::server::server;
use super::settings::{Keywords, Taker};
use super::stream::PyStream;
use super::throttle::PyThrottle;

/// Throttles, quotas and a stream that say yes together or no, in one round trip.
///
/// Of a refusal nothing is charged and nothing written. Make it once, as a global of a module.
///
/// ```python
/// gate = Gate(
///     throttles=[Throttle("org", "10000/m"), Throttle("project", "1000/m", burst=200)],
///     quotas=[Quota("events", limit=1_000_000, period="month")],
///     stream=Stream("events", maxlen=1_000_000),
///     owner="org",
/// )
/// decision = await gate.aadmit({"org": 1, "project": 42}, payload=b"{}", dedupe="0b51")
/// ```
///
/// - `throttles`, `quotas`: the rules, up to 64, each with its own name.
/// - `stream`: where payloads are written.
/// - `using`: the cache alias whose server decides; that of the parts if left out.
/// - `outage`: as for `Throttle`, for rules that do not say so themselves. What has a payload is refused in an outage,
///   with a 503, unless a policy is `"raise"`.
/// - `dedupe_for`: seconds for which a dedupe id is remembered, up to a year.
/// - `max_payload`: bytes of a payload at the most.
/// - `owner`: the entry of the scope that stands for the owner: it says which shard a call is in, whom a dedupe id
///   counts for, and whom quotas without a key count for. Needed for quotas, shards and dedupe ids.
/// - `policy`, `prefix`, `shards`, `deny_cache`, `guard`, `processes`, `deadline`, `breaker`: as for `Throttle`. They
///   hold for the rules and the stream too, which have none but an `outage`.
///
/// Raises ValueError for two rules of one name, more than 64, parts on several aliases or with settings that the gate
/// would ignore, quotas or shards without an owner, with shards a rule whose key does not have the owner in it, nothing
/// at all, and settings out of range; TypeError for wrong types and unknown keywords.
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
        form: &mut Form,
    ) -> PyResult<Terms> {
        let mut terms = Terms::default();
        for (rule, given) in limits.map(pairs).into_iter().flatten() {
            terms.limits.push((rule.extract::<&str>()?.into(), i64::read(&given)?));
        }
        for (rule, given) in rates.map(pairs).into_iter().flatten() {
            terms.rates.push((rule.extract::<&str>()?.into(), Rate::read(&given)?));
        }
        for throttle in &self.throttles {
            let open = called(&throttle.get().rule, scope, &mut terms.rates, form)?;
            terms.open.extend(open.map(OpenTerm::Rate));
        }
        for quota in &self.quotas {
            let open = called(&quota.get().rule, scope, &mut terms.limits, form)?;
            terms.open.extend(open.map(OpenTerm::Limit));
        }
        Ok(terms)
    }

    fn asked(&self, arguments: Arguments<'_, '_>, form: &mut Form) -> PyResult<Asked> {
        let terms = self.terms(arguments.scope, arguments.limits, arguments.rates, form)?;
        Asked::new(arguments, terms)
    }

    fn all_asked(&self, admissions: &Bound<'_, PyAny>, form: &mut Form) -> PyResult<Vec<Asked>> {
        admissions.try_iter()?.map(|given| self.asked(Named::read(&given?)?.arguments()?, form)).collect()
    }

    fn looked(
        &self,
        scope: &Bound<'_, PyAny>,
        limits: Option<&Bound<'_, PyDict>>,
        rates: Option<&Bound<'_, PyDict>>,
        form: &mut Form,
    ) -> PyResult<(Owned, Terms)> {
        let Given(owned) = scope.extract()?;
        Ok((owned, self.terms(scope, limits, rates, form)?))
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
        py: Python<'_>,
        asked: Asked,
    ) -> PyResult<Call<impl Outcome<Decision> + use<>, Decision>> {
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
        py: Python<'_>,
        asked: Vec<Asked>,
    ) -> PyResult<Call<impl Outcome<Vec<Decision>> + use<>, Vec<Decision>>> {
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
        py: Python<'_>,
        (scope, terms): (Owned, Terms),
    ) -> PyResult<Call<impl Outcome<Vec<RuleState>> + use<>, Vec<RuleState>>> {
        let (conn, gate) = (server(py, &self.using)?, Arc::clone(&self.gate));
        let peek = async move {
            let admission = terms.of(Admission::new(&scope));
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

/// The form to await, called `name`, of a call that is asked with what `read` makes of its arguments.
fn awaited<'py, T: Open>(
    gate: &Bound<'py, PyGate>,
    name: &'static str,
    later: Later,
    read: impl FnOnce(&PyGate, &mut Form) -> PyResult<T>,
    ask: for<'a> fn(&PyGate, Python<'a>, T) -> PyResult<Bound<'a, Coroutine>>,
) -> PyResult<Bound<'py, Coroutine>> {
    let mut form = Form::Awaited(later);
    let mut asked = read(gate.get(), &mut form)?;
    match form {
        Form::Awaited(later) if !later.is_empty() => {
            later.then(gate.py(), name, gate.clone().unbind(), move |gate, answers| {
                asked.answer(&mut answers.iter())?;
                ask(gate.get(), answers.py(), asked)
            })
        }
        _ => ask(gate.get(), gate.py(), asked),
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
        let mut builder = Gate::builder().settings(settings.clone());
        for throttle in throttles.iter().map(|throttle| &throttle.get().rule.placed) {
            throttle.check(&settings)?;
            builder = builder.throttle(throttle.made().clone());
        }
        for quota in quotas.iter().map(|quota| &quota.get().rule.placed) {
            quota.check(&settings)?;
            builder = builder.quota(quota.made().clone());
        }
        if let Some(stream) = stream.map(|stream| &stream.get().placed) {
            stream.check(&settings)?;
            builder = builder.stream(stream.made().clone());
        }
        let gate = builder.build()?;
        if let (Some(given), Some(stream)) = (stream, gate.stream()) {
            given.get().placed.join(stream, &using)?;
        }
        for throttle in throttles.iter().map(|throttle| throttle.get()) {
            let rule = &throttle.rule;
            gate.throttle(rule.name()).map_or(Ok(()), |placed| rule.placed.join(placed, &using))?;
            throttle.move_entry();
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

    /// The stream, with the gate's settings; None if there is none.
    #[getter]
    fn stream(&self) -> Option<PyStream> {
        Some(PyStream::of(self.gate.stream()?.clone(), Some(self.using.to_string())))
    }

    /// Decides, charges and writes: all of it, or nothing. Blocks, with the GIL released.
    ///
    /// - `scope`: whom it is for: every entry that a rule is keyed by, in any order.
    /// - `payload`: what is written to the stream; without one nothing is.
    /// - `cost`: units that every rule is charged. At 0 it is asked whether a unit is left and nothing is charged; a
    ///   payload is written all the same.
    /// - `costs`: units that rules are charged instead of `cost`, by their names: `{"bytes": 5000}`. A rule that costs
    ///   0 then is left out of this call: it is charged nothing and refuses nothing.
    /// - `dedupe`: an id, 1 to 512 bytes, under which it is admitted only once for its owner: a second time charges and
    ///   writes nothing, and answers the first id and receipt. Only with one is it sent again after a time-out.
    /// - `limits`: other limits for this call, by the rule's name: `{"events": 500}`.
    /// - `rates`: other rates of throttles for this call: `{"org": "50/m"}`.
    ///
    /// Raises, before anything is sent, ValueError for what cannot be decided (a scope that lacks an entry, a payload
    /// above max_payload or without a stream, an unknown rule), TypeError for wrong types, ConfigurationError for an
    /// alias that cannot count. Under `outage="raise"` ConnectionError, TimeoutError or ResponseError for a server that
    /// cannot be asked; under any policy ResponseError for what the server refuses otherwise, such as NOPERM. The last
    /// four are of `django_vcache.exceptions`.
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
        let asked = self.asked(arguments, &mut Form::Blocks("admit"))?;
        self.admitted(scope.py(), asked)?.block(scope.py())
    }

    /// As `admit`, to be awaited. Nothing is asked before that. In a boolean context it raises TypeError: an `await`
    /// was forgotten.
    #[pyo3(signature = (scope, *, payload = None, cost = 1, costs = None, dedupe = None, limits = None, rates = None))]
    #[expect(clippy::too_many_arguments, reason = "they are keywords")]
    fn aadmit<'py>(
        slf: &Bound<'py, Self>,
        scope: &Bound<'py, PyAny>,
        payload: Option<Bytes>,
        #[pyo3(from_py_with = cost_of)] cost: i64,
        costs: Option<&Bound<'py, PyDict>>,
        dedupe: Option<String>,
        limits: Option<&Bound<'_, PyDict>>,
        rates: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<Bound<'py, Coroutine>> {
        const NAME: &str = "Gate.aadmit";
        let arguments = Arguments { scope, payload, cost, costs, dedupe, limits, rates };
        let read = |gate: &Self, form: &mut Form| gate.asked(arguments, form);
        awaited(slf, NAME, Later::default(), read, |gate, py, asked| {
            gate.admitted(py, asked)?.defer(py, NAME)
        })
    }

    /// Decides several admissions, each by itself, in their order. Blocks, with the GIL released.
    ///
    /// Up to 128 are sent at once, or 256 KB of payloads. Each is a mapping with the arguments of `admit`, such as
    /// `{"scope": {"org": 1}, "payload": b"{}", "costs": {"bytes": 2}}`. The decisions have the same order.
    ///
    /// Raises as `admit`: ValueError and TypeError, for any of them, before anything is sent. Under `outage="raise"` an
    /// error of one is raised when all have been decided.
    fn admit_many(&self, admissions: &Bound<'_, PyAny>) -> PyResult<Py<PyAny>> {
        let asked = self.all_asked(admissions, &mut Form::Blocks("admit_many"))?;
        self.all_admitted(admissions.py(), asked)?.block(admissions.py())
    }

    /// As `admit_many`, to be awaited.
    fn aadmit_many<'py>(
        slf: &Bound<'py, Self>,
        admissions: &Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, Coroutine>> {
        const NAME: &str = "Gate.aadmit_many";
        let read = |gate: &Self, form: &mut Form| gate.all_asked(admissions, form);
        awaited(slf, NAME, Later::of_many(), read, |gate, py, asked| {
            gate.all_admitted(py, asked)?.defer(py, NAME)
        })
    }

    /// How every rule stands; nothing is charged. Raises as `Throttle.peek`.
    #[pyo3(signature = (scope, *, limits = None, rates = None))]
    fn peek(
        &self,
        scope: &Bound<'_, PyAny>,
        limits: Option<&Bound<'_, PyDict>>,
        rates: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<Py<PyAny>> {
        let looked = self.looked(scope, limits, rates, &mut Form::Blocks("peek"))?;
        self.peeked(scope.py(), looked)?.block(scope.py())
    }

    /// As `peek`, to be awaited.
    #[pyo3(signature = (scope, *, limits = None, rates = None))]
    fn apeek<'py>(
        slf: &Bound<'py, Self>,
        scope: &Bound<'py, PyAny>,
        limits: Option<&Bound<'_, PyDict>>,
        rates: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<Bound<'py, Coroutine>> {
        const NAME: &str = "Gate.apeek";
        let read = |gate: &Self, form: &mut Form| gate.looked(scope, limits, rates, form);
        awaited(slf, NAME, Later::default(), read, |gate, py, looked| {
            gate.peeked(py, looked)?.defer(py, NAME)
        })
    }

    /// Gives back to the quotas what was charged under a receipt, once, in the windows that it was charged in.
    ///
    /// Throttles are not refunded, and the dedupe id is not forgotten. Raises as `Quota.refund`.
    fn refund(&self, py: Python<'_>, receipt: &str) -> PyResult<Py<PyAny>> {
        refunded(py, &self.gate, &self.using, receipt)?.block(py)
    }

    /// As `refund`, to be awaited.
    fn arefund<'py>(&self, py: Python<'py>, receipt: &str) -> PyResult<Bound<'py, Coroutine>> {
        refunded(py, &self.gate, &self.using, receipt)?.defer(py, "Gate.arefund")
    }

    /// Forgets what was charged for a scope, by one rule or by all; of how many there was anything.
    ///
    /// Raises ValueError for a rule that is not there and for a scope that lacks an entry; otherwise as `peek`.
    #[pyo3(signature = (scope, rule = None))]
    fn reset(&self, py: Python<'_>, scope: Given, rule: Option<String>) -> PyResult<Py<PyAny>> {
        self.forgotten(py, scope.0, rule)?.block(py)
    }

    /// As `reset`, to be awaited.
    #[pyo3(signature = (scope, rule = None))]
    fn areset<'py>(
        &self,
        py: Python<'py>,
        scope: Given,
        rule: Option<String>,
    ) -> PyResult<Bound<'py, Coroutine>> {
        self.forgotten(py, scope.0, rule)?.defer(py, "Gate.areset")
    }

    /// What it decided in this process; the names are those of `Throttle.metrics`.
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
