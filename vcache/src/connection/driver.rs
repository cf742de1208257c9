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
use std::io::{self, IoSlice};
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::Waker;
use std::time::{Duration, Instant};

use redis::Value;

use super::command::{Blocking, Packet};
use super::resp::Reader;
use super::slot::Slot;
use super::socket::Socket;
use crate::config::Config;
use crate::error::{Error, Result};
use crate::reactor::{Reactor, lock};

/// Calls that the server has not answered yet, at most; more wait their turn with their bytes in their own hands.
const MOST_IN_FLIGHT: usize = 16_384;
/// Bytes of such calls, at most (one call may be larger).
const MOST_BYTES_IN_FLIGHT: usize = 16 * 1024 * 1024;
/// Calls that wait for a connection or for room, at most; more are refused at once.
const MOST_WAITING: usize = 65_536;
/// Bytes of those, at most.
const MOST_BYTES_WAITING: usize = 256 * 1024 * 1024;
/// An idle connection that was not read from for so long is looked at before it is used: the server may have closed it.
const MAY_BE_STALE: Duration = Duration::from_millis(1);
/// Pieces of one vectored write.
const MOST_PIECES: usize = 128;
/// After a failed attempt, the first back-off; it doubles up to `LONGEST_BACK_OFF`, and is jittered.
const FIRST_BACK_OFF: Duration = Duration::from_millis(25);
const LONGEST_BACK_OFF: Duration = Duration::from_millis(1_000);
/// How long a call waits for an attempt to reconnect when the one before it failed.
const PATIENCE: Duration = Duration::from_millis(250);

pub(crate) struct Driver {
    config: Arc<Config>,
    reactor: &'static Reactor,
    key: usize,
    state: Mutex<State>,
}

struct State {
    link: Link,
    waiting: VecDeque<Entry>,
    in_flight: VecDeque<Entry>,
    bytes_in_flight: usize,
    bytes_waiting: usize,
    /// Calls given up since `waiting` was last cleared of such.
    abandoned: usize,
    /// When the socket was last read from, or tried.
    looked: Instant,
    /// Entries at the front of `in_flight` whose bytes the kernel has, all of them.
    written: usize,
    /// Bytes that it has of the entry after those.
    partly: usize,
    /// No entry's deadline is earlier than this; it may be that of an entry that is long gone.
    earliest: Option<Instant>,
    failures: u32,
    attempt: u64,
    wakers: Vec<Waker>,
}

enum Link {
    /// Not connected. After a failed attempt: why, and when the next one may be made.
    Down(Option<(Error, Instant)>),
    /// An attempt is under way since then; what the attempt before it failed with, if it did.
    Connecting {
        since: Instant,
        previous: Option<Error>,
    },
    Up {
        socket: Socket,
        reader: Reader,
    },
}

struct Entry {
    packet: Packet,
    /// `None` once the caller has its answer (a time-out): the reply is still to come, and is thrown away.
    slot: Option<Arc<Slot>>,
    replies: Vec<Value>,
    /// How long the caller waits, and until when that is; `None` is for as long as it takes.
    timeout: Option<Duration>,
    deadline: Option<Instant>,
    /// When the connection counts as dead if this is the oldest call and still unanswered.
    overdue: Option<Instant>,
    resent: bool,
}

/// What became of a call that was submitted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Accepted {
    /// It is the only one: sending it at once is best.
    Alone,
    /// It joined others that are on their way.
    Busy,
    /// It waits for a connection, or for room.
    Waiting,
}

/// What the caller of a step has to do once the mutex is free.
#[derive(Default)]
struct After {
    connect: Option<u64>,
}

impl Driver {
    pub(crate) fn new(config: Arc<Config>, reactor: &'static Reactor, key: usize) -> Self {
        Self {
            config,
            reactor,
            key,
            state: Mutex::new(State {
                link: Link::Down(None),
                waiting: VecDeque::new(),
                in_flight: VecDeque::new(),
                bytes_in_flight: 0,
                bytes_waiting: 0,
                abandoned: 0,
                looked: Instant::now(),
                written: 0,
                partly: 0,
                earliest: None,
                failures: 0,
                attempt: 0,
                wakers: Vec::new(),
            }),
        }
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
        slot: &Arc<Slot>,
        timeout: Option<Duration>,
    ) -> Result<Accepted> {
        let now = Instant::now();
        let deadline = timeout.map(|timeout| now + timeout);
        let mut entry = Entry {
            packet,
            slot: Some(Arc::clone(slot)),
            replies: Vec::new(),
            timeout,
            deadline,
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
                state.expire_no_later_than(deadline);
                let accepted = if state.in_flight.is_empty() { Accepted::Alone } else { Accepted::Busy };
                state.enter(entry, now, self.config.response_timeout);
                return Ok(accepted);
            }
            Link::Up { .. } => {}
            Link::Down(Some((error, retry_at))) if now < *retry_at => return Err(error.clone()),
            Link::Down(_) => {}
            Link::Connecting { since, previous: Some(_) } => {
                let patience = *since + PATIENCE;
                entry.deadline = Some(entry.deadline.map_or(patience, |deadline| deadline.min(patience)));
            }
            Link::Connecting { previous: None, .. } => {}
        }
        let bytes = state.bytes_waiting + entry.packet.bytes.len();
        if state.waiting.len() >= MOST_WAITING || (bytes > MOST_BYTES_WAITING && !state.waiting.is_empty()) {
            return Err(Error::connection(format!(
                "{} calls with {} bytes are already waiting for {}: it is too slow for this load",
                state.waiting.len(),
                state.bytes_waiting,
                self.config
            )));
        }
        state.expire_no_later_than(entry.deadline);
        state.wait(entry);
        if matches!(state.link, Link::Down(_)) {
            state.begin_attempt(&mut after);
        }
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
                if entry.slot.as_ref().is_some_and(|slot| !slot.is_abandoned()) {
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
            let repeatable = !reached || (entry.packet.idempotent && !entry.resent);
            let wanted = entry.slot.as_ref().is_some_and(|slot| !slot.is_abandoned());
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
        let due = |entry: &Entry| entry.deadline.is_some_and(|deadline| deadline <= now);
        let unreachable = match &state.link {
            Link::Connecting { previous: Some(error), .. } => Some(error.clone()),
            _ => None,
        };
        for entry in state.take_waiting() {
            if due(&entry) {
                let error =
                    unreachable.clone().unwrap_or_else(|| too_late(&entry, "could not take the call"));
                state.complete(entry, Err(error));
            } else {
                state.wait(entry);
            }
        }
        for at in 0..state.in_flight.len() {
            if due(&state.in_flight[at])
                && let Some(slot) = state.in_flight[at].slot.take()
            {
                let error = too_late(&state.in_flight[at], "did not reply");
                state.wakers.extend(slot.fill(Err(error)));
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

impl State {
    fn has_room(&self, entry: &Entry) -> bool {
        self.in_flight.is_empty()
            || (self.in_flight.len() < MOST_IN_FLIGHT
                && self.bytes_in_flight + entry.packet.bytes.len() <= MOST_BYTES_IN_FLIGHT)
    }

    fn wait(&mut self, entry: Entry) {
        self.bytes_waiting += entry.packet.bytes.len();
        self.waiting.push_back(entry);
    }

    fn take_waiting(&mut self) -> VecDeque<Entry> {
        self.bytes_waiting = 0;
        std::mem::take(&mut self.waiting)
    }

    fn has_unwritten(&self) -> bool {
        self.written < self.in_flight.len()
    }

    fn enter(&mut self, mut entry: Entry, now: Instant, response_timeout: Duration) {
        entry.overdue = match entry.packet.blocking {
            Blocking::No => Some(now + response_timeout),
            Blocking::Yes(None) => None,
            Blocking::Yes(Some(seconds)) => Some(
                now + response_timeout + Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX / 4),
            ),
        };
        self.expire_no_later_than(entry.overdue);
        self.bytes_in_flight += entry.packet.bytes.len();
        self.in_flight.push_back(entry);
    }

    fn expire_no_later_than(&mut self, deadline: Option<Instant>) {
        if let Some(deadline) = deadline
            && self.earliest.is_none_or(|earliest| deadline < earliest)
        {
            self.earliest = Some(deadline);
        }
    }

    fn recompute_earliest(&mut self, config: &Config) {
        let connecting = match self.link {
            Link::Connecting { since, .. } => {
                Some(since + config.connect_timeout + Duration::from_millis(100))
            }
            _ => None,
        };
        self.earliest = self
            .waiting
            .iter()
            .chain(&self.in_flight)
            .filter(|entry| entry.slot.is_some())
            .filter_map(|entry| entry.deadline)
            .chain(self.in_flight.front().and_then(|oldest| oldest.overdue))
            .chain(connecting)
            .min();
    }

    fn begin_attempt(&mut self, after: &mut After) {
        let previous = match std::mem::replace(&mut self.link, Link::Down(None)) {
            Link::Down(Some((error, _))) => Some(error),
            _ => None,
        };
        let since = Instant::now();
        self.link = Link::Connecting { since, previous };
        self.attempt += 1;
        after.connect = Some(self.attempt);
        // Looked at again soon, so that whoever drives us also sees the attempt's own end of patience.
        self.expire_no_later_than(Some(since + PATIENCE));
    }

    fn fail_attempt(&mut self, error: &Error) {
        let back_off = back_off(self.failures, self.attempt);
        self.failures = self.failures.saturating_add(1);
        self.link = Link::Down(Some((error.clone(), Instant::now() + back_off)));
        for entry in self.take_waiting() {
            self.complete(entry, Err(error.clone()));
        }
    }

    /// Moves waiting calls into flight while there is room.
    fn admit(&mut self, response_timeout: Duration) {
        if self.waiting.is_empty() || !matches!(self.link, Link::Up { .. }) {
            return;
        }
        let now = Instant::now();
        while let Some(entry) = self.waiting.pop_front() {
            self.bytes_waiting -= entry.packet.bytes.len();
            if entry.slot.as_ref().is_none_or(|slot| slot.is_abandoned()) {
                continue;
            }
            if !self.has_room(&entry) {
                self.bytes_waiting += entry.packet.bytes.len();
                self.waiting.push_front(entry);
                return;
            }
            self.enter(entry, now, response_timeout);
        }
    }

    fn write(&mut self) -> io::Result<()> {
        let Link::Up { socket, .. } = &mut self.link else { return Ok(()) };
        while self.written < self.in_flight.len() {
            let mut pieces = [IoSlice::new(&[]); MOST_PIECES];
            let mut count = 0;
            let mut skip = self.partly;
            for entry in self.in_flight.range(self.written..).take(MOST_PIECES) {
                pieces[count] = IoSlice::new(&entry.packet.bytes[skip..]);
                skip = 0;
                count += 1;
            }
            match socket.write(&pieces[..count]) {
                Ok(mut sent) => {
                    sent += self.partly;
                    while let Some(entry) = self.in_flight.get(self.written)
                        && sent >= entry.packet.bytes.len()
                    {
                        sent -= entry.packet.bytes.len();
                        self.written += 1;
                    }
                    self.partly = sent;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return socket.want_write(true),
                Err(error) => return Err(error),
            }
        }
        socket.want_write(false)
    }

    /// Reads what is there and completes the calls that it answers.
    fn read(&mut self, config: &Config) -> Result<()> {
        loop {
            let Link::Up { socket, reader } = &mut self.link else { return Ok(()) };
            let (count, more) = match reader.fill(|room| socket.read(room)) {
                Ok(read) => read,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(lost(config, &error)),
            };
            if count == 0 {
                return Err(lost(
                    config,
                    &io::Error::new(io::ErrorKind::UnexpectedEof, "the server closed it"),
                ));
            }
            loop {
                let Link::Up { reader, .. } = &mut self.link else { return Ok(()) };
                match reader.next() {
                    Ok(Some(Value::Push { .. })) => {}
                    Ok(Some(reply)) => self.deliver(reply, config)?,
                    Ok(None) => break,
                    Err(error) => {
                        return Err(Error::connection(format!(
                            "{} sent what is not a reply ({}): the connection was reset; is it a Valkey or Redis server?",
                            config, error.0
                        )));
                    }
                }
            }
            if !more {
                return Ok(());
            }
        }
    }

    /// Gives a reply to the oldest call.
    fn deliver(&mut self, reply: Value, config: &Config) -> Result<()> {
        let unasked = || {
            Error::connection(format!(
                "{config} sent a reply that nothing asked for: the connection was reset"
            ))
        };
        let Some(oldest) = self.in_flight.front_mut() else { return Err(unasked()) };
        // A long pipeline is answered while it is being written, but for its last reply.
        let complete = oldest.replies.len() + 1 == oldest.packet.replies;
        if self.written == 0 && (self.partly == 0 || complete) {
            return Err(unasked());
        }
        let result = if oldest.packet.replies == 1 {
            reply
        } else {
            oldest.replies.push(reply);
            if oldest.replies.len() < oldest.packet.replies {
                return Ok(());
            }
            Value::Array(std::mem::take(&mut oldest.replies))
        };
        if let Some(entry) = self.in_flight.pop_front() {
            self.written -= 1;
            self.bytes_in_flight -= entry.packet.bytes.len();
            self.complete(entry, Ok(result));
        }
        Ok(())
    }

    fn complete(&mut self, entry: Entry, result: Result<Value>) {
        if let Some(slot) = entry.slot {
            self.wakers.extend(slot.fill(result));
        }
    }
}

fn lost(config: &Config, error: &io::Error) -> Error {
    Error::connection(format!(
        "the connection to {config} was lost ({error}); the command may or may not have been executed"
    ))
}

/// Doubles from attempt to attempt; half of it is jitter, so that a fleet does not come back all at once.
fn back_off(failures: u32, seed: u64) -> Duration {
    let full = FIRST_BACK_OFF.saturating_mul(1 << failures.min(10)).min(LONGEST_BACK_OFF);
    let mixed = (seed ^ u64::from(std::process::id())).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
    let jitter = full.as_secs_f64() / 2.0 * (mixed as f64 / f64::from(u32::MAX));
    full / 2 + Duration::from_secs_f64(jitter)
}
