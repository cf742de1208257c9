//! A rate limit of a scope.

use std::fmt;

use super::decision::{Decision, RuleState};
use super::gate::{Admission, Gate, check_part, only};
use super::inner::ThrottleSpec;
use super::keys::{By, Rule, check_name};
use super::limits::Limits;
use super::metrics::Metrics;
use super::plan::Override;
use super::rate::Rate;
use super::scope::Subject;
use super::settings::{Outage, Settings};
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
    pub(super) spec: ThrottleSpec,
    settings: Settings,
    /// It alone, as it is asked by itself.
    alone: Gate,
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
        let spec = ThrottleSpec { name: name.into(), by, rate, burst: None, limits: None, outage: None };
        Self::counted(spec, Settings::default())
    }

    /// With its rate and burst worked out.
    fn counted(mut spec: ThrottleSpec, settings: Settings) -> Result<Self> {
        spec.limits = spec.rate.map(|rate| Limits::new(rate, spec.burst)).transpose()?;
        Ok(Self::of(spec, settings))
    }

    fn of(spec: ThrottleSpec, settings: Settings) -> Self {
        let alone = Gate::alone(&settings, Some(&spec), None);
        Self { spec, settings, alone }
    }

    /// How many units may go at once, instead of the limit.
    ///
    /// # Errors
    /// [`ErrorKind::Value`](crate::ErrorKind::Value) for 0, and for more than can be counted.
    pub fn burst(self, burst: u64) -> Result<Self> {
        let name = &self.spec.name;
        if burst == 0 {
            return Err(Error::value(format!(
                "the burst of throttle '{name}' is 0: nothing would ever pass"
            )));
        }
        let burst = i64::try_from(burst)
            .map_err(|_| Error::value(format!("the burst of throttle '{name}' is too large: {burst}")))?;
        Self::counted(ThrottleSpec { burst: Some(burst), ..self.spec }, self.settings)
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
        let by = By::entries(&self.spec.name, names)?;
        Ok(Self::of(ThrottleSpec { by, ..self.spec }, self.settings))
    }

    /// What it says when the server cannot be asked, instead of what the settings say.
    #[must_use]
    pub fn outage(self, outage: Outage) -> Self {
        Self::of(ThrottleSpec { outage: Some(outage), ..self.spec }, self.settings)
    }

    /// Where its keys are, and what it does without the server, when it stands alone. In a gate that is the gate's to say.
    ///
    /// # Errors
    /// [`ErrorKind::Value`](crate::ErrorKind::Value) for a setting that makes no sense.
    pub fn settings(self, settings: Settings) -> Result<Self> {
        settings.check()?;
        Ok(Self::of(self.spec, settings))
    }

    /// As a part of a gate.
    ///
    /// # Errors
    /// `Value` for what the gate would ignore, or count by shard.
    pub(super) fn placed(self, gate: &Settings) -> Result<Self> {
        let what = format!("throttle '{}'", self.spec.name);
        check_part(&what, &self.settings.ignored_by(gate), Some(&self.spec.by), gate)?;
        Ok(Self::of(self.spec, gate.clone()))
    }

    /// Whether it is asked at the same place: under one prefix, by the same entries, in as many shards of the same owner.
    #[must_use]
    pub fn is_same(&self, other: &Self) -> bool {
        let place = |throttle: &Self| {
            let settings = &throttle.settings;
            (settings.prefix.clone(), settings.owner.clone(), settings.shards, throttle.spec.by.clone())
        };
        self.spec.name == other.spec.name && place(self) == place(other)
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.spec.name
    }

    /// The entries of a scope that it is keyed by.
    #[must_use]
    pub fn entries(&self) -> &[String] {
        self.spec.by.names()
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
        self.spend(conn, of.into(), cost, None)
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
        self.spend(conn, of.into(), cost, Some(rate))
    }

    async fn spend(
        &self,
        conn: &Connection,
        of: Subject<'_>,
        cost: i64,
        rate: Option<Rate>,
    ) -> Result<Decision> {
        let scope = of.scope(&Rule::Throttle(&self.spec.name), &self.spec.by)?;
        let mut admission = Admission::new(&scope).cost(cost);
        admission.overrides.extend(rate.map(|rate| (&*self.spec.name, Override::Rate(rate))));
        self.alone.admit(conn, admission).await
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
        let scope = of.into().scope(&Rule::Throttle(&self.spec.name), &self.spec.by)?;
        let mut admission = Admission::new(&scope).cost(cost);
        admission.overrides.extend(rate.map(|rate| (&*self.spec.name, Override::Rate(rate))));
        self.alone.waive(admission)
    }

    /// How it stands when nothing is used: what [`Throttle::peek`] is where limits are switched off.
    ///
    /// # Errors
    /// [`ErrorKind::Value`](crate::ErrorKind::Value) as for [`Throttle::check`].
    pub fn untouched<'a>(&'a self, of: impl Into<Subject<'a>>, rate: Option<Rate>) -> Result<RuleState> {
        let scope = of.into().scope(&Rule::Throttle(&self.spec.name), &self.spec.by)?;
        let mut admission = Admission::new(&scope);
        admission.overrides.extend(rate.map(|rate| (&*self.spec.name, Override::Rate(rate))));
        only(self.alone.untouched(admission)?)
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
        self.look(conn, of.into(), None)
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
        self.look(conn, of.into(), Some(rate))
    }

    async fn look(&self, conn: &Connection, of: Subject<'_>, rate: Option<Rate>) -> Result<RuleState> {
        let scope = of.scope(&Rule::Throttle(&self.spec.name), &self.spec.by)?;
        let mut admission = Admission::new(&scope);
        admission.overrides.extend(rate.map(|rate| (&*self.spec.name, Override::Rate(rate))));
        self.alone.peek_one(conn, admission).await
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
        let of = of.into();
        async move {
            let scope = of.scope(&Rule::Throttle(&self.spec.name), &self.spec.by)?;
            Ok(self.alone.reset(conn, &scope, None).await? > 0)
        }
    }

    /// What it has counted in this process, standing alone.
    #[must_use]
    pub fn metrics(&self) -> Metrics {
        self.alone.metrics()
    }
}

impl fmt::Debug for Throttle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Throttle")
            .field("name", &self.spec.name)
            .field("rate", &self.spec.rate.map(|rate| rate.to_string()))
            .field("burst", &self.spec.burst)
            .finish_non_exhaustive()
    }
}
