//! What a gate, and a rule or a stream that stands alone, does beyond its rules: where its keys are, and what it does
//! without asking the server.

use std::str::FromStr;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use super::keys::MOST_SHARDS;
use super::names::{By, check_name, check_prefix};
use crate::error::{Error, Result};

/// What a rule says when the server cannot be asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Outage {
    /// Yes: too many pass rather than none.
    Open,
    /// No.
    Closed,
    /// What this process counts by itself says, at the rule's limit divided by [`Settings::processes`].
    Local,
    /// Nothing: the call fails with the connection's error.
    Raise,
}

impl FromStr for Outage {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text {
            "open" => Ok(Self::Open),
            "closed" => Ok(Self::Closed),
            "local" => Ok(Self::Local),
            "raise" => Ok(Self::Raise),
            _ => Err(Error::value(format!(
                "{text:?} is not an outage policy: it is \"open\", \"closed\", \"local\" or \"raise\""
            ))),
        }
    }
}

/// The settings of a gate, a rule or a stream. All have a default.
///
/// ```
/// use vcache::admission::{Settings, Throttle};
///
/// let mut settings = Settings::default();
/// settings.prefix = "shop".into();
/// let throttle = Throttle::new("ip", "10/s")?.settings(settings)?;
/// # Ok::<(), vcache::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Settings {
    /// What all keys begin with: letters, digits, `_`, `.`, `-` and `:`, at most 64. Default `vcache`.
    pub prefix: String,
    /// The scope's entry that stands for the owner: it says which shard everything is in, whom a dedupe id counts for, and
    /// whom quotas without a key are counted for. A gate with quotas, shards or dedupe ids needs one. Default none.
    pub owner: Option<String>,
    /// Over how many hash tags the owners' keys are spread, 1 to 9999. A change of it leaves old counters behind. Default 1.
    pub shards: u32,
    /// For rules that do not say by themselves. Default [`Outage::Open`].
    pub outage: Outage,
    /// Whether a refusal is remembered in this process until it ends, at most 5 seconds. Default true.
    pub deny_cache: bool,
    /// If set, each process refuses by itself what is beyond so many times a throttle's limit; 1.0 or more. Default none.
    pub guard: Option<f64>,
    /// Among how many processes the limits are divided under [`Outage::Local`]. Default: as many as there are CPUs.
    pub processes: Option<u32>,
    /// How long the server may take before the outage policy decides; `None` is the connection's `response_timeout`. A
    /// call that is repeated, which needs a dedupe id, may take it twice. Default 100 ms.
    pub deadline: Option<Duration>,
    /// Whether a server that failed 5 times in a row is left alone for 1 to 10 seconds. Default true.
    pub breaker: bool,
    /// For how long a dedupe id is remembered: twice the deadline at least, a year at most. Default 1 hour.
    pub dedupe_for: Duration,
    /// The largest payload in bytes. Default 1 MiB.
    pub max_payload: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            prefix: "vcache".into(),
            owner: None,
            shards: 1,
            outage: Outage::Open,
            deny_cache: true,
            guard: None,
            processes: None,
            deadline: Some(Duration::from_millis(100)),
            breaker: true,
            dedupe_for: Duration::from_secs(3_600),
            max_payload: 1_048_576,
        }
    }
}

impl Settings {
    /// # Errors
    /// `Value` for what makes no sense.
    pub(super) fn check(&self) -> Result<()> {
        check_prefix(&self.prefix)?;
        if let Some(owner) = &self.owner {
            check_name("a scope's entry", owner)?;
        }
        if !(1..=MOST_SHARDS).contains(&self.shards) {
            return Err(Error::value(format!("shards is {}: give 1 to {MOST_SHARDS}", self.shards)));
        }
        if let Some(guard) = self.guard
            && !(guard.is_finite() && guard >= 1.0)
        {
            return Err(Error::value(format!(
                "guard is {guard}: give how many times a limit one process may ask for, 1.0 or more"
            )));
        }
        if self.processes == Some(0) {
            return Err(Error::value("processes is 0: give how many share a limit, 1 or more"));
        }
        if self.deadline.is_some_and(|deadline| deadline.is_zero()) {
            return Err(Error::value("the deadline is 0 s: give more, or none for the connection's own"));
        }
        if let Some(deadline) = self.deadline
            && self.dedupe_for < deadline.saturating_mul(2)
        {
            return Err(Error::value(format!(
                "dedupe ids are to be kept for {} s, and a call under one may take {} s, twice the deadline: keep them longer",
                self.dedupe_for.as_secs_f64(),
                deadline.saturating_mul(2).as_secs_f64()
            )));
        }
        let longest = Duration::from_secs(366 * 86_400);
        if self.dedupe_for < Duration::from_millis(1) || self.dedupe_for > longest {
            return Err(Error::value(format!(
                "dedupe ids are to be kept for {} s: give a millisecond to a year",
                self.dedupe_for.as_secs_f64()
            )));
        }
        Ok(())
    }

    /// Whether a gate with these settings takes a part that has others; `by` is what a rule is keyed by.
    ///
    /// # Errors
    /// `Value` for a part that has settings which the gate would ignore, and for a rule that would be counted anew in each
    /// shard.
    pub(super) fn check_part(&self, what: &str, part: &Self, by: Option<&By>) -> Result<()> {
        let ignored = part.ignored_by(self);
        if !ignored.is_empty() {
            return Err(Error::value(format!(
                "{what} has settings that its gate would ignore ({}): give them to the gate",
                ignored.join(", ")
            )));
        }
        if let (Some(by), Some(owner)) = (by, &self.owner)
            && self.shards > 1
            && !by.names().contains(owner)
        {
            return Err(Error::value(format!(
                "{what} is not keyed by the owner {owner:?}, and the gate has {} shards: each would count by itself. Add \
                 {owner:?} to its key, or ask it in a gate without shards",
                self.shards
            )));
        }
        Ok(())
    }

    /// The names of those that a part of a gate has and that the gate would ignore: they differ from the defaults and from the
    /// gate's. The outage policy is not among them, since a part keeps it.
    fn ignored_by(&self, gate: &Self) -> Vec<&'static str> {
        let usual = Self::default();
        macro_rules! ignored {
            ($($name:ident),+) => {
                [$((stringify!($name), self.$name != usual.$name && self.$name != gate.$name)),+]
            };
        }
        ignored![
            prefix,
            owner,
            shards,
            deny_cache,
            guard,
            processes,
            deadline,
            breaker,
            dedupe_for,
            max_payload
        ]
        .into_iter()
        .filter_map(|(name, ignored)| ignored.then_some(name))
        .collect()
    }

    /// Among how many processes the limits are divided.
    pub(super) fn sharers(&self) -> u32 {
        // It reads files, and calls that cannot ask the server are many.
        static CPUS: AtomicU32 = AtomicU32::new(0);
        if let Some(processes) = self.processes {
            return processes;
        }
        if CPUS.load(Ordering::Relaxed) == 0 {
            let count = std::thread::available_parallelism().map_or(1, |count| count.get());
            CPUS.store(u32::try_from(count).unwrap_or(1), Ordering::Relaxed);
        }
        CPUS.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_setting_that_makes_no_sense_is_told_with_its_value() {
        let told = |change: fn(&mut Settings), text: &str| {
            let mut settings = Settings::default();
            settings.check().unwrap();
            change(&mut settings);
            let error = settings.check().unwrap_err().to_string();
            assert!(error.contains(text), "{error}");
        };
        told(|settings| settings.prefix = "{x}".into(), "\"{x}\"");
        told(|settings| settings.shards = 0, "shards is 0");
        told(|settings| settings.shards = 10_000, "shards is 10000");
        told(|settings| settings.guard = Some(0.5), "guard is 0.5");
        told(|settings| settings.guard = Some(f64::NAN), "guard is NaN");
        told(|settings| settings.processes = Some(0), "processes is 0");
        told(|settings| settings.deadline = Some(Duration::ZERO), "deadline is 0 s");
        told(|settings| settings.dedupe_for = Duration::ZERO, "for 0 s");
        told(
            |settings| settings.dedupe_for = Duration::from_millis(199),
            "0.199 s, and a call under one may take 0.2 s",
        );
        told(|settings| settings.dedupe_for = Duration::MAX, "a millisecond to a year");
    }

    #[test]
    fn an_outage_policy_is_read_from_its_name() {
        for (text, policy) in [
            ("open", Outage::Open),
            ("closed", Outage::Closed),
            ("local", Outage::Local),
            ("raise", Outage::Raise),
        ] {
            assert_eq!(text.parse::<Outage>().unwrap(), policy);
        }
        assert!("Open".parse::<Outage>().unwrap_err().to_string().contains("\"Open\""));
    }
}
