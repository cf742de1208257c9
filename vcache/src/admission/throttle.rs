//! A rate limit of a scope.

use std::fmt;

use super::decision::{Decision, RuleState};
use super::limits::Limits;
use super::metrics::Metrics;
use super::names::{By, check_name};
use super::rate::Rate;
use super::rule::Lone;
use super::scope::Subject;
use super::settings::{Outage, Settings};
use super::spec::{Spec, ThrottleSpec, ThrottleTerms};
use crate::connection::Connection;
use crate::error::{Error, Result};

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
#[derive(Clone)]
pub struct Throttle {
    pub(super) rule: Lone<ThrottleTerms>,
}

impl Throttle {
    /// A throttle of a name, which is also the scope entry that it is keyed by, and a [`Rate`] or its text.
    ///
    /// # Errors
    /// [`ErrorKind::Value`](crate::ErrorKind::Value) for what is not a name or not a rate, and a rate that is too large to
    /// be counted.
    pub fn new<R>(name: &str, rate: R) -> Result<Self>
    where
        R: TryInto<Rate>,
        Error: From<R::Error>,
    {
        Self::make(name, Some(rate.try_into()?))
    }

    /// A throttle without a rate of its own: each call gives one, by [`Throttle::check_at`] or
    /// [`Admission::rate`](super::Admission::rate).
    ///
    /// # Errors
    /// [`ErrorKind::Value`](crate::ErrorKind::Value) for what is not a name.
    pub fn per_call(name: &str) -> Result<Self> {
        Self::make(name, None)
    }

    fn make(name: &str, rate: Option<Rate>) -> Result<Self> {
        check_name("a throttle", name)?;
        let by = By::entries(name, [name])?;
        let terms = ThrottleTerms { rate, burst: None, limits: None };
        let spec = Spec { name: name.into(), by, outage: None, terms };
        Self::counted(spec, Settings::default())
    }

    /// With its rate and burst worked out.
    fn counted(mut spec: ThrottleSpec, settings: Settings) -> Result<Self> {
        let ThrottleTerms { rate, burst, .. } = spec.terms;
        spec.terms.limits = rate.map(|rate| Limits::new(rate, burst)).transpose()?;
        Ok(Self { rule: Lone::new(spec, settings) })
    }

    /// How many units may go at once, instead of the limit.
    ///
    /// # Errors
    /// [`ErrorKind::Value`](crate::ErrorKind::Value) for 0, and for more than can be counted.
    pub fn burst(self, burst: u64) -> Result<Self> {
        let name = self.name();
        if burst == 0 {
            return Err(Error::value(format!(
                "the burst of throttle '{name}' is 0: nothing would ever pass"
            )));
        }
        let burst = i64::try_from(burst)
            .map_err(|_| Error::value(format!("the burst of throttle '{name}' is too large: {burst}")))?;
        let Lone { mut spec, settings, .. } = self.rule;
        spec.terms.burst = Some(burst);
        Self::counted(spec, settings)
    }

    /// The scope entries that it is keyed by, instead of the one of its name. Their order does not matter.
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

    /// The entries of a scope that it is keyed by.
    #[must_use]
    pub fn entries(&self) -> &[String] {
        self.rule.spec.by.names()
    }

    /// Where its counters are, for people: its prefix, its name, and what it is keyed by. Two throttles with the same place
    /// on one server share counters: all of them, or with other shards some.
    ///
    /// ```
    /// # use vcache::admission::Throttle;
    /// assert_eq!(Throttle::new("org", "5/m")?.place(), "vcache:org by org");
    /// # Ok::<(), vcache::Error>(())
    /// ```
    #[must_use]
    pub fn place(&self) -> String {
        format!("{}:{} by {}", self.rule.settings.prefix, self.name(), self.entries().join(", "))
    }

    /// Its rate and its burst; `None` if each call says the rate.
    #[must_use]
    pub fn rate_and_burst(&self) -> Option<(Rate, i64)> {
        let terms = &self.rule.spec.terms;
        terms.rate.map(|rate| (rate, terms.burst.unwrap_or(rate.limit())))
    }

    /// What its counters mean: how many parts of a unit flow off in a microsecond, of how many it consists, and the burst.
    /// Rates that differ only in words have the same. `None` if it does not count: without a limit, with a limit of 0, and
    /// if each call says the rate.
    ///
    /// ```
    /// # use vcache::admission::Throttle;
    /// assert_eq!(Throttle::new("org", "5/m")?.flow(), Throttle::new("org", "300/h")?.burst(5)?.flow());
    /// # Ok::<(), vcache::Error>(())
    /// ```
    #[must_use]
    pub fn flow(&self) -> Option<(i64, i64, i64)> {
        let counted = self.rule.spec.terms.limits.as_ref()?.counted()?;
        Some((counted.flow, counted.unit, counted.burst))
    }

    /// Spends `cost` units. A cost of 0 asks whether a unit would be let through, and charges nothing.
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
        self.rule.admit(conn, of.into(), cost, None)
    }

    /// [`Throttle::check`] at another rate, which has to go by the subject: what is owed is counted at the rate of the call that
    /// asks, so calls that take turns with different rates under one key would let more through than either.
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
        self.rule.admit(conn, of.into(), cost, Some(rate))
    }

    /// The answer where limits are switched off: yes, without asking the server. `rate` is another for this call.
    ///
    /// # Errors
    /// [`ErrorKind::Value`](crate::ErrorKind::Value) as for [`Throttle::check`].
    pub fn waive<'a>(
        &'a self,
        of: impl Into<Subject<'a>>,
        cost: i64,
        rate: Option<Rate>,
    ) -> Result<Decision> {
        self.rule.waive(of.into(), cost, rate)
    }

    /// How it stands when nothing is used: what [`Throttle::peek`] is where limits are switched off.
    ///
    /// # Errors
    /// [`ErrorKind::Value`](crate::ErrorKind::Value) as for [`Throttle::check`].
    pub fn untouched<'a>(&'a self, of: impl Into<Subject<'a>>, rate: Option<Rate>) -> Result<RuleState> {
        self.rule.untouched(of.into(), rate)
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
        self.rule.peek(conn, of.into(), None)
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
        self.rule.peek(conn, of.into(), Some(rate))
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
        self.rule.reset(conn, of.into())
    }

    /// What it has counted in this process, standing alone.
    #[must_use]
    pub fn metrics(&self) -> Metrics {
        self.rule.metrics()
    }
}

impl fmt::Debug for Throttle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Throttle")
            .field("name", &self.name())
            .field("rate", &self.rule.spec.terms.rate.map(|rate| rate.to_string()))
            .field("burst", &self.rule.spec.terms.burst)
            .finish_non_exhaustive()
    }
}
