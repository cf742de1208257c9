//! What one asyncio loop keeps for us: the tasks that are ready, the watch on the process's poller, a bell that other
//! threads ring, and one timer for the next deadline.
//!
//! Everything here runs on the loop's thread, except [`LoopState::push`]: a reply may be read by a blocking thread, or
//! on another loop. Nothing holds the loop itself, so a loop that is closed and forgotten (asgiref makes one per call)
//! is freed as usual; calls that were pending on it are dropped when their replies come.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::thread::{self, ThreadId};
use std::time::Instant;

use pyo3::exceptions::PyRuntimeError;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyWeakrefMethods, PyWeakrefReference};

use super::attach::really_attached;
use super::shield::shield;
use super::task::Runnable;
use crate::context;
use crate::fork;
use crate::reactor::{Bell, reactor};
use crate::sync::lock;

/// How many rounds of ready tasks one tick runs before the loop gets its turn again.
const ROUNDS: usize = 32;

pub(super) struct LoopState {
    thread: ThreadId,
    epoch: u64,
    bell: Bell,
    ready: Mutex<VecDeque<Arc<dyn Runnable>>>,
    /// Tasks that were spawned and are not over.
    pending: AtomicUsize,
    /// A tick is running: it will look at `ready` again, so the bell need not be rung from within.
    ticking: AtomicBool,
    closed: AtomicBool,
    /// The poller is watched. A loop with nothing pending is not woken for others' replies.
    watching: AtomicBool,
    flush_scheduled: AtomicBool,
    /// Tasks that may wait without end, which must not outlive the loop.
    patient: Mutex<Vec<Weak<dyn Runnable>>>,
    timer: Mutex<Timer>,
}

impl LoopState {
    fn new() -> PyResult<Self> {
        Ok(Self {
            thread: thread::current().id(),
            epoch: fork::epoch(),
            bell: Bell::new()?,
            ready: Mutex::default(),
            pending: AtomicUsize::new(0),
            ticking: AtomicBool::new(false),
            closed: AtomicBool::new(false),
            watching: AtomicBool::new(false),
            flush_scheduled: AtomicBool::new(false),
            patient: Mutex::default(),
            timer: Mutex::default(),
        })
    }

    pub(super) fn started(&self) {
        self.pending.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn finished(&self) {
        self.pending.fetch_sub(1, Ordering::Relaxed);
    }

    /// Queues a task, from any thread, and makes sure that the loop comes to it.
    pub(super) fn push(&self, task: Arc<dyn Runnable>) {
        {
            let mut ready = lock(&self.ready);
            // Asked under the lock, because `close` empties the queue and nobody would come again.
            if self.closed.load(Ordering::Acquire) {
                drop(ready);
                // Python's objects in it go with it, and a destructor may panic: others are still to be woken.
                let _ = catch_unwind(AssertUnwindSafe(|| really_attached(|_| drop(task))));
                return;
            }
            ready.push_back(task);
        }
        let within_tick = self.ticking.load(Ordering::Acquire) && self.thread == thread::current().id();
        if !within_tick {
            self.bell.ring();
        }
    }

    /// Notes a task that is to be given up when the loop is closed.
    pub(super) fn keep_in_view(&self, task: Weak<dyn Runnable>) {
        let mut patient = lock(&self.patient);
        if patient.len() == patient.capacity() {
            patient.retain(|task| task.strong_count() > 0);
        }
        patient.push(task);
    }

    /// The loop is gone: its tasks will never run. One whose reply is to come is dropped with it; one that the server
    /// may sit on for ever is given up now, and its connection closed.
    fn close(&self) {
        let ready = {
            let mut ready = lock(&self.ready);
            self.closed.store(true, Ordering::Release);
            std::mem::take(&mut *ready)
        };
        let patient = std::mem::take(&mut *lock(&self.patient));
        drop(ready);
        patient.iter().filter_map(Weak::upgrade).for_each(|task| task.abandon());
    }

    /// Drives the connections, runs the tasks that became ready, and sends what they submitted.
    fn tick(&self, py: Python<'_>) {
        let ticking = Ticking::begin(&self.ticking);
        reactor().drive();
        let mut batch = VecDeque::new();
        for _ in 0..ROUNDS {
            std::mem::swap(&mut batch, &mut *lock(&self.ready));
            if batch.is_empty() {
                break;
            }
            let collecting = context::collect();
            for task in batch.drain(..) {
                task.run(py);
            }
            drop(collecting);
            context::send_unsent();
        }
        drop(ticking);
        if !lock(&self.ready).is_empty() {
            self.bell.ring();
        }
    }
}

/// When the next alarm goes off, and which one it is: an earlier deadline makes a new alarm, and the one before it, which
/// the loop still holds, is then without meaning.
#[derive(Default)]
struct Timer {
    set: Option<Instant>,
    number: u64,
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

/// The callbacks that the loop holds.
#[pyclass(frozen, module = "django_vcache._vcache")]
struct Ticker {
    state: Arc<LoopState>,
}

#[pymethods]
impl Ticker {
    /// The poller is readable.
    fn readable(slf: &Bound<'_, Self>) -> PyResult<()> {
        let py = slf.py();
        let state = &slf.get().state;
        if state.pending.load(Ordering::Relaxed) == 0 {
            // Somebody else's reply. Watching again with the next call costs less than waking for each of these.
            state.watching.store(false, Ordering::Relaxed);
            let event_loop = running_loop(py)?;
            event_loop.call_method1(intern!(py, "remove_reader"), (reactor().fd(),))?;
        }
        Self::tick(slf)
    }

    /// Another thread completed one of our calls.
    fn rung(slf: &Bound<'_, Self>) -> PyResult<()> {
        slf.get().state.bell.silence();
        Self::tick(slf)
    }

    /// The end of the iteration in which calls were submitted.
    fn flush(&self) {
        self.state.flush_scheduled.store(false, Ordering::Relaxed);
        context::send_unsent();
    }

    /// A deadline may have come.
    fn alarm(slf: &Bound<'_, Self>, number: u64) -> PyResult<()> {
        let state = &slf.get().state;
        {
            let mut timer = lock(&state.timer);
            if timer.number != number {
                return Ok(());
            }
            timer.set = None;
        }
        Self::tick(slf)
    }
}

impl Ticker {
    /// A tick, and the timer for what it began: a later step of a task may have a deadline before all others.
    fn tick(slf: &Bound<'_, Self>) -> PyResult<()> {
        let py = slf.py();
        let state = &slf.get().state;
        state.tick(py);
        if state.pending.load(Ordering::Relaxed) > 0 {
            context::take_deadline();
            set_timer(&running_loop(py)?, slf)?;
        }
        Ok(())
    }
}

/// One loop as its thread knows it.
struct Entry {
    /// The address is the quick look-up; the weak reference tells whether it is still the same loop.
    address: usize,
    event_loop: Py<PyWeakrefReference>,
    ticker: Py<Ticker>,
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.ticker.get().state.close();
    }
}

thread_local! {
    static LOOPS: RefCell<Vec<Entry>> = const { RefCell::new(Vec::new()) };
}

/// The loop that runs on this thread.
pub(super) struct Running<'py> {
    pub(super) event_loop: Bound<'py, PyAny>,
    ticker: Bound<'py, Ticker>,
}

/// A running loop between two calls on it.
pub(super) struct Kept {
    event_loop: Py<PyAny>,
    ticker: Py<Ticker>,
}

impl Kept {
    pub(super) fn bind<'py>(&self, py: Python<'py>) -> Running<'py> {
        Running { event_loop: self.event_loop.bind(py).clone(), ticker: self.ticker.bind(py).clone() }
    }
}

impl<'py> Running<'py> {
    pub(super) fn here(py: Python<'py>) -> PyResult<Self> {
        let event_loop = running_loop(py)?;
        let address = event_loop.as_ptr() as usize;
        let epoch = fork::epoch();
        let known = LOOPS.with_borrow(|entries| {
            entries
                .iter()
                .find(|entry| {
                    entry.address == address
                        && entry.ticker.get().state.epoch == epoch
                        && entry.event_loop.bind(py).upgrade().is_some()
                })
                .map(|entry| entry.ticker.clone_ref(py).into_bound(py))
        });
        let ticker = match known {
            Some(ticker) => ticker,
            None => adopt(&event_loop)?,
        };
        Ok(Self { event_loop, ticker })
    }

    pub(super) fn keep(self) -> Kept {
        Kept { event_loop: self.event_loop.unbind(), ticker: self.ticker.unbind() }
    }

    pub(super) fn state(&self) -> &Arc<LoopState> {
        &self.ticker.get().state
    }

    /// Sees to it that what was just submitted is sent, answered, and given up in time.
    pub(super) fn after_spawn(&self) -> PyResult<()> {
        let py = self.event_loop.py();
        let state = self.state();
        // Each flag is set once the loop has taken the callback: a signal may raise in the middle of its Python code.
        if context::has_unsent() && !state.flush_scheduled.load(Ordering::Relaxed) {
            let flush = self.ticker.getattr(intern!(py, "flush"))?;
            self.event_loop.call_method1(intern!(py, "call_soon"), (flush,))?;
            state.flush_scheduled.store(true, Ordering::Relaxed);
        }
        if state.pending.load(Ordering::Relaxed) == 0 {
            return Ok(());
        }
        if !state.watching.load(Ordering::Relaxed) {
            let readable = self.ticker.getattr(intern!(py, "readable"))?;
            self.event_loop.call_method1(intern!(py, "add_reader"), (reactor().fd(), readable))?;
            state.watching.store(true, Ordering::Relaxed);
        }
        // Most calls end later than one before them, for which there is a timer already.
        match context::take_deadline() {
            Some(deadline) if lock(&state.timer).set.is_none_or(|set| set > deadline) => {
                // A signal may raise in the middle of it: then the next call sets it.
                set_timer(&self.event_loop, &self.ticker)
                    .inspect_err(|_| context::note_deadline(Some(deadline)))
            }
            _ => Ok(()),
        }
    }
}

/// Makes a loop known to its thread, and forgets those that are gone.
#[cold]
fn adopt<'py>(event_loop: &Bound<'py, PyAny>) -> PyResult<Bound<'py, Ticker>> {
    let py = event_loop.py();
    shield();
    // Taken out first: asking a loop whether it is closed is Python, which may come back here.
    let known = LOOPS.take();
    let epoch = fork::epoch();
    let (kept, gone) = known.into_iter().partition::<Vec<_>, _>(|entry| {
        entry.ticker.get().state.epoch == epoch
            && entry.event_loop.bind(py).upgrade().is_some_and(|event_loop| !is_closed(&event_loop))
    });
    LOOPS.with_borrow_mut(|entries| entries.extend(kept));
    drop(gone);
    let ticker = Bound::new(py, Ticker { state: Arc::new(LoopState::new()?) })?;
    let rung = ticker.getattr(intern!(py, "rung"))?;
    event_loop.call_method1(intern!(py, "add_reader"), (ticker.get().state.bell.fd(), rung))?;
    let entry = Entry {
        address: event_loop.as_ptr() as usize,
        event_loop: PyWeakrefReference::new(event_loop)?.unbind(),
        ticker: ticker.clone().unbind(),
    };
    LOOPS.with_borrow_mut(|entries| entries.push(entry));
    Ok(ticker)
}

fn is_closed(event_loop: &Bound<'_, PyAny>) -> bool {
    event_loop
        .call_method0(intern!(event_loop.py(), "is_closed"))
        .and_then(|closed| closed.is_truthy())
        .unwrap_or(true)
}

/// The running loop of this thread.
///
/// # Errors
/// `RuntimeError` that says what to call instead.
fn running_loop(py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
    static GET: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let get = GET.import(py, "asyncio", "_get_running_loop")?;
    let event_loop = get.call0()?;
    if event_loop.is_none() {
        return Err(PyRuntimeError::new_err(
            "no asyncio loop runs on this thread: await it inside one, or call the blocking form",
        ));
    }
    Ok(event_loop)
}

/// One timer per loop: for the earliest deadline there is. Most never see their deadline, so it is not moved when that
/// call is answered; it looks again when it goes off.
fn set_timer(event_loop: &Bound<'_, PyAny>, ticker: &Bound<'_, Ticker>) -> PyResult<()> {
    let py = event_loop.py();
    let Some(deadline) = reactor().next_deadline() else { return Ok(()) };
    let number = {
        let timer = lock(&ticker.get().state.timer);
        if timer.set.is_some_and(|set| set <= deadline) {
            return Ok(());
        }
        timer.number + 1
    };
    // A moment later rather than earlier, so that the deadline has come when we look.
    let delay = deadline.saturating_duration_since(Instant::now()).as_secs_f64() + 0.001;
    let alarm = ticker.getattr(intern!(py, "alarm"))?;
    event_loop.call_method1(intern!(py, "call_later"), (delay, alarm, number))?;
    *lock(&ticker.get().state.timer) = Timer { set: Some(deadline), number };
    Ok(())
}
