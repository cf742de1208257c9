//! One Rust future on an asyncio loop. It is polled on the loop's thread only, and completes a future that the loop
//! made, so gather, wait_for, shield, cancellation and context variables behave as with any other.

use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::task::{Context, Poll, Wake, Waker};

use pyo3::intern;
use pyo3::prelude::*;

use super::Steps;
use super::awaited::{Awaited, settle};
use super::event_loop::{Kept, NoLoop, Running};
use super::exceptions::{panicked, to_exception};
use super::loop_state::{LoopState, Runnable};
use super::pooled::Pooled;
use crate::abi::border::contained;
use crate::error::Error;
use crate::scope::{self, Driving};
use crate::sync::lock;

struct Task<F, C> {
    home: Arc<LoopState>,
    queued: AtomicBool,
    steps: Steps,
    body: Mutex<Body<F, C>>,
}

/// All `None` once the task is over.
struct Body<F, C> {
    /// Pinned: it is polled and dropped where it lies, and never moved.
    future: Option<F>,
    finish: Option<C>,
    awaitable: Option<Awaited>,
}

/// Polls `future` on the running asyncio loop and returns an `asyncio.Future` of what `finish` makes of its output.
///
/// The first poll happens now, so that a call is on its way when this returns.
///
/// Where the process has no descriptor left for what calls the loop back, each of the future's calls fails, and it decides what
/// becomes of that: an outage policy, or an exception of the awaitable's.
///
/// # Errors
/// `RuntimeError` if no loop runs on this thread.
pub fn spawn<'py, F, C>(py: Python<'py>, steps: Steps, future: F, finish: C) -> PyResult<Bound<'py, PyAny>>
where
    F: Future + Send + 'static,
    C: FnOnce(Python<'_>, F::Output) -> PyResult<Py<PyAny>> + Send + 'static,
{
    match Running::here(py) {
        Ok(running) => spawn_on(&running, steps, future, finish),
        Err(NoLoop::Refused(event_loop, error)) => settled_now(&event_loop, error, future, finish),
        Err(NoLoop::Raised(error)) => Err(error),
    }
}

/// Polls `future` once, with each of its calls refused, and returns a future that is done.
///
/// # Errors
/// The refusal, if it waits for something else.
#[cold]
fn settled_now<'py, F, C>(
    event_loop: &Bound<'py, PyAny>,
    refusal: Error,
    future: F,
    finish: C,
) -> PyResult<Bound<'py, PyAny>>
where
    F: Future,
    C: FnOnce(Python<'_>, F::Output) -> PyResult<Py<PyAny>>,
{
    let py = event_loop.py();
    let polled = {
        let _refusing = scope::refuse(refusal.clone());
        let future = pin!(future);
        catch_unwind(AssertUnwindSafe(|| future.poll(&mut Context::from_waker(Waker::noop()))))
    };
    let result = match polled {
        Ok(Poll::Ready(output)) => catch_unwind(AssertUnwindSafe(|| finish(py, output)))
            .unwrap_or_else(|payload| Err(panicked(py, payload))),
        Ok(Poll::Pending) => return Err(to_exception(py, &refusal)),
        Err(payload) => Err(panicked(py, payload)),
    };
    let awaitable = event_loop.call_method0(intern!(py, "create_future"))?;
    settle(py, &awaitable, result);
    Ok(awaitable)
}

/// The running loop of a thread, kept for as long as tasks are to be started on it.
pub(crate) struct Loop(Kept);

impl Loop {
    /// # Errors
    /// `RuntimeError` if no loop runs on this thread.
    pub(crate) fn running(py: Python<'_>) -> PyResult<Self> {
        Ok(Self(Running::here(py)?.keep()))
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
        steps,
        body: Mutex::new(Body {
            future: Some(future),
            finish: Some(finish),
            awaitable: Some(Awaited::new(running.state(), awaitable.clone().unbind())),
        }),
    });
    // The awaitable has not been handed out, so it cannot have been cancelled.
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

    fn is_cancelled(&self, py: Python<'_>) -> bool {
        lock(&self.body).awaitable.as_ref().is_some_and(|awaitable| awaitable.is_done(py, &self.home))
    }

    fn abandon(&self) {
        let mut body = lock(&self.body);
        if body.future.is_some() {
            contained((), || body.future = None);
            let dropped = (body.finish.take(), body.awaitable.take().and_then(|kept| kept.take(&self.home)));
            drop(body);
            drop(dropped);
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
        let Some(awaitable) = body.awaitable else { return };
        let outcome = if may_be_done && awaitable.is_done(py, &self.home) {
            None
        } else {
            // SAFETY: the future lies in this task's heap allocation. It is only ever reached through this lock, polled
            // here in place, and dropped in place by assigning `None` below.
            let future = unsafe { Pin::new_unchecked(&mut body.future) };
            let _driving = scope::enter(Driving::Loop, &self.home.waiter);
            // What another task noted, and then had no use for.
            scope::take_prompt_cancel();
            let polled = catch_unwind(AssertUnwindSafe(|| {
                future.as_pin_mut().map(|future| future.poll(&mut Context::from_waker(&waker)))
            }));
            match polled {
                Ok(Some(Poll::Pending)) => {
                    if scope::take_prompt_cancel() && self.steps != Steps::All {
                        let task: Weak<dyn Runnable> = Arc::downgrade(&self) as Weak<dyn Runnable>;
                        // Python may run meanwhile, and come back to this task.
                        drop(body);
                        awaitable.watch(py, &self.home, &task);
                    }
                    return;
                }
                Ok(Some(Poll::Ready(output))) => Some(Ok(output)),
                Ok(None) => None,
                Err(payload) => Some(Err(panicked(py, payload))),
            }
        };
        // A destructor of the hot path's may panic too.
        contained((), || body.future = None);
        let (finish, awaitable) = (body.finish.take(), body.awaitable.take());
        drop(body);
        let awaitable = awaitable.and_then(|awaitable| awaitable.take(&self.home));
        if let (Some(outcome), Some(finish), Some(awaitable)) = (outcome, finish, awaitable) {
            let result = outcome.and_then(|output| {
                catch_unwind(AssertUnwindSafe(|| finish(py, output)))
                    .unwrap_or_else(|payload| Err(panicked(py, payload)))
            });
            settle(py, awaitable.bind(py), result);
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
