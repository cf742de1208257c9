//! When each connection has to be looked at, at the latest, in one ordered place: the earliest of them is read without a
//! lock, and only what is due is touched.

use std::collections::BTreeSet;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::fork::Lazy;
use crate::sync::lock;

/// No deadline.
const NEVER: u64 = u64::MAX;

#[derive(Default)]
pub(super) struct Deadlines {
    ordered: Mutex<BTreeSet<(Instant, usize)>>,
    first: First,
}

/// The earliest deadline in nanoseconds since [`START`].
struct First(AtomicU64);

impl Default for First {
    fn default() -> Self {
        Self(AtomicU64::new(NEVER))
    }
}

/// Before every deadline, but for those of calls that were under way when it was first asked for.
static START: Lazy<Instant> = Lazy::new(Instant::now);

fn nanos(at: Instant) -> u64 {
    u64::try_from(at.saturating_duration_since(*START).as_nanos()).unwrap_or(NEVER - 1)
}

impl Deadlines {
    /// Replaces the deadline of one connection. `true`: the earliest of all is an earlier one now.
    pub(super) fn replace(&self, key: usize, before: Option<Instant>, after: Option<Instant>) -> bool {
        let mut ordered = lock(&self.ordered);
        if let Some(before) = before {
            ordered.remove(&(before, key));
        }
        if let Some(after) = after {
            ordered.insert((after, key));
        }
        let first = ordered.first().map_or(NEVER, |(at, _)| nanos(*at));
        first < self.first.0.swap(first, Ordering::AcqRel)
    }

    pub(super) fn next(&self) -> Option<Instant> {
        let first = self.first.0.load(Ordering::Acquire);
        (first != NEVER).then(|| *START + Duration::from_nanos(first))
    }

    pub(super) fn is_due(&self, now: Instant) -> bool {
        self.first.0.load(Ordering::Acquire) <= nanos(now)
    }

    /// The connections whose deadline has come. They replace it when they have seen to it.
    pub(super) fn due(&self, now: Instant) -> Vec<usize> {
        lock(&self.ordered).iter().take_while(|(at, _)| *at <= now).map(|(_, key)| *key).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_earliest_comes_first_and_only_what_is_due_is_named() {
        let deadlines = Deadlines::default();
        let now = Instant::now();
        assert_eq!((deadlines.next(), deadlines.is_due(now)), (None, false));
        let later = |ms| now + Duration::from_millis(ms);
        assert!(deadlines.replace(1, None, Some(later(30))));
        assert!(deadlines.replace(2, None, Some(later(10))), "an earlier one");
        assert!(!deadlines.replace(3, None, Some(later(10))));
        assert!(deadlines.next().is_some_and(|next| next >= later(10) && next < later(11)));
        assert!(!deadlines.is_due(now) && deadlines.is_due(later(11)));
        assert_eq!(deadlines.due(later(11)), [2, 3]);
        deadlines.replace(2, Some(later(10)), None);
        deadlines.replace(3, Some(later(10)), Some(later(40)));
        assert_eq!(deadlines.due(later(35)), [1]);
        deadlines.replace(1, Some(later(30)), None);
        deadlines.replace(3, Some(later(40)), None);
        assert_eq!(deadlines.next(), None);
    }
}
