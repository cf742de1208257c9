//! Our callbacks on an asyncio loop, and the loop that runs on a thread.
//!
//! The loop holds the [`Ticker`], by its callbacks; this library holds neither, so a loop that is closed or forgotten
//! (asgiref makes one per call) is freed as usual, and what was pending on it ends with it.

use std::cell::RefCell;
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use pyo3::exceptions::PyRuntimeError;
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyString, PyWeakrefMethods, PyWeakrefReference};

use super::exceptions::to_exception;
use super::loop_state::{Drive, LoopState};
use super::shield::shield;
use crate::error::Error;
use crate::reactor::reactor_if_made;
use crate::scope;
use crate::sync::lock;

/// The callbacks that the loop holds.
#[pyclass(frozen, weakref, module = "django_vcache._vcache")]
struct Ticker {
    state: Arc<LoopState>,
}

#[pymethods]
impl Ticker {
    /// The shared poller is readable.
    fn readable(slf: &Bound<'_, Self>) -> PyResult<()> {
        let state = &slf.get().state;
        let event_loop = running_loop(slf.py())?;
        if !state.waiter.waits_on_shared()
            && let Some(reactor) = reactor_if_made()
        {
            // Another's reply. Watching again with the next call costs less than waking for each of these.
            watch_no_longer(&event_loop, reactor.fd(), &state.watches_shared)?;
        }
        Self::tick(slf, &event_loop, Drive::Shared)
    }

    /// The poller of this loop's blocking commands is readable.
    fn own_readable(slf: &Bound<'_, Self>) -> PyResult<()> {
        let state = &slf.get().state;
        let event_loop = running_loop(slf.py())?;
        if let Some(own) = state.waiter.own()
            && !own.has_any()
        {
            watch_no_longer(&event_loop, own.as_raw_fd(), &state.watches_own)?;
        }
        Self::tick(slf, &event_loop, Drive::Own)
    }

    /// Another thread completed one of our calls.
    fn rung(slf: &Bound<'_, Self>) -> PyResult<()> {
        slf.get().state.bell.silence();
        Self::tick(slf, &running_loop(slf.py())?, Drive::Neither)
    }

    /// The end of the iteration in which calls were submitted.
    fn flush(slf: &Bound<'_, Self>) -> PyResult<()> {
        slf.get().state.flush_scheduled.store(false, Ordering::Relaxed);
        scope::send_unsent();
        set_timer(&running_loop(slf.py())?, slf)
    }

    /// A deadline may have come.
    fn alarm(slf: &Bound<'_, Self>, number: u64) -> PyResult<()> {
        {
            let mut timer = lock(&slf.get().state.timer);
            if timer.number != number {
                return Ok(());
            }
            timer.set = None;
        }
        Self::tick(slf, &running_loop(slf.py())?, Drive::Both)
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.state.traverse(&visit)
    }

    fn __clear__(&self) {
        self.state.close();
    }
}

impl Ticker {
    /// A tick, and what the loop has to watch for what it began: a later step of a task may be the first to wait for something.
    fn tick(slf: &Bound<'_, Self>, event_loop: &Bound<'_, PyAny>, drive: Drive) -> PyResult<()> {
        slf.get().state.tick(slf.py(), drive);
        keep_watch(event_loop, slf)?;
        set_timer(event_loop, slf)
    }
}

impl Drop for Ticker {
    fn drop(&mut self) {
        self.state.close();
    }
}

/// Has the loop watch the descriptors that it waits for.
fn keep_watch(event_loop: &Bound<'_, PyAny>, ticker: &Bound<'_, Ticker>) -> PyResult<()> {
    let py = event_loop.py();
    let state = &ticker.get().state;
    if state.waiter.waits_on_shared()
        && !state.watches_shared.load(Ordering::Relaxed)
        && let Some(reactor) = reactor_if_made()
    {
        watch(event_loop, ticker, reactor.fd(), intern!(py, "readable"), &state.watches_shared)?;
    }
    if let Some(own) = state.waiter.own()
        && !state.watches_own.load(Ordering::Relaxed)
        && own.has_any()
    {
        watch(event_loop, ticker, own.as_raw_fd(), intern!(py, "own_readable"), &state.watches_own)?;
    }
    Ok(())
}

/// NOTE: a flag is set once the loop has taken the callback: a signal may raise in the middle of its Python code.
fn watch(
    event_loop: &Bound<'_, PyAny>,
    ticker: &Bound<'_, Ticker>,
    fd: i32,
    callback: &Bound<'_, PyString>,
    flag: &AtomicBool,
) -> PyResult<()> {
    event_loop.call_method1(intern!(event_loop.py(), "add_reader"), (fd, ticker.getattr(callback)?))?;
    flag.store(true, Ordering::Relaxed);
    Ok(())
}

fn watch_no_longer(event_loop: &Bound<'_, PyAny>, fd: i32, flag: &AtomicBool) -> PyResult<()> {
    flag.store(false, Ordering::Relaxed);
    event_loop.call_method1(intern!(event_loop.py(), "remove_reader"), (fd,))?;
    Ok(())
}

/// One timer per loop: for the earliest deadline there is. Most calls are answered before theirs, so it is not moved when that
/// call is answered; it looks again when it goes off.
fn set_timer(event_loop: &Bound<'_, PyAny>, ticker: &Bound<'_, Ticker>) -> PyResult<()> {
    let py = event_loop.py();
    let state = &ticker.get().state;
    let Some(deadline) = state.next_deadline() else { return Ok(()) };
    let number = {
        let timer = lock(&state.timer);
        if timer.set.is_some_and(|set| set <= deadline) {
            return Ok(());
        }
        timer.number + 1
    };
    // A moment later rather than earlier, so that the deadline has come when we look.
    let delay = deadline.saturating_duration_since(Instant::now()).as_secs_f64() + 0.001;
    let alarm = ticker.getattr(intern!(py, "alarm"))?;
    event_loop.call_method1(intern!(py, "call_later"), (delay, alarm, number))?;
    let mut timer = lock(&state.timer);
    (timer.set, timer.number) = (Some(deadline), number);
    Ok(())
}

/// One loop as its thread knows it.
struct Entry {
    /// The address is the quick look-up; the weak reference tells whether it is still the same loop.
    address: usize,
    event_loop: Py<PyWeakrefReference>,
    ticker: Py<PyWeakrefReference>,
}

impl Entry {
    fn ticker<'py>(&self, py: Python<'py>) -> Option<Bound<'py, Ticker>> {
        self.event_loop.bind(py).upgrade()?;
        // SAFETY: `adopt` made the reference, to a ticker.
        let ticker = unsafe { self.ticker.bind(py).upgrade_as_unchecked::<Ticker>() }?;
        ticker.get().state.is_current().then_some(ticker)
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

/// Why there is no loop to run something on.
pub(super) enum NoLoop<'py> {
    Raised(PyErr),
    /// A loop runs, and the process has no descriptor left for what calls it back.
    Refused(Bound<'py, PyAny>, Error),
}

impl From<PyErr> for NoLoop<'_> {
    fn from(error: PyErr) -> Self {
        Self::Raised(error)
    }
}

impl From<NoLoop<'_>> for PyErr {
    fn from(no_loop: NoLoop<'_>) -> Self {
        match no_loop {
            NoLoop::Raised(error) => error,
            NoLoop::Refused(event_loop, error) => to_exception(event_loop.py(), &error),
        }
    }
}

impl<'py> Running<'py> {
    pub(super) fn here(py: Python<'py>) -> Result<Self, NoLoop<'py>> {
        let event_loop = running_loop(py)?;
        let address = event_loop.as_ptr() as usize;
        let known = LOOPS.with_borrow(|entries| {
            entries.iter().filter(|entry| entry.address == address).find_map(|entry| entry.ticker(py))
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
        if scope::has_unsent() && !state.flush_scheduled.load(Ordering::Relaxed) {
            let flush = self.ticker.getattr(intern!(py, "flush"))?;
            self.event_loop.call_method1(intern!(py, "call_soon"), (flush,))?;
            state.flush_scheduled.store(true, Ordering::Relaxed);
        }
        keep_watch(&self.event_loop, &self.ticker)?;
        set_timer(&self.event_loop, &self.ticker)
    }
}

/// Makes a loop known to its thread, and forgets those that are gone.
#[cold]
fn adopt<'py>(event_loop: &Bound<'py, PyAny>) -> Result<Bound<'py, Ticker>, NoLoop<'py>> {
    let py = event_loop.py();
    shield();
    // Taken out first: what is dropped here may run Python, which may come back.
    let known = LOOPS.take();
    let (kept, gone) = known.into_iter().partition::<Vec<_>, _>(|entry| entry.ticker(py).is_some());
    LOOPS.with_borrow_mut(|entries| entries.extend(kept));
    drop(gone);
    let state = LoopState::new().map_err(|error| NoLoop::Refused(event_loop.clone(), error))?;
    let ticker = Bound::new(py, Ticker { state: Arc::new(state) })?;
    let rung = ticker.getattr(intern!(py, "rung"))?;
    event_loop.call_method1(intern!(py, "add_reader"), (ticker.get().state.bell.fd(), rung))?;
    let entry = Entry {
        address: event_loop.as_ptr() as usize,
        event_loop: PyWeakrefReference::new(event_loop)?.unbind(),
        ticker: PyWeakrefReference::new(ticker.as_any())?.unbind(),
    };
    LOOPS.with_borrow_mut(|entries| entries.push(entry));
    Ok(ticker)
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
