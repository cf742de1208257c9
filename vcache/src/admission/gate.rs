//! Rules and a stream, decided together in one round trip.

use std::sync::Arc;

use crate::connection::Connection;
use crate::error::Result;

use super::decision::{Decision, Refund, RuleState};
use super::metrics::Metrics;
use super::quota::Quota;
use super::rate::Rate;
use super::receipt::Receipt;
use super::scope::Scope;
use super::settings::Settings;
use super::stream::Stream;
use super::throttle::Throttle;

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
    scope: &'a Scope<'a>,
}

impl<'a> Admission<'a> {
    /// An admission at the cost of 1, without a payload.
    #[must_use]
    pub fn new(scope: &'a Scope<'a>) -> Self {
        Self { scope }
    }

    /// What is written to the gate's stream, which then is needed.
    #[must_use]
    pub fn payload<P: AsRef<[u8]> + ?Sized>(self, payload: &'a P) -> Self {
        let _ = (payload.as_ref(), self.scope);
        todo!()
    }

    /// Units that every rule is charged. At 0 nothing is charged, and it is asked whether there is anything left.
    #[must_use]
    pub fn cost(self, cost: i64) -> Self {
        let _ = cost;
        todo!()
    }

    /// An id under which this is admitted once only: a second time charges nothing, writes nothing, and answers the first
    /// entry's id and receipt.
    #[must_use]
    pub fn dedupe(self, id: &'a str) -> Self {
        let _ = id;
        todo!()
    }

    /// Another limit for this call, of a quota or a throttle.
    #[must_use]
    pub fn limit(self, rule: &'a str, limit: i64) -> Self {
        let _ = (rule, limit);
        todo!()
    }

    /// Another rate for this call, of a throttle.
    #[must_use]
    pub fn rate(self, rule: &'a str, rate: Rate) -> Self {
        let _ = (rule, rate);
        todo!()
    }
}

/// Throttles, quotas and a stream that say yes together or no: of a refusal nothing is charged and nothing written.
#[derive(Clone)]
pub struct Gate(Arc<()>);

/// Collects what a [`Gate`] consists of.
#[derive(Clone, Debug, Default)]
pub struct GateBuilder {
    _private: (),
}

impl GateBuilder {
    /// Adds a throttle.
    #[must_use]
    pub fn throttle(self, throttle: Throttle) -> Self {
        let _ = throttle;
        todo!()
    }

    /// Adds a quota.
    #[must_use]
    pub fn quota(self, quota: Quota) -> Self {
        let _ = quota;
        todo!()
    }

    /// Where payloads are written.
    #[must_use]
    pub fn stream(self, stream: Stream) -> Self {
        let _ = stream;
        todo!()
    }

    /// All settings; those of the rules and of the stream do not count any more.
    #[must_use]
    pub fn settings(self, settings: Settings) -> Self {
        let _ = settings;
        todo!()
    }

    /// [`Settings::shards`].
    #[must_use]
    pub fn shards(self, shards: u32) -> Self {
        let _ = shards;
        todo!()
    }

    /// [`Settings::prefix`].
    #[must_use]
    pub fn prefix(self, prefix: &str) -> Self {
        let _ = prefix;
        todo!()
    }

    /// The gate.
    ///
    /// # Errors
    /// [`ErrorKind::Value`](crate::ErrorKind::Value) for a setting that makes no sense, two rules of one name, more than 64
    /// rules, or nothing at all.
    pub fn build(self) -> Result<Gate> {
        todo!()
    }
}

impl Gate {
    /// Begins a gate.
    #[must_use]
    pub fn builder() -> GateBuilder {
        GateBuilder::default()
    }

    /// Decides, charges and writes: all of it, or nothing.
    ///
    /// # Errors
    /// [`ErrorKind::Value`](crate::ErrorKind::Value) for what cannot be decided, before anything is sent; the server's
    /// errors that no outage policy is for.
    pub fn admit<'a>(
        &'a self,
        conn: &'a Connection,
        admission: Admission<'a>,
    ) -> impl Future<Output = Result<Decision>> + Send {
        let _ = (conn, admission, &self.0);
        async { todo!() }
    }

    /// How every rule stands; nothing is charged. Limits and rates of the call count as in [`Gate::admit`].
    ///
    /// # Errors
    /// [`ErrorKind::Value`](crate::ErrorKind::Value) as for [`Gate::admit`]; the connection's: there is no outage policy for
    /// a question.
    pub fn peek<'a>(
        &'a self,
        conn: &'a Connection,
        admission: Admission<'a>,
    ) -> impl Future<Output = Result<Vec<RuleState>>> + Send {
        let _ = (conn, admission);
        async { todo!() }
    }

    /// Gives back to the quotas what was charged under this receipt, once, in the windows that it was charged in.
    ///
    /// # Errors
    /// [`ErrorKind::Value`](crate::ErrorKind::Value) for a receipt of something else; the connection's.
    pub fn refund<'a>(
        &'a self,
        conn: &'a Connection,
        receipt: &'a Receipt,
    ) -> impl Future<Output = Result<Refund>> + Send {
        let _ = (conn, receipt);
        async { todo!() }
    }

    /// Forgets what was charged for a scope, by one rule or by all; of how many there was anything.
    ///
    /// # Errors
    /// [`ErrorKind::Value`](crate::ErrorKind::Value) for a rule that is not there, or a scope that lacks an entry; the
    /// connection's.
    pub fn reset<'a>(
        &'a self,
        conn: &'a Connection,
        scope: &'a Scope<'a>,
        rule: Option<&'a str>,
    ) -> impl Future<Output = Result<u64>> + Send {
        let _ = (conn, scope, rule);
        async { todo!() }
    }

    /// Its stream, with the gate's settings.
    #[must_use]
    pub fn stream(&self) -> Option<&Stream> {
        todo!()
    }

    /// What it has counted in this process.
    #[must_use]
    pub fn metrics(&self) -> Metrics {
        todo!()
    }
}
