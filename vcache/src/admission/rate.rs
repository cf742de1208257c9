//! How much in how long: `"100/m"`, `"10/30s"`.

use std::convert::Infallible;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use crate::error::{Error, Result};

/// So many units in a period: what flows back into a throttle's burst.
///
/// Its text is `<limit>/<period>`. A period is `s`, `m`, `h` or `d` (also `sec`, `second`, `min`, `minute`, `hour`, `day`),
/// with a number before it if it is several: `10/30s`. A limit of -1 is no limit, 0 is nothing at all.
///
/// ```
/// use std::time::Duration;
/// use vcache::admission::Rate;
///
/// let rate: Rate = "10/30s".parse()?;
/// assert_eq!((rate.limit(), rate.period()), (10, Duration::from_secs(30)));
/// assert!("10 a minute".parse::<Rate>().is_err());
/// # Ok::<(), vcache::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Rate {
    limit: i64,
    period: Duration,
}

impl Rate {
    /// A rate of `limit` units per `period`, which is counted in whole microseconds, begun ones included.
    ///
    /// # Errors
    /// [`ErrorKind::Value`](crate::ErrorKind::Value) for a limit below -1, an empty period, or numbers too large to be
    /// counted exactly.
    pub fn new(limit: i64, period: Duration) -> Result<Self> {
        if limit < -1 {
            return Err(Error::value(format!("the limit is {limit}: give 0 or more, or -1 for no limit")));
        }
        if period.is_zero() {
            return Err(Error::value("the period of a rate is empty: give more than 0 s"));
        }
        let rate = Self { limit, period };
        Ok(rate)
    }

    /// Units in a period; -1 is no limit.
    #[must_use]
    pub fn limit(self) -> i64 {
        self.limit
    }

    /// The period.
    #[must_use]
    pub fn period(self) -> Duration {
        self.period
    }

    /// Whether it never refuses.
    #[must_use]
    pub fn is_unlimited(self) -> bool {
        self.limit == -1
    }
}

impl FromStr for Rate {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        parse(text).ok_or_else(|| {
            Error::value(format!(
                "{text:?} is not a rate: write <limit>/<period>, such as \"100/m\" or \"10/30s\", with a period of s, m, h or d"
            ))
        })?
    }
}

/// `None` for what is not of the form.
fn parse(text: &str) -> Option<Result<Rate>> {
    let (limit, period) = text.trim().split_once('/')?;
    let limit = limit.trim();
    let limit = if limit == "-1" { -1 } else { whole(limit)? };
    let period = period.trim();
    let unit = period.trim_start_matches(|c: char| c.is_ascii_digit());
    let digits = &period[..period.len() - unit.len()];
    let count = if digits.is_empty() { 1 } else { whole(digits)? };
    let seconds = match unit.trim_start() {
        "s" | "sec" | "second" => 1,
        "m" | "min" | "minute" => 60,
        "h" | "hour" => 3_600,
        "d" | "day" => 86_400,
        _ => return None,
    };
    let seconds = u64::try_from(count.checked_mul(seconds)?).ok()?;
    Some(Rate::new(limit, Duration::from_secs(seconds)))
}

/// Digits and nothing else.
fn whole(digits: &str) -> Option<i64> {
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    digits.parse().ok()
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.period.as_secs();
        if self.period.subsec_nanos() != 0 {
            return write!(f, "{}/{}s", self.limit, self.period.as_secs_f64());
        }
        let (count, unit) = [(86_400, 'd'), (3_600, 'h'), (60, 'm')]
            .into_iter()
            .find(|(length, _)| seconds.is_multiple_of(*length))
            .map_or((seconds, 's'), |(length, unit)| (seconds / length, unit));
        if count == 1 {
            write!(f, "{}/{unit}", self.limit)
        } else {
            write!(f, "{}/{count}{unit}", self.limit)
        }
    }
}

impl TryFrom<&str> for Rate {
    type Error = Error;

    fn try_from(text: &str) -> Result<Self> {
        text.parse()
    }
}

impl TryFrom<String> for Rate {
    type Error = Error;

    fn try_from(text: String) -> Result<Self> {
        text.parse()
    }
}

/// So that a [`Rate`] itself is taken where its text is.
impl From<Infallible> for Error {
    fn from(never: Infallible) -> Self {
        match never {}
    }
}
