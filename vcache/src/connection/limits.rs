//! How long a call may take, and from when on.

use std::time::{Duration, Instant};

/// How long a call may take. `None` is for as long as it takes.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Limits {
    /// From when it was sent.
    pub(crate) timeout: Option<Duration>,
    /// The same, but it does not run while a long reply to an earlier call is arriving.
    pub(crate) patience: Option<Duration>,
    /// The end of the whole of which the call is a part.
    pub(crate) deadline: Option<Instant>,
    /// In a cluster: whatever keys it has, it is for the node that has this slot.
    pub(crate) slot: Option<u16>,
}

impl Limits {
    /// How long it may take after it was sent.
    pub(crate) fn shortest(&self) -> Option<Duration> {
        self.timeout.into_iter().chain(self.patience).min()
    }

    /// When a call that waits for a connection since `now` is given up. A time-out beyond the clock's end never comes.
    #[cfg(feature = "driver")]
    pub(crate) fn wait_from(&self, now: Instant) -> Option<Instant> {
        self.shortest().and_then(|timeout| now.checked_add(timeout)).into_iter().chain(self.deadline).min()
    }
}
