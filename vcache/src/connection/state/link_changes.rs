//! The connection comes and goes: attempts, what becomes of the calls of one that is lost, and a server that is left because
//! it is no primary any more.

use std::io;
use std::time::{Duration, Instant};

use redis::Value;

use super::{After, GRACE, Kind, PATIENCE, State, Watched};
use crate::connection::cluster::Why;
use crate::connection::dial::Established;
use crate::connection::in_flight::Entry;
use crate::connection::link::{Link, Pause, Up};
use crate::error::{Error, Result};

/// A connection that is lost earlier is a failure, and the next attempt waits.
const SHORT_LIFE: Duration = Duration::from_secs(1);
/// An error that came longer before the end of the stream is not why it ended.
const LAST_WORDS: Duration = Duration::from_millis(250);
/// A server that refuses writes is left for another one at most so often.
const LEAVES_AT_MOST: Duration = Duration::from_secs(1);

impl State {
    /// The server is no primary any more. Nothing was executed, so the call goes to the one that is.
    pub(super) fn refused_by_a_replica(&mut self, mut entry: Entry, refusal: Value, now: Instant) {
        let Link::Up(up) = &mut self.link else { return };
        let left_lately = self.left.is_some_and(|left| now.saturating_duration_since(left) < LEAVES_AT_MOST);
        if entry.refusal.is_some() || !entry.is_wanted() || (left_lately && !up.leaves) {
            self.wakers.extend(entry.complete(Ok(refusal)));
            return;
        }
        up.leaves = true;
        entry.wait_as_sent();
        entry.refusal = Some(refusal);
        self.wait(entry);
    }

    /// All calls on a server that is no primary are answered: it is left for the one that is.
    pub(super) fn leave(&mut self, now: Instant, after: &mut After) {
        self.left = Some(now);
        self.link = Link::Down(None);
        self.pushes.lost(&mut self.wakers);
        if !self.waiting.is_empty() {
            self.begin_attempt(now, after);
        }
    }

    pub(super) fn begin_attempt(&mut self, now: Instant, after: &mut After) {
        if self.connector_runs {
            // It reports in a moment, and its connection is taken.
            return;
        }
        let previous = match std::mem::replace(&mut self.link, Link::Down(None)) {
            // A connection that was lost says nothing about the next one. A failed attempt does.
            Link::Down(Some(pause)) if !pause.calls_wait => Some(pause.error),
            _ => None,
        };
        self.link = Link::Connecting { since: now, previous };
        self.attempt += 1;
        self.connector_runs = true;
        after.connect = Some(self.attempt);
        self.come_by(Some(now + self.config.connect_timeout + GRACE));
    }

    /// The connector's report on its attempt. One that took too long was given up, but what it brings is taken as long as
    /// there is nothing better.
    pub(in crate::connection) fn connected(
        &mut self,
        attempt: u64,
        outcome: Result<Established>,
        now: Instant,
        after: &mut After,
    ) {
        self.connector_runs = false;
        let is_current = self.attempt == attempt && matches!(self.link, Link::Connecting { .. });
        match outcome {
            Ok(established) if established.layout.is_some() => self.found(established, after),
            outcome => self.take_connection(outcome, is_current, now, after),
        }
    }

    /// The server is one of a cluster's: that goes on with the calls, and with the connection.
    fn found(&mut self, established: Established, after: &mut After) {
        self.leave_to_cluster(Instant::now(), after);
        after.found = Some(Box::new(established));
    }

    /// A cluster goes on with the calls: nothing is read here any more.
    pub(in crate::connection) fn leave_to_cluster(&mut self, now: Instant, after: &mut After) {
        let error = self.lost(&io::Error::other("the server is one of several now"));
        self.lose(&error, now, after);
        self.link = Link::Down(None);
        for entry in self.waiting.take() {
            self.give_back_call(entry, Why::IsACluster);
        }
    }

    /// The connector's report on an attempt that nothing needs any more.
    pub(in crate::connection) fn connected_in_vain(&mut self, now: Instant, after: &mut After) {
        self.connector_runs = false;
        self.leave_to_cluster(now, after);
    }

    /// Takes a connection that was made, unless there is one.
    pub(in crate::connection) fn take_connection(
        &mut self,
        outcome: Result<Established>,
        is_current: bool,
        now: Instant,
        after: &mut After,
    ) {
        let attached = outcome.and_then(|mut established| {
            if let Some(Watched { watch, .. }) = &self.watched {
                established.transport.attach(watch, self.key).map_err(|error| self.lost(&error))?;
            }
            Ok(established)
        });
        match attached {
            Ok(established) if !matches!(self.link, Link::Up(_)) => {
                self.link = Link::Up(Up::new(established, now));
                self.come_by(self.renewal_due());
                (self.progress, self.looked, self.held_up) = (now, now, None);
                // What the server said beyond the handshake.
                match self.deliver_all(now) {
                    Ok(()) if self.holds_bytes() => {
                        self.look_or_lose(now, after);
                    }
                    Ok(()) => {}
                    Err(error) => self.lose(&error, now, after),
                }
                self.admit(now);
                self.write_or_lose(now, after);
            }
            Err(error) if is_current => self.fail_attempt(&error, now),
            _ if matches!(self.link, Link::Down(_)) && !self.waiting.is_empty() => {
                self.begin_attempt(now, after);
            }
            _ => {}
        }
    }

    /// Whether there are bytes of the server that no poller tells of.
    fn holds_bytes(&self) -> bool {
        matches!(&self.link, Link::Up(up) if up.transport.holds_bytes())
    }

    pub(super) fn fail_attempt(&mut self, error: &Error, now: Instant) {
        let until = now + self.back_off.next();
        self.link = Link::Down(Some(Pause { error: error.clone(), until, calls_wait: false }));
        for mut entry in self.waiting.take() {
            if self.kind == Kind::Node {
                self.give_back_call(entry, Why::Unreachable(error.clone()));
                continue;
            }
            let result = entry.refusal.take().map_or_else(|| Err(error.clone()), Ok);
            self.wakers.extend(entry.complete(result));
        }
    }

    /// Drops the connection, and with it a call that its caller gave up.
    pub(in crate::connection) fn close(&mut self, now: Instant, after: &mut After) {
        self.lose(&Error::connection("the call was cancelled"), now, after);
    }

    /// The connection is gone. Calls that did not reach the server, and those that may be repeated, wait for the next.
    pub(super) fn lose(&mut self, error: &Error, now: Instant, after: &mut After) {
        if !matches!(self.link, Link::Up(_)) {
            return;
        }
        let Link::Up(up) = std::mem::replace(&mut self.link, Link::Down(None)) else { return };
        self.pushes.lost(&mut self.wakers);
        let again: Vec<_> =
            self.in_flight.drain().into_iter().filter_map(|entry| self.retry(entry, error)).collect();
        let mut waiting: Vec<_> = again.into_iter().chain(self.waiting.take()).collect();
        if !up.has_replied || now.saturating_duration_since(up.since) < SHORT_LIFE {
            let length = self.back_off.next();
            let (until, calls_wait) = (now + length, length <= PATIENCE);
            self.link = Link::Down(Some(Pause { error: error.clone(), until, calls_wait }));
            if calls_wait {
                self.come_by(Some(until));
            } else {
                for entry in std::mem::take(&mut waiting) {
                    if self.kind == Kind::Node {
                        self.give_back_call(entry, Why::Unreachable(error.clone()));
                    } else {
                        self.wakers.extend(entry.complete(Err(error.clone())));
                    }
                }
            }
        }
        for entry in waiting {
            if self.kind == Kind::Node {
                self.give_back_call(entry, Why::Lost(error.clone()));
            } else {
                self.wait(entry);
            }
        }
        if !self.waiting.is_empty() && matches!(self.link, Link::Down(None)) {
            self.begin_attempt(now, after);
        }
    }

    /// The call of a lost connection, if it is to be sent again.
    pub(super) fn retry(&mut self, mut entry: Entry, error: &Error) -> Option<Entry> {
        if !entry.is_wanted() {
            return None;
        }
        if !entry.sent || (entry.packet.repeatable && !entry.resent) {
            entry.resent |= entry.sent;
            entry.wait_as_sent();
            return Some(entry);
        }
        self.wakers.extend(entry.complete(Err(error.clone())));
        None
    }

    /// The server ended the stream. What it said just before may be why.
    pub(super) fn closed(&self, now: Instant) -> Error {
        let last_words = match &self.link {
            Link::Up(up) => up.last_words.as_deref(),
            _ => None,
        };
        let why = match last_words {
            Some((words, said)) if now.saturating_duration_since(*said) < LAST_WORDS => {
                format!("the server closed it, and last said '{words}'")
            }
            _ => "the server closed it".to_owned(),
        };
        self.lost(&io::Error::new(io::ErrorKind::UnexpectedEof, why))
    }

    pub(super) fn lost(&self, error: &io::Error) -> Error {
        Error::connection(format!(
            "the connection to {} was lost ({error}); the command may or may not have been executed",
            self.config
        ))
    }
}
