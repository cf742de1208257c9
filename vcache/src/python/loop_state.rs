//! What one asyncio loop keeps for us: the tasks that are ready, the awaitables of those under way, a bell that other threads
//! ring, and the moment of its next alarm.
//!
//! Everything here runs on the loop's thread, except [`LoopState::push`]: a reply may be read by a blocking thread, or
//! on another loop.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::thread::{self, ThreadId};
use std::time::Instant;

use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use slab::Slab;

use super::attach::really_attached;
use crate::abi::border::contained;
use crate::error::{Error, Result};
use crate::fork;
use crate::reactor::waiter::Waiter;
use crate::reactor::{Bell, Sleeper, reactor, reactor_if_made};
use crate::scope;
use crate::sync::lock;

/// How many rounds of ready tasks one tick runs before the loop gets its turn again.
const ROUNDS: usize = 32;

/// What the loop's queue holds: a task, whatever it does.
pub(super) trait Runnable: Send + Sync {
    fn run(self: Arc<Self>, py: Python<'_>);

    /// Whether its awaitable is done. If it is so before the task is, it was cancelled.
    fn is_cancelled(&self, py: Python<'_>) -> bool;

    /// Ends it: its loop is gone, or it was cancelled.
    fn abandon(&self);

    /// Ends it if it was cancelled.
    fn give_up(&self, py: Python<'_>) {
        if self.is_cancelled(py) {
            self.abandon();
        }
    }
}

/// Which connections a tick drives.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Drive {
    Shared,
    Own,
    Both,
    Neither,
}

pub(super) struct LoopState {
    thread: ThreadId,
    epoch: u64,
    pub(super) bell: Arc<Bell>,
    ready: Mutex<VecDeque<Arc<dyn Runnable>>>,
    /// Its calls that are under way, and the connections of its blocking commands.
    pub(super) waiter: Arc<Waiter>,
    /// A tick is running: it will look at `ready` again, so the bell need not be rung from within.
    ticking: AtomicBool,
    closed: AtomicBool,
    /// The shared poller is watched. A loop that waits for nothing there is not woken for others' replies.
    pub(super) watches_shared: AtomicBool,
    pub(super) watches_own: AtomicBool,
    pub(super) flush_scheduled: AtomicBool,
    awaitables: Mutex<Slab<Kept>>,
    pub(super) timer: Mutex<Timer>,
}

/// The awaitable of a task, which the loop holds and not the task: a loop that is forgotten is then held by nothing but
/// itself, and collected.
struct Kept {
    awaitable: Py<PyAny>,
    /// Set for a task that is to be given up when the loop is closed.
    task: Option<Weak<dyn Runnable>>,
}

/// When the next alarm goes off, and which one it is: an earlier deadline makes a new alarm, and the one before it, which
/// the loop still holds, is then without meaning.
#[derive(Default)]
pub(super) struct Timer {
    pub(super) set: Option<Instant>,
    pub(super) number: u64,
}

impl LoopState {
    /// # Errors
    /// `Connection` if the process has no descriptor left for it.
    pub(super) fn new() -> Result<Self> {
        let waiter = Arc::new(Waiter::default());
        let bell = waiter.bell_or_new().map_err(|error| Error::no_descriptor(&error))?;
        let bell = Arc::clone(bell);
        let reactor = reactor()?;
        reactor.shared().add_sleeper(Arc::downgrade(&bell) as Weak<dyn Sleeper>);
        Ok(Self {
            thread: thread::current().id(),
            epoch: fork::epoch(),
            bell,
            ready: Mutex::default(),
            waiter,
            ticking: AtomicBool::new(false),
            closed: AtomicBool::new(false),
            watches_shared: AtomicBool::new(false),
            watches_own: AtomicBool::new(false),
            flush_scheduled: AtomicBool::new(false),
            awaitables: Mutex::default(),
            timer: Mutex::default(),
        })
    }

    /// Whether it is of this process, and not of one that this was forked from.
    pub(super) fn is_current(&self) -> bool {
        self.epoch == fork::epoch()
    }

    /// Queues a task, from any thread, and makes sure that the loop comes to it.
    pub(super) fn push(&self, task: Arc<dyn Runnable>) {
        {
            let mut ready = lock(&self.ready);
            // Asked under the lock, because `close` empties the queue and is not called again.
            if self.closed.load(Ordering::Acquire) {
                drop(ready);
                // Python's objects in it go with it, and a destructor may panic: others are still to be woken.
                contained((), || _ = really_attached(|_| drop(task)));
                return;
            }
            ready.push_back(task);
        }
        let within_tick = self.ticking.load(Ordering::Acquire) && self.thread == thread::current().id();
        if !within_tick {
            self.bell.ring();
        }
    }

    /// Takes an awaitable over; its number here.
    pub(super) fn keep(&self, awaitable: Py<PyAny>) -> usize {
        lock(&self.awaitables).insert(Kept { awaitable, task: None })
    }

    /// An awaitable that is held here.
    pub(super) fn kept(&self, py: Python<'_>, number: usize) -> Option<Py<PyAny>> {
        lock(&self.awaitables).get(number).map(|kept| kept.awaitable.clone_ref(py))
    }

    /// The same, for a task that is to be given up when the loop is closed. `None` if that is so already.
    pub(super) fn kept_for(
        &self,
        py: Python<'_>,
        number: usize,
        task: &Weak<dyn Runnable>,
    ) -> Option<Py<PyAny>> {
        let mut awaitables = lock(&self.awaitables);
        let kept = awaitables.get_mut(number)?;
        let is_new = kept.task.replace(Weak::clone(task)).is_none();
        is_new.then(|| kept.awaitable.clone_ref(py))
    }

    /// Gives an awaitable back.
    pub(super) fn let_go(&self, number: usize) -> Option<Py<PyAny>> {
        lock(&self.awaitables).try_remove(number).map(|kept| kept.awaitable)
    }

    /// Shows Python's garbage collector the awaitables. What is locked just now counts as in use.
    pub(super) fn traverse(&self, visit: &PyVisit<'_>) -> std::result::Result<(), PyTraverseError> {
        if let Ok(awaitables) = self.awaitables.try_lock() {
            for (_, kept) in awaitables.iter() {
                visit.call(&kept.awaitable)?;
            }
        }
        Ok(())
    }

    /// The loop is gone: its tasks will never run. One whose reply is to come is dropped with it; one that the server
    /// may sit on for ever is given up now, and its connection closed.
    pub(super) fn close(&self) {
        if !self.is_current() {
            // What a child has of its parent's is left alone: its locks may be held for ever.
            return;
        }
        let ready = {
            let mut ready = lock(&self.ready);
            self.closed.store(true, Ordering::Release);
            std::mem::take(&mut *ready)
        };
        let awaitables = std::mem::take(&mut *lock(&self.awaitables));
        drop(ready);
        let tasks = awaitables.iter().filter_map(|(_, kept)| kept.task.as_ref()?.upgrade());
        tasks.for_each(|task| task.abandon());
    }

    /// Drives the connections, runs the tasks that became ready, and sends what they submitted.
    pub(super) fn tick(&self, py: Python<'_>, drive: Drive) {
        let ticking = Ticking::begin(&self.ticking);
        if matches!(drive, Drive::Shared | Drive::Both)
            && let Some(reactor) = reactor_if_made()
        {
            reactor.drive();
        }
        if matches!(drive, Drive::Own | Drive::Both)
            && let Some(own) = self.waiter.own()
        {
            own.drive();
        }
        let mut batch = VecDeque::new();
        for _ in 0..ROUNDS {
            std::mem::swap(&mut batch, &mut *lock(&self.ready));
            if batch.is_empty() {
                break;
            }
            let collecting = scope::collect();
            for task in batch.drain(..) {
                task.run(py);
            }
            drop(collecting);
            scope::send_unsent();
        }
        drop(ticking);
        if !lock(&self.ready).is_empty() {
            self.bell.ring();
        }
    }

    /// The earliest deadline of what this loop waits for.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        let shared = reactor_if_made().filter(|_| self.waiter.waits_on_shared());
        let own = self.waiter.own().and_then(|own| own.next_deadline());
        shared.and_then(|reactor| reactor.next_deadline()).into_iter().chain(own).min()
    }
}

/// Set while a tick runs, also one that panics.
struct Ticking<'a>(&'a AtomicBool);

impl<'a> Ticking<'a> {
    fn begin(flag: &'a AtomicBool) -> Self {
        flag.store(true, Ordering::Release);
        Self(flag)
    }
}

impl Drop for Ticking<'_> {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Release);
    }
}
