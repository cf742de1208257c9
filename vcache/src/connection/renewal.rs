//! Credentials that expire: a connection that lives authenticates anew before they do, between two calls. A server that
//! refuses leaves the session as it was, so a failure is no reason to give the connection up: it is tried again later.

use std::sync::{Arc, Weak};
use std::task::{Wake, Waker};
use std::time::{Duration, Instant};

use redis::Value;

use super::dial::renew_at;
use super::driver::Driver;
use super::receiver::{Outcome, Receiver};
use crate::config::Credentials;

/// After a failure, the first pause; it doubles up to the longest.
const FIRST_PAUSE: Duration = Duration::from_secs(5);
const LONGEST_PAUSE: Duration = Duration::from_secs(300);

/// When a connection authenticates anew.
pub(super) struct Renewal {
    /// When it is due; None while it is under way.
    pub(super) due: Option<Instant>,
    failures: u32,
}

impl Renewal {
    pub(super) fn new(due: Instant) -> Self {
        Self { due: Some(due), failures: 0 }
    }

    /// It was done, and is due again then; credentials that never expire need no more.
    pub(super) fn done(&mut self, next: Option<Instant>) {
        self.failures = 0;
        self.due = next;
    }

    /// It failed, and is due again after a pause.
    pub(super) fn failed(&mut self, now: Instant) {
        let pause = FIRST_PAUSE.saturating_mul(1 << self.failures.min(10)).min(LONGEST_PAUSE);
        self.failures = self.failures.saturating_add(1);
        self.due = Some(now + pause);
    }
}

/// Who gets the answer to the AUTH of a connection that lives.
pub(super) struct Answer {
    driver: Weak<Driver>,
    /// When the connection was made, which tells it from the next one.
    since: Instant,
    next: Option<Instant>,
}

impl Answer {
    pub(super) fn new(driver: Weak<Driver>, since: Instant, minted: &Credentials) -> Arc<Self> {
        Arc::new(Self { driver, since, next: renew_at(minted) })
    }
}

impl Receiver for Answer {
    fn fill(self: Arc<Self>, outcome: Outcome) -> Option<Waker> {
        let refused = match outcome.result {
            Ok(Value::ServerError(error)) => Some(error.code().to_owned()),
            Ok(_) => None,
            Err(_) => Some("the connection was lost".to_owned()),
        };
        // The driver's mutex is held here. What is woken is not.
        Some(Waker::from(Arc::new(Told { answer: self, refused })))
    }

    fn is_abandoned(&self) -> bool {
        false
    }

    fn is_tied(&self) -> bool {
        true
    }
}

/// An answer on its way to the driver.
struct Told {
    answer: Arc<Answer>,
    refused: Option<String>,
}

impl Wake for Told {
    fn wake(self: Arc<Self>) {
        if let Some(driver) = self.answer.driver.upgrade() {
            driver.renewed(self.answer.since, self.answer.next, self.refused.as_deref());
        }
    }
}
