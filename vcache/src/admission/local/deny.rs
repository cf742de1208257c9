//! The deny cache: what the server refused is refused here until the moment that it named, at most 5 seconds. That admits
//! nothing more and refuses nothing that the server would admit, because what is owed falls by nothing but time, a
//! refund or a reset. Of those two another process hears when the 5 seconds are over.

use std::time::{Duration, Instant};

use quick_cache::sync::Cache;

use super::MOST_KEYS;
use crate::fork::PerProcess;

/// For so long a refusal is believed.
pub(in crate::admission) const LONGEST: Duration = Duration::from_secs(5);

type Table = Cache<Box<[u8]>, Denial>;

static DENIALS: PerProcess<Table> = PerProcess::new();

fn table() -> Table {
    Cache::new(MOST_KEYS)
}

/// What identifies a rule's settings: a refusal says nothing of others.
pub(in crate::admission) type Version = [i64; 3];

/// A refusal of the server's.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(in crate::admission) struct Denial {
    pub(in crate::admission) version: Version,
    /// This cost was refused, so each larger one is.
    pub(in crate::admission) cost: i64,
    /// Until then it is believed.
    pub(in crate::admission) until: Instant,
    /// When the same would be admitted; `None` is never.
    pub(in crate::admission) retry_at: Option<Instant>,
    /// When everything is there again.
    pub(in crate::admission) reset_at: Instant,
    pub(in crate::admission) remaining: i64,
    pub(in crate::admission) used: i64,
}

impl Denial {
    fn holds(&self, version: &Version, cost: i64, now: Instant) -> bool {
        self.version == *version && cost >= self.cost && now < self.until
    }
}

/// The refusal that holds for a cost.
pub(in crate::admission) fn find(key: &[u8], version: &Version, cost: i64, now: Instant) -> Option<Denial> {
    DENIALS.get_if_made()?.get(key).filter(|denial| denial.holds(version, cost, now))
}

pub(in crate::admission) fn remember(key: &[u8], denial: Denial, now: Instant) {
    let denials = DENIALS.get(table);
    let known = denials
        .get(key)
        .is_some_and(|known| known.holds(&denial.version, denial.cost, now) && known.until >= denial.until);
    if !known {
        denials.insert(key.into(), denial);
    }
}

pub(in crate::admission) fn forget(key: &[u8]) {
    if let Some(denials) = DENIALS.get_if_made() {
        denials.remove(key);
    }
}

pub(super) fn forget_all() {
    if let Some(denials) = DENIALS.get_if_made() {
        denials.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn denial(cost: i64, seconds: u64, now: Instant) -> Denial {
        let until = now + Duration::from_secs(seconds);
        Denial {
            version: [1, 2, 3],
            cost,
            until,
            retry_at: Some(until),
            reset_at: until,
            remaining: 0,
            used: 0,
        }
    }

    #[test]
    fn a_refusal_holds_for_its_cost_and_larger_ones_until_it_ends() {
        let now = Instant::now();
        remember(b"holds", denial(5, 2, now), now);
        let find = |version, cost, at| find(b"holds", &version, cost, at).is_some();
        assert!(find([1, 2, 3], 5, now) && find([1, 2, 3], 500, now));
        assert!(!find([1, 2, 3], 4, now), "a smaller cost may fit");
        assert!(!find([1, 2, 4], 5, now), "of other settings nothing is known");
        assert!(find([1, 2, 3], 5, now + Duration::from_millis(1_999)));
        assert!(!find([1, 2, 3], 5, now + Duration::from_secs(2)));
        assert!(super::find(b"other", &[1, 2, 3], 5, now).is_none());
    }

    #[test]
    fn what_says_less_replaces_nothing_that_says_more() {
        let now = Instant::now();
        remember(b"more", denial(2, 4, now), now);
        remember(b"more", denial(3, 3, now), now);
        assert_eq!(find(b"more", &[1, 2, 3], 2, now), Some(denial(2, 4, now)));
        remember(b"more", denial(1, 3, now), now);
        assert_eq!(find(b"more", &[1, 2, 3], 1, now), Some(denial(1, 3, now)));
        forget(b"more");
        assert_eq!(find(b"more", &[1, 2, 3], 1, now), None);
    }

    #[test]
    fn the_number_of_refusals_is_bounded() {
        let table = table();
        let now = Instant::now();
        for number in 0..50_000_u32 {
            table.insert(number.to_ne_bytes().into(), denial(1, 5, now));
        }
        // Its shards are filled one as little as the other, but not alike.
        assert!(table.len() <= MOST_KEYS * 11 / 10, "{}", table.len());
    }
}
