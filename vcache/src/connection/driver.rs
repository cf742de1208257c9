//! One connection to one server. Any thread may move it on: [`Driver::submit`] accepts a call and writes, [`Driven::step`]
//! reads, writes and expires.
//!
//! What it knows is behind one mutex, held only for a non-blocking step of bounded length; nothing under it runs foreign
//! code. Whom a step completed is woken after the mutex is free. See [`super::state`] for the steps.
//!
//! ```text
//!                submit
//!                  |
//!        no connection, no room           connected
//!   .----------- waiting ----------------------------> in flight
//!   |              ^                                       |
//!   |  gave up     |  lost: was not sent, or may be        |  written: its clock starts
//!   |  waiting     |  repeated; refused by a replica       v
//!   |              '------------------------------------- sent
//!   |                                                      |
//!   '--> error <--- lost, or due ------------------------- +----> answered
//! ```
//!
//! A call keeps its encoded bytes until the reply is there, so writing needs no second buffer. Connecting is the business
//! of a short-lived thread (see [`super::dial`]), because name resolution blocks.

mod clusters;
#[cfg(all(test, feature = "testing"))]
mod tests;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, TryLockError, Weak};
use std::thread;
use std::time::{Duration, Instant};

use redis::PushKind;

use super::changes::Changes;
use super::cluster::{Cluster, Returned, Why};
use super::command::Packet;
use super::dial::{Dialer, Established};
use super::in_flight::Entry;
use super::limits::Limits;
use super::push::Listener;
use super::receiver::Receiver;
use super::state::{Accepted, After, Kind, Refused, State};
use crate::config::{Config, Credentials};
use crate::error::Result;
use crate::fork;
use crate::notes;
use crate::reactor::watch::new_key;
use crate::reactor::{Driven, Watch};
use crate::sync::lock;

/// What a loop collects is written when the oldest of it is so old, or so much: the server works while Python does.
const OLDEST_UNSENT: Duration = Duration::from_millis(1);
const MOST_UNSENT: usize = 32 * 1024;
/// How often one that reads and reads lets a waiting thread in before it takes the mutex again.
const COURTESY: usize = 50;

pub(crate) struct Driver {
    config: Arc<Config>,
    role: Role,
    key: usize,
    epoch: u64,
    /// Threads that wait for the mutex.
    queue: AtomicUsize,
    state: Mutex<State>,
    changes: OnceLock<Arc<Changes>>,
    me: Weak<Driver>,
}

/// What a connection is for.
enum Role {
    /// An alias. Its calls go to the cluster once it turned out that there is one.
    Front(OnceLock<Arc<Cluster>>),
    /// A node of a cluster.
    Node(Weak<Cluster>),
    /// One blocking command at a time, of an alias. If its node gives the slot away, another connection goes on.
    Dedicated { front: Weak<Driver>, successor: OnceLock<Arc<Driver>> },
}

/// When the bytes of a call are written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Flush {
    /// At once.
    Now,
    /// An idle connection sends at once, which saves a loop iteration; a busy one collects what comes.
    Collect,
    /// With those that come after it.
    Together,
    /// By the next to drive.
    Later,
}

/// What became of a call that was submitted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Submitted {
    /// It was written, or is about to be: there is nothing to do.
    Sent,
    /// It is to be written by [`Driven::flush`].
    Unsent,
    /// It waits for a connection, or for room.
    Waiting,
}

impl Driver {
    /// The connection of an alias.
    pub(crate) fn new(config: Arc<Config>) -> Arc<Self> {
        Self::of(config, Kind::Front, Role::Front(OnceLock::new()))
    }

    /// The connection to a node of a cluster.
    pub(super) fn of_node(config: Arc<Config>, cluster: Weak<Cluster>) -> Arc<Self> {
        Self::of(config, Kind::Node, Role::Node(cluster))
    }

    /// A connection for blocking commands of the alias that this one is of.
    pub(super) fn dedicated(&self, config: Arc<Config>) -> Arc<Self> {
        let front = match &self.role {
            Role::Dedicated { front, .. } => Weak::clone(front),
            Role::Front(_) | Role::Node(_) => Weak::clone(&self.me),
        };
        // What a standalone server refuses is as it is for the connection of the alias.
        let kind = if self.cluster().is_some() { Kind::Dedicated } else { Kind::Front };
        Self::of(config, kind, Role::Dedicated { front, successor: OnceLock::new() })
    }

    fn of(config: Arc<Config>, kind: Kind, role: Role) -> Arc<Self> {
        let key = new_key();
        Arc::new_cyclic(|me| Self {
            state: Mutex::new(State::new(Arc::clone(&config), kind, key)),
            config,
            role,
            key,
            epoch: fork::epoch(),
            queue: AtomicUsize::new(0),
            changes: OnceLock::new(),
            me: Weak::clone(me),
        })
    }

    /// Whether this is a forked child and the connection is its parent's: it must not be touched.
    pub(crate) fn is_stale(&self) -> bool {
        self.epoch != fork::epoch()
    }

    /// Has `watch` tell when there is something to do, and no other.
    pub(crate) fn attach(&self, watch: &Arc<Watch>) {
        let me = Weak::clone(&self.me) as Weak<dyn Driven>;
        let mut state = self.lock();
        let after = state.attach(watch, &me, Instant::now());
        self.release(state, after);
    }

    /// Nothing tells any more, until it is attached again.
    pub(crate) fn detach(&self) {
        self.lock().detach();
    }

    /// Accepts a call, or refuses it at once.
    pub(crate) fn submit(
        &self,
        packet: Packet,
        receiver: Arc<dyn Receiver>,
        limits: Limits,
        flush: Flush,
    ) -> Result<Submitted> {
        if let Some(cluster) = self.own_cluster() {
            return cluster.submit(packet, receiver, limits, flush);
        }
        let entry = Entry::new(packet, Some(receiver), limits);
        self.submit_entry(entry, flush).map_err(|refused| refused.error)
    }

    /// Accepts a call that may have been elsewhere before, or gives it back.
    pub(super) fn submit_entry(&self, entry: Entry, flush: Flush) -> Result<Submitted, Refused> {
        let now = Instant::now();
        let mut state = self.lock();
        if self.own_cluster().is_some() {
            // It has become known since the caller looked. From here on nothing reads on a connection of this one's.
            drop(state);
            self.hand_back(vec![Returned { entry: Box::new(entry), why: Why::IsACluster }]);
            return Ok(Submitted::Waiting);
        }
        let mut after = After::default();
        let accepted = state.accept(entry, now, &mut after);
        let at_once = match flush {
            Flush::Now => true,
            // What it waits for may be the answer to a probe, which is to be sent.
            _ if matches!(accepted, Ok(Accepted::Waiting)) => true,
            Flush::Collect if matches!(accepted, Ok(Accepted::Alone)) => true,
            Flush::Collect | Flush::Together => state.has_waited(now, OLDEST_UNSENT, MOST_UNSENT),
            Flush::Later => false,
        };
        if at_once {
            state.write_or_lose(now, &mut after);
        }
        let is_unsent = !at_once && state.has_unwritten();
        self.release(state, after);
        Ok(match accepted? {
            Accepted::Waiting => Submitted::Waiting,
            Accepted::Alone | Accepted::Busy if is_unsent => Submitted::Unsent,
            Accepted::Alone | Accepted::Busy => Submitted::Sent,
        })
    }

    /// A caller has gone away. Once many have, those that still wait for their turn are let go with their bytes.
    pub(crate) fn abandoned(&self) {
        if self.is_stale() {
            return;
        }
        if let Some(cluster) = self.own_cluster() {
            return cluster.abandoned();
        }
        self.lock().abandoned();
    }

    /// Drops the connection, and with it a call that its caller gave up.
    pub(crate) fn close(&self) {
        if self.is_stale() {
            return;
        }
        if let Role::Dedicated { successor, .. } = &self.role
            && let Some(successor) = successor.get()
        {
            successor.close();
        }
        let mut state = self.lock();
        let mut after = After::default();
        state.close(Instant::now(), &mut after);
        self.release(state, after);
    }

    /// Whether it is connected and has nothing to do.
    pub(crate) fn is_idle(&self) -> bool {
        self.lock().is_idle()
    }

    /// Whether it has no call at all.
    pub(super) fn is_unused(&self) -> bool {
        self.lock().is_unused()
    }

    /// Whether it is connected, and calls may be sent.
    pub(super) fn is_up(&self) -> bool {
        self.lock().is_up()
    }

    /// Its number in this process.
    pub(super) fn key(&self) -> usize {
        self.key
    }

    pub(super) fn config(&self) -> &Arc<Config> {
        &self.config
    }

    /// Where it goes to, as far as it goes to one host.
    pub(super) fn host(&self) -> &str {
        self.config.address.hosts().next().unwrap_or("localhost")
    }

    /// Who waits for keys to change here.
    pub(super) fn changes(&self) -> &Arc<Changes> {
        self.changes.get_or_init(|| {
            let changes = Arc::new(Changes::default());
            self.lock().pushes.register(PushKind::Invalidate, Arc::clone(&changes) as Arc<dyn Listener>);
            changes
        })
    }

    /// Makes sure that a step is taken at that moment.
    pub(super) fn come_by(&self, at: Option<Instant>) {
        let mut state = self.lock();
        state.come_by(at);
        self.release(state, After::default());
    }

    fn connect(&self, attempt: u64) {
        let me = Weak::clone(&self.me);
        let dialer = Dialer::new(Arc::clone(&self.config));
        // A node's connection is what a cluster asked for, whatever the node says of itself.
        let dialer = if self.cluster().is_none() { dialer.asking_for_the_layout() } else { dialer };
        dialer.start(move |outcome| {
            if let Some(driver) = me.upgrade() {
                driver.connected(attempt, outcome);
            }
        });
    }

    fn connected(&self, attempt: u64, outcome: Result<Established>) {
        if self.is_stale() {
            return;
        }
        let mut state = self.lock();
        let mut after = After::default();
        if self.own_cluster().is_some() {
            // A call that came just before the cluster was known began another attempt.
            state.connected_in_vain(Instant::now(), &mut after);
            after.found = outcome.ok().filter(|established| established.layout.is_some()).map(Box::new);
        } else {
            state.connected(attempt, outcome, Instant::now(), &mut after);
        }
        self.release(state, after);
    }

    /// Has the connection that was made then authenticate anew.
    fn renew(&self, since: Instant) {
        let me = Weak::clone(&self.me);
        Dialer::new(Arc::clone(&self.config)).start_minting(move |outcome| {
            if let Some(driver) = me.upgrade() {
                driver.minted(since, outcome);
            }
        });
    }

    fn minted(&self, since: Instant, outcome: Result<Option<Credentials>>) {
        if self.is_stale() {
            return;
        }
        let now = Instant::now();
        let mut state = self.lock();
        let mut after = After::default();
        let failure = match outcome {
            Ok(Some(minted)) => {
                state.renew_with(since, &minted, Weak::clone(&self.me), now, &mut after);
                None
            }
            Ok(None) => None,
            Err(error) => {
                state.renewed(since, Err(()), now);
                Some(error)
            }
        };
        self.release(state, after);
        if let Some(error) = failure {
            notes::say(&format!("{error}. The connection stays as it is, and this is tried again"));
        }
    }

    /// What the server said of new credentials. They are due again at `next`.
    pub(super) fn renewed(&self, since: Instant, next: Option<Instant>, refused: Option<&str>) {
        if self.is_stale() {
            return;
        }
        let mut state = self.lock();
        state.renewed(since, if refused.is_some() { Err(()) } else { Ok(next) }, Instant::now());
        self.release(state, After::default());
        if let Some(why) = refused {
            notes::say(&format!(
                "{} does not take the new credentials that CREDENTIALS gave ({why}). The connection stays as it is, and \
                 this is tried again",
                self.config
            ));
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        match self.state.try_lock() {
            Ok(state) => state,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => {
                self.queue.fetch_add(1, Ordering::Relaxed);
                let state = lock(&self.state);
                self.queue.fetch_sub(1, Ordering::Relaxed);
                state
            }
        }
    }

    /// Lets go of the mutex, then does what must not be done under it.
    fn release(&self, mut state: MutexGuard<'_, State>, mut after: After) {
        state.settle(&mut after);
        drop(state);
        if let Some(established) = after.found.take() {
            self.found(*established);
        }
        if !after.returned.is_empty() {
            self.hand_back(after.returned);
        }
        if let Some(attempt) = after.connect {
            self.connect(attempt);
        }
        if let Some(since) = after.renew {
            self.renew(since);
        }
        if after.wake.is_empty() {
            return;
        }
        for waker in after.wake.drain(..) {
            waker.wake();
        }
        self.lock().give_back(after.wake);
    }
}

impl Driven for Driver {
    fn step(self: Arc<Self>, now: Instant) {
        if self.is_stale() {
            return;
        }
        // NOTE: the mutex is not fair. One that reads a long reply would take it again and again before a thread that was
        // just woken for it gets there.
        for _ in 0..COURTESY {
            if self.queue.load(Ordering::Relaxed) == 0 {
                break;
            }
            thread::yield_now();
        }
        if let Some(cluster) = self.own_cluster() {
            cluster.step(now);
            let mut state = self.lock();
            state.set_deadline(cluster.next_due());
            self.release(state, After::default());
            return;
        }
        let mut state = self.lock();
        let mut after = After::default();
        state.step(now, &mut after);
        self.release(state, after);
    }

    fn flush(self: Arc<Self>) {
        if self.is_stale() {
            return;
        }
        match self.own_cluster() {
            Some(cluster) => cluster.flush(),
            None => self.flush_now(),
        }
    }
}

impl Driver {
    /// Writes what is to be written and can be.
    pub(super) fn flush_now(&self) {
        let mut state = self.lock();
        let mut after = After::default();
        state.write_or_lose(Instant::now(), &mut after);
        self.release(state, after);
    }
}
