//! What was said of the rules and the stream that a gate consists of.

use std::slice;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use super::asked::Override;
use super::limits::Limits;
use super::names::{By, Rule};
use super::rate::Rate;
use super::settings::Outage;
use super::window::Calendar;
use crate::error::{Error, Result};

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

impl Mode {
    /// As the script knows it.
    pub(super) fn number(self) -> i64 {
        match self {
            Self::Strict => 0,
            Self::Crossing => 1,
            Self::CheckOnly => 2,
            Self::Shadow => 3,
        }
    }
}

/// What happens to a stream at its length.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Full {
    /// It takes no more until something was consumed.
    Refuse,
    /// The oldest entries are dropped (`MAXLEN ~`), also unread ones.
    Trim,
}

/// What was said of a throttle or a quota.
#[derive(Clone, Debug)]
pub(super) struct Spec<T> {
    pub(super) name: Arc<str>,
    pub(super) by: By,
    pub(super) outage: Option<Outage>,
    pub(super) terms: T,
}

/// What only a throttle has.
#[derive(Clone, Debug)]
pub(super) struct ThrottleTerms {
    pub(super) rate: Option<Rate>,
    pub(super) burst: Option<i64>,
    /// Of both, if it has a rate.
    pub(super) limits: Option<Limits>,
}

/// What only a quota has.
#[derive(Clone, Debug)]
pub(super) struct QuotaTerms {
    pub(super) limit: Option<i64>,
    pub(super) calendar: Calendar,
    pub(super) mode: Mode,
    /// For how long after a window's end its counter stays.
    pub(super) keep: Duration,
}

impl QuotaTerms {
    /// Whether an admission is counted.
    pub(super) fn charges(&self) -> bool {
        self.mode != Mode::CheckOnly
    }

    pub(super) fn keep_ms(&self) -> i64 {
        i64::try_from(self.keep.as_millis()).unwrap_or(i64::MAX)
    }
}

pub(super) type ThrottleSpec = Spec<ThrottleTerms>;
pub(super) type QuotaSpec = Spec<QuotaTerms>;

/// In what throttles and quotas differ where they are made and asked in the same way.
pub(super) trait Terms: Clone + Send + Sync {
    /// What the errors call it.
    const KIND: &'static str;
    /// What tells it from others in keys.
    const LETTER: char;
    /// What a call may say instead of the rule's own.
    type Limit: Send;

    fn change(limit: Self::Limit) -> Override;
    /// The rules of a gate that has this one only.
    fn alone(spec: &Spec<Self>) -> (&[ThrottleSpec], &[QuotaSpec]);
}

impl Terms for ThrottleTerms {
    const KIND: &'static str = "throttle";
    const LETTER: char = 't';
    type Limit = Rate;

    fn change(rate: Rate) -> Override {
        Override::Rate(rate)
    }

    fn alone(spec: &ThrottleSpec) -> (&[ThrottleSpec], &[QuotaSpec]) {
        (slice::from_ref(spec), &[])
    }
}

impl Terms for QuotaTerms {
    const KIND: &'static str = "quota";
    const LETTER: char = 'q';
    type Limit = i64;

    fn change(limit: i64) -> Override {
        Override::Limit(limit)
    }

    fn alone(spec: &QuotaSpec) -> (&[ThrottleSpec], &[QuotaSpec]) {
        (&[], slice::from_ref(spec))
    }
}

/// A rule's, for an error about its key.
pub(super) fn named<T: Terms>(name: &str) -> Rule<'_> {
    Rule::Named(T::KIND, name)
}

/// What was said of a stream.
#[derive(Clone, Debug)]
pub(super) struct StreamSpec {
    pub(super) name: Arc<str>,
    pub(super) maxlen: u64,
    pub(super) full: Full,
}
