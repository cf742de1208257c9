//! What `Throttle` and `Quota` have in common: the limit of a call, and the calls themselves.

use std::sync::Arc;

use pyo3::PyClass;
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use pyo3::pyclass::boolean_struct::True;
use pyo3::types::PyDict;
use vcache::Connection;
use vcache::admission::{Decision, Outage, Quota, Rate, RuleState, Subject, Throttle};
use vcache::python::Coroutine;

use super::call::{Call, Outcome, plain};
use super::decision::{PyDecision, PyRuleState, metrics};
use super::later::Later;
use super::limit::{GivenLimit, Limit, Said, answered, ask, not_awaited};
use super::part::{Part, Placed, part};
use super::scope::{Of, for_callable};
use super::server::server;
use super::settings::{self, Keywords};

/// A throttle or a quota. `limit` is that of one call, where it is not the rule's own.
pub(super) trait Limited: Part + Send + Sync + 'static {
    type Limit: Limit;

    fn entries(&self) -> &[String];
    fn key(self, names: Vec<String>) -> vcache::Result<Self>;
    fn outage(self, outage: Outage) -> Self;

    fn charge(
        &self,
        conn: &Connection,
        of: Subject<'_>,
        cost: i64,
        limit: Option<Self::Limit>,
    ) -> impl Future<Output = vcache::Result<Decision>> + Send;

    fn peek(
        &self,
        conn: &Connection,
        of: Subject<'_>,
        limit: Option<Self::Limit>,
    ) -> impl Future<Output = vcache::Result<RuleState>> + Send;

    fn reset(&self, conn: &Connection, of: Subject<'_>) -> impl Future<Output = vcache::Result<bool>> + Send;

    fn waive(&self, of: Subject<'_>, cost: i64, limit: Option<Self::Limit>) -> vcache::Result<Decision>;
    fn untouched(&self, of: Subject<'_>, limit: Option<Self::Limit>) -> vcache::Result<RuleState>;
}

/// Implements [`Limited`] by the methods that the rule has. Only the one that charges has a name of the rule's own.
macro_rules! limited {
    ($rule:ty, $kind:literal, $limit:ty, $charge:ident, $charge_at:ident) => {
        part!($rule, $kind, "alias, prefix, owner or number of shards", stores: false);

        impl Limited for $rule {
            type Limit = $limit;

            fn entries(&self) -> &[String] {
                self.entries()
            }

            fn key(self, names: Vec<String>) -> vcache::Result<Self> {
                self.key(names)
            }

            fn outage(self, outage: Outage) -> Self {
                self.outage(outage)
            }

            async fn charge(
                &self,
                conn: &Connection,
                of: Subject<'_>,
                cost: i64,
                limit: Option<$limit>,
            ) -> vcache::Result<Decision> {
                match limit {
                    None => self.$charge(conn, of, cost).await,
                    Some(limit) => self.$charge_at(conn, of, cost, limit).await,
                }
            }

            async fn peek(
                &self,
                conn: &Connection,
                of: Subject<'_>,
                limit: Option<$limit>,
            ) -> vcache::Result<RuleState> {
                match limit {
                    None => self.peek(conn, of).await,
                    Some(limit) => self.peek_at(conn, of, limit).await,
                }
            }

            async fn reset(&self, conn: &Connection, of: Subject<'_>) -> vcache::Result<bool> {
                self.reset(conn, of).await
            }

            fn waive(&self, of: Subject<'_>, cost: i64, limit: Option<$limit>) -> vcache::Result<Decision> {
                self.waive(of, cost, limit)
            }

            fn untouched(&self, of: Subject<'_>, limit: Option<$limit>) -> vcache::Result<RuleState> {
                self.untouched(of, limit)
            }
        }
    };
}

limited!(Throttle, "throttle", Rate, check, check_at);
limited!(Quota, "quota", i64, consume, consume_at);

/// A rule as Python made it.
pub(super) struct Rule<R: Limited> {
    pub(super) placed: Placed<R>,
    limit: GivenLimit<R::Limit>,
}

impl<R: Limited> Rule<R> {
    /// The rule with the rest of its constructor's arguments.
    pub(super) fn new(
        mut rule: R,
        limit: GivenLimit<R::Limit>,
        key: Option<&Bound<'_, PyAny>>,
        keywords: Keywords,
    ) -> PyResult<Self> {
        if let Some(key) = key {
            rule = rule.key(settings::key(key)?)?;
        }
        if let Some(outage) = keywords.outage {
            rule = rule.outage(outage);
        }
        Ok(Self { placed: Placed::new(rule, keywords)?, limit })
    }

    pub(super) fn name(&self) -> &str {
        self.placed.name()
    }

    pub(super) fn alias(&self) -> &str {
        self.placed.alias()
    }

    /// Whether each call asks a callable for its limit, unless it has one.
    pub(super) fn is_called(&self) -> bool {
        matches!(self.limit, GivenLimit::Called(_))
    }

    /// The limit of a call: the one that it was given, or what the callable says.
    ///
    /// # Errors
    /// What the callable raises; `TypeError` or `ValueError` for what is no limit.
    pub(super) fn limit_for(
        &self,
        of: &Bound<'_, PyAny>,
        given: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Said<R::Limit>> {
        match (given, &self.limit) {
            (Some(given), _) => R::Limit::read(given).map(Said::This),
            (None, GivenLimit::Fixed(_)) => Ok(Said::Own),
            (None, GivenLimit::Called(callable)) => {
                let scope = for_callable(self.placed.asked().entries(), of)?;
                scope.map_or(Ok(Said::Own), |scope| ask(callable, self.name(), &scope))
            }
        }
    }

    /// The same for a call that blocks; `None` is the rule's own.
    ///
    /// # Errors
    /// `TypeError` for an async callable, too.
    pub(super) fn limit_now(
        &self,
        of: &Bound<'_, PyAny>,
        given: Option<&Bound<'_, PyAny>>,
        method: &str,
    ) -> PyResult<Option<R::Limit>> {
        match self.limit_for(of, given)? {
            Said::Own => Ok(None),
            Said::This(limit) => Ok(Some(limit)),
            Said::Awaited(awaitable) => {
                Err(not_awaited::<R::Limit>(awaitable.bind(of.py()), self.name(), method)?)
            }
        }
    }

    pub(super) fn charged(
        &self,
        of: &Bound<'_, PyAny>,
        cost: i64,
        limit: Option<R::Limit>,
    ) -> PyResult<Call<impl Outcome<Decision> + use<R>, Decision>> {
        let conn = server(of.py(), self.alias())?;
        let (of, rule): (Of, _) = (of.extract()?, Arc::clone(self.placed.asked()));
        let charge = async move {
            match conn {
                Some(conn) => rule.charge(&conn, of.subject(), cost, limit).await,
                None => rule.waive(of.subject(), cost, limit),
            }
        };
        Ok(Call::new(charge, PyDecision::make))
    }

    pub(super) fn peeked(
        &self,
        of: &Bound<'_, PyAny>,
        limit: Option<R::Limit>,
    ) -> PyResult<Call<impl Outcome<RuleState> + use<R>, RuleState>> {
        let conn = server(of.py(), self.alias())?;
        let (of, rule): (Of, _) = (of.extract()?, Arc::clone(self.placed.asked()));
        let peek = async move {
            match conn {
                Some(conn) => rule.peek(&conn, of.subject(), limit).await,
                None => rule.untouched(of.subject(), limit),
            }
        };
        Ok(Call::new(peek, PyRuleState::make))
    }

    pub(super) fn forgotten(
        &self,
        of: &Bound<'_, PyAny>,
    ) -> PyResult<Call<impl Outcome<bool> + use<R>, bool>> {
        let conn = server(of.py(), self.alias())?;
        let (of, rule): (Of, _) = (of.extract()?, Arc::clone(self.placed.asked()));
        let forget = async move {
            match conn {
                Some(conn) => rule.reset(&conn, of.subject()).await,
                None => Ok(false),
            }
        };
        Ok(Call::new(forget, plain))
    }

    pub(super) fn metrics<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        metrics(py, self.placed.asked().metrics())
    }

    pub(super) fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.limit.traverse(visit)
    }

    /// `class` is what Python calls it.
    pub(super) fn repr(&self, class: &str) -> String {
        match self.limit.fixed() {
            Some(limit) => format!("<{class} '{}' {limit}>", self.name()),
            None => format!("<{class} '{}'>", self.name()),
        }
    }
}

/// A class of rules.
pub(super) trait Ruled: PyClass<Frozen = True> + Send + Sync {
    type Of: Limited;

    fn rule(&self) -> &Rule<Self::Of>;
}

type LimitOf<C> = <<C as Ruled>::Of as Limited>::Limit;

/// A call's form to await, called `name`. `ask` makes the call with its limit, once that is known.
pub(super) fn awaited<'py, C, A>(
    rule: &Bound<'py, C>,
    of: &Bound<'py, PyAny>,
    limit: Option<&Bound<'_, PyAny>>,
    name: &'static str,
    ask: A,
) -> PyResult<Bound<'py, Coroutine>>
where
    C: Ruled,
    A: for<'a> FnOnce(&Rule<C::Of>, &Bound<'a, PyAny>, Option<LimitOf<C>>) -> PyResult<Bound<'a, Coroutine>>
        + Send
        + 'static,
{
    let limit = match rule.get().rule().limit_for(of, limit)? {
        Said::Own => None,
        Said::This(limit) => Some(limit),
        Said::Awaited(awaitable) => {
            let mut later = Later::default();
            later.push(awaitable);
            // As it is now: what the program does with its dict meanwhile changes neither the limit nor who is charged.
            let of = of
                .cast::<PyDict>()
                .map_or_else(|_| Ok(of.clone()), |dict| dict.copy().map(Bound::into_any))?;
            let held = (rule.clone().unbind(), of.clone().unbind());
            return later.then(of.py(), name, held, move |(rule, of), answers| {
                let rule = rule.get().rule();
                let limit = answered(&answers.get_item(0)?, rule.name())?;
                ask(rule, of.bind(answers.py()), Some(limit))
            });
        }
    };
    ask(rule.get().rule(), of, limit)
}
