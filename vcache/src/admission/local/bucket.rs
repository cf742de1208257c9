//! Limits that this process counts by itself, by the crate governor: a bucket for each key of a rule. The guard has them
//! above the shared limit, the outage policy `local` below it. Of the least used keys the buckets are dropped when there are
//! too many; a dropped bucket is full again.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use governor::clock::{Clock, DefaultClock};
use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};
use quick_cache::sync::Cache;

use super::MOST_KEYS;
use super::deny::Version;
use crate::fork::PerProcess;

/// Nanoseconds that a bucket may take to fill, a century: governor's clock has five.
const LONGEST: u64 = 100 * 365 * 86_400 * 1_000_000_000;

pub(in crate::admission) type Table = Cache<Box<[u8]>, Arc<Bucket>>;

/// Of the guard: counted on every call.
pub(in crate::admission) static GUARDS: PerProcess<Table> = PerProcess::new();
/// Of the outage policy: counted only while the server cannot be asked.
pub(in crate::admission) static LOCAL: PerProcess<Table> = PerProcess::new();

fn table() -> Table {
    Cache::new(MOST_KEYS)
}

pub(in crate::admission) struct Bucket {
    /// The most that it holds. Governor multiplies what it is asked for without a look at the size of that.
    burst: NonZeroU32,
    limiter: DefaultDirectRateLimiter,
}

/// What a rule lets through in all processes together.
#[derive(Clone, Copy, Debug)]
pub(in crate::admission) struct Share {
    /// Units in a window.
    pub(in crate::admission) limit: i64,
    pub(in crate::admission) window: Duration,
    pub(in crate::admission) burst: i64,
    /// How many times that this process may take.
    pub(in crate::admission) factor: f64,
}

impl Share {
    /// Whether a bucket holds as much as it is to: governor counts in 32 bits.
    pub(in crate::admission) fn is_whole(&self) -> bool {
        #[expect(clippy::cast_precision_loss, reason = "it is a share of a limit, not a count")]
        let burst = self.burst as f64 * self.factor;
        burst <= f64::from(u32::MAX)
    }

    /// `None` for what is too fast to be counted, a unit a nanosecond. What takes longer than `LONGEST` to fill is smaller.
    fn quota(&self) -> Option<Quota> {
        #[expect(clippy::cast_precision_loss, reason = "it is a share of a limit, not a count")]
        let (limit, burst, window) =
            (self.limit as f64 * self.factor, self.burst as f64 * self.factor, self.window.as_nanos() as f64);
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it saturates")]
        let (interval, burst) = (((window / limit) as u64).min(LONGEST), burst.ceil() as u32);
        let burst = burst.min(u32::try_from(LONGEST / interval.max(1)).unwrap_or(u32::MAX));
        let interval = Duration::from_nanos(interval);
        Some(Quota::with_period(interval)?.allow_burst(NonZeroU32::new(burst).unwrap_or(NonZeroU32::MIN)))
    }
}

/// Why a bucket gives nothing.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(in crate::admission) enum Empty {
    /// Until then.
    For(Duration),
    /// It is never that full.
    TooSmall,
}

/// All buckets are full again.
pub(super) fn forget_all() {
    [&GUARDS, &LOCAL].into_iter().filter_map(PerProcess::get_if_made).for_each(Cache::clear);
}

/// Takes `cost` units out of a key's bucket.
pub(in crate::admission) fn spend(
    buckets: &'static PerProcess<Table>,
    key: &[u8],
    version: Version,
    share: &Share,
    cost: i64,
) -> Result<(), Empty> {
    let Ok(cost) = u32::try_from(cost) else { return Err(Empty::TooSmall) };
    let Some(cost) = NonZeroU32::new(cost) else { return Ok(()) };
    let buckets = buckets.get(table);
    // Other settings have a bucket of their own: calls that take turns with theirs do not fill each other's.
    let mut key = key.to_vec();
    version.iter().for_each(|number| key.extend_from_slice(&number.to_ne_bytes()));
    let bucket = match buckets.get(&*key) {
        Some(bucket) => bucket,
        None => {
            let Some(quota) = share.quota() else { return Ok(()) };
            let bucket = Arc::new(Bucket { burst: quota.burst_size(), limiter: RateLimiter::direct(quota) });
            buckets.insert(key.into(), Arc::clone(&bucket));
            bucket
        }
    };
    if cost > bucket.burst {
        return Err(Empty::TooSmall);
    }
    match bucket.limiter.check_n(cost) {
        Ok(Ok(())) => Ok(()),
        Ok(Err(until)) => Err(Empty::For(until.wait_time_from(DefaultClock::default().now()))),
        Err(_) => Err(Empty::TooSmall),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    static BUCKETS: PerProcess<Table> = PerProcess::new();

    fn share(factor: f64) -> Share {
        Share { limit: 10, window: Duration::from_secs(3_600), burst: 10, factor }
    }

    #[test]
    fn a_bucket_holds_its_share_of_the_burst() {
        for (key, factor, units) in
            [("whole", 1.0, 10), ("double", 2.0, 20), ("quarter", 0.25, 3), ("least", 0.001, 1)]
        {
            let spend = || spend(&BUCKETS, key.as_bytes(), [0; 3], &share(factor), 1);
            for _ in 0..units {
                assert_eq!(spend(), Ok(()), "{key}");
            }
            let Err(Empty::For(wait)) = spend() else { panic!("{key} is not empty") };
            let interval = Duration::from_secs(360).div_f64(factor);
            assert!(wait <= interval && wait > interval.mul_f64(0.9), "{key}: {wait:?}");
        }
    }

    #[test]
    fn more_than_a_bucket_holds_is_told_from_an_empty_one() {
        let spend = |cost| spend(&BUCKETS, b"small", [0; 3], &share(1.0), cost);
        assert_eq!(spend(11), Err(Empty::TooSmall));
        for enormous in [2_200_000, i64::from(u32::MAX), 1 << 53, i64::MAX] {
            assert_eq!(spend(enormous), Err(Empty::TooSmall), "{enormous}");
        }
        assert_eq!(spend(10), Ok(()), "nothing was taken");
        assert_eq!(spend(0), Ok(()), "nothing is always there");
    }

    #[test]
    fn other_settings_have_another_bucket() {
        for version in [1, 2] {
            assert_eq!(spend(&BUCKETS, b"versions", [version; 3], &share(1.0), 10), Ok(()));
        }
        for version in [1, 2, 1] {
            assert!(spend(&BUCKETS, b"versions", [version; 3], &share(1.0), 1).is_err());
        }
    }

    #[test]
    fn a_share_that_no_bucket_holds_is_told() {
        let share = |burst| Share { burst, ..share(2.0) };
        assert!(share(i64::from(u32::MAX / 2)).is_whole());
        assert!(!share(i64::from(u32::MAX / 2) + 1).is_whole());
    }

    #[test]
    fn a_bucket_that_would_take_ages_to_fill_is_smaller() {
        for (key, window, burst) in
            [("slow", Duration::from_secs(86_400), i64::MAX), ("never", Duration::from_secs(1 << 40), 5)]
        {
            let slow = Share { limit: 1, window, burst, factor: 0.5 };
            assert_eq!(spend(&BUCKETS, key.as_bytes(), [0; 3], &slow, 1), Ok(()));
        }
    }

    #[test]
    fn a_rate_too_fast_to_count_is_not_limited() {
        let fast = Share { limit: i64::MAX, window: Duration::from_secs(1), burst: 1, factor: 1.0 };
        for _ in 0..10 {
            assert_eq!(spend(&BUCKETS, b"fast", [0; 3], &fast, 1), Ok(()));
        }
    }
}
