//! What a gate, and a rule or a stream that stands alone, does beyond its rules: where its keys are, and what it does
//! without asking the server.

use std::str::FromStr;
use std::time::Duration;

use crate::error::{Error, Result};

/// What a rule says when the server cannot be asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Outage {
    /// Yes: rather too much than nobody.
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
    /// For how long a dedupe id is remembered. Default 1 hour.
    pub dedupe_for: Duration,
    /// The largest payload in bytes. Default 1 MiB.
    pub max_payload: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            prefix: "vcache".into(),
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
