//! How often what happened, since the gate was made.

use std::sync::atomic::{AtomicU64, Ordering};

/// What a gate has counted in this process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Metrics {
    /// Admissions, by the server or by its settings; duplicates are not among them.
    pub admitted: u64,
    /// Refusals by the server, or by a limit of 0.
    pub refused: u64,
    /// Dedupe ids that had been admitted before.
    pub duplicates: u64,
    /// Refusals by the deny cache.
    pub deny_cache: u64,
    /// Refusals by the guard.
    pub guard: u64,
    /// Calls that the server did not answer: it failed, or the breaker kept them from it.
    pub outages: u64,
    /// Of those, calls admitted because all policies were open, or local with something left.
    pub outage_open: u64,
    /// Of those, calls refused because a policy was closed, or because there was a payload.
    pub outage_closed: u64,
    /// Of those, calls refused by a local count.
    pub outage_local: u64,
    /// How often the breaker opened.
    pub breaker_opened: u64,
    /// Calls that were sent again under their dedupe id after a time-out.
    pub replayed: u64,
    /// Calls that were sent again because a quota's window had ended by the server's clock.
    pub stale_windows: u64,
}

macro_rules! counters {
    ($($name:ident),+) => {
        /// The same, in the making.
        #[derive(Debug, Default)]
        pub(super) struct Counters {
            $(pub(super) $name: Counter,)+
        }

        impl Counters {
            pub(super) fn read(&self) -> Metrics {
                Metrics { $($name: self.$name.0.load(Ordering::Relaxed),)+ }
            }
        }
    };
}

counters!(
    admitted,
    refused,
    duplicates,
    deny_cache,
    guard,
    outages,
    outage_open,
    outage_closed,
    outage_local,
    breaker_opened,
    replayed,
    stale_windows
);

#[derive(Debug, Default)]
pub(super) struct Counter(AtomicU64);

impl Counter {
    pub(super) fn count(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}
