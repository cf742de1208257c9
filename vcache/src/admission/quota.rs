//! So much in a calendar window of a scope.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use jiff::tz::TimeZone;

use super::decision::{Decision, Refund, RuleState};
use super::gate::{Admission, Gate, check_part, only};
use super::inner::QuotaSpec;
use super::keys::{By, Rule, check_name};
use super::metrics::Metrics;
use super::plan::{Override, check_limit};
use super::receipt::Receipt;
use super::scope::Subject;
use super::settings::{Outage, Settings};
use super::window::{self, Calendar};
use crate::connection::Connection;
use crate::error::{Error, Result};

/// A quota is kept for refunds so long at most.
const LONGEST_KEEP: Duration = Duration::from_secs(10 * 366 * 86_400);

/// A calendar window, in a time zone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Period {
    /// From one full hour of the local clock to the next. Where the clock is changed a new window begins, so that none is
    /// longer than an hour.
    Hour,
    /// From the first moment of a local day to that of the next: 23 or 25 hours where the clock is changed.
    Day,
    /// From the first moment of a local month to that of the next.
    Month,
}

impl FromStr for Period {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text {
            "hour" => Ok(Self::Hour),
            "day" => Ok(Self::Day),
            "month" => Ok(Self::Month),
            _ => Err(Error::value(format!(
                "{text:?} is not a quota's period: it is \"hour\", \"day\" or \"month\""
            ))),
        }
    }
}

/// What a quota does at its limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Mode {
    /// Refuses what would go over.
    Strict,
    /// Takes the one that crosses, and refuses all after it.
    Crossing,
    /// Refuses what would go over, and counts nothing: another program does.
    CheckOnly,
    /// Counts, and never refuses.
    Shadow,
}

impl FromStr for Mode {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text {
            "strict" => Ok(Self::Strict),
            "crossing" => Ok(Self::Crossing),
            "check_only" => Ok(Self::CheckOnly),
            "shadow" => Ok(Self::Shadow),
            _ => Err(Error::value(format!(
                "{text:?} is not a quota's mode: it is \"strict\", \"crossing\", \"check_only\" or \"shadow\""
            ))),
        }
    }
}

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
    pub(super) spec: QuotaSpec,
    settings: Settings,
    /// It alone, as it is asked by itself.
    alone: Gate,
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
        let spec = QuotaSpec {
            name: name.into(),
            by: By::Owner,
            limit,
            calendar: Calendar::new(period, TimeZone::UTC),
            mode: Mode::Strict,
            keep: Duration::from_secs(86_400),
            outage: None,
        };
        Ok(Self::of(spec, Settings::default()))
    }

    fn of(spec: QuotaSpec, settings: Settings) -> Self {
        let alone = Gate::alone(&settings, None, Some(&spec));
        Self { spec, settings, alone }
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
        let by = By::entries(&self.spec.name, names)?;
        Ok(Self::of(QuotaSpec { by, ..self.spec }, self.settings))
    }

    /// The time zone whose calendar counts, by its IANA name. The default is `UTC`.
    ///
    /// # Errors
    /// [`ErrorKind::Value`](crate::ErrorKind::Value) if there is no such zone.
    pub fn timezone(self, name: &str) -> Result<Self> {
        let calendar = self.spec.calendar.with_zone(window::zone(name)?);
        Ok(Self::of(QuotaSpec { calendar, ..self.spec }, self.settings))
    }

    /// What it does at its limit. The default is [`Mode::Strict`].
    #[must_use]
    pub fn mode(self, mode: Mode) -> Self {
        Self::of(QuotaSpec { mode, ..self.spec }, self.settings)
    }

    /// For how long after a window's end it can still be refunded: a second at least, since the server's clock for keys that
    /// expire may be ahead of the one that it tells, and ten years at most. The default is a day.
    #[must_use]
    pub fn keep(self, keep: Duration) -> Self {
        Self::of(
            QuotaSpec { keep: keep.clamp(Duration::from_secs(1), LONGEST_KEEP), ..self.spec },
            self.settings,
        )
    }

    /// What it says when the server cannot be asked, instead of what the settings say.
    #[must_use]
    pub fn outage(self, outage: Outage) -> Self {
        Self::of(QuotaSpec { outage: Some(outage), ..self.spec }, self.settings)
    }

    /// Where its keys are, and what it does without the server, when it stands alone. In a gate that is the gate's to say.
    ///
    /// # Errors
    /// [`ErrorKind::Value`](crate::ErrorKind::Value) for a setting that makes no sense.
    pub fn settings(self, settings: Settings) -> Result<Self> {
        settings.check()?;
        Ok(Self::of(self.spec, settings))
    }

    /// As a part of a gate, keyed by the gate's owner if it has no key.
    ///
    /// # Errors
    /// `Value` for what the gate would ignore, or count by shard.
    pub(super) fn placed(mut self, gate: &Settings) -> Result<Self> {
        let what = format!("quota '{}'", self.spec.name);
        if let (By::Owner, Some(owner)) = (&self.spec.by, &gate.owner) {
            self.spec.by = By::entries(&self.spec.name, [owner])?;
        }
        check_part(&what, &self.settings.ignored_by(gate), Some(&self.spec.by), gate)?;
        Ok(Self::of(self.spec, gate.clone()))
    }

    /// Whether it is asked at the same place: under one prefix, by the same entries, in as many shards of the same owner.
    #[must_use]
    pub fn is_same(&self, other: &Self) -> bool {
        let place = |quota: &Self| {
            let settings = &quota.settings;
            (settings.prefix.clone(), settings.owner.clone(), settings.shards, quota.spec.by.clone())
        };
        self.spec.name == other.spec.name && place(self) == place(other)
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.spec.name
    }

    /// The entries of a scope that it is keyed by; none if that is the owner of a gate that it is to be in.
    #[must_use]
    pub fn entries(&self) -> &[String] {
        self.spec.by.names()
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
        self.take(conn, of.into(), cost, None)
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
        self.take(conn, of.into(), cost, Some(limit))
    }

    async fn take(
        &self,
        conn: &Connection,
        of: Subject<'_>,
        cost: i64,
        limit: Option<i64>,
    ) -> Result<Decision> {
        let scope = of.scope(&Rule::Quota(&self.spec.name), &self.spec.by)?;
        let mut admission = Admission::new(&scope).cost(cost);
        admission.overrides.extend(limit.map(|limit| (&*self.spec.name, Override::Limit(limit))));
        self.alone.admit(conn, admission).await
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
        let scope = of.into().scope(&Rule::Quota(&self.spec.name), &self.spec.by)?;
        let mut admission = Admission::new(&scope).cost(cost);
        admission.overrides.extend(limit.map(|limit| (&*self.spec.name, Override::Limit(limit))));
        self.alone.waive(admission)
    }

    /// How it stands when nothing is used: what [`Quota::peek`] is where limits are switched off.
    ///
    /// # Errors
    /// [`ErrorKind::Value`](crate::ErrorKind::Value) as for [`Quota::consume`].
    pub fn untouched<'a>(&'a self, of: impl Into<Subject<'a>>, limit: Option<i64>) -> Result<RuleState> {
        let scope = of.into().scope(&Rule::Quota(&self.spec.name), &self.spec.by)?;
        let mut admission = Admission::new(&scope);
        admission.overrides.extend(limit.map(|limit| (&*self.spec.name, Override::Limit(limit))));
        only(self.alone.untouched(admission)?)
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
        self.look(conn, of.into(), None)
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
        self.look(conn, of.into(), Some(limit))
    }

    async fn look(&self, conn: &Connection, of: Subject<'_>, limit: Option<i64>) -> Result<RuleState> {
        let scope = of.scope(&Rule::Quota(&self.spec.name), &self.spec.by)?;
        let mut admission = Admission::new(&scope);
        admission.overrides.extend(limit.map(|limit| (&*self.spec.name, Override::Limit(limit))));
        self.alone.peek_one(conn, admission).await
    }

    /// Gives back what was taken under this receipt, once, in the window that it was taken in.
    ///
    /// # Errors
    /// [`ErrorKind::Value`](crate::ErrorKind::Value) for a receipt of something else; the connection's. It may be repeated
    /// after any error.
    pub async fn refund(&self, conn: &Connection, receipt: &Receipt) -> Result<Refund> {
        self.alone.refund(conn, receipt).await
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
        let of = of.into();
        async move {
            let scope = of.scope(&Rule::Quota(&self.spec.name), &self.spec.by)?;
            Ok(self.alone.reset(conn, &scope, None).await? > 0)
        }
    }

    /// What it has counted in this process, standing alone.
    #[must_use]
    pub fn metrics(&self) -> Metrics {
        self.alone.metrics()
    }
}

impl fmt::Debug for Quota {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Quota")
            .field("name", &self.spec.name)
            .field("limit", &self.spec.limit)
            .field("mode", &self.spec.mode)
            .finish_non_exhaustive()
    }
}
