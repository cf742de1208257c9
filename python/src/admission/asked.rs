//! What one admission of a gate was asked with: the arguments of `admit`, owned, so that a future can hold them.

use std::sync::Arc;

use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::tuple::BoundTupleIterator;
use pyo3::types::{PyDict, PyMapping};
use vcache::admission::{Admission, Decision, Event, Gate, Rate};
use vcache::python::Bytes;
use vcache::{Connection, Result};

use super::limit::{answered, cost as cost_of};
use super::scope::{Given, Owned, pairs};

/// The arguments of `admit`, as Python gave them.
pub(super) struct Arguments<'a, 'py> {
    pub(super) scope: &'a Bound<'py, PyAny>,
    pub(super) payload: Option<Bytes>,
    pub(super) cost: i64,
    pub(super) costs: Option<&'a Bound<'py, PyDict>>,
    pub(super) dedupe: Option<String>,
    pub(super) limits: Option<&'a Bound<'py, PyDict>>,
    pub(super) rates: Option<&'a Bound<'py, PyDict>>,
}

/// The arguments of one admission among many, by their names.
#[derive(Default)]
pub(super) struct Named<'py> {
    scope: Option<Bound<'py, PyAny>>,
    payload: Option<Bytes>,
    cost: Option<i64>,
    costs: Option<Bound<'py, PyDict>>,
    dedupe: Option<String>,
    limits: Option<Bound<'py, PyDict>>,
    rates: Option<Bound<'py, PyDict>>,
}

impl<'py> Named<'py> {
    pub(super) fn read(given: &Bound<'py, PyAny>) -> PyResult<Self> {
        let Ok(given) = given.cast::<PyMapping>() else {
            return Err(PyTypeError::new_err(format!(
                "admit_many() takes a list of mappings, each with the arguments of one admission such as {{\"scope\": \
                 {{\"org\": 1}}}}; one of them is {}",
                given.get_type().name()?
            )));
        };
        let mut named = Self::default();
        for item in given.items()? {
            let (name, value): (Bound<'_, PyAny>, Bound<'_, PyAny>) = item.extract()?;
            let text = name.str()?;
            match text.to_str()? {
                "scope" => named.scope = Some(value),
                "payload" => named.payload = value.extract()?,
                "cost" => named.cost = Some(cost_of(&value)?),
                "costs" => named.costs = value.extract()?,
                "dedupe" => named.dedupe = value.extract()?,
                "limits" => named.limits = value.extract()?,
                "rates" => named.rates = value.extract()?,
                other => {
                    return Err(PyTypeError::new_err(format!(
                        "an admission has no {other:?}; it has scope, payload, cost, costs, dedupe, limits, rates"
                    )));
                }
            }
        }
        Ok(named)
    }

    pub(super) fn arguments(&mut self) -> PyResult<Arguments<'_, 'py>> {
        let Some(scope) = &self.scope else {
            return Err(PyTypeError::new_err(
                "an admission has no \"scope\", the mapping that says whom it is for",
            ));
        };
        Ok(Arguments {
            scope,
            payload: self.payload.take(),
            cost: self.cost.unwrap_or(1),
            costs: self.costs.as_ref(),
            dedupe: self.dedupe.take(),
            limits: self.limits.as_ref(),
            rates: self.rates.as_ref(),
        })
    }
}

/// What of an admission differs from call to call by rule.
#[derive(Default)]
pub(super) struct Terms {
    pub(super) limits: Vec<(Arc<str>, i64)>,
    pub(super) rates: Vec<(Arc<str>, Rate)>,
    /// The rules whose limits async callables say.
    pub(super) open: Vec<OpenTerm>,
}

/// A rule whose limit is awaited.
pub(super) enum OpenTerm {
    Limit(Arc<str>),
    Rate(Arc<str>),
}

/// What cannot be asked before some limits are known.
pub(super) trait Open: Send + 'static {
    /// Takes the answers of its open terms, in their order.
    ///
    /// # Errors
    /// `TypeError` or `ValueError` for what is no limit.
    fn answer(&mut self, answers: &mut BoundTupleIterator<'_>) -> PyResult<()>;
}

impl Open for Terms {
    fn answer(&mut self, answers: &mut BoundTupleIterator<'_>) -> PyResult<()> {
        for (term, answer) in std::mem::take(&mut self.open).into_iter().zip(answers) {
            match term {
                OpenTerm::Limit(rule) => {
                    let limit = answered(&answer, &rule)?;
                    self.limits.push((rule, limit));
                }
                OpenTerm::Rate(rule) => {
                    let rate = answered(&answer, &rule)?;
                    self.rates.push((rule, rate));
                }
            }
        }
        Ok(())
    }
}

impl Open for (Owned, Terms) {
    fn answer(&mut self, answers: &mut BoundTupleIterator<'_>) -> PyResult<()> {
        self.1.answer(answers)
    }
}

impl Open for Asked {
    fn answer(&mut self, answers: &mut BoundTupleIterator<'_>) -> PyResult<()> {
        self.terms.answer(answers)
    }
}

impl Open for Vec<Asked> {
    fn answer(&mut self, answers: &mut BoundTupleIterator<'_>) -> PyResult<()> {
        self.iter_mut().try_for_each(|asked| asked.answer(answers))
    }
}

impl Terms {
    pub(super) fn of<'a>(&'a self, mut admission: Admission<'a>) -> Admission<'a> {
        for (rule, limit) in &self.limits {
            admission = admission.limit(rule, *limit);
        }
        for (rule, rate) in &self.rates {
            admission = admission.rate(rule, *rate);
        }
        admission
    }
}

/// An admission that a future owns.
pub(super) struct Asked {
    scope: Owned,
    terms: Terms,
    payload: Option<Bytes>,
    cost: i64,
    costs: Vec<(String, i64)>,
    dedupe: Option<String>,
}

impl Asked {
    pub(super) fn new(arguments: Arguments<'_, '_>, terms: Terms) -> PyResult<Self> {
        let Given(scope) = arguments.scope.extract()?;
        let mut costs = Vec::new();
        for (rule, given) in arguments.costs.map(pairs).into_iter().flatten() {
            costs.push((rule.extract()?, cost_of(&given)?));
        }
        let Arguments { payload, cost, dedupe, .. } = arguments;
        Ok(Self { scope, terms, payload, cost, costs, dedupe })
    }

    pub(super) fn has_payload(&self) -> bool {
        self.payload.is_some()
    }

    pub(super) fn admission(&self) -> Admission<'_> {
        let mut admission = self.terms.of(Admission::new(&self.scope).cost(self.cost));
        for (rule, cost) in &self.costs {
            admission = admission.cost_of(rule, *cost);
        }
        if let Some(payload) = &self.payload {
            admission = admission.payload(&**payload);
        }
        if let Some(id) = &self.dedupe {
            admission = admission.dedupe(id);
        }
        admission
    }

    /// The answer where limits are switched off: yes. An event is stored all the same, on `store`.
    pub(super) async fn waived(&self, gate: &Gate, store: Option<&Connection>) -> Result<Decision> {
        let waived = gate.waive(self.admission())?;
        let (Some(store), Some(payload), Some(stream)) = (store, &self.payload, gate.stream()) else {
            return Ok(waived);
        };
        let mut event = Event::new(&**payload).scope(&self.scope);
        if let Some(id) = &self.dedupe {
            event = event.dedupe(id);
        }
        let mut decision = stream.add(store, event).await?;
        decision.rules = waived.rules;
        Ok(decision)
    }
}
