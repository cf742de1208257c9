//! What a driver knows of its connection, and the steps that move it on. A step is taken while the driver's mutex is held:
//! nothing here blocks, wakes or calls anything foreign. Callers that were completed are in `wakers`, for the driver to wake
//! once the mutex is free.

use std::io::{self, IoSlice};
use std::sync::{Arc, Weak};
use std::task::Waker;
use std::time::{Duration, Instant};

use redis::Value;

use super::command::{Blocking, Packet};
use super::dial::Established;
use super::in_flight::{Entry, InFlight, Unasked};
use super::limits::Limits;
use super::link::{BackOff, Link, Pause, Up};
use super::push::Pushes;
use super::refusal::WhenRefused;
use super::waiting::Waiting;
use crate::config::Config;
use crate::error::{Error, Result};
use crate::fork;
use crate::reactor::{Driven, Watch};

/// Calls that the server has not answered yet, at most; more wait their turn with their bytes in their own hands.
const MOST_IN_FLIGHT: usize = 16_384;
/// Bytes of such calls, at most (one call may be larger).
const MOST_BYTES_IN_FLIGHT: usize = 16 * 1024 * 1024;
/// Pieces of one vectored write.
const MOST_PIECES: usize = 128;
/// Bytes that one step reads, at most: then others have their turn.
const MOST_READ: usize = 1024 * 1024;
/// How long a call waits for an attempt to reconnect when the one before it failed.
pub(super) const PATIENCE: Duration = Duration::from_millis(250);
/// A connector that has not reported so long after its time was over hangs, in name resolution most likely.
const GRACE: Duration = Duration::from_millis(100);
/// An idle connection that was not read from for so long is looked at before it is used: the server may have closed it.
const MAY_BE_STALE: Duration = Duration::from_millis(1);
/// A connection over the network that was idle for so long may be gone without a word: it is asked before it is used.
const MAY_BE_GONE: Duration = Duration::from_secs(10);
/// How long it may take to answer that.
const PROBE_PATIENCE: Duration = Duration::from_millis(250);
/// A connection that is lost earlier is a failure, and the next attempt waits.
const SHORT_LIFE: Duration = Duration::from_secs(1);
/// A server that refuses writes is left for another one at most so often.
const LEAVES_AT_MOST: Duration = Duration::from_secs(1);

pub(super) struct State {
    config: Arc<Config>,
    epoch: u64,
    key: usize,
    link: Link,
    waiting: Waiting,
    in_flight: InFlight,
    pub(super) pushes: Pushes,
    /// When the socket was last read from, or tried.
    looked: Instant,
    /// When bytes last came, or the transport last took some of a call that it does not have whole.
    progress: Instant,
    /// When a part of a long reply last came: calls behind it are held up by it.
    held_up: Option<Instant>,
    /// What was last sent was more than one call: there will be more again.
    burst: bool,
    /// What is due was put off, because the step had just written.
    put_off: bool,
    /// No deadline is earlier than this; it may be that of a call that is long gone.
    earliest: Option<Instant>,
    watched: Option<Watched>,
    back_off: BackOff,
    attempt: u64,
    /// A connector's thread lives, be it one that was given up: there is never a second one.
    connector_runs: bool,
    /// When a server that refused writes was last left.
    left: Option<Instant>,
    wakers: Vec<Waker>,
}

/// The watch that this connection is in, and the deadline that it knows of.
struct Watched {
    watch: Arc<Watch>,
    deadline: Option<Instant>,
}

/// What became of a call that was submitted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Accepted {
    /// It is the only one, and was so before: sending it at once is best.
    Alone,
    /// It joined others that are on their way, or will come.
    Busy,
    /// It waits for a connection, or for room.
    Waiting,
}

/// What the caller of a step has to do once the mutex is free.
#[derive(Default)]
pub(super) struct After {
    /// The attempt to connect that it has to start.
    pub(super) connect: Option<u64>,
    pub(super) wake: Vec<Waker>,
}

impl State {
    pub(super) fn new(config: Arc<Config>, key: usize) -> Self {
        let now = Instant::now();
        Self {
            config,
            epoch: fork::epoch(),
            key,
            link: Link::Down(None),
            waiting: Waiting::default(),
            in_flight: InFlight::default(),
            pushes: Pushes::default(),
            looked: now,
            progress: now,
            held_up: None,
            burst: false,
            put_off: false,
            earliest: None,
            watched: None,
            back_off: BackOff::default(),
            attempt: 0,
            connector_runs: false,
            left: None,
            wakers: Vec::new(),
        }
    }

    // Where it is watched.

    /// Has `watch` tell when there is something to do, and no other.
    pub(super) fn attach(&mut self, watch: &Arc<Watch>, driven: &Weak<dyn Driven>, now: Instant) -> After {
        let mut after = After::default();
        if self.watched.as_ref().is_some_and(|watched| Arc::ptr_eq(&watched.watch, watch)) {
            return after;
        }
        self.detach();
        watch.add(self.key, driven);
        watch.set_deadline(self.key, None, self.earliest);
        self.watched = Some(Watched { watch: Arc::clone(watch), deadline: self.earliest });
        if let Link::Up(up) = &mut self.link
            && let Err(error) = up.transport.attach(watch, self.key)
        {
            self.lose(&self.lost(&error), now, &mut after);
        }
        after
    }

    /// Nothing tells any more.
    pub(super) fn detach(&mut self) {
        if let Some(Watched { watch, deadline }) = self.watched.take() {
            watch.remove(self.key);
            watch.set_deadline(self.key, deadline, None);
        }
        if let Link::Up(up) = &mut self.link {
            up.transport.detach();
        }
    }

    /// Tells the watch of a new deadline, and hands over what is to be done without the mutex.
    pub(super) fn settle(&mut self, after: &mut After) {
        if let Some(watched) = &mut self.watched
            && watched.deadline != self.earliest
        {
            watched.watch.set_deadline(self.key, watched.deadline, self.earliest);
            watched.deadline = self.earliest;
        }
        after.wake = std::mem::take(&mut self.wakers);
    }

    /// The vector goes back, so that a busy connection does not allocate one for every batch.
    pub(super) fn give_back(&mut self, wakers: Vec<Waker>) {
        if self.wakers.capacity() < wakers.capacity() && self.wakers.is_empty() {
            self.wakers = wakers;
        }
    }

    // Taking calls.

    /// Whether it is connected and has nothing to do.
    pub(super) fn is_idle(&self) -> bool {
        matches!(self.link, Link::Up(_)) && self.in_flight.is_empty() && self.waiting.is_empty()
    }

    pub(super) fn has_unwritten(&self) -> bool {
        self.in_flight.has_unwritten()
    }

    /// Whether what is to be written has waited long enough for more to join it.
    pub(super) fn has_waited(&self, now: Instant, longest: Duration, most_bytes: usize) -> bool {
        self.in_flight.unwritten_bytes() >= most_bytes
            || self
                .in_flight
                .unwritten_since()
                .is_some_and(|since| now.saturating_duration_since(since) >= longest)
    }

    fn has_room(&self, entry: &Entry) -> bool {
        self.in_flight.is_empty()
            || (self.in_flight.len() < MOST_IN_FLIGHT
                && self.in_flight.bytes() + entry.packet.bytes.len() <= MOST_BYTES_IN_FLIGHT)
    }

    /// Whether a call can be sent now, before all that may wait.
    fn takes(&self, entry: &Entry) -> bool {
        matches!(&self.link, Link::Up(up) if up.takes_calls())
            && self.waiting.is_empty()
            && self.has_room(entry)
    }

    /// Accepts a call, or refuses it at once.
    pub(super) fn accept(&mut self, mut entry: Entry, now: Instant, after: &mut After) -> Result<Accepted> {
        if self.in_flight.is_empty() && now.saturating_duration_since(self.looked) > MAY_BE_STALE {
            self.look_or_lose(now, after);
            self.probe(now);
        } else if !self.in_flight.is_empty() && !self.has_room(&entry) && self.waiting.is_empty() {
            // The caller may submit more than there is room for before anything else reads.
            self.look_or_lose(now, after);
        }
        if self.takes(&entry) {
            let alone = self.in_flight.is_empty() && !self.burst;
            self.in_flight.push(entry, now);
            return Ok(if alone { Accepted::Alone } else { Accepted::Busy });
        }
        entry.waits_until = entry.limits.wait_from(now);
        match &self.link {
            Link::Up(_) | Link::Down(None) | Link::Connecting { previous: None, .. } => {}
            Link::Down(Some(pause)) if pause.calls_wait => entry.wait_no_longer_than(pause.until + PATIENCE),
            Link::Down(Some(pause)) if now < pause.until || self.connector_runs => {
                return Err(pause.error.clone());
            }
            // After a failed attempt no call waits long for the next one to fail too, whichever call began it.
            Link::Down(Some(_)) => entry.wait_no_longer_than(now + PATIENCE),
            Link::Connecting { since, previous: Some(_) } => entry.wait_no_longer_than(*since + PATIENCE),
        }
        if !self.waiting.takes(&entry) {
            return Err(Error::connection(format!(
                "{} calls with {} bytes are already waiting for {}: it is too slow for this load",
                self.waiting.len(),
                self.waiting.bytes(),
                self.config
            )));
        }
        self.wait(entry);
        match &self.link {
            Link::Down(Some(pause)) if now < pause.until => self.come_by(Some(pause.until)),
            Link::Down(_) => self.begin_attempt(now, after),
            Link::Connecting { .. } | Link::Up(_) => {}
        }
        Ok(Accepted::Waiting)
    }

    fn wait(&mut self, entry: Entry) {
        self.come_by(entry.waits_until);
        self.waiting.push(entry);
    }

    /// A caller has gone away.
    pub(super) fn abandoned(&mut self) {
        self.waiting.abandoned();
    }

    /// Makes sure that a step is taken at that moment.
    pub(super) fn come_by(&mut self, deadline: Option<Instant>) {
        if let Some(deadline) = deadline
            && self.earliest.is_none_or(|earliest| deadline < earliest)
        {
            self.earliest = Some(deadline);
        }
    }

    /// Asks a connection that may be gone without a word whether it lives. Calls wait for the answer.
    fn probe(&mut self, now: Instant) {
        let idle = now.saturating_duration_since(self.progress);
        let Link::Up(up) = &mut self.link else { return };
        if idle < MAY_BE_GONE || self.config.address.is_local() || !up.takes_calls() {
            return;
        }
        let until = now + PROBE_PATIENCE;
        up.probed_until = Some(until);
        self.in_flight.push(Entry::new(Packet::ping(), None, Limits::default()), now);
        self.come_by(Some(until));
    }

    // Steps.

    /// Reads, lets waiting calls in, writes, and ends what is due.
    pub(super) fn step(&mut self, now: Instant, after: &mut After) {
        let is_drained = self.look_or_lose(now, after);
        self.admit(now);
        let wrote = self.write_or_lose(now, after);
        if self.earliest.is_none_or(|earliest| earliest > now) {
            return;
        }
        // What is due may be answered by what lies in the socket, or by what the server makes of what it was just sent.
        if is_drained && (!wrote || self.put_off) {
            self.put_off = false;
            self.expire(now, after);
        } else {
            self.put_off = wrote;
        }
    }

    /// Writes what is to be written and can be.
    pub(super) fn write_or_lose(&mut self, now: Instant, after: &mut After) -> bool {
        if !self.in_flight.has_unwritten() {
            return false;
        }
        if let Err(error) = self.write(now) {
            // What it said before it closed the connection, answers among it, is still to be read.
            if self.look_or_lose(now, after) {
                self.lose(&self.lost(&error), now, after);
            }
        }
        true
    }

    /// Reads what is there. `true`: there is no more for now.
    fn look_or_lose(&mut self, now: Instant, after: &mut After) -> bool {
        let is_drained = match self.look(now) {
            Ok(is_drained) => is_drained,
            Err(error) => {
                self.lose(&error, now, after);
                true
            }
        };
        if self.in_flight.is_empty() && matches!(&self.link, Link::Up(up) if up.leaves) {
            self.leave(now, after);
        }
        is_drained
    }

    fn look(&mut self, now: Instant) -> Result<bool> {
        self.looked = now;
        let mut read = 0;
        loop {
            let Link::Up(up) = &mut self.link else { return Ok(true) };
            let (count, more) = match up.reader.fill(|room| up.transport.read(room)) {
                Ok(filled) => filled,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(true),
                Err(error) if up.last_words.is_none() => return Err(self.lost(&error)),
                Err(_) => return Err(self.closed()),
            };
            if count == 0 {
                return Err(self.closed());
            }
            self.progress = now;
            self.deliver_all(now)?;
            if !more {
                return Ok(true);
            }
            read += count;
            if read >= MOST_READ {
                return Ok(false);
            }
        }
    }

    fn deliver_all(&mut self, now: Instant) -> Result<()> {
        loop {
            let Link::Up(up) = &mut self.link else { return Ok(()) };
            match up.reader.next() {
                Ok(Some(Value::Push { kind, data })) => self.pushes.dispatch(&kind, &data, &mut self.wakers),
                Ok(Some(reply)) => self.deliver(reply, now)?,
                Ok(None) => {
                    if up.reader.is_within_a_long_reply() {
                        self.held_up = Some(now);
                    }
                    return Ok(());
                }
                Err(error) => {
                    return Err(Error::connection(format!(
                        "{} sent what is not a reply ({}): the connection was reset; is it a Valkey or Redis server?",
                        self.config, error.0
                    )));
                }
            }
        }
    }

    /// Gives a reply to the oldest call.
    fn deliver(&mut self, reply: Value, now: Instant) -> Result<()> {
        let (entry, result) = match self.in_flight.answered(reply) {
            Ok(Some(answered)) => answered,
            Ok(None) => return Ok(()),
            Err(Unasked(reply)) => {
                let what = match last_words(&reply) {
                    Some(words) => format!("gave the connection up: {words}"),
                    None => "sent a reply that nothing asked for: the connection was reset".to_owned(),
                };
                return Err(Error::connection(format!("{} {what}", self.config)));
            }
        };
        let Link::Up(up) = &mut self.link else { return Ok(()) };
        up.probed_until = None;
        if up.last_words.is_some() || matches!(result, Value::ServerError(_)) {
            up.last_words = last_words(&result);
        }
        if is_refused_by_a_replica(&entry.packet, &result) {
            self.refused_by_a_replica(entry, result, now);
            return Ok(());
        }
        if !up.has_replied {
            up.has_replied = true;
            self.back_off.reset();
        }
        self.wakers.extend(entry.complete(Ok(result)));
        Ok(())
    }

    /// The server is no primary any more. Nothing was executed, so the call goes to the one that is.
    fn refused_by_a_replica(&mut self, mut entry: Entry, refusal: Value, now: Instant) {
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
    fn leave(&mut self, now: Instant, after: &mut After) {
        self.left = Some(now);
        self.link = Link::Down(None);
        self.pushes.lost(&mut self.wakers);
        if !self.waiting.is_empty() {
            self.begin_attempt(now, after);
        }
    }

    /// Moves waiting calls into flight while there is room.
    fn admit(&mut self, now: Instant) {
        if self.waiting.is_empty() || !matches!(&self.link, Link::Up(up) if up.takes_calls()) {
            return;
        }
        let in_flight = &self.in_flight;
        let (mut count, mut bytes) = (in_flight.len(), in_flight.bytes());
        let mut admitted = Vec::new();
        while let Some(entry) = self.waiting.next(|entry| {
            count == 0 || (count < MOST_IN_FLIGHT && bytes + entry.packet.bytes.len() <= MOST_BYTES_IN_FLIGHT)
        }) {
            count += 1;
            bytes += entry.packet.bytes.len();
            admitted.push(entry);
        }
        for entry in admitted {
            self.in_flight.push(entry, now);
        }
    }

    fn write(&mut self, now: Instant) -> io::Result<()> {
        let Link::Up(up) = &mut self.link else { return Ok(()) };
        self.burst = self.in_flight.unwritten() > 1;
        let mut due = None;
        let outcome = loop {
            if !self.in_flight.has_unwritten() {
                break up.transport.want_write(false);
            }
            let mut pieces = [IoSlice::new(&[]); MOST_PIECES];
            let count = self.in_flight.pieces(&mut pieces);
            match up.transport.write(&pieces[..count]) {
                Ok(sent) => {
                    let next = self.in_flight.advance(sent, now);
                    due = due.into_iter().chain(next).min();
                    if self.in_flight.is_sending_the_oldest() {
                        self.progress = now;
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    let next = self.in_flight.blocked(now);
                    due = due.into_iter().chain(next).min();
                    break up.transport.want_write(true);
                }
                Err(error) => break Err(error),
            }
        };
        self.come_by(due);
        outcome
    }

    // The connection comes and goes.

    fn begin_attempt(&mut self, now: Instant, after: &mut After) {
        if self.connector_runs {
            // It reports in a moment, and its connection is taken.
            return;
        }
        let previous = match std::mem::replace(&mut self.link, Link::Down(None)) {
            Link::Down(Some(pause)) => Some(pause.error),
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
    pub(super) fn connected(
        &mut self,
        attempt: u64,
        outcome: Result<Established>,
        now: Instant,
        after: &mut After,
    ) {
        self.connector_runs = false;
        let is_current = self.attempt == attempt && matches!(self.link, Link::Connecting { .. });
        let attached = outcome.and_then(|mut established| {
            if let Some(Watched { watch, .. }) = &self.watched {
                established.transport.attach(watch, self.key).map_err(|error| self.lost(&error))?;
            }
            Ok(established)
        });
        match attached {
            Ok(established) if !matches!(self.link, Link::Up(_)) => {
                self.link = Link::Up(Up::new(established, now));
                (self.progress, self.looked, self.held_up) = (now, now, None);
                // What the server said beyond the handshake.
                if let Err(error) = self.deliver_all(now) {
                    self.lose(&error, now, after);
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

    fn fail_attempt(&mut self, error: &Error, now: Instant) {
        let until = now + self.back_off.next();
        self.link = Link::Down(Some(Pause { error: error.clone(), until, calls_wait: false }));
        for mut entry in self.waiting.take() {
            let result = entry.refusal.take().map_or_else(|| Err(error.clone()), Ok);
            self.wakers.extend(entry.complete(result));
        }
    }

    /// Drops the connection, and with it a call that its caller gave up.
    pub(super) fn close(&mut self, now: Instant, after: &mut After) {
        self.lose(&Error::connection("the call was cancelled"), now, after);
    }

    /// The connection is gone. Calls that did not reach the server, and those that may be repeated, wait for the next.
    fn lose(&mut self, error: &Error, now: Instant, after: &mut After) {
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
            for mut entry in std::mem::take(&mut waiting) {
                if calls_wait {
                    entry.wait_no_longer_than(until + PATIENCE);
                    waiting.push(entry);
                } else {
                    self.wakers.extend(entry.complete(Err(error.clone())));
                }
            }
            if !waiting.is_empty() {
                self.come_by(Some(until));
            }
        }
        for entry in waiting {
            self.wait(entry);
        }
        if !self.waiting.is_empty() && matches!(self.link, Link::Down(None)) {
            self.begin_attempt(now, after);
        }
    }

    /// The call of a lost connection, if it is to be sent again.
    fn retry(&mut self, mut entry: Entry, error: &Error) -> Option<Entry> {
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

    // Deadlines.

    /// Ends what is due: calls, an attempt to connect, the pause before one, a connection that is silent.
    fn expire(&mut self, now: Instant, after: &mut After) {
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
        self.earliest = self.next_deadline();
    }

    fn expire_waiting(&mut self, now: Instant) {
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
    fn dead_at(&self) -> Option<Instant> {
        let (started, limits, blocking) = self.in_flight.oldest()?;
        let longest = match blocking {
            // A caller with more patience than usual must not lose the connection before it runs out.
            Blocking::No => self.config.response_timeout.max(limits.timeout.unwrap_or_default()),
            Blocking::Yes(_) => limits.timeout?,
        };
        started.max(self.progress).checked_add(longest)
    }

    fn next_deadline(&self) -> Option<Instant> {
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
            .chain(link)
            .min()
    }

    /// The server ended the stream. What it said last may be why.
    fn closed(&self) -> Error {
        let why = match &self.link {
            Link::Up(Up { last_words: Some(words), .. }) => {
                format!("the server closed it, and last said '{words}'")
            }
            _ => "the server closed it".to_owned(),
        };
        self.lost(&io::Error::new(io::ErrorKind::UnexpectedEof, why))
    }

    fn lost(&self, error: &io::Error) -> Error {
        Error::connection(format!(
            "the connection to {} was lost ({error}); the command may or may not have been executed",
            self.config
        ))
    }
}

impl Drop for State {
    fn drop(&mut self) {
        if self.epoch == fork::epoch() {
            self.detach();
        } else {
            // The watch is the parent's, and its locks may be held for ever.
            std::mem::forget(self.watched.take());
        }
    }
}

/// The text of an error reply.
fn last_words(reply: &Value) -> Option<String> {
    match reply {
        Value::ServerError(error) => {
            Some(format!("{} {}", error.code(), error.details().unwrap_or_default()).trim_end().to_owned())
        }
        _ => None,
    }
}

fn too_late(config: &Config, entry: &Entry, what: &str) -> Error {
    if entry.limits.deadline.is_some_and(|deadline| deadline <= Instant::now()) {
        return Error::timeout(format!("{config} {what} before the time for the call's hot path was over"));
    }
    let seconds = entry.limits.shortest().unwrap_or_default().as_secs_f64();
    Error::timeout(format!("{config} {what} within {seconds} s"))
}

/// Whether a server answered that it is a replica, and did nothing.
fn is_refused_by_a_replica(packet: &Packet, result: &Value) -> bool {
    let replies = match result {
        Value::ServerError(_) => std::slice::from_ref(result),
        Value::Array(replies) if packet.replies > 1 => replies,
        _ => return false,
    };
    packet.when_refused(replies) == Some(WhenRefused::NotPrimary)
}
