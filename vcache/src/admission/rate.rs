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
    /// [`ErrorKind::Value`](crate::ErrorKind::Value) for a limit below -1 or an empty period.
    pub fn new(limit: i64, period: Duration) -> Result<Self> {
        if limit < -1 {
            return Err(Error::value(format!("the limit is {limit}: give 0 or more, or -1 for no limit")));
        }
        if period.is_zero() {
            return Err(Error::value("the period of a rate is empty: give more than 0 s"));
        }
        Ok(Self { limit, period })
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_read_from_its_text() {
        for (text, limit, seconds) in [
            ("100/m", 100, 60),
            ("10/30s", 10, 30),
            ("1/s", 1, 1),
            ("5/2 hours", 5, 0),
            ("5/2hour", 5, 7_200),
            (" 7 / day ", 7, 86_400),
            ("7/10 min", 7, 600),
            ("0/sec", 0, 1),
            ("-1/d", -1, 86_400),
        ] {
            let rate = text.parse::<Rate>();
            if seconds == 0 {
                assert!(rate.is_err(), "{text}");
                continue;
            }
            let rate = rate.unwrap();
            assert_eq!((rate.limit(), rate.period()), (limit, Duration::from_secs(seconds)), "{text}");
        }
    }

    #[test]
    fn what_is_not_a_rate_is_told_with_what_one_looks_like() {
        for text in [
            "",
            "100",
            "100/",
            "/m",
            "100/w",
            "ten/m",
            "1.5/s",
            "1e3/s",
            "+1/s",
            "-2/s",
            "100/m/s",
            "100/-1s",
            "100/0s",
            "100 m",
            "99999999999999999999/s",
            "1/99999999999999999999d",
            "1/9223372036854775807d",
            "１/s",
        ] {
            let error = text.parse::<Rate>().unwrap_err();
            assert_eq!(error.kind(), crate::ErrorKind::Value, "{text}");
            let told = error.to_string();
            assert!(
                told.contains(&format!("{text:?}"))
                    || told.contains("the limit is -2")
                    || told.contains("empty"),
                "{told}"
            );
        }
    }

    #[test]
    fn a_rates_text_reads_back() {
        for text in ["100/m", "10/30s", "1/s", "5/2h", "7/d", "-1/d", "0/90s"] {
            assert_eq!(text.parse::<Rate>().unwrap().to_string(), text);
        }
        assert_eq!("60/60s".parse::<Rate>().unwrap().to_string(), "60/m");
        assert_eq!(Rate::new(3, Duration::from_millis(2_500)).unwrap().to_string(), "3/2.5s");
    }
}
