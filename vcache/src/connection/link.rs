//! Whether there is a connection, and what is known of it.

use std::time::{Duration, Instant};

use super::dial::Established;
use super::renewal::Renewal;
use super::resp::Reader;
use super::transport::Transport;
use crate::error::Error;

/// After a failed attempt, the first pause; it doubles up to `LONGEST_BACK_OFF`, and is jittered.
const FIRST_BACK_OFF: Duration = Duration::from_millis(25);
const LONGEST_BACK_OFF: Duration = Duration::from_millis(1_000);

pub(super) enum Link {
    /// There is none. After a failure: a pause.
    Down(Option<Pause>),
    /// An attempt is under way since then; what the attempt before it failed with, if it did.
    Connecting {
        since: Instant,
        previous: Option<Error>,
    },
    Up(Up),
}

/// The time after a failure in which no attempt is made.
pub(super) struct Pause {
    pub(super) error: Error,
    pub(super) until: Instant,
    /// There was a connection, which is lost; the server may be well. Calls wait for the next one.
    pub(super) calls_wait: bool,
}

pub(super) struct Up {
    pub(super) transport: Transport,
    pub(super) reader: Reader,
    pub(super) since: Instant,
    /// It answered a call, so it is of use.
    pub(super) has_replied: bool,
    /// The text of its last reply, if that was an error, and when it was read.
    pub(super) last_words: Option<Box<(String, Instant)>>,
    /// Until when a probe must be answered that was sent because the link was idle for long. Calls wait for it.
    pub(super) probed_until: Option<Instant>,
    /// The server is no primary any more: no call is sent there, and the link is dropped when those under way are answered.
    pub(super) leaves: bool,
    /// When it authenticates anew, if its credentials expire.
    pub(super) renewal: Option<Box<Renewal>>,
}

impl Up {
    pub(super) fn new(established: Established, now: Instant) -> Self {
        Self {
            transport: established.transport,
            reader: established.reader,
            since: now,
            has_replied: false,
            last_words: None,
            probed_until: None,
            leaves: false,
            renewal: established.renew_at.map(|due| Box::new(Renewal::new(due))),
        }
    }

    /// Whether calls may be sent.
    pub(super) fn takes_calls(&self) -> bool {
        self.probed_until.is_none() && !self.leaves
    }
}

/// How long to leave a server alone after the failures so far.
#[derive(Default)]
pub(super) struct BackOff {
    failures: u32,
    seed: u64,
}

impl BackOff {
    pub(super) fn reset(&mut self) {
        self.failures = 0;
    }

    /// One more failure: the pause after it. It doubles from failure to failure; half of it is jitter, so that a fleet does
    /// not come back all at once.
    pub(super) fn next(&mut self) -> Duration {
        let full = FIRST_BACK_OFF.saturating_mul(1 << self.failures.min(10)).min(LONGEST_BACK_OFF);
        self.failures = self.failures.saturating_add(1);
        self.seed += 1;
        let mixed = (self.seed ^ u64::from(std::process::id())).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
        let jitter = full.as_secs_f64() / 2.0 * (mixed as f64 / f64::from(u32::MAX));
        full / 2 + Duration::from_secs_f64(jitter)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_a_second_and_begin_anew_after_a_success() {
        let mut back_off = BackOff::default();
        for full in [25, 50, 100, 200, 400, 800, 1_000, 1_000] {
            let pause = back_off.next();
            assert!(
                pause >= Duration::from_micros(full * 500) && pause <= Duration::from_millis(full),
                "{pause:?}"
            );
        }
        back_off.reset();
        assert!(back_off.next() <= FIRST_BACK_OFF);
    }
}
