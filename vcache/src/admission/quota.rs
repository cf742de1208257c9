//! So much in a calendar window of a scope.

use std::str::FromStr;
use std::time::Duration;

use crate::connection::Connection;
use crate::error::{Error, Result};

use super::decision::{Decision, Refund, RuleState};
use super::metrics::Metrics;
use super::receipt::Receipt;
use super::scope::Subject;
use super::settings::{Outage, Settings};

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
    /// Refuses what would go over, and counts nothing: somebody else does.
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

/// So many units in each calendar window, per value of a scope's entry; by default the owner's. Exact within a window,
/// barring a failover of the server.
///
/// ```no_run
/// use vcache::admission::{Period, Quota};
///
/// # async fn example(conn: &mut vcache::Connection) -> vcache::Result<()> {
/// let quota = Quota::new("exports", 100, Period::Month)?.timezone("Europe/Vienna")?;
/// let decision = quota.consume(conn, 42, 1).await?;
/// if let Some(receipt) = &decision.receipt {
///     quota.refund(conn, receipt).await?;
/// }
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
pub struct Quota {
    name: String,
}

impl Quota {
    /// A quota of a name and a limit; -1 only counts, 0 refuses everything.
    ///
    /// # Errors
    /// [`ErrorKind::Value`](crate::ErrorKind::Value) for what is not a name, a limit below -1, or one that is too large.
    pub fn new(name: &str, limit: i64, period: Period) -> Result<Self> {
        let _ = (limit, period);
        Ok(Self { name: name.to_owned() })
    }

    /// A quota without a limit of its own: each call gives one, by [`Quota::consume_at`] or
    /// [`Admission::limit`](super::Admission::limit).
    ///
    /// # Errors
    /// [`ErrorKind::Value`](crate::ErrorKind::Value) for what is not a name.
    pub fn per_call(name: &str, period: Period) -> Result<Self> {
        let _ = period;
        Ok(Self { name: name.to_owned() })
    }

    /// The scope entries that it is by, instead of the first.
    ///
    /// # Errors
    /// [`ErrorKind::Value`](crate::ErrorKind::Value) for no names, or what is not a name.
    pub fn key<I>(self, names: I) -> Result<Self>
    where
        I: IntoIterator,
        I::Item: AsRef<str>,
    {
        let _ = names;
        todo!()
    }

    /// The time zone whose calendar counts, by its IANA name. The default is `UTC`.
    ///
    /// # Errors
    /// [`ErrorKind::Value`](crate::ErrorKind::Value) if there is no such zone.
    pub fn timezone(self, name: &str) -> Result<Self> {
        let _ = name;
        todo!()
    }

    /// What it does at its limit. The default is [`Mode::Strict`].
    #[must_use]
    pub fn mode(self, mode: Mode) -> Self {
        let _ = mode;
        todo!()
    }

    /// For how long after a window's end it can still be refunded. The default is a day.
    #[must_use]
    pub fn keep(self, keep: Duration) -> Self {
        let _ = keep;
        todo!()
    }

    /// What it says when the server cannot be asked, instead of what the settings say.
    #[must_use]
    pub fn outage(self, outage: Outage) -> Self {
        let _ = outage;
        todo!()
    }

    /// Where its keys are, and what it does without the server, when it stands alone: in a gate, the gate's count.
    ///
    /// # Errors
    /// [`ErrorKind::Value`](crate::ErrorKind::Value) for a setting that makes no sense.
    pub fn settings(self, settings: Settings) -> Result<Self> {
        let _ = settings;
        todo!()
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Takes `cost` units. A cost of 0 asks, and counts nothing.
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
        let _ = (conn, of.into(), cost);
        async { todo!() }
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
        let _ = (conn, of.into(), cost, limit);
        async { todo!() }
    }

    /// How it stands in the window that is now.
    ///
    /// # Errors
    /// As for [`Quota::consume`], and the connection's: there is no outage policy for a question.
    pub fn usage<'a>(
        &'a self,
        conn: &'a Connection,
        of: impl Into<Subject<'a>>,
    ) -> impl Future<Output = Result<RuleState>> + Send {
        let _ = (conn, of.into());
        async { todo!() }
    }

    /// [`Quota::usage`] with another limit.
    ///
    /// # Errors
    /// As there.
    pub fn usage_at<'a>(
        &'a self,
        conn: &'a Connection,
        of: impl Into<Subject<'a>>,
        limit: i64,
    ) -> impl Future<Output = Result<RuleState>> + Send {
        let _ = (conn, of.into(), limit);
        async { todo!() }
    }

    /// Gives back what was taken under this receipt, once, in the window that it was taken in.
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

    /// Forgets what was counted in the window that is now; whether there was anything.
    ///
    /// # Errors
    /// As for [`Quota::usage`].
    pub fn reset<'a>(
        &'a self,
        conn: &'a Connection,
        of: impl Into<Subject<'a>>,
    ) -> impl Future<Output = Result<bool>> + Send {
        let _ = (conn, of.into());
        async { todo!() }
    }

    /// What it has counted in this process, standing alone.
    #[must_use]
    pub fn metrics(&self) -> Metrics {
        todo!()
    }
}
