//! So much in a calendar window of a scope.

use std::fmt;
use std::time::Duration;

use jiff::tz::TimeZone;

use super::decision::{Decision, Refund, RuleState};
use super::metrics::Metrics;
use super::names::{By, check_name};
use super::plan::check_limit;
use super::receipt::Receipt;
use super::rule::Lone;
use super::scope::Subject;
use super::settings::{Outage, Settings};
use super::spec::{Mode, QuotaTerms, Spec};
use super::window::{Calendar, Period, zone};
use crate::connection::Connection;
use crate::error::Result;

/// A quota is kept for refunds so long at most.
const LONGEST_KEEP: Duration = Duration::from_secs(10 * 366 * 86_400);

/// So many units in each calendar window, per value of a scope's entry: of its [`key`](Quota::key), or in a gate, of the
/// gate's owner. Exact within a window, barring a failover of the server.
///
/// ```no_run
/// use vcache::admission::{Period, Quota};
///
/// # async fn example(conn: &mut vcache::Connection) -> vcache::Result<()> {
/// let quota = Quota::new("exports", 100, Period::Month)?.key(["org"])?.timezone("Europe/Vienna")?;
/// let decision = quota.consume(conn, 42, 1).await?;
/// if let Some(receipt) = &decision.receipt {
///     quota.refund(conn, receipt).await?;
/// }
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct Quota {
    pub(super) rule: Lone<QuotaTerms>,
}

impl Quota {
    /// A quota of a name and a limit; -1 only counts, 0 refuses everything.
    ///
    /// # Errors
    /// [`ErrorKind::Value`](crate::ErrorKind::Value) for what is not a name, a limit below -1, or one above 2^53.
    pub fn new(name: &str, limit: i64, period: Period) -> Result<Self> {
        Self::make(name, Some(limit), period)
    }

    /// A quota without a fixed limit: each call gives one, by [`Quota::consume_at`] or
    /// [`Admission::limit`](super::Admission::limit).
    ///
    /// # Errors
    /// [`ErrorKind::Value`](crate::ErrorKind::Value) for what is not a name.
    pub fn per_call(name: &str, period: Period) -> Result<Self> {
        Self::make(name, None, period)
    }

    fn make(name: &str, limit: Option<i64>, period: Period) -> Result<Self> {
        check_name("a quota", name)?;
        limit.map_or(Ok(()), |limit| check_limit(name, limit))?;
        let terms = QuotaTerms {
            limit,
            calendar: Calendar::new(period, TimeZone::UTC),
            mode: Mode::Strict,
            keep: Duration::from_secs(86_400),
        };
        let spec = Spec { name: name.into(), by: By::Owner, outage: None, terms };
        Ok(Self { rule: Lone::new(spec, Settings::default()) })
    }

    fn with(self, change: impl FnOnce(QuotaTerms) -> QuotaTerms) -> Self {
        Self { rule: self.rule.with(change) }
    }

    /// The scope entries that it is keyed by, instead of the gate's owner. Their order does not matter.
    ///
    /// # Errors
    /// [`ErrorKind::Value`](crate::ErrorKind::Value) for no names, or what is not a name.
    pub fn key<I>(self, names: I) -> Result<Self>
    where
        I: IntoIterator,
        I::Item: AsRef<str>,
    {
        Ok(Self { rule: self.rule.key(names)? })
    }

    /// The time zone whose calendar counts, by its IANA name. The default is `UTC`.
    ///
    /// # Errors
    /// [`ErrorKind::Value`](crate::ErrorKind::Value) if there is no such zone.
    pub fn timezone(self, name: &str) -> Result<Self> {
        let zone = zone(name)?;
        Ok(self.with(|terms| QuotaTerms { calendar: terms.calendar.with_zone(zone), ..terms }))
    }

    /// What it does at its limit. The default is [`Mode::Strict`].
    #[must_use]
    pub fn mode(self, mode: Mode) -> Self {
        self.with(|terms| QuotaTerms { mode, ..terms })
    }

    /// For how long after a window's end it can still be refunded: a second at least, since the server's clock for keys that
    /// expire may be ahead of the one that it tells, and ten years at most. The default is a day.
    #[must_use]
    pub fn keep(self, keep: Duration) -> Self {
        let keep = keep.clamp(Duration::from_secs(1), LONGEST_KEEP);
        self.with(|terms| QuotaTerms { keep, ..terms })
    }

    /// What it says when the server cannot be asked, instead of what the settings say.
    #[must_use]
    pub fn outage(self, outage: Outage) -> Self {
        Self { rule: self.rule.outage(outage) }
    }

    /// Where its keys are, and what it does without the server, when it stands alone. In a gate that is the gate's to say.
    ///
    /// # Errors
    /// [`ErrorKind::Value`](crate::ErrorKind::Value) for a setting that makes no sense.
    pub fn settings(self, settings: Settings) -> Result<Self> {
        Ok(Self { rule: self.rule.settings(settings)? })
    }

    /// Whether it is asked at the same place: under one prefix, by the same entries, in as many shards of the same owner.
    #[must_use]
    pub fn is_same(&self, other: &Self) -> bool {
        self.rule.is_same(&other.rule)
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.rule.spec.name
    }

    /// The entries of a scope that it is keyed by; none if that is the owner of a gate that it is to be in.
    #[must_use]
    pub fn entries(&self) -> &[String] {
        self.rule.spec.by.names()
    }

    /// Takes `cost` units. A cost of 0 asks whether a unit is left, and counts nothing.
    ///
    /// # Errors
    /// [`ErrorKind::Value`](crate::ErrorKind::Value) for a negative or too large cost, or a scope that lacks an entry; the
    /// server's errors that no outage policy is for.
    pub fn consume<'a>(
        &'a self,
        conn: &'a Connection,
        of: impl Into<Subject<'a>>,
        cost: i64,
    ) -> impl Future<Output = Result<Decision>> + Send {
        self.rule.admit(conn, of.into(), cost, None)
    }

    /// [`Quota::consume`] with another limit.
    ///
    /// # Errors
    /// As there.
    pub fn consume_at<'a>(
        &'a self,
        conn: &'a Connection,
        of: impl Into<Subject<'a>>,
        cost: i64,
        limit: i64,
    ) -> impl Future<Output = Result<Decision>> + Send {
        self.rule.admit(conn, of.into(), cost, Some(limit))
    }

    /// The answer where limits are switched off: yes, without asking the server. `limit` is another for this call.
    ///
    /// # Errors
    /// [`ErrorKind::Value`](crate::ErrorKind::Value) as for [`Quota::consume`].
    pub fn waive<'a>(
        &'a self,
        of: impl Into<Subject<'a>>,
        cost: i64,
        limit: Option<i64>,
    ) -> Result<Decision> {
        self.rule.waive(of.into(), cost, limit)
    }

    /// How it stands when nothing is used: what [`Quota::peek`] is where limits are switched off.
    ///
    /// # Errors
    /// [`ErrorKind::Value`](crate::ErrorKind::Value) as for [`Quota::consume`].
    pub fn untouched<'a>(&'a self, of: impl Into<Subject<'a>>, limit: Option<i64>) -> Result<RuleState> {
        self.rule.untouched(of.into(), limit)
    }

    /// How it stands in the window that is now.
    ///
    /// # Errors
    /// As for [`Quota::consume`], and the connection's: there is no outage policy for a question.
    pub fn peek<'a>(
        &'a self,
        conn: &'a Connection,
        of: impl Into<Subject<'a>>,
    ) -> impl Future<Output = Result<RuleState>> + Send {
        self.rule.peek(conn, of.into(), None)
    }

    /// [`Quota::peek`] with another limit.
    ///
    /// # Errors
    /// As there.
    pub fn peek_at<'a>(
        &'a self,
        conn: &'a Connection,
        of: impl Into<Subject<'a>>,
        limit: i64,
    ) -> impl Future<Output = Result<RuleState>> + Send {
        self.rule.peek(conn, of.into(), Some(limit))
    }

    /// Gives back what was taken under this receipt, once, in the window that it was taken in.
    ///
    /// # Errors
    /// [`ErrorKind::Value`](crate::ErrorKind::Value) for a receipt of something else; the connection's. It may be repeated
    /// after any error.
    pub async fn refund(&self, conn: &Connection, receipt: &Receipt) -> Result<Refund> {
        self.rule.refund(conn, receipt).await
    }

    /// Forgets what was counted in the window that is now; whether there was anything.
    ///
    /// # Errors
    /// As for [`Quota::peek`].
    pub fn reset<'a>(
        &'a self,
        conn: &'a Connection,
        of: impl Into<Subject<'a>>,
    ) -> impl Future<Output = Result<bool>> + Send {
        self.rule.reset(conn, of.into())
    }

    /// What it has counted in this process, standing alone.
    #[must_use]
    pub fn metrics(&self) -> Metrics {
        self.rule.metrics()
    }
}

impl fmt::Debug for Quota {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Quota")
            .field("name", &self.name())
            .field("limit", &self.rule.spec.terms.limit)
            .field("mode", &self.rule.spec.terms.mode)
            .finish_non_exhaustive()
    }
}
