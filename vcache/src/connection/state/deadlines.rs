//! What ends because its time is over: calls, an attempt to connect, the pause before one, a connection that is silent.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{After, GRACE, State};
use crate::config::Config;
use crate::connection::in_flight::Entry;
use crate::connection::link::{Link, Up};
use crate::connection::policy::Blocking;
use crate::error::Error;

impl State {
    /// Ends what is due: calls, an attempt to connect, the pause before one, a connection that is silent.
    pub(super) fn expire(&mut self, now: Instant, after: &mut After) {
        match &self.link {
            Link::Connecting { since, .. } if now >= *since + self.config.connect_timeout + GRACE => {
                // The connector hangs; what it brings later is taken if there is nothing better.
                self.attempt += 1;
                let error = Error::connection(format!(
                    "cannot connect to {}: no answer within {} s (CONNECT_TIMEOUT)",
                    self.config,
                    self.config.connect_timeout.as_secs_f64()
                ));
                self.fail_attempt(&error, now);
            }
            Link::Down(Some(pause)) if now >= pause.until && !self.waiting.is_empty() => {
                self.begin_attempt(now, after);
            }
            Link::Up(Up { probed_until: Some(until), .. }) if now >= *until => {
                let error = Error::connection(format!(
                    "{} did not answer after the connection was idle: it was reset",
                    self.config
                ));
                self.lose(&error, now, after);
            }
            _ => {}
        }
        self.expire_waiting(now);
        let config = Arc::clone(&self.config);
        let error = |entry: &Entry| too_late(&config, entry, "did not reply");
        self.in_flight.expire(now, self.held_up, error, &mut self.wakers);
        if self.dead_at().is_some_and(|dead_at| dead_at <= now) {
            let error = Error::connection(format!(
                "{} did not answer for {} s: the connection was reset; the command may have been executed",
                self.config,
                self.config.response_timeout.as_secs_f64()
            ));
            self.lose(&error, now, after);
        }
        self.pushes.expire(now, &mut self.wakers);
        self.renew_if_due(now, after);
        self.earliest = self.next_deadline();
    }

    pub(super) fn expire_waiting(&mut self, now: Instant) {
        let unreachable = match &self.link {
            Link::Connecting { previous: Some(error), .. } => Some(error.clone()),
            _ => None,
        };
        for mut entry in self.waiting.take_if(|entry| entry.waits_until.is_some_and(|until| until <= now)) {
            let result = match (entry.refusal.take(), &unreachable) {
                (Some(refusal), _) => Ok(refusal),
                (None, Some(error)) if !entry.sent => Err(error.clone()),
                (None, _) if entry.sent => Err(too_late(&self.config, &entry, "did not reply")),
                (None, _) => Err(too_late(&self.config, &entry, "could not take the call")),
            };
            self.wakers.extend(entry.complete(result));
        }
    }

    /// When the connection counts as dead, if nothing comes before: a full response time-out after the oldest call was sent,
    /// or after anything last came.
    pub(super) fn dead_at(&self) -> Option<Instant> {
        let (started, limits, blocking) = self.in_flight.oldest()?;
        let longest = match blocking {
            // A caller with more patience than usual must not lose the connection before it runs out.
            Blocking::No => self.config.response_timeout.max(limits.timeout.unwrap_or_default()),
            Blocking::Yes(None) => return None,
            Blocking::Yes(Some(seconds)) => {
                self.config.response_timeout.checked_add(Duration::try_from_secs_f64(seconds).ok()?)?
            }
        };
        started.max(self.progress).checked_add(longest)
    }

    pub(super) fn next_deadline(&self) -> Option<Instant> {
        let link = match &self.link {
            Link::Connecting { since, .. } => Some(*since + self.config.connect_timeout + GRACE),
            Link::Down(Some(pause)) if !self.waiting.is_empty() => Some(pause.until),
            Link::Up(up) => up.probed_until,
            Link::Down(_) => None,
        };
        self.waiting
            .next_due()
            .into_iter()
            .chain(self.in_flight.next_due(self.held_up))
            .chain(self.dead_at())
            .chain(self.pushes.next_due())
            .chain(self.renewal_due())
            .chain(link)
            .min()
    }
}

fn too_late(config: &Config, entry: &Entry, what: &str) -> Error {
    if entry.limits.deadline.is_some_and(|deadline| deadline <= Instant::now()) {
        return Error::timeout(format!("{config} {what} before the time for the call's hot path was over"));
    }
    let seconds = entry.limits.shortest().unwrap_or_default().as_secs_f64();
    Error::timeout(format!("{config} {what} within {seconds} s"))
}
