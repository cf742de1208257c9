//! A throttle or a quota that is asked by itself: what a gate of this rule only would say.

use std::borrow::Cow;
use std::sync::Arc;

use super::asked::Admission;
use super::decision::{Decision, Refund, RuleState};
use super::inner::Inner;
use super::metrics::Metrics;
use super::names::By;
use super::receipt::Receipt;
use super::scope::{Scope, Subject};
use super::settings::{Outage, Settings};
use super::spec::{Spec, Terms, named};
use crate::connection::Connection;
use crate::error::{Error, Result};

#[derive(Clone)]
pub(super) struct Lone<T> {
    pub(super) spec: Spec<T>,
    pub(super) settings: Settings,
    inner: Arc<Inner>,
}

impl<T: Terms> Lone<T> {
    pub(super) fn new(spec: Spec<T>, settings: Settings) -> Self {
        let (throttles, quotas) = T::alone(&spec);
        let inner = Inner::new(&settings, throttles, quotas, None, Some(spec.by.clone()));
        Self { inner: Arc::new(inner), spec, settings }
    }

    /// The same rule with other terms.
    pub(super) fn with(self, change: impl FnOnce(T) -> T) -> Self {
        Self::new(Spec { terms: change(self.spec.terms), ..self.spec }, self.settings)
    }

    /// # Errors
    /// `Value` for no names, or what is not a name.
    pub(super) fn key<I>(self, names: I) -> Result<Self>
    where
        I: IntoIterator,
        I::Item: AsRef<str>,
    {
        let by = By::entries(&self.spec.name, names)?;
        Ok(Self::new(Spec { by, ..self.spec }, self.settings))
    }

    pub(super) fn outage(self, outage: Outage) -> Self {
        Self::new(Spec { outage: Some(outage), ..self.spec }, self.settings)
    }

    /// # Errors
    /// `Value` for a setting that makes no sense.
    pub(super) fn settings(self, settings: Settings) -> Result<Self> {
        settings.check()?;
        Ok(Self::new(self.spec, settings))
    }

    /// As a part of a gate, keyed by the gate's owner if it has no key.
    ///
    /// # Errors
    /// `Value` for what the gate would ignore, or count by shard.
    pub(super) fn placed(mut self, gate: &Settings) -> Result<Self> {
        let what = format!("{} '{}'", T::KIND, self.spec.name);
        if let (By::Owner, Some(owner)) = (&self.spec.by, &gate.owner) {
            self.spec.by = By::entries(&self.spec.name, [owner])?;
        }
        gate.check_part(&what, &self.settings, Some(&self.spec.by))?;
        Ok(Self::new(self.spec, gate.clone()))
    }

    /// Whether it is asked at the same place.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        let (here, there) = (&self.settings, &other.settings);
        (&self.spec.name, &self.spec.by) == (&other.spec.name, &other.spec.by)
            && (&here.prefix, &here.owner, here.shards) == (&there.prefix, &there.owner, there.shards)
    }

    pub(super) async fn admit(
        &self,
        conn: &Connection,
        of: Subject<'_>,
        cost: i64,
        limit: Option<T::Limit>,
    ) -> Result<Decision> {
        let scope = self.scope(of)?;
        self.inner.admit(conn, self.admission(&scope, cost, limit)).await
    }

    pub(super) fn waive(&self, of: Subject<'_>, cost: i64, limit: Option<T::Limit>) -> Result<Decision> {
        self.inner.waive(&self.admission(&*self.scope(of)?, cost, limit))
    }

    pub(super) async fn peek(
        &self,
        conn: &Connection,
        of: Subject<'_>,
        limit: Option<T::Limit>,
    ) -> Result<RuleState> {
        let scope = self.scope(of)?;
        only(self.inner.peek(conn, self.admission(&scope, 1, limit)).await?)
    }

    pub(super) fn untouched(&self, of: Subject<'_>, limit: Option<T::Limit>) -> Result<RuleState> {
        only(self.inner.untouched(&self.admission(&*self.scope(of)?, 1, limit))?)
    }

    pub(super) async fn reset(&self, conn: &Connection, of: Subject<'_>) -> Result<bool> {
        let scope = self.scope(of)?;
        Ok(self.inner.reset(conn, &scope, None).await? > 0)
    }

    pub(super) async fn refund(&self, conn: &Connection, receipt: &Receipt) -> Result<Refund> {
        self.inner.refund(conn, receipt).await
    }

    pub(super) fn metrics(&self) -> Metrics {
        self.inner.counters.read()
    }

    fn scope<'a>(&'a self, of: Subject<'a>) -> Result<Cow<'a, Scope<'a>>> {
        of.scope(&named::<T>(&self.spec.name), &self.spec.by)
    }

    fn admission<'a>(&'a self, scope: &'a Scope<'a>, cost: i64, limit: Option<T::Limit>) -> Admission<'a> {
        let mut admission = Admission::new(scope).cost(cost);
        admission.overrides.extend(limit.map(|limit| (&*self.spec.name, T::change(limit))));
        admission
    }
}

/// The state of the only rule.
fn only(mut states: Vec<RuleState>) -> Result<RuleState> {
    states.pop().ok_or_else(|| Error::value("there is no rule to look at"))
}
