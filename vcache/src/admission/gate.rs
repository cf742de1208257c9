//! Rules and a stream, decided together in one round trip.

use std::fmt;
use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;

use super::asked::Admission;
use super::decision::{Decision, Refund, RuleState};
use super::inner::Inner;
use super::metrics::Metrics;
use super::plan::Plan;
use super::quota::Quota;
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

/// Throttles, quotas and a stream that say yes together or no: of a refusal nothing is charged and nothing written. See
/// [the module](super) for a whole example. It is cheap to clone, and meant for one server: what it knows of an outage is
/// of that.
#[derive(Clone)]
pub struct Gate {
    pub(super) inner: Arc<Inner>,
    /// For its own users; the gate itself does not need them.
    parts: Arc<Parts>,
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
        let throttles = self.throttles.into_iter().map(|throttle| throttle.rule.placed(settings));
        let throttles: Vec<_> = throttles.map(|rule| Ok(Throttle { rule: rule? })).collect::<Result<_>>()?;
        let quotas = self.quotas.into_iter().map(|quota| quota.rule.placed(settings));
        let quotas: Vec<_> = quotas.map(|rule| Ok(Quota { rule: rule? })).collect::<Result<_>>()?;
        let stream = self.stream.map(|stream| stream.placed(settings)).transpose()?;
        let throttle_specs: Vec<_> = throttles.iter().map(|throttle| throttle.rule.spec.clone()).collect();
        let quota_specs: Vec<_> = quotas.iter().map(|quota| quota.rule.spec.clone()).collect();
        let stream_spec = stream.as_ref().map(|stream| &stream.spec);
        let inner = Inner::new(settings, &throttle_specs, &quota_specs, stream_spec, None);
        Ok(Gate { inner: Arc::new(inner), parts: Arc::new(Parts { throttles, quotas, stream }) })
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

impl Gate {
    /// Begins a gate.
    #[must_use]
    pub fn builder() -> GateBuilder {
        GateBuilder::default()
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
        self.inner.admit(conn, admission).await
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

    /// The answer where limits are switched off, for tests and development: yes, with [`Source::Disabled`](super::Source::Disabled). No server is
    /// asked, nothing is charged and nothing written. A payload is checked; [`Gate::stream`] writes it.
    ///
    /// # Errors
    /// [`ErrorKind::Value`](crate::ErrorKind::Value) as for [`Gate::admit`].
    pub fn waive(&self, admission: Admission<'_>) -> Result<Decision> {
        self.inner.waive(&admission)
    }

    /// How every rule stands of which nothing is used: what [`Gate::peek`] is where limits are switched off.
    ///
    /// # Errors
    /// [`ErrorKind::Value`](crate::ErrorKind::Value) as for [`Gate::admit`].
    pub fn untouched(&self, admission: Admission<'_>) -> Result<Vec<RuleState>> {
        self.inner.untouched(&admission)
    }

    /// How every rule stands; nothing is charged. Limits and rates of the call count as in [`Gate::admit`].
    ///
    /// # Errors
    /// [`ErrorKind::Value`](crate::ErrorKind::Value) as for [`Gate::admit`]; the connection's: there is no outage policy for
    /// a question.
    pub async fn peek(&self, conn: &Connection, admission: Admission<'_>) -> Result<Vec<RuleState>> {
        self.inner.peek(conn, admission).await
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
        self.parts.stream.as_ref()
    }

    /// Its throttle of a name, with the gate's settings: asked by itself, it looks where the gate charges.
    #[must_use]
    pub fn throttle(&self, name: &str) -> Option<&Throttle> {
        self.parts.throttles.iter().find(|throttle| throttle.name() == name)
    }

    /// Its quota of a name, with the gate's settings: asked by itself, it looks where the gate charges.
    #[must_use]
    pub fn quota(&self, name: &str) -> Option<&Quota> {
        self.parts.quotas.iter().find(|quota| quota.name() == name)
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
