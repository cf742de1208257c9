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

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, TryLockError, Weak};
use std::thread;
use std::time::{Duration, Instant};

use redis::PushKind;

use super::changes::Changes;
use super::command::Packet;
use super::dial::{Dialer, Established};
use super::in_flight::Entry;
use super::limits::Limits;
use super::push::Listener;
use super::receiver::Receiver;
use super::state::{Accepted, After, State};
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
    epoch: u64,
    /// Threads that wait for the mutex.
    queue: AtomicUsize,
    state: Mutex<State>,
    changes: OnceLock<Arc<Changes>>,
    me: Weak<Driver>,
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
    pub(crate) fn new(config: Arc<Config>) -> Arc<Self> {
        Arc::new_cyclic(|me| Self {
            state: Mutex::new(State::new(Arc::clone(&config), new_key())),
            config,
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
        let entry = Entry::new(packet, Some(receiver), limits);
        let now = Instant::now();
        let mut state = self.lock();
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
        if !self.is_stale() {
            self.lock().abandoned();
        }
    }

    /// Drops the connection, and with it a call that its caller gave up.
    pub(crate) fn close(&self) {
        if self.is_stale() {
            return;
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
        Dialer::new(Arc::clone(&self.config)).start(move |outcome| {
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
        state.connected(attempt, outcome, Instant::now(), &mut after);
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
        let mut state = self.lock();
        let mut after = After::default();
        state.step(now, &mut after);
        self.release(state, after);
    }

    fn flush(self: Arc<Self>) {
        if self.is_stale() {
            return;
        }
        let mut state = self.lock();
        let mut after = After::default();
        state.write_or_lose(Instant::now(), &mut after);
        self.release(state, after);
    }
}

#[cfg(all(test, feature = "testing"))]
mod tests;
