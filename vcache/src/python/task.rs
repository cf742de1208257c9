//! One Rust future on an asyncio loop. It is polled on the loop's thread only, and completes a future that the loop
//! made, so gather, wait_for, shield, cancellation and context variables behave as with any other.

use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::task::{Context, Poll, Wake, Waker};

use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;

use super::Steps;
use super::event_loop::{Kept, LoopState, Running};
use super::exceptions::{panic_message, to_exception};
use super::pooled::Pooled;
use crate::context::{self, Context as Driving};
use crate::sync::lock;

/// What the loop's queue holds: a task, whatever its future is.
pub(super) trait Runnable: Send + Sync {
    fn run(self: Arc<Self>, py: Python<'_>);

    /// Drops the future if nobody waits for it any more.
    fn give_up(&self, py: Python<'_>);

    /// Drops the future: its loop is gone.
    fn abandon(&self);
}

/// Called by the awaitable when it is done, which it also is when it was cancelled.
#[pyclass(frozen, module = "django_vcache._vcache")]
struct Canceller {
    /// Weak, because the awaitable holds this and the task holds the awaitable.
    task: Weak<dyn Runnable>,
}

#[pymethods]
impl Canceller {
    fn __call__(&self, py: Python<'_>, _awaitable: &Bound<'_, PyAny>) {
        if let Some(task) = self.task.upgrade() {
            task.give_up(py);
        }
    }
}

struct Task<F, C> {
    home: Arc<LoopState>,
    queued: AtomicBool,
    /// The awaitable has a [`Canceller`].
    watched: AtomicBool,
    steps: Steps,
    body: Mutex<Body<F, C>>,
}

/// All `None` once the task is over.
struct Body<F, C> {
    /// Pinned: it is polled and dropped where it lies, and never moved.
    future: Option<F>,
    finish: Option<C>,
    awaitable: Option<Py<PyAny>>,
}

/// Polls `future` on the running asyncio loop and returns an `asyncio.Future` of what `finish` makes of its output.
///
/// The first poll happens now, so that a call is on its way when this returns.
///
/// # Errors
/// `RuntimeError` if no loop runs on this thread.
pub fn spawn<'py, F, C>(py: Python<'py>, steps: Steps, future: F, finish: C) -> PyResult<Bound<'py, PyAny>>
where
    F: Future + Send + 'static,
    C: FnOnce(Python<'_>, F::Output) -> PyResult<Py<PyAny>> + Send + 'static,
{
    spawn_on(&Running::here(py)?, steps, future, finish)
}

/// The running loop of a thread, kept for as long as tasks are to be started on it.
pub(crate) struct Loop(Kept);

impl Loop {
    /// # Errors
    /// `RuntimeError` if no loop runs on this thread.
    pub(crate) fn running(py: Python<'_>) -> PyResult<Self> {
        Running::here(py).map(|running| Self(running.keep()))
    }

    /// As [`spawn`], on this loop, whose thread this must be.
    pub(crate) fn spawn<'py, F, C>(
        &self,
        py: Python<'py>,
        steps: Steps,
        future: F,
        finish: C,
    ) -> PyResult<Bound<'py, PyAny>>
    where
        F: Future + Send + 'static,
        C: FnOnce(Python<'_>, F::Output) -> PyResult<Py<PyAny>> + Send + 'static,
    {
        spawn_on(&self.0.bind(py), steps, future, finish)
    }
}

fn spawn_on<'py, F, C>(
    running: &Running<'py>,
    steps: Steps,
    future: F,
    finish: C,
) -> PyResult<Bound<'py, PyAny>>
where
    F: Future + Send + 'static,
    C: FnOnce(Python<'_>, F::Output) -> PyResult<Py<PyAny>> + Send + 'static,
{
    if Pooled::<F>::FITS {
        return start(running, steps, Pooled::new(future), finish);
    }
    start(running, steps, future, finish)
}

fn start<'py, F, C>(running: &Running<'py>, steps: Steps, future: F, finish: C) -> PyResult<Bound<'py, PyAny>>
where
    F: Future + Send + 'static,
    C: FnOnce(Python<'_>, F::Output) -> PyResult<Py<PyAny>> + Send + 'static,
{
    let py = running.event_loop.py();
    let awaitable = running.event_loop.call_method0(intern!(py, "create_future"))?;
    let task = Arc::new(Task {
        home: Arc::clone(running.state()),
        queued: AtomicBool::new(false),
        watched: AtomicBool::new(false),
        steps,
        body: Mutex::new(Body {
            future: Some(future),
            finish: Some(finish),
            awaitable: Some(awaitable.clone().unbind()),
        }),
    });
    running.state().started();
    // Nobody else has seen the awaitable, so it cannot have been cancelled.
    task.step(py, false);
    running.after_spawn()?;
    Ok(awaitable)
}

impl<F, C> Runnable for Task<F, C>
where
    F: Future + Send + 'static,
    C: FnOnce(Python<'_>, F::Output) -> PyResult<Py<PyAny>> + Send + 'static,
{
    fn run(self: Arc<Self>, py: Python<'_>) {
        let first = self.queued.swap(false, Ordering::AcqRel);
        debug_assert!(first, "a task runs only when it was queued");
        let may_be_done = self.steps == Steps::Many;
        self.step(py, may_be_done);
    }

    fn give_up(&self, py: Python<'_>) {
        let body = lock(&self.body);
        if body.awaitable.as_ref().is_some_and(|awaitable| is_done(awaitable.bind(py))) {
            drop(body);
            self.abandon();
        }
    }

    fn abandon(&self) {
        let mut body = lock(&self.body);
        if body.future.is_some() {
            let _ = catch_unwind(AssertUnwindSafe(|| body.future = None));
            let dropped = (body.finish.take(), body.awaitable.take());
            drop(body);
            drop(dropped);
            self.home.finished();
        }
    }
}

impl<F, C> Task<F, C>
where
    F: Future + Send + 'static,
    C: FnOnce(Python<'_>, F::Output) -> PyResult<Py<PyAny>> + Send + 'static,
{
    /// Polls the future once. With `may_be_done` the awaitable is asked first whether it still wants the result.
    fn step(self: Arc<Self>, py: Python<'_>, may_be_done: bool) {
        let waker = Waker::from(Arc::clone(&self));
        let mut body = lock(&self.body);
        let Some(awaitable) = &body.awaitable else { return };
        let outcome = if may_be_done && is_done(awaitable.bind(py)) {
            None
        } else {
            // SAFETY: the future lies in this task's heap allocation. It is only ever reached through this lock, polled
            // here in place, and dropped in place by assigning `None` below.
            let future = unsafe { Pin::new_unchecked(&mut body.future) };
            let _driving = context::enter(Driving::Loop);
            // What another task noted, and then had no use for.
            context::take_prompt_cancel();
            let polled = catch_unwind(AssertUnwindSafe(|| {
                future.as_pin_mut().map(|future| future.poll(&mut Context::from_waker(&waker)))
            }));
            match polled {
                Ok(Some(Poll::Pending)) => {
                    if context::take_prompt_cancel()
                        && self.steps != Steps::All
                        && !self.watched.swap(true, Ordering::Relaxed)
                    {
                        let awaitable = body.awaitable.as_ref().map(|awaitable| awaitable.clone_ref(py));
                        drop(body);
                        awaitable.iter().for_each(|awaitable| self.watch(py, awaitable));
                    }
                    return;
                }
                Ok(Some(Poll::Ready(output))) => Some(Ok(output)),
                Ok(None) => None,
                Err(payload) => Some(Err(to_exception(py, &panic_message(&*payload)))),
            }
        };
        // A destructor of the hot path's may panic too.
        let _ = catch_unwind(AssertUnwindSafe(|| body.future = None));
        let (finish, awaitable) = (body.finish.take(), body.awaitable.take());
        drop(body);
        self.home.finished();
        if let (Some(outcome), Some(finish), Some(awaitable)) = (outcome, finish, awaitable) {
            let result = outcome.and_then(|output| {
                catch_unwind(AssertUnwindSafe(|| finish(py, output)))
                    .unwrap_or_else(|payload| Err(to_exception(py, &panic_message(&*payload))))
            });
            settle(py, awaitable.bind(py), result);
        }
    }

    /// Has the awaitable tell at once when it is cancelled. Not done for every call, because asyncio then schedules a
    /// callback for each, which would be a good part of what a call costs.
    fn watch(self: &Arc<Self>, py: Python<'_>, awaitable: &Py<PyAny>) {
        let task: Weak<dyn Runnable> = Arc::downgrade(self) as Weak<dyn Runnable>;
        self.home.keep_in_view(Weak::clone(&task));
        let watched = Bound::new(py, Canceller { task })
            .and_then(|canceller| awaitable.call_method1(py, intern!(py, "add_done_callback"), (canceller,)));
        if let Err(error) = watched {
            error.write_unraisable(py, Some(awaitable.bind(py)));
        }
    }
}

impl<F, C> Wake for Task<F, C>
where
    F: Future + Send + 'static,
    C: FnOnce(Python<'_>, F::Output) -> PyResult<Py<PyAny>> + Send + 'static,
{
    fn wake(self: Arc<Self>) {
        if !self.queued.swap(true, Ordering::AcqRel) {
            let home = Arc::clone(&self.home);
            home.push(self);
        }
    }
}

/// asyncio's own class of futures and two of its methods. They are looked up once, because to find a method by its name costs
/// as much as to call it.
struct Methods {
    class: Py<PyAny>,
    done: Py<PyAny>,
    set_result: Py<PyAny>,
}

impl Methods {
    /// Those of an awaitable; `None` for one of another class, which has its own.
    fn of(awaitable: &Bound<'_, PyAny>) -> Option<&'static Self> {
        static METHODS: PyOnceLock<Option<Methods>> = PyOnceLock::new();
        let py = awaitable.py();
        let find = || {
            let class = py.import("asyncio").and_then(|asyncio| asyncio.getattr("Future")).ok()?;
            let (done, set_result) = (class.getattr("done").ok()?, class.getattr("set_result").ok()?);
            Some(Self { class: class.unbind(), done: done.unbind(), set_result: set_result.unbind() })
        };
        let methods = METHODS.get_or_init(py, find).as_ref()?;
        (awaitable.get_type().as_ptr() == methods.class.as_ptr()).then_some(methods)
    }
}

fn is_done(awaitable: &Bound<'_, PyAny>) -> bool {
    let done = match Methods::of(awaitable) {
        Some(methods) => methods.done.bind(awaitable.py()).call1((awaitable,)),
        None => awaitable.call_method0(intern!(awaitable.py(), "done")),
    };
    done.and_then(|done| done.is_truthy()).unwrap_or(true)
}

/// Gives the awaitable its result, unless it was cancelled in the meantime.
fn settle(py: Python<'_>, awaitable: &Bound<'_, PyAny>, result: PyResult<Py<PyAny>>) {
    let set = match result {
        Ok(value) => match Methods::of(awaitable) {
            Some(methods) => methods.set_result.bind(py).call1((awaitable, value)),
            None => awaitable.call_method1(intern!(py, "set_result"), (value,)),
        },
        Err(error) => awaitable.call_method1(intern!(py, "set_exception"), (error.into_value(py),)),
    };
    if let Err(error) = set
        && !is_done(awaitable)
    {
        error.write_unraisable(py, Some(awaitable));
    }
}
