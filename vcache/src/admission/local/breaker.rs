//! The breaker: a server that failed several times in a row is left alone for a while, so that no call waits for it. Then
//! one call is let through to it, and says whether it is back.
//!
//! It has no lock, and a call that is given up leaves nothing behind: another is let through in its place. Should that
//! not be noticed, because the call is in another thread of a process that was forked, it is after the longest rest.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::RESET;

/// Failures one after the other after which it opens.
const FAILURES: u32 = 5;
/// What fails sooner after a failure than this belongs to it: a connection that is refused says so to hundreds of calls
/// in the time that a restart takes.
const APART: Duration = Duration::from_millis(50);
const FIRST_REST: Duration = Duration::from_secs(1);
const LONGEST_REST: Duration = Duration::from_secs(10);

#[derive(Debug)]
pub(in crate::admission) struct Breaker {
    born: Instant,
    failures: AtomicU32,
    /// Nanoseconds after birth when the last of them was noticed.
    failed: AtomicU64,
    /// Nanoseconds after birth until which it is open; 0 is closed.
    until: AtomicU64,
    /// Doublings of the rest.
    probes: AtomicU32,
    /// Nanoseconds after birth until which one call is thought to ask; 0 is none.
    probing: AtomicU64,
    /// Which of the [`RESET`]s it knows.
    reset: AtomicU64,
}

impl Breaker {
    pub(in crate::admission) fn new() -> Self {
        Self {
            born: Instant::now(),
            failures: AtomicU32::new(0),
            failed: AtomicU64::new(0),
            until: AtomicU64::new(0),
            probes: AtomicU32::new(0),
            probing: AtomicU64::new(0),
            reset: AtomicU64::new(RESET.load(Ordering::Acquire)),
        }
    }

    fn age(&self, now: Instant) -> u64 {
        nanos(now.saturating_duration_since(self.born))
    }

    /// Leave to ask the server; or how long it is still left alone, which is not at all while another call asks.
    pub(in crate::admission) fn permit(&self, now: Instant) -> Result<Permit<'_>, Duration> {
        let mut until = self.until.load(Ordering::Acquire);
        if until != 0 && self.is_of_another_server() {
            self.close();
            self.leave();
            until = 0;
        }
        if until == 0 {
            return Ok(Permit { breaker: self, probe: false, told: false });
        }
        let left = Duration::from_nanos(until.saturating_sub(self.age(now)));
        if left.is_zero() && self.claim(now) {
            return Ok(Permit { breaker: self, probe: true, told: false });
        }
        Err(left)
    }

    fn claim(&self, now: Instant) -> bool {
        let (probing, age) = (self.probing.load(Ordering::Acquire), self.age(now));
        let lease = age.saturating_add(nanos(LONGEST_REST)).max(1);
        probing <= age
            && self.probing.compare_exchange(probing, lease, Ordering::AcqRel, Ordering::Relaxed).is_ok()
    }

    /// The end of a rest that begins now.
    fn rest(&self, now: Instant) -> u64 {
        let probes = self.probes.fetch_add(1, Ordering::AcqRel);
        let rest = FIRST_REST.saturating_mul(1 << probes.min(8)).min(LONGEST_REST);
        self.age(now).saturating_add(nanos(rest)).max(1)
    }

    /// Counts a failure, unless it is [`APART`] of none, or its call was already under way when the one before it was
    /// noticed: what a server does to many calls at a time is one failure. `true` if that opened it.
    fn count(&self, sent: Instant, now: Instant) -> bool {
        let before = self.failed.load(Ordering::Acquire);
        let apart = self.age(now) >= before.saturating_add(nanos(APART)) && self.age(sent) >= before;
        if before != 0 && !apart {
            return false;
        }
        self.failed.fetch_max(self.age(now).max(1), Ordering::AcqRel);
        self.reset.store(RESET.load(Ordering::Acquire), Ordering::Release);
        self.failures.fetch_add(1, Ordering::AcqRel) + 1 >= FAILURES
            && self.until.load(Ordering::Acquire) == 0
            && self.until.compare_exchange(0, self.rest(now), Ordering::AcqRel, Ordering::Relaxed).is_ok()
    }

    /// Whether it was opened by a server that its alias does not stand for any more. It says so once.
    #[cold]
    fn is_of_another_server(&self) -> bool {
        let known = RESET.load(Ordering::Acquire);
        self.reset.swap(known, Ordering::AcqRel) != known
    }

    /// No call asks any more.
    fn leave(&self) {
        self.probing.store(0, Ordering::Release);
    }

    fn close(&self) {
        self.failures.store(0, Ordering::Relaxed);
        if self.until.load(Ordering::Acquire) != 0 {
            self.probes.store(0, Ordering::Release);
            self.until.store(0, Ordering::Release);
        }
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// Leave for one call. Its end without a word says nothing about the server.
pub(in crate::admission) struct Permit<'a> {
    breaker: &'a Breaker,
    probe: bool,
    told: bool,
}

impl Permit<'_> {
    /// The server answered.
    pub(in crate::admission) fn succeeded(mut self) {
        self.told = true;
        // Most often there is nothing to write, and then nothing is.
        if self.probe
            || self.breaker.failures.load(Ordering::Relaxed) != 0
            || self.breaker.until.load(Ordering::Relaxed) != 0
        {
            self.breaker.close();
        }
        self.leave();
    }

    /// It did not answer what was `sent` then. `true` if the breaker opened by that.
    pub(in crate::admission) fn failed(mut self, sent: Instant, now: Instant) -> bool {
        self.told = true;
        let opens = !self.probe && self.breaker.count(sent, now);
        if self.probe {
            self.breaker.until.store(self.breaker.rest(now), Ordering::Release);
        }
        self.leave();
        opens
    }

    fn leave(&self) {
        if self.probe {
            self.breaker.leave();
        }
    }
}

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        if !self.told {
            self.leave();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn opened(now: Instant) -> Breaker {
        let breaker = Breaker { born: before(now, FAILURES), ..Breaker::new() };
        for failure in 1..=FAILURES {
            let then = before(now, FAILURES - failure);
            assert_eq!(breaker.permit(then).ok().unwrap().failed(then, then), failure == FAILURES);
        }
        breaker
    }

    /// The moment when the last failure but so many is noticed, so that the last one is `now`.
    fn before(now: Instant, failures: u32) -> Instant {
        now.checked_sub(APART * failures).unwrap()
    }

    #[test]
    fn it_opens_after_so_many_failures_in_a_row() {
        let mut now = Instant::now();
        let breaker = Breaker::new();
        for _ in 0..3 {
            for _ in 1..FAILURES {
                now += APART;
                assert!(!breaker.permit(now).ok().unwrap().failed(now, now));
            }
            breaker.permit(now).ok().unwrap().succeeded();
        }
        assert!(breaker.permit(now).is_ok());
        assert!(opened(now).permit(now).is_err());
    }

    #[test]
    fn calls_that_fail_together_are_one_failure() {
        let now = Instant::now();
        let breaker = Breaker::new();
        let hang = SECOND / 10;
        for round in 0..FAILURES {
            let sent = now + hang * round;
            let many: Vec<_> = (0..50).map(|_| breaker.permit(sent).ok().unwrap()).collect();
            let opened = many.into_iter().map(|permit| permit.failed(sent, sent + hang));
            assert_eq!(
                opened.filter(|opened| *opened).count(),
                usize::from(round + 1 == FAILURES),
                "{round}"
            );
        }
        assert!(breaker.permit(now + hang * FAILURES).is_err());
    }

    #[test]
    fn what_a_refused_connection_says_at_once_to_many_is_one_failure() {
        let now = Instant::now();
        let breaker = Breaker::new();
        for micros in 0..1_000 {
            let then = now + Duration::from_micros(40 * micros);
            assert!(!breaker.permit(then).ok().unwrap().failed(then, then));
        }
    }

    #[test]
    fn one_call_at_a_time_asks_whether_the_server_is_back() {
        let now = Instant::now();
        let breaker = opened(now);
        assert!(breaker.permit(now + SECOND / 2).is_err());
        let later = now + SECOND * 2;
        let probe = breaker.permit(later).ok().unwrap();
        assert!(breaker.permit(later).is_err(), "another asks");
        probe.succeeded();
        assert!(breaker.permit(later).is_ok());
        assert!(breaker.permit(later).is_ok(), "it is closed");
    }

    #[test]
    fn the_rest_doubles_up_to_ten_seconds_and_begins_anew() {
        let mut now = Instant::now();
        let breaker = opened(now);
        for rest in [1, 2, 4, 8, 10, 10] {
            assert!(breaker.permit(now + SECOND * rest - SECOND / 10).is_err(), "{rest}");
            now += SECOND * rest + SECOND / 10;
            assert!(!breaker.permit(now).ok().unwrap().failed(now, now));
        }
        now += SECOND * 11;
        breaker.permit(now).ok().unwrap().succeeded();
        for _ in 0..FAILURES {
            now += APART;
            breaker.permit(now).ok().unwrap().failed(now, now);
        }
        assert!(breaker.permit(now + SECOND / 2).is_err());
        assert!(breaker.permit(now + SECOND + SECOND / 10).is_ok());
    }

    #[test]
    fn a_call_that_is_given_up_makes_room_for_another() {
        let now = Instant::now();
        let breaker = opened(now);
        let later = now + SECOND * 2;
        drop(breaker.permit(later).ok().unwrap());
        breaker.permit(later).ok().unwrap().succeeded();
        assert!(breaker.permit(later).is_ok());
    }

    #[test]
    fn a_call_that_is_never_heard_of_again_is_replaced_after_the_longest_rest() {
        let now = Instant::now();
        let breaker = opened(now);
        std::mem::forget(breaker.permit(now + SECOND * 2));
        assert!(breaker.permit(now + SECOND * 11).is_err());
        breaker.permit(now + SECOND * 13).ok().unwrap().succeeded();
        assert!(breaker.permit(now + SECOND * 13).is_ok());
    }

    #[test]
    fn a_late_answer_closes_it() {
        let mut now = Instant::now();
        let breaker = Breaker::new();
        let slow = breaker.permit(now).ok().unwrap();
        for _ in 0..FAILURES {
            now += APART;
            breaker.permit(now).ok().unwrap().failed(now, now);
        }
        assert!(breaker.permit(now).is_err());
        slow.succeeded();
        assert!(breaker.permit(now).is_ok());
    }
}
