//! What a driver knows of its connection, and what can be done to it while its mutex is held: nothing here blocks, wakes
//! or calls anybody.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::sync::Arc;
use std::task::Waker;
use std::time::{Duration, Instant};

use redis::Value;

use super::command::{Blocking, Packet};
use super::resp::Reader;
use super::slot::Receiver;
use super::socket::Socket;
use crate::config::Config;
use crate::context;
use crate::error::{Error, Result};

/// Calls that the server has not answered yet, at most; more wait their turn with their bytes in their own hands.
const MOST_IN_FLIGHT: usize = 16_384;
/// Bytes of such calls, at most (one call may be larger).
const MOST_BYTES_IN_FLIGHT: usize = 16 * 1024 * 1024;
/// Pieces of one vectored write.
const MOST_PIECES: usize = 128;
/// After a failed attempt, the first back-off; it doubles up to `LONGEST_BACK_OFF`, and is jittered.
const FIRST_BACK_OFF: Duration = Duration::from_millis(25);
const LONGEST_BACK_OFF: Duration = Duration::from_millis(1_000);
/// How long a call waits for an attempt to reconnect when the one before it failed.
pub(super) const PATIENCE: Duration = Duration::from_millis(250);

pub(super) struct State {
    pub(super) link: Link,
    pub(super) waiting: VecDeque<Entry>,
    pub(super) in_flight: VecDeque<Entry>,
    pub(super) bytes_in_flight: usize,
    pub(super) bytes_waiting: usize,
    /// Calls given up since `waiting` was last cleared of such.
    pub(super) abandoned: usize,
    /// When the socket was last read from, or tried.
    pub(super) looked: Instant,
    /// What was last sent was more than one call: there will be more again.
    pub(super) burst: bool,
    /// Entries at the front of `in_flight` whose bytes the kernel has, all of them.
    pub(super) written: usize,
    /// Bytes that it has of the entry after those.
    pub(super) partly: usize,
    /// No entry's deadline is earlier than this; it may be that of an entry that is long gone.
    pub(super) earliest: Option<Instant>,
    pub(super) failures: u32,
    pub(super) attempt: u64,
    /// A connector's thread lives, be it one that was given up: there is never a second one.
    pub(super) connector_runs: bool,
    pub(super) wakers: Vec<Waker>,
}

pub(super) enum Link {
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

pub(super) struct Entry {
    pub(super) packet: Packet,
    /// `None` once the caller has its answer (a time-out): the reply is still to come, and is thrown away.
    pub(super) receiver: Option<Arc<dyn Receiver>>,
    pub(super) replies: Vec<Value>,
    /// How long the caller waits, and until when that is; `None` is for as long as it takes.
    pub(super) timeout: Option<Duration>,
    pub(super) deadline: Option<Instant>,
    /// Until when it waits to be sent at all, if that is sooner.
    pub(super) patience: Option<Instant>,
    /// When the connection counts as dead if this is the oldest call and still unanswered.
    pub(super) overdue: Option<Instant>,
    pub(super) resent: bool,
}

/// What the caller of a step has to do once the mutex is free.
#[derive(Default)]
pub(super) struct After {
    pub(super) connect: Option<u64>,
}

impl Entry {
    /// When a call that has not been sent is given up.
    pub(super) fn waits_until(&self) -> Option<Instant> {
        self.deadline.into_iter().chain(self.patience).min()
    }
}

impl State {
    pub(super) fn new() -> Self {
        Self {
            link: Link::Down(None),
            waiting: VecDeque::new(),
            in_flight: VecDeque::new(),
            bytes_in_flight: 0,
            bytes_waiting: 0,
            abandoned: 0,
            looked: Instant::now(),
            burst: false,
            written: 0,
            partly: 0,
            earliest: None,
            failures: 0,
            attempt: 0,
            connector_runs: false,
            wakers: Vec::new(),
        }
    }

    pub(super) fn has_room(&self, entry: &Entry) -> bool {
        self.in_flight.is_empty()
            || (self.in_flight.len() < MOST_IN_FLIGHT
                && self.bytes_in_flight + entry.packet.bytes.len() <= MOST_BYTES_IN_FLIGHT)
    }

    pub(super) fn wait(&mut self, entry: Entry) {
        self.expire_no_later_than(entry.waits_until());
        self.bytes_waiting += entry.packet.bytes.len();
        self.waiting.push_back(entry);
    }

    pub(super) fn take_waiting(&mut self) -> VecDeque<Entry> {
        self.bytes_waiting = 0;
        std::mem::take(&mut self.waiting)
    }

    pub(super) fn has_unwritten(&self) -> bool {
        self.written < self.in_flight.len()
    }

    pub(super) fn enter(&mut self, mut entry: Entry, now: Instant, response_timeout: Duration) {
        entry.overdue = match entry.packet.blocking {
            // A caller with more patience than usual must not lose the connection before it runs out.
            Blocking::No => now.checked_add(response_timeout.max(entry.timeout.unwrap_or_default())),
            Blocking::Yes(None) => None,
            Blocking::Yes(Some(seconds)) => Duration::try_from_secs_f64(seconds)
                .ok()
                .and_then(|seconds| now.checked_add(response_timeout)?.checked_add(seconds)),
        };
        entry.patience = None;
        self.expire_no_later_than(entry.deadline.into_iter().chain(entry.overdue).min());
        self.bytes_in_flight += entry.packet.bytes.len();
        self.in_flight.push_back(entry);
    }

    pub(super) fn expire_no_later_than(&mut self, deadline: Option<Instant>) {
        context::note_deadline(deadline);
        if let Some(deadline) = deadline
            && self.earliest.is_none_or(|earliest| deadline < earliest)
        {
            self.earliest = Some(deadline);
        }
    }

    pub(super) fn recompute_earliest(&mut self, config: &Config) {
        let connecting = match self.link {
            Link::Connecting { since, .. } => {
                Some(since + config.connect_timeout + Duration::from_millis(100))
            }
            _ => None,
        };
        let waiting = self.waiting.iter().filter_map(Entry::waits_until);
        let in_flight =
            self.in_flight.iter().filter(|entry| entry.receiver.is_some()).filter_map(|entry| entry.deadline);
        self.earliest = waiting
            .chain(in_flight)
            .chain(self.in_flight.front().and_then(|oldest| oldest.overdue))
            .chain(connecting)
            .min();
    }

    pub(super) fn begin_attempt(&mut self, after: &mut After) {
        let previous = match std::mem::replace(&mut self.link, Link::Down(None)) {
            Link::Down(Some((error, _))) => Some(error),
            _ => None,
        };
        let since = Instant::now();
        self.link = Link::Connecting { since, previous };
        self.attempt += 1;
        self.connector_runs = true;
        after.connect = Some(self.attempt);
        // Looked at again soon, so that whoever drives us also sees the attempt's own end of patience.
        self.expire_no_later_than(Some(since + PATIENCE));
    }

    pub(super) fn fail_attempt(&mut self, error: &Error) {
        let back_off = back_off(self.failures, self.attempt);
        self.failures = self.failures.saturating_add(1);
        self.link = Link::Down(Some((error.clone(), Instant::now() + back_off)));
        for entry in self.take_waiting() {
            self.complete(entry, Err(error.clone()));
        }
    }

    /// Moves waiting calls into flight while there is room.
    pub(super) fn admit(&mut self, response_timeout: Duration) {
        if self.waiting.is_empty() || !matches!(self.link, Link::Up { .. }) {
            return;
        }
        let now = Instant::now();
        while let Some(entry) = self.waiting.pop_front() {
            self.bytes_waiting -= entry.packet.bytes.len();
            if entry.receiver.as_ref().is_none_or(|receiver| receiver.has_left()) {
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

    pub(super) fn write(&mut self) -> io::Result<()> {
        let Link::Up { socket, .. } = &mut self.link else { return Ok(()) };
        self.burst = self.in_flight.len() - self.written > 1;
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
    pub(super) fn read(&mut self, config: &Config) -> Result<()> {
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
    pub(super) fn deliver(&mut self, reply: Value, config: &Config) -> Result<()> {
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

    pub(super) fn complete(&mut self, entry: Entry, result: Result<Value>) {
        if let Some(receiver) = entry.receiver {
            self.wakers.extend(receiver.fill(result));
        }
    }
}

pub(super) fn lost(config: &Config, error: &io::Error) -> Error {
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
