//! A throttle's rate and burst as the script counts them: in whole numbers, all of them below 2^53.

use std::time::Duration;

#[cfg(feature = "admission")]
use super::rate::Rate;
use crate::error::{Error, Result};

/// Lua's numbers are doubles: whole up to here.
pub(super) const LARGEST: i64 = 1 << 53;
/// The most that may be owed, in the script's parts of a microsecond.
const MOST_OWED: i128 = 1 << 52;
/// The finest that a rate may become when it has to be counted in coarser numbers: an error of 0.1 %.
const COARSEST: i128 = 1_000;

/// What is decided of a rate and a burst before anything is asked.
#[cfg(feature = "admission")]
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Limits {
    pub(super) limit: i64,
    pub(super) burst: i64,
    pub(super) window: Duration,
    pub(super) flow: Flow,
}

#[cfg(feature = "admission")]
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Flow {
    /// It never refuses, and is not asked.
    Unlimited,
    /// It always refuses, and is not asked.
    Nothing,
    /// The script's arguments.
    Counted(Counted),
}

/// A unit is `unit` parts of a microsecond, of which `flow` flow off in each.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Counted {
    pub(super) flow: i64,
    pub(super) unit: i64,
    pub(super) burst: i64,
    /// The three of them, encoded.
    #[cfg(feature = "admission")]
    pub(super) wire: Box<[u8]>,
}

#[cfg(feature = "admission")]
impl Limits {
    /// # Errors
    /// `Value` for numbers that cannot be counted.
    pub(super) fn new(rate: Rate, burst: Option<i64>) -> Result<Self> {
        let burst = burst.unwrap_or(rate.limit());
        let flow = match rate.limit() {
            -1 => Flow::Unlimited,
            0 => Flow::Nothing,
            limit => Flow::Counted(Counted::new(limit, rate.period(), burst)?),
        };
        Ok(Self { limit: rate.limit(), burst, window: rate.period(), flow })
    }

    /// What is asked of the server, if anything is.
    pub(super) fn counted(&self) -> Option<&Counted> {
        match &self.flow {
            Flow::Counted(counted) => Some(counted),
            Flow::Unlimited | Flow::Nothing => None,
        }
    }
}

impl Counted {
    pub(super) fn new(limit: i64, period: Duration, burst: i64) -> Result<Self> {
        let too_large = || {
            Error::value(format!(
                "a limit of {limit} in {} s and a burst of {burst} are together too large to be counted exactly",
                period.as_secs_f64()
            ))
        };
        // Begun microseconds count: a rate may be told lower than it is, never higher.
        let period = i128::try_from(period.as_nanos().div_ceil(1_000)).map_err(|_| too_large())?;
        let divisor = gcd(period, i128::from(limit));
        let (mut unit, mut flow) = (period / divisor, i128::from(limit) / divisor);
        let most = MOST_OWED / i128::from(burst.max(1));
        if unit > most {
            (unit, flow) = (most, flow.checked_mul(most).ok_or_else(too_large)? / unit);
            if flow < COARSEST {
                return Err(too_large());
            }
        }
        let (Ok(flow), Ok(unit)) = (i64::try_from(flow), i64::try_from(unit)) else {
            return Err(too_large());
        };
        if flow > LARGEST {
            return Err(too_large());
        }
        Ok(Self {
            flow,
            unit,
            burst,
            #[cfg(feature = "admission")]
            wire: crate::Packet::encode(|packet| packet.int(flow).int(unit).int(burst)),
        })
    }
}

fn gcd(mut a: i128, mut b: i128) -> i128 {
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a.max(1)
}

#[cfg(all(test, feature = "admission"))]
mod tests {
    use super::*;

    fn counted(rate: &str, burst: Option<i64>) -> Result<(i64, i64, i64)> {
        match Limits::new(rate.parse()?, burst)?.flow {
            Flow::Counted(Counted { flow, unit, burst, .. }) => Ok((flow, unit, burst)),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_rate_is_counted_in_its_lowest_terms() {
        assert_eq!(counted("100/m", None).unwrap(), (1, 600_000, 100));
        assert_eq!(counted("7/s", Some(3)).unwrap(), (7, 1_000_000, 3));
        assert_eq!(counted("10000000/s", Some(1)).unwrap(), (10, 1, 1), "ten a microsecond");
        assert_eq!(counted("1000000/d", None).unwrap(), (1, 86_400, 1_000_000));
    }

    #[test]
    fn a_rate_too_fine_to_be_exact_is_at_most_a_thousandth_too_low() {
        for rate in ["1234567/d", "9999991/d", "999999937/7h", "123456789/13m"] {
            let asked: Rate = rate.parse().unwrap();
            let (flow, unit, burst) = counted(rate, None).unwrap();
            assert!(i128::from(unit) * i128::from(burst) <= MOST_OWED);
            let (is, should) = (
                i128::from(flow) * i128::try_from(asked.period().as_micros()).unwrap(),
                i128::from(asked.limit()) * i128::from(unit),
            );
            assert!(is <= should && is * 1_000 >= should * 999, "{rate}: {is} of {should}");
        }
    }

    #[test]
    fn what_cannot_be_counted_is_told() {
        for (limit, seconds, burst) in
            [(1, 86_400, 1 << 40), (1 << 62, 60, 1 << 62), (1_000_000, 1_000_000_000_000, 1_000_000)]
        {
            let rate = Rate::new(limit, Duration::from_secs(seconds)).unwrap();
            let error = Limits::new(rate, Some(burst)).unwrap_err().to_string();
            assert!(error.contains("too large") && error.contains(&limit.to_string()), "{error}");
        }
        assert!(Limits::new(Rate::new(5, Duration::MAX).unwrap(), None).is_err());
    }

    #[test]
    fn no_limit_and_a_limit_of_nothing_are_not_asked() {
        assert_eq!(Limits::new("-1/s".parse().unwrap(), None).unwrap().flow, Flow::Unlimited);
        assert_eq!(Limits::new("0/s".parse().unwrap(), Some(5)).unwrap().flow, Flow::Nothing);
    }
}
