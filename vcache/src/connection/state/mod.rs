//! What a driver knows of its connection, and the steps that move it on. A step is taken while the driver's mutex is held:
//! nothing here blocks, wakes or calls anything foreign. Callers that were completed are in `wakers`, for the driver to wake
//! once the mutex is free.
//!
//! | module | is for |
//! |---|---|
//! | [`steps`] | reading and writing |
//! | [`link_changes`] | attempts to connect, lost connections, servers that are left |
//! | [`renewing`] | credentials that expire |
//! | [`deadlines`] | what ends because its time is over |

mod deadlines;
mod link_changes;
mod renewing;
mod steps;

use std::sync::{Arc, Weak};
use std::task::Waker;
use std::time::{Duration, Instant};

use crate::config::Config;
use crate::connection::cluster::{Returned, Why};
use crate::connection::command::Packet;
use crate::connection::dial::Established;
use crate::connection::in_flight::{Entry, InFlight};
use crate::connection::limits::Limits;
use crate::connection::link::{BackOff, Link};
use crate::connection::push::Pushes;
use crate::connection::waiting::Waiting;
use crate::error::{Error, Result};
use crate::fork;
use crate::reactor::{Driven, Watch};

/// Calls that the server has not answered yet, at most; more wait their turn with their bytes in their own hands.
const MOST_IN_FLIGHT: usize = 16_384;
/// Bytes of such calls, at most (one call may be larger).
const MOST_BYTES_IN_FLIGHT: usize = 16 * 1024 * 1024;
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

pub(super) struct State {
    config: Arc<Config>,
    kind: Kind,
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
    /// Calls for a cluster to go on with.
    returned: Vec<Returned>,
    /// How often it was read from, or tried.
    #[cfg(test)]
    pub(super) looks: usize,
}

/// What a connection is, as far as its calls are concerned.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Kind {
    /// The one of an alias. If it finds a cluster, its calls go there.
    Front,
    /// To a node of a cluster: what it cannot do goes back there.
    Node,
    /// To a node of a cluster, for one blocking command at a time. What the node refuses goes back there.
    Dedicated,
}

/// A call that was not accepted.
pub(super) struct Refused {
    pub(super) entry: Box<Entry>,
    pub(super) error: Error,
    /// Because there is no connection, and no attempt to make one just now.
    pub(super) is_unreachable: bool,
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
    /// The connection that has to authenticate anew, by the time when it was made.
    pub(super) renew: Option<Instant>,
    /// The connection to a server that is one of a cluster's.
    pub(super) found: Option<Box<Established>>,
    pub(super) returned: Vec<Returned>,
    pub(super) wake: Vec<Waker>,
}

impl State {
    pub(super) fn new(config: Arc<Config>, kind: Kind, key: usize) -> Self {
        let now = Instant::now();
        Self {
            config,
            kind,
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
            returned: Vec::new(),
            #[cfg(test)]
            looks: 0,
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
        if !self.returned.is_empty() {
            after.returned = std::mem::take(&mut self.returned);
        }
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
        matches!(self.link, Link::Up(_)) && self.is_unused()
    }

    pub(super) fn is_unused(&self) -> bool {
        self.in_flight.is_empty() && self.waiting.is_empty()
    }

    /// Whether it is connected, and calls may be sent.
    pub(super) fn is_up(&self) -> bool {
        matches!(&self.link, Link::Up(up) if up.takes_calls())
    }

    /// A call goes back to the cluster.
    pub(super) fn give_back_call(&mut self, entry: Entry, why: Why) {
        self.returned.push(Returned { entry: Box::new(entry), why });
    }

    /// Who tells of what is to be done here.
    pub(super) fn watch(&self) -> Option<Arc<Watch>> {
        self.watched.as_ref().map(|watched| Arc::clone(&watched.watch))
    }

    /// Sets when a step is to be taken, whatever was known of that.
    pub(super) fn set_deadline(&mut self, deadline: Option<Instant>) {
        self.earliest = deadline;
    }

    pub(super) fn has_unwritten(&self) -> bool {
        self.in_flight.has_unwritten() || matches!(&self.link, Link::Up(up) if up.transport.has_unsent())
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
    pub(super) fn accept(
        &mut self,
        mut entry: Entry,
        now: Instant,
        after: &mut After,
    ) -> Result<Accepted, Refused> {
        if self.in_flight.is_empty() && now.saturating_duration_since(self.looked) > MAY_BE_STALE {
            self.look_or_lose(now, after);
            self.probe(now);
        } else if !self.in_flight.is_empty() && !self.has_room(&entry) && self.waiting.is_empty() {
            // The caller may submit more than there is room for before anything else reads.
            self.look_or_lose(now, after);
        }
        self.renew_if_due(now, after);
        if self.takes(&entry) {
            let alone = self.in_flight.is_empty() && !self.burst;
            self.in_flight.push(entry, now);
            return Ok(if alone { Accepted::Alone } else { Accepted::Busy });
        }
        entry.waits_until = entry.waits_until.or_else(|| entry.limits.wait_from(now));
        match &self.link {
            Link::Up(_) | Link::Down(None) | Link::Connecting { previous: None, .. } => {}
            Link::Down(Some(pause)) if pause.calls_wait => {}
            Link::Down(Some(pause)) if now < pause.until || self.connector_runs => {
                let error = pause.error.clone();
                return Err(Refused { entry: Box::new(entry), error, is_unreachable: true });
            }
            // After a failed attempt no call waits long for the next one to fail too, whichever call began it.
            Link::Down(Some(_)) => entry.wait_no_longer_than(now + PATIENCE),
            Link::Connecting { since, previous: Some(_) } => entry.wait_no_longer_than(*since + PATIENCE),
        }
        if !self.waiting.takes(&entry) {
            let error = Error::connection(format!(
                "{} calls with {} bytes are already waiting for {}: it is too slow for this load",
                self.waiting.len(),
                self.waiting.bytes(),
                self.config
            ));
            return Err(Refused { entry: Box::new(entry), error, is_unreachable: false });
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
