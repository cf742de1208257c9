//! A rate limit of a scope.

use crate::connection::Connection;
use crate::error::{Error, Result};

use super::decision::{Decision, RuleState};
use super::metrics::Metrics;
use super::rate::Rate;
use super::scope::Subject;
use super::settings::{Outage, Settings};

/// A rate limit per value of a scope's entry, decided by the generic cell rate algorithm (GCRA) on the server's clock.
///
/// In any window W at most `burst + rate * W` units pass. The burst is the limit unless it is said.
///
/// ```no_run
/// use vcache::admission::Throttle;
///
/// # async fn example(conn: &mut vcache::Connection) -> vcache::Result<()> {
/// let throttle = Throttle::new("org", "100/m")?;
/// let decision = throttle.check(conn, 42, 1).await?;
/// if !decision.allowed {
///     println!("come back in {:?}", decision.retry_after);
/// }
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
pub struct Throttle {
    name: String,
}

impl Throttle {
    /// A throttle of a name, which is also the scope entry that it is by, and a [`Rate`] or its text.
    ///
    /// # Errors
    /// [`ErrorKind::Value`](crate::ErrorKind::Value) for what is not a name or not a rate.
    pub fn new<R>(name: &str, rate: R) -> Result<Self>
    where
        R: TryInto<Rate>,
        Error: From<R::Error>,
    {
        let _rate: Rate = rate.try_into()?;
        Ok(Self { name: name.to_owned() })
    }

    /// A throttle without a rate of its own: each call gives one, by [`Throttle::check_at`] or
    /// [`Admission::rate`](super::Admission::rate).
    ///
    /// # Errors
    /// [`ErrorKind::Value`](crate::ErrorKind::Value) for what is not a name.
    pub fn per_call(name: &str) -> Result<Self> {
        Ok(Self { name: name.to_owned() })
    }

    /// How many units may go at once, instead of the limit.
    ///
    /// # Errors
    /// [`ErrorKind::Value`](crate::ErrorKind::Value) for 0, and for more than can be counted exactly.
    pub fn burst(self, burst: u64) -> Result<Self> {
        let _ = burst;
        todo!()
    }

    /// The scope entries that it is by, instead of the one of its name.
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

    /// Spends `cost` units. A cost of 0 asks, and charges nothing.
    ///
    /// # Errors
    /// [`ErrorKind::Value`](crate::ErrorKind::Value) for a negative or too large cost, or a scope that lacks an entry; the
    /// server's errors that no outage policy is for.
    pub fn check<'a>(
        &'a self,
        conn: &'a Connection,
        of: impl Into<Subject<'a>>,
        cost: i64,
    ) -> impl Future<Output = Result<Decision>> + Send {
        let _ = (conn, of.into(), cost);
        async { todo!() }
    }

    /// [`Throttle::check`] at another rate.
    ///
    /// # Errors
    /// As there.
    pub fn check_at<'a>(
        &'a self,
        conn: &'a Connection,
        of: impl Into<Subject<'a>>,
        cost: i64,
        rate: Rate,
    ) -> impl Future<Output = Result<Decision>> + Send {
        let _ = (conn, of.into(), cost, rate);
        async { todo!() }
    }

    /// How it stands; nothing is charged.
    ///
    /// # Errors
    /// As for [`Throttle::check`], and the connection's: there is no outage policy for a question.
    pub fn peek<'a>(
        &'a self,
        conn: &'a Connection,
        of: impl Into<Subject<'a>>,
    ) -> impl Future<Output = Result<RuleState>> + Send {
        let _ = (conn, of.into());
        async { todo!() }
    }

    /// [`Throttle::peek`] at another rate.
    ///
    /// # Errors
    /// As there.
    pub fn peek_at<'a>(
        &'a self,
        conn: &'a Connection,
        of: impl Into<Subject<'a>>,
        rate: Rate,
    ) -> impl Future<Output = Result<RuleState>> + Send {
        let _ = (conn, of.into(), rate);
        async { todo!() }
    }

    /// Forgets what was charged; whether there was anything.
    ///
    /// # Errors
    /// As for [`Throttle::peek`].
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
