//! What a decision is in Python. The classes hold the core's values, and their attributes are made when they are read.

use pyo3::exceptions::PyKeyError;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyDict, PyList, PyTuple};
use vcache::Error;
use vcache::admission::{Decision, Refund, Refusal, RuleState};

use super::pickled::{pickled, reduce};

/// What was decided. It is true if it may go on; of a refusal nothing was charged and nothing written.
///
/// ```python
/// decision = await throttle.acheck(42)
/// if not decision:
///     print(f"refused by {decision.refused_by}, try again in {decision.retry_after} s")
/// ```
#[pyclass(frozen, eq, name = "Decision", module = "django_vcache.admission")]
#[derive(PartialEq)]
pub(crate) struct PyDecision(pub(super) Decision);

impl PyDecision {
    pub(crate) fn make(py: Python<'_>, decision: Decision) -> PyResult<Py<PyAny>> {
        if let Some(error) = &decision.outage {
            report(py, error)?;
        }
        Ok(Bound::new(py, Self(decision))?.into_any().unbind())
    }

    pub(super) fn make_all(py: Python<'_>, decisions: Vec<Decision>) -> PyResult<Py<PyAny>> {
        let decisions = decisions.into_iter().map(|decision| Self::make(py, decision));
        Ok(PyList::new(py, decisions.collect::<PyResult<Vec<_>>>()?)?.into_any().unbind())
    }
}

/// Has it logged that the server was not asked: with the policy "open" nothing else shows it.
#[cold]
fn report(py: Python<'_>, error: &Error) -> PyResult<()> {
    static UNASKED: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let unasked = UNASKED.import(py, "django_vcache.reports", "unasked")?;
    unasked.call1((error.alias().unwrap_or("default"), error.to_string())).map(drop)
}

#[pymethods]
impl PyDecision {
    fn __bool__(&self) -> bool {
        self.0.allowed
    }

    /// Whether it may go on.
    #[getter]
    fn allowed(&self) -> bool {
        self.0.allowed
    }

    /// Whether the dedupe id was admitted before.
    ///
    /// Then nothing was charged or written now, and `id` and `receipt` are the first call's.
    #[getter]
    fn duplicate(&self) -> bool {
        self.0.duplicate
    }

    /// The id of the stream's entry, if one was written.
    #[getter]
    fn id(&self) -> Option<&str> {
        self.0.id.as_deref()
    }

    /// For a refund, if a quota was charged. It is not signed: take none from strangers.
    #[getter]
    fn receipt(&self) -> Option<&str> {
        self.0.receipt.as_ref().map(|receipt| receipt.as_str())
    }

    /// What refused, and if several did, the one with the longest wait. None if nothing did.
    #[getter]
    fn refused_by(&self) -> Option<PyRefusal> {
        self.0.refused_by.clone().map(PyRefusal)
    }

    /// Seconds until the same may be admitted: 0.0 if it was, None if it never will be.
    ///
    /// When a full stream has room, and when an outage ends, is not known: then it is a second, or until the server is
    /// asked again.
    #[getter]
    fn retry_after(&self) -> Option<f64> {
        self.0.retry_after.map(|wait| wait.as_secs_f64())
    }

    /// Whether the same will never be admitted: it costs more than the limit, or the limit is 0.
    #[getter]
    fn never(&self) -> bool {
        self.0.never()
    }

    /// The limit of the rule that is closest to its own: the one that refused, or has the smallest part left.
    ///
    /// None if there is no limit, or nothing is known, as in an outage. `remaining` and `reset_after` are of the same
    /// rule.
    #[getter]
    fn limit(&self) -> Option<i64> {
        self.0.closest_rule().map(|rule| rule.limit)
    }

    /// Units left of the rule that `limit` is of.
    #[getter]
    fn remaining(&self) -> Option<i64> {
        self.0.closest_rule().and_then(|rule| rule.remaining)
    }

    /// Seconds until all of that rule's units are there again.
    #[getter]
    fn reset_after(&self) -> Option<f64> {
        self.0.closest_rule().map(|rule| rule.reset_after.as_secs_f64())
    }

    /// The state of a rule.
    ///
    /// Raises KeyError if no rule has this name.
    fn rule(&self, name: &str) -> PyResult<PyRuleState> {
        self.0.rule(name).cloned().map(PyRuleState).ok_or_else(|| {
            let known: Vec<_> = self.0.rules.iter().map(|rule| format!("{:?}", rule.name)).collect();
            PyKeyError::new_err(format!("the decision has no rule {name:?}, but {}", known.join(", ")))
        })
    }

    /// All attributes as a dict that JSON takes; the rules are dicts too.
    fn as_dict<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyDict>> {
        let decision = &slf.get().0;
        let dict = attributes(
            slf.as_any(),
            &[
                "allowed",
                "duplicate",
                "id",
                "receipt",
                "retry_after",
                "never",
                "limit",
                "remaining",
                "reset_after",
                "source",
                "outage",
                "status",
            ],
        )?;
        let py = slf.py();
        let refused_by = decision.refused_by.as_ref().map(|refusal| {
            let dict = PyDict::new(py);
            dict.set_item("rule", &*refusal.rule)?;
            dict.set_item("kind", refusal.kind.as_str())?;
            Ok::<_, PyErr>(dict)
        });
        dict.set_item("refused_by", refused_by.transpose()?)?;
        let rules = states(py, &decision.rules)?;
        let rules: Vec<_> =
            rules.iter().map(|state| PyRuleState::as_dict(state.cast()?)).collect::<PyResult<_>>()?;
        dict.set_item("rules", rules)?;
        Ok(dict)
    }

    /// How every rule stands now, throttles first. A rule of which nothing is known has no `remaining`.
    #[getter]
    fn rules<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        states(py, &self.0.rules)
    }

    /// Who decided.
    ///
    /// `"settings"` is a limit of 0 or none at all, `"deny_cache"` a refusal of the server's that still holds,
    /// `"guard"` this process by itself, `"outage"` the `outage` policies, and `"disabled"` the setting
    /// `VCACHE["ENABLED"]`.
    #[getter]
    fn source(&self) -> &'static str {
        self.0.source.as_str()
    }

    /// Why the server could not be asked, if `source` is `"outage"`: the error's text. None otherwise.
    #[getter]
    fn outage(&self) -> Option<String> {
        self.0.outage.as_ref().map(ToString::to_string)
    }

    /// The HTTP status: 200, 429 for a refusal, 503 for one because of an outage or a full stream.
    #[getter]
    fn status(&self) -> u16 {
        self.0.status()
    }

    /// The headers that tell a client: `RateLimit-Policy`, `RateLimit`, and for a refusal `Retry-After`.
    ///
    /// With `legacy` also `X-RateLimit-Limit`, `X-RateLimit-Remaining` and `X-RateLimit-Reset` (seconds).
    #[pyo3(signature = (legacy = false))]
    fn headers<'py>(&self, py: Python<'py>, legacy: bool) -> PyResult<Bound<'py, PyDict>> {
        let headers = PyDict::new(py);
        for (name, value) in self.0.headers(legacy) {
            headers.set_item(name, value)?;
        }
        Ok(headers)
    }

    /// What a Sentry client reads, also in an answer of 200: `X-Sentry-Rate-Limits` and `Retry-After`.
    ///
    /// Empty for what was admitted or never will be. Without categories it is for all of them.
    ///
    /// ```python
    /// decision.sentry_headers("error", "transaction")
    /// # {'X-Sentry-Rate-Limits': '60:error;transaction:organization:org', 'Retry-After': '60'}
    /// ```
    #[pyo3(signature = (*categories, scope = "organization"))]
    fn sentry_headers<'py>(
        &self,
        py: Python<'py>,
        categories: Vec<String>,
        scope: &str,
    ) -> PyResult<Bound<'py, PyDict>> {
        let categories: Vec<_> = categories.iter().map(String::as_str).collect();
        let headers = PyDict::new(py);
        for (name, value) in self.0.sentry_headers(&categories, scope) {
            headers.set_item(name, value)?;
        }
        Ok(headers)
    }

    /// The response of a refusal: 429, or 503 for an outage, with the headers and a line that names the rule.
    ///
    /// Raises ValueError for a decision that admits.
    fn response<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        static REFUSAL: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
        REFUSAL.import(slf.py(), "django_vcache.admission.views.refusal", "refusal")?.call1((slf,))
    }

    fn __reduce__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        reduce(py, &self.0)
    }

    fn __repr__(&self) -> String {
        let decision = &self.0;
        let Some(refusal) = &decision.refused_by else {
            let what = if decision.duplicate { "duplicate" } else { "allowed" };
            return format!("<Decision {what} by the {}>", decision.source.as_str());
        };
        let (kind, rule) = (refusal.kind.as_str(), &refusal.rule);
        match decision.retry_after {
            Some(wait) => format!("<Decision refused by {kind} '{rule}' for {:.3} s>", wait.as_secs_f64()),
            None => format!("<Decision refused by {kind} '{rule}' for ever>"),
        }
    }
}

/// What refused: the `refused_by` of a decision.
///
/// `str(refusal)` is such as `throttle 'org'`.
#[pyclass(frozen, eq, hash, name = "Refusal", module = "django_vcache.admission")]
#[derive(PartialEq)]
pub(crate) struct PyRefusal(pub(super) Refusal);

impl std::hash::Hash for PyRefusal {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.0.rule.hash(state);
        self.0.kind.hash(state);
    }
}

#[pymethods]
impl PyRefusal {
    /// The name of the rule or stream.
    #[getter]
    fn rule(&self) -> &str {
        &self.0.rule
    }

    /// `"stream"` is one that is full; `"outage"` is a server that could not be asked.
    #[getter]
    fn kind(&self) -> &'static str {
        self.0.kind.as_str()
    }

    fn __reduce__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        reduce(py, &self.0)
    }

    fn __str__(&self) -> String {
        format!("{} '{}'", self.0.kind.as_str(), self.0.rule)
    }

    fn __repr__(&self) -> String {
        format!("<Refusal by {} '{}'>", self.0.kind.as_str(), self.0.rule)
    }
}

/// How a throttle or quota stands, after a decision or a look.
///
/// ```python
/// state = throttle.peek(42)
/// print(f"{state.remaining} of {state.burst}, all of them in {state.reset_after:.0f} s")
/// ```
#[pyclass(frozen, eq, name = "RuleState", module = "django_vcache.admission")]
#[derive(PartialEq)]
pub(crate) struct PyRuleState(pub(super) RuleState);

impl PyRuleState {
    pub(super) fn make(py: Python<'_>, state: RuleState) -> PyResult<Py<PyAny>> {
        Ok(Bound::new(py, Self(state))?.into_any().unbind())
    }

    pub(super) fn make_all(py: Python<'_>, rules: Vec<RuleState>) -> PyResult<Py<PyAny>> {
        Ok(states(py, &rules)?.into_any().unbind())
    }
}

/// These attributes of an object as a dict.
fn attributes<'py>(object: &Bound<'py, PyAny>, names: &[&str]) -> PyResult<Bound<'py, PyDict>> {
    let dict = PyDict::new(object.py());
    for name in names {
        dict.set_item(*name, object.getattr(*name)?)?;
    }
    Ok(dict)
}

fn states<'py>(py: Python<'py>, rules: &[RuleState]) -> PyResult<Bound<'py, PyTuple>> {
    let states: Vec<_> =
        rules.iter().map(|state| Bound::new(py, PyRuleState(state.clone()))).collect::<PyResult<_>>()?;
    PyTuple::new(py, states)
}

#[pymethods]
impl PyRuleState {
    /// The rule's name.
    #[getter]
    fn name(&self) -> &str {
        &self.0.name
    }

    /// What the rule is.
    #[getter]
    fn kind(&self) -> &'static str {
        self.0.kind.as_str()
    }

    /// Units in a window; -1 is no limit.
    #[getter]
    fn limit(&self) -> i64 {
        self.0.limit
    }

    /// Units that may come at once; of a quota, its limit.
    #[getter]
    fn burst(&self) -> i64 {
        self.0.burst
    }

    /// Units left, never below 0; None if there is no limit, or if it is not known.
    #[getter]
    fn remaining(&self) -> Option<i64> {
        self.0.remaining
    }

    /// Of a quota, units counted in the window so far, which may be more than the limit; of a throttle, 0.
    #[getter]
    fn used(&self) -> i64 {
        self.0.used
    }

    /// Seconds until everything is there again: a throttle's burst, or a quota's next window.
    #[getter]
    fn reset_after(&self) -> f64 {
        self.0.reset_after.as_secs_f64()
    }

    /// The window's length in seconds.
    #[getter]
    fn window(&self) -> f64 {
        self.0.window.as_secs_f64()
    }

    /// All attributes as a dict that JSON takes.
    fn as_dict<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyDict>> {
        attributes(
            slf.as_any(),
            &["name", "kind", "limit", "burst", "remaining", "used", "reset_after", "window"],
        )
    }

    fn __reduce__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        reduce(py, &self.0)
    }

    fn __repr__(&self) -> String {
        let RuleState { name, kind, limit, remaining, .. } = &self.0;
        let left = remaining.map_or_else(|| "unlimited".to_owned(), |left| format!("{left} of {limit} left"));
        format!("<RuleState {} '{name}': {left}>", kind.as_str())
    }
}

/// What a refund did. It is true if units were given back now.
///
/// ```python
/// refund = quota.refund(decision.receipt)
/// refund.used
/// # {'exports': 41}
/// ```
#[pyclass(frozen, eq, name = "Refund", module = "django_vcache.admission")]
#[derive(PartialEq)]
pub(crate) struct PyRefund(pub(super) Refund);

impl PyRefund {
    pub(super) fn make(py: Python<'_>, refund: Refund) -> PyResult<Py<PyAny>> {
        Ok(Bound::new(py, Self(refund))?.into_any().unbind())
    }
}

#[pymethods]
impl PyRefund {
    fn __bool__(&self) -> bool {
        self.0.refunded
    }

    /// Whether units were given back now.
    ///
    /// Not if this receipt was refunded before, or if nothing of what it charged is counted any more: it was reset, or
    /// its window is too long ago.
    #[getter]
    fn refunded(&self) -> bool {
        self.0.refunded
    }

    /// Each quota that had been charged, and the units that it counts now in the window of the receipt.
    #[getter]
    fn used<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let used = PyDict::new(py);
        for usage in &self.0.usage {
            used.set_item(&*usage.name, usage.used)?;
        }
        Ok(used)
    }

    fn __reduce__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        reduce(py, &self.0)
    }

    fn __repr__(&self) -> &'static str {
        if self.0.refunded { "<Refund>" } else { "<Refund of nothing>" }
    }
}

pickled! {
    Decision => PyDecision, _restore_decision;
    Refusal => PyRefusal, _restore_refusal;
    RuleState => PyRuleState, _restore_rule_state;
    Refund => PyRefund, _restore_refund;
}

/// What was counted, as a dict.
pub(super) fn metrics<'py>(
    py: Python<'py>,
    counted: vcache::admission::Metrics,
) -> PyResult<Bound<'py, PyDict>> {
    let metrics = PyDict::new(py);
    for (name, count) in [
        ("admitted", counted.admitted),
        ("refused", counted.refused),
        ("duplicates", counted.duplicates),
        ("deny_cache", counted.deny_cache),
        ("guard", counted.guard),
        ("outages", counted.outages),
        ("outage_open", counted.outage_open),
        ("outage_closed", counted.outage_closed),
        ("outage_local", counted.outage_local),
        ("breaker_opened", counted.breaker_opened),
        ("replayed", counted.replayed),
        ("stale_windows", counted.stale_windows),
    ] {
        metrics.set_item(name, count)?;
    }
    Ok(metrics)
}
