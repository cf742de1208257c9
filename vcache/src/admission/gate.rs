//! Rules and a stream, decided together in one round trip.

use std::fmt;
use std::future::poll_fn;
use std::slice;
use std::sync::Arc;
use std::task::Poll;

use super::decision::{Decision, Refund, RuleState, Source};
use super::inner::{Inner, QuotaSpec, StreamSpec, ThrottleSpec};
use super::keys::By;
use super::metrics::Metrics;
use super::plan::{Override, Plan};
use super::quota::Quota;
use super::rate::Rate;
use super::receipt::Receipt;
use super::scope::Scope;
use super::settings::{Outage, Settings};
use super::stream::Stream;
use super::throttle::Throttle;
use crate::connection::Connection;
use crate::error::{Error, Result};

/// Rules of a gate.
const MOST_RULES: usize = 64;
/// Of many admissions, so many are under way at once, with so many bytes of payloads: those behind them must not run out of
/// time because of those in front.
const MOST_AT_ONCE: usize = 128;
const MOST_BYTES_AT_ONCE: usize = 256 << 10;

/// What is to be admitted: for whom, what it costs, and what is to be written.
///
/// ```
/// use vcache::admission::{Admission, Scope};
///
/// let scope = Scope::new().with("org", 1).with("project", 42);
/// let admission = Admission::new(&scope).payload(b"{}").cost(1).dedupe("0b51").limit("events", 1_000);
/// ```
#[derive(Clone, Debug)]
pub struct Admission<'a> {
    pub(super) scope: &'a Scope<'a>,
    pub(super) payload: Option<&'a [u8]>,
    pub(super) cost: i64,
    pub(super) costs: Vec<(&'a str, i64)>,
    pub(super) dedupe: Option<&'a str>,
    pub(super) overrides: Vec<(&'a str, Override)>,
}

impl<'a> Admission<'a> {
    /// An admission at the cost of 1, without a payload.
    #[must_use]
    pub fn new(scope: &'a Scope<'a>) -> Self {
        Self { scope, payload: None, cost: 1, costs: Vec::new(), dedupe: None, overrides: Vec::new() }
    }

    /// What is written to the gate's stream, as the field `payload`, and behind it a field for each of the scope's
    /// entries. Without a payload nothing is written.
    #[must_use]
    pub fn payload<P: AsRef<[u8]> + ?Sized>(self, payload: &'a P) -> Self {
        Self { payload: Some(payload.as_ref()), ..self }
    }

    /// Units that every rule is charged. At 0 nothing is charged, and it is asked whether a unit would be let through; a
    /// payload is written all the same.
    #[must_use]
    pub fn cost(self, cost: i64) -> Self {
        Self { cost, ..self }
    }

    /// Units that one rule is charged, by its name; the others are charged [`cost`](Self::cost). A rule that is charged 0 so
    /// is left out: it refuses nothing.
    ///
    /// ```
    /// use vcache::admission::{Admission, Scope};
    ///
    /// let scope = Scope::new().with("org", 1);
    /// let admission = Admission::new(&scope).cost_of("bytes", 5_000);
    /// ```
    #[must_use]
    pub fn cost_of(mut self, rule: &'a str, cost: i64) -> Self {
        self.costs.push((rule, cost));
        self
    }

    /// An id under which this is admitted once only, for [`Settings::dedupe_for`]: a second time charges nothing, writes
    /// nothing, and answers the first entry's id and receipt. It counts for the gate's owner, and in the gate's stream; in a
    /// gate without one, among its rules.
    #[must_use]
    pub fn dedupe(self, id: &'a str) -> Self {
        Self { dedupe: Some(id), ..self }
    }

    /// Another limit for this call, of a quota or a throttle.
    #[must_use]
    pub fn limit(mut self, rule: &'a str, limit: i64) -> Self {
        self.overrides.push((rule, Override::Limit(limit)));
        self
    }

    /// Another rate for this call, of a throttle. A burst that was said stays; one that was not is the new limit.
    #[must_use]
    pub fn rate(mut self, rule: &'a str, rate: Rate) -> Self {
        self.overrides.push((rule, Override::Rate(rate)));
        self
    }
}

/// Throttles, quotas and a stream that say yes together or no: of a refusal nothing is charged and nothing written. See
/// [the module](super) for a whole example. It is cheap to clone, and meant for one server: what it knows of an outage is
/// of that.
#[derive(Clone)]
pub struct Gate {
    inner: Arc<Inner>,
    /// For its own users; the gate itself does not need them.
    parts: Option<Arc<Parts>>,
}

/// What a gate consists of, each as it is asked by itself: where the gate charges.
struct Parts {
    throttles: Vec<Throttle>,
    quotas: Vec<Quota>,
    stream: Option<Stream>,
}

/// Collects what a [`Gate`] consists of.
#[derive(Clone, Debug, Default)]
pub struct GateBuilder {
    throttles: Vec<Throttle>,
    quotas: Vec<Quota>,
    stream: Option<Stream>,
    settings: Settings,
}

impl GateBuilder {
    /// Adds a throttle.
    #[must_use]
    pub fn throttle(mut self, throttle: Throttle) -> Self {
        self.throttles.push(throttle);
        self
    }

    /// Adds a quota.
    #[must_use]
    pub fn quota(mut self, quota: Quota) -> Self {
        self.quotas.push(quota);
        self
    }

    /// Where payloads are written.
    #[must_use]
    pub fn stream(mut self, stream: Stream) -> Self {
        self.stream = Some(stream);
        self
    }

    /// All settings. Its parts have none but their outage policies.
    #[must_use]
    pub fn settings(self, settings: Settings) -> Self {
        Self { settings, ..self }
    }

    /// [`Settings::owner`].
    #[must_use]
    pub fn owner(mut self, entry: &str) -> Self {
        self.settings.owner = Some(entry.into());
        self
    }

    /// [`Settings::shards`].
    #[must_use]
    pub fn shards(mut self, shards: u32) -> Self {
        self.settings.shards = shards;
        self
    }

    /// [`Settings::prefix`].
    #[must_use]
    pub fn prefix(mut self, prefix: &str) -> Self {
        self.settings.prefix = prefix.into();
        self
    }

    /// [`Settings::outage`].
    #[must_use]
    pub fn outage(mut self, outage: Outage) -> Self {
        self.settings.outage = outage;
        self
    }

    /// The gate.
    ///
    /// # Errors
    /// [`ErrorKind::Value`](crate::ErrorKind::Value) for a setting that makes no sense, or that a part has and the gate would
    /// ignore; for quotas or shards without an owner; for a rule that would be counted in each shard; for two rules of one
    /// name, more than 64 rules, or nothing at all.
    pub fn build(self) -> Result<Gate> {
        self.settings.check()?;
        let mut names: Vec<&str> = Vec::new();
        for name in self.throttles.iter().map(Throttle::name).chain(self.quotas.iter().map(Quota::name)) {
            if names.contains(&name) {
                return Err(Error::value(format!("the gate has two rules named '{name}'")));
            }
            names.push(name);
        }
        if names.len() > MOST_RULES {
            return Err(Error::value(format!(
                "the gate has {} rules: {MOST_RULES} is the most",
                names.len()
            )));
        }
        if names.is_empty() && self.stream.is_none() {
            return Err(Error::value(
                "the gate has no throttle, no quota and no stream: it would decide nothing",
            ));
        }
        self.check_owner()?;
        let settings = &self.settings;
        let throttles: Vec<_> =
            self.throttles.into_iter().map(|rule| rule.placed(settings)).collect::<Result<_>>()?;
        let quotas: Vec<_> =
            self.quotas.into_iter().map(|rule| rule.placed(settings)).collect::<Result<_>>()?;
        let stream = self.stream.map(|stream| stream.placed(settings)).transpose()?;
        let throttle_specs: Vec<_> = throttles.iter().map(|rule| rule.spec.clone()).collect();
        let quota_specs: Vec<_> = quotas.iter().map(|rule| rule.spec.clone()).collect();
        let spec = stream.as_ref().map(|stream| &stream.spec);
        let mut gate = Gate::of(settings, &throttle_specs, &quota_specs, spec);
        gate.parts = Some(Arc::new(Parts { throttles, quotas, stream }));
        Ok(gate)
    }

    /// # Errors
    /// `Value` if it needs an owner and has none.
    fn check_owner(&self) -> Result<()> {
        if self.settings.owner.is_some() {
            return Ok(());
        }
        let what = if let Some(quota) = self.quotas.first() {
            format!("a quota, '{}'", quota.name())
        } else if self.settings.shards > 1 {
            format!("{} shards", self.settings.shards)
        } else {
            return Ok(());
        };
        Err(Error::value(format!(
            "the gate has {what}, and no owner: give it one, the name of the scope's entry that stands for it, such as owner \"org\""
        )))
    }
}

/// # Errors
/// `Value` for a part that has settings which its gate would ignore, and for a rule that would be counted anew in each shard.
pub(super) fn check_part(what: &str, ignored: &[&str], by: Option<&By>, gate: &Settings) -> Result<()> {
    if !ignored.is_empty() {
        return Err(Error::value(format!(
            "{what} has settings that its gate would ignore ({}): give them to the gate",
            ignored.join(", ")
        )));
    }
    if let (Some(by), Some(owner)) = (by, &gate.owner)
        && gate.shards > 1
        && !by.names().contains(owner)
    {
        return Err(Error::value(format!(
            "{what} is not keyed by the owner {owner:?}, and the gate has {} shards: each would count by itself. Add \
             {owner:?} to its key, or ask it in a gate without shards",
            gate.shards
        )));
    }
    Ok(())
}

impl Gate {
    /// Begins a gate.
    #[must_use]
    pub fn builder() -> GateBuilder {
        GateBuilder::default()
    }

    pub(super) fn of(
        settings: &Settings,
        throttles: &[ThrottleSpec],
        quotas: &[QuotaSpec],
        stream: Option<&StreamSpec>,
    ) -> Self {
        Self { inner: Arc::new(Inner::new(settings, throttles, quotas, stream, None)), parts: None }
    }

    /// A throttle or a quota as it is asked by itself.
    pub(super) fn alone(
        settings: &Settings,
        throttle: Option<&ThrottleSpec>,
        quota: Option<&QuotaSpec>,
    ) -> Self {
        let by = throttle.map(|spec| &spec.by).or(quota.map(|spec| &spec.by)).cloned();
        let (throttles, quotas) =
            (throttle.map_or(&[][..], slice::from_ref), quota.map_or(&[][..], slice::from_ref));
        Self { inner: Arc::new(Inner::new(settings, throttles, quotas, None, by)), parts: None }
    }

    pub(super) fn inner(&self) -> &Inner {
        &self.inner
    }

    /// Decides, charges and writes: all of it, or nothing. A gate that has nothing to ask the server, because a limit is 0
    /// or none is set, does not.
    ///
    /// It may be given up at any time. Whether the server has then decided is not known; with a dedupe id it may be asked
    /// once more.
    ///
    /// # Errors
    /// [`ErrorKind::Value`](crate::ErrorKind::Value) for what cannot be decided, before anything is sent; the server's
    /// errors that no outage policy is for.
    pub async fn admit(&self, conn: &Connection, admission: Admission<'_>) -> Result<Decision> {
        let mut plan = Plan::new(&self.inner, conn.key_head(), &admission, None)?;
        plan.admit(conn).await
    }

    /// As [`Gate::admit`] for each of several, of which up to 128 are sent at once. Each is decided by itself, in this order;
    /// the answers have the same order.
    ///
    /// # Errors
    /// [`ErrorKind::Value`](crate::ErrorKind::Value) if any of them cannot be decided, before anything is sent. Each answer
    /// has its own error otherwise.
    pub async fn admit_many(
        &self,
        conn: &Connection,
        admissions: impl IntoIterator<Item = Admission<'_>>,
    ) -> Result<Vec<Result<Decision>>> {
        let key_head = conn.key_head();
        let plans: Vec<_> = admissions
            .into_iter()
            .map(|admission| Plan::new(&self.inner, key_head, &admission, None))
            .collect::<Result<_>>()?;
        plans.iter().try_for_each(Plan::check_keys)?;
        let mut decisions = Vec::with_capacity(plans.len());
        let mut plans = plans.into_iter().peekable();
        while plans.peek().is_some() {
            let mut room = MOST_BYTES_AT_ONCE;
            let mut together = Vec::new();
            while together.len() < MOST_AT_ONCE && room > 0 {
                let Some(mut plan) = plans.next() else { break };
                room = room.saturating_sub(plan.payload.map_or(0, <[u8]>::len));
                together.push(async move { plan.admit(conn).await });
            }
            decisions.append(&mut all(together.into_iter()).await);
        }
        Ok(decisions)
    }

    /// The answer where limits are switched off, for tests and development: yes, with [`Source::Disabled`]. No server is
    /// asked, nothing is charged and nothing written. A payload is checked; [`Gate::stream`] writes it.
    ///
    /// # Errors
    /// [`ErrorKind::Value`](crate::ErrorKind::Value) as for [`Gate::admit`].
    pub fn waive(&self, admission: Admission<'_>) -> Result<Decision> {
        let decision = Plan::new(&self.inner, b"", &admission, None)?.unasked(Source::Disabled)?;
        self.inner.counters.admitted.count();
        Ok(decision)
    }

    /// How every rule stands of which nothing is used: what [`Gate::peek`] is where limits are switched off.
    ///
    /// # Errors
    /// [`ErrorKind::Value`](crate::ErrorKind::Value) as for [`Gate::admit`].
    pub fn untouched(&self, admission: Admission<'_>) -> Result<Vec<RuleState>> {
        Plan::new(&self.inner, b"", &admission, None)?
            .unasked(Source::Disabled)
            .map(|decision| decision.rules)
    }

    /// How every rule stands; nothing is charged. Limits and rates of the call count as in [`Gate::admit`].
    ///
    /// # Errors
    /// [`ErrorKind::Value`](crate::ErrorKind::Value) as for [`Gate::admit`]; the connection's: there is no outage policy for
    /// a question.
    pub async fn peek(&self, conn: &Connection, admission: Admission<'_>) -> Result<Vec<RuleState>> {
        Plan::new(&self.inner, conn.key_head(), &admission, None)?.peek(conn).await
    }

    /// The state of the only rule.
    pub(super) async fn peek_one(&self, conn: &Connection, admission: Admission<'_>) -> Result<RuleState> {
        only(self.peek(conn, admission).await?)
    }

    /// Gives back to the quotas what was charged under this receipt, once, in the windows that it was charged in.
    ///
    /// # Errors
    /// [`ErrorKind::Value`](crate::ErrorKind::Value) for a receipt of something else; the connection's. It may be repeated
    /// after any error.
    pub async fn refund(&self, conn: &Connection, receipt: &Receipt) -> Result<Refund> {
        self.inner.refund(conn, receipt).await
    }

    /// Forgets what was charged for a scope, by one rule or by all; how many of them had been charged anything. Of a quota it is what
    /// was counted in the window that is now.
    ///
    /// # Errors
    /// [`ErrorKind::Value`](crate::ErrorKind::Value) for a rule that is not there, or a scope that lacks an entry; the
    /// connection's.
    pub async fn reset(&self, conn: &Connection, scope: &Scope<'_>, rule: Option<&str>) -> Result<u64> {
        self.inner.reset(conn, scope, rule).await
    }

    /// Its stream, with the gate's settings.
    #[must_use]
    pub fn stream(&self) -> Option<&Stream> {
        self.parts.as_ref()?.stream.as_ref()
    }

    /// Its throttle of a name, with the gate's settings: asked by itself, it looks where the gate charges.
    #[must_use]
    pub fn throttle(&self, name: &str) -> Option<&Throttle> {
        self.parts.as_ref()?.throttles.iter().find(|throttle| throttle.name() == name)
    }

    /// Its quota of a name, with the gate's settings: asked by itself, it looks where the gate charges.
    #[must_use]
    pub fn quota(&self, name: &str) -> Option<&Quota> {
        self.parts.as_ref()?.quotas.iter().find(|quota| quota.name() == name)
    }

    /// What it has counted in this process.
    #[must_use]
    pub fn metrics(&self) -> Metrics {
        self.inner.counters.read()
    }
}

/// Runs futures side by side until all have ended.
async fn all<F: Future>(futures: impl Iterator<Item = F>) -> Vec<F::Output> {
    let mut futures: Vec<_> = futures.map(Box::pin).collect();
    let mut outputs: Vec<Option<F::Output>> = futures.iter().map(|_| None).collect();
    poll_fn(|context| {
        let mut left = false;
        for (future, output) in futures.iter_mut().zip(&mut outputs) {
            if output.is_none() {
                match future.as_mut().poll(context) {
                    Poll::Ready(ready) => *output = Some(ready),
                    Poll::Pending => left = true,
                }
            }
        }
        if left { Poll::Pending } else { Poll::Ready(()) }
    })
    .await;
    outputs.into_iter().flatten().collect()
}

/// The state of a rule that stands alone.
pub(super) fn only(mut states: Vec<RuleState>) -> Result<RuleState> {
    states.pop().ok_or_else(|| Error::value("there is no rule to look at"))
}

impl fmt::Debug for Gate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let throttles: Vec<_> = self.inner.throttles.iter().map(|rule| &rule.name).collect();
        let quotas: Vec<_> = self.inner.quotas.iter().map(|rule| &rule.name).collect();
        f.debug_struct("Gate")
            .field("throttles", &throttles)
            .field("quotas", &quotas)
            .field("stream", &self.inner.stream.as_ref().map(|stream| &stream.name))
            .finish_non_exhaustive()
    }
}
