//! One connection to one server: its state, and the steps that move it on.
//!
//! State is behind one mutex, held only for a non-blocking step; nothing under it runs foreign code. Any thread may
//! take a step: [`Driver::submit`] accepts a call, [`Driver::flush`] writes, [`Driver::drive`] reads, writes and expires.
//! Whom a step completed is woken after the mutex is free.
//!
//! A call waits in `waiting` while there is no connection or no room, and moves to `in_flight` in order; the encoded
//! bytes stay in its entry until the reply is there, so writing needs no second buffer, and a call that never reached
//! the server can go out again on the next connection. Connecting is the business of a short-lived thread (see
//! [`super::connect`]), because name resolution blocks.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use super::command::Packet;
use super::resp::Reader;
use super::slot::Receiver;
use super::socket::Socket;
use super::state::{After, Entry, Link, PATIENCE, State, lost};
use crate::config::Config;
use crate::context;
use crate::error::{Error, Result};
use crate::reactor::Reactor;
use crate::sync::lock;

/// Calls that wait for a connection or for room, at most; more are refused at once.
const MOST_WAITING: usize = 65_536;
/// Bytes of those, at most.
const MOST_BYTES_WAITING: usize = 256 * 1024 * 1024;
/// An idle connection that was not read from for so long is looked at before it is used: the server may have closed it.
const MAY_BE_STALE: Duration = Duration::from_millis(1);

pub(crate) struct Driver {
    config: Arc<Config>,
    reactor: &'static Reactor,
    key: usize,
    state: Mutex<State>,
}

/// What became of a call that was submitted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Accepted {
    /// It is the only one, and was so before: sending it at once is best.
    Alone,
    /// It joined others that are on their way, or will come.
    Busy,
    /// It waits for a connection, or for room.
    Waiting,
}

impl Driver {
    pub(crate) fn new(config: Arc<Config>, reactor: &'static Reactor, key: usize) -> Self {
        Self { config, reactor, key, state: Mutex::new(State::new()) }
    }

    pub(crate) fn config(&self) -> &Arc<Config> {
        &self.config
    }

    pub(crate) fn epoch(&self) -> u64 {
        self.reactor.epoch()
    }

    /// Accepts a call, or refuses it at once.
    pub(crate) fn submit(
        self: &Arc<Self>,
        packet: Packet,
        receiver: Arc<dyn Receiver>,
        timeout: Option<Duration>,
    ) -> Result<Accepted> {
        let now = Instant::now();
        // A time-out beyond the clock's end is none.
        let deadline = timeout.and_then(|timeout| now.checked_add(timeout));
        let mut entry = Entry {
            packet,
            receiver: Some(receiver),
            replies: Vec::new(),
            timeout,
            deadline,
            patience: None,
            overdue: None,
            resent: false,
        };
        let mut state = lock(&self.state);
        let mut after = After::default();
        if state.in_flight.is_empty() && now.saturating_duration_since(state.looked) > MAY_BE_STALE {
            state.looked = now;
            if let Err(error) = state.read(&self.config) {
                self.lose(&mut state, &error, &mut after);
            }
        }
        match &state.link {
            Link::Up { .. } if state.waiting.is_empty() && state.has_room(&entry) => {
                let alone = state.in_flight.is_empty() && !state.burst;
                let accepted = if alone { Accepted::Alone } else { Accepted::Busy };
                state.enter(entry, now, self.config.response_timeout);
                return Ok(accepted);
            }
            Link::Up { .. } => {}
            Link::Down(Some((error, retry_at))) if now < *retry_at || state.connector_runs => {
                return Err(error.clone());
            }
            // After a failed attempt nobody waits long for the next one to fail too, whoever it was that began it.
            Link::Down(Some(_)) => entry.patience = Some(now + PATIENCE),
            Link::Connecting { since, previous: Some(_) } => entry.patience = Some(*since + PATIENCE),
            Link::Down(None) | Link::Connecting { previous: None, .. } => {}
        }
        let bytes = state.bytes_waiting + entry.packet.bytes.len();
        if state.waiting.len() >= MOST_WAITING || (bytes > MOST_BYTES_WAITING && !state.waiting.is_empty()) {
            let error = Error::connection(format!(
                "{} calls with {} bytes are already waiting for {}: it is too slow for this load",
                state.waiting.len(),
                state.bytes_waiting,
                self.config
            ));
            self.release(state, after);
            return Err(error);
        }
        state.wait(entry);
        if matches!(state.link, Link::Down(_)) {
            state.begin_attempt(&mut after);
        }
        // Of several, the next is not known here.
        context::note_deadline(Some(now));
        self.release(state, after);
        Ok(Accepted::Waiting)
    }

    /// A caller has gone away. Once many have, those that still wait for their turn are let go with their bytes.
    pub(crate) fn abandoned(&self) {
        if self.is_stale() {
            return;
        }
        let mut state = lock(&self.state);
        state.abandoned += 1;
        if state.abandoned > 16 && state.abandoned > state.waiting.len() / 2 {
            state.abandoned = 0;
            let gone = state.take_waiting();
            for entry in gone {
                if entry.receiver.as_ref().is_some_and(|receiver| !receiver.has_left()) {
                    state.wait(entry);
                }
            }
        }
    }

    /// Whether this is a forked child and the connection is its parent's: it must not be touched.
    fn is_stale(&self) -> bool {
        self.epoch() != crate::fork::epoch()
    }

    /// Writes what is to be written and can be.
    pub(crate) fn flush(self: &Arc<Self>) {
        if self.is_stale() {
            return;
        }
        let mut state = lock(&self.state);
        let mut after = After::default();
        if state.has_unwritten()
            && let Err(error) = state.write()
        {
            self.lose(&mut state, &lost(&self.config, &error), &mut after);
        }
        self.release(state, after);
    }

    /// One step: read, complete, let waiting calls in, write, expire.
    pub(crate) fn drive(self: &Arc<Self>, now: Instant) {
        if self.is_stale() {
            return;
        }
        let mut state = lock(&self.state);
        let mut after = After::default();
        state.looked = now;
        if let Err(error) = state.read(&self.config) {
            self.lose(&mut state, &error, &mut after);
        }
        state.admit(self.config.response_timeout);
        if state.has_unwritten()
            && let Err(error) = state.write()
        {
            self.lose(&mut state, &lost(&self.config, &error), &mut after);
        }
        if state.earliest.is_some_and(|earliest| earliest <= now) {
            self.expire(&mut state, now, &mut after);
        }
        self.release(state, after);
    }

    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        lock(&self.state).earliest
    }

    /// Drops the connection, and with it a call that nobody waits for any more.
    pub(crate) fn close(self: &Arc<Self>) {
        if self.is_stale() {
            return;
        }
        let mut state = lock(&self.state);
        let mut after = After::default();
        self.lose(&mut state, &Error::connection("the call was cancelled"), &mut after);
        self.release(state, after);
    }

    /// Whether it is connected and has nothing to do.
    pub(crate) fn is_idle(&self) -> bool {
        let state = lock(&self.state);
        matches!(state.link, Link::Up { .. }) && state.in_flight.is_empty() && state.waiting.is_empty()
    }

    /// The connector's report on its attempt. One that took too long has been given up; its socket is closed here.
    pub(crate) fn connected(self: &Arc<Self>, attempt: u64, outcome: Result<Socket>) {
        if self.is_stale() {
            return;
        }
        let mut state = lock(&self.state);
        let mut after = After::default();
        state.connector_runs = false;
        if state.attempt != attempt || !matches!(state.link, Link::Connecting { .. }) {
            return;
        }
        let outcome = outcome.and_then(|mut socket| {
            socket.watch(self.reactor, self.key).map_err(|error| lost(&self.config, &error))?;
            Ok(socket)
        });
        match outcome {
            Ok(socket) => {
                state.failures = 0;
                state.link = Link::Up { socket, reader: Reader::new() };
                state.admit(self.config.response_timeout);
                if let Err(error) = state.write() {
                    self.lose(&mut state, &lost(&self.config, &error), &mut after);
                }
            }
            Err(error) => state.fail_attempt(&error),
        }
        self.release(state, after);
    }

    /// Lets go of the mutex, then does what must not be done under it.
    fn release(self: &Arc<Self>, mut state: MutexGuard<'_, State>, after: After) {
        let wakers = std::mem::take(&mut state.wakers);
        drop(state);
        if let Some(attempt) = after.connect {
            super::connect::spawn(self, attempt);
        }
        if wakers.is_empty() {
            return;
        }
        let mut wakers = wakers;
        for waker in wakers.drain(..) {
            waker.wake();
        }
        // The vector goes back, so that a busy connection does not allocate one for every batch.
        let mut state = lock(&self.state);
        if state.wakers.capacity() < wakers.capacity() && state.wakers.is_empty() {
            state.wakers = wakers;
        }
    }

    /// The connection is gone. Calls that did not reach the server, and those that may be repeated, wait for the next.
    fn lose(&self, state: &mut State, error: &Error, after: &mut After) {
        if !matches!(state.link, Link::Up { .. }) {
            return;
        }
        state.link = Link::Down(None);
        let (written, partly) = (state.written, state.partly);
        let mut again = VecDeque::new();
        for (at, mut entry) in std::mem::take(&mut state.in_flight).into_iter().enumerate() {
            let reached = at < written || (at == written && partly > 0);
            let repeatable = !reached || (entry.packet.repeatable && !entry.resent);
            let wanted = entry.receiver.as_ref().is_some_and(|receiver| !receiver.has_left());
            if !wanted {
                continue;
            }
            if repeatable {
                entry.resent |= reached;
                entry.replies.clear();
                entry.overdue = None;
                again.push_back(entry);
            } else {
                state.complete(entry, Err(error.clone()));
            }
        }
        (state.written, state.partly, state.bytes_in_flight) = (0, 0, 0);
        for entry in state.take_waiting() {
            again.push_back(entry);
        }
        for entry in again {
            state.wait(entry);
        }
        if !state.waiting.is_empty() {
            state.begin_attempt(after);
        }
    }

    fn expire(&self, state: &mut State, now: Instant, after: &mut After) {
        let too_late = |entry: &Entry, what: &str| {
            let seconds = entry.timeout.unwrap_or_default().as_secs_f64();
            Error::timeout(format!("{} {what} within {seconds} s", self.config))
        };
        if let Link::Connecting { since, .. } = state.link
            && now >= since + self.config.connect_timeout + Duration::from_millis(100)
        {
            // The connector hangs, in name resolution most likely; its result will not be wanted.
            state.attempt += 1;
            let error = Error::connection(format!(
                "cannot connect to {}: no answer within {} s (CONNECT_TIMEOUT)",
                self.config,
                self.config.connect_timeout.as_secs_f64()
            ));
            state.fail_attempt(&error);
        }
        let unreachable = match &state.link {
            Link::Connecting { previous: Some(error), .. } => Some(error.clone()),
            _ => None,
        };
        for entry in state.take_waiting() {
            if entry.waits_until().is_some_and(|until| until <= now) {
                let error =
                    unreachable.clone().unwrap_or_else(|| too_late(&entry, "could not take the call"));
                state.complete(entry, Err(error));
            } else {
                state.wait(entry);
            }
        }
        for at in 0..state.in_flight.len() {
            if state.in_flight[at].deadline.is_some_and(|deadline| deadline <= now)
                && let Some(receiver) = state.in_flight[at].receiver.take()
            {
                let error = too_late(&state.in_flight[at], "did not reply");
                state.wakers.extend(receiver.fill(Err(error)));
            }
        }
        if state.in_flight.front().and_then(|oldest| oldest.overdue).is_some_and(|overdue| overdue <= now) {
            let error = Error::connection(format!(
                "{} did not answer for {} s: the connection was reset; the command may have been executed",
                self.config,
                self.config.response_timeout.as_secs_f64()
            ));
            self.lose(state, &error, after);
        }
        state.recompute_earliest(&self.config);
    }
}
