//! A guest's futures on our executor, and our wakers for them.

use std::ffi::c_void;
use std::future::Future;
use std::mem::ManuallyDrop;
use std::pin::Pin;
use std::ptr;
use std::sync::Arc;
use std::task::{Context, Poll, RawWakerVTable, ready};

use pyo3::exceptions::PySystemError;
use pyo3::ffi::PyObject;
use pyo3::prelude::*;

use super::guarded;
use crate::abi::border::contained;
use crate::abi::sized::read_sized;
use crate::abi::table::{Status, Task, Waker, WakerVTable};
use crate::blocking::block_on_until;
use crate::python::{Loop, Steps, really_attached, shield, spawn};
use crate::scope::{self, Driving};

/// A task that this side owns.
struct Owned(Task);

// SAFETY: the contract: a task's functions may be called from any thread, one at a time.
unsafe impl Send for Owned {}

impl Owned {
    fn finish(self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        let mut result: *mut PyObject = ptr::null_mut();
        // SAFETY: the task said that it is ready, this is the only call, and we are attached.
        let status = unsafe { (self.0.finish)(self.0.data, &raw mut result) };
        // SAFETY: the contract: an owned reference, or null.
        match unsafe { Bound::from_owned_ptr_or_opt(py, result) } {
            Some(result) if status == Status::OK => Ok(result.unbind()),
            _ => Err(PyErr::take(py)
                .unwrap_or_else(|| PySystemError::new_err("a guest's task failed without an exception"))),
        }
    }
}

impl Drop for Owned {
    fn drop(&mut self) {
        // SAFETY: it was handed over to us, and this is the only call.
        let _ = really_attached(|_| unsafe { (self.0.drop)(self.0.data) });
    }
}

/// Polls a task of a guest's; its output is the task itself, to be finished.
struct Polled {
    task: Option<Owned>,
    waker: Option<Arc<HostWaker>>,
}

impl Future for Polled {
    type Output = Result<Owned, Unknown>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        let Some(task) = &this.task else { return Poll::Ready(Err(Unknown(Task::READY))) };
        let answered = ready!(poll(&task.0, &mut this.waker, cx));
        let task = this.task.take().ok_or(Unknown(Task::READY));
        Poll::Ready(answered.and(task))
    }
}

/// What a guest's task answered, and should not have.
struct Unknown(u32);

impl Unknown {
    fn into_exception(self) -> PyErr {
        PySystemError::new_err(format!("a guest's task answered {}, which is not known here", self.0))
    }
}

/// One step of a guest's task, with the waker of the step before if it is still the right one.
fn poll(task: &Task, last: &mut Option<Arc<HostWaker>>, cx: &Context<'_>) -> Poll<Result<(), Unknown>> {
    if !last.as_ref().is_some_and(|waker| waker.is_of(cx.waker())) {
        *last = None;
    }
    let waker = last.get_or_insert_with(|| HostWaker::of(cx.waker()));
    // SAFETY: the contract; the waker is borrowed for the call.
    match unsafe { (task.poll)(task.data, Arc::as_ptr(waker).cast()) } {
        Task::PENDING => Poll::Pending,
        Task::READY => Poll::Ready(Ok(())),
        Task::PENDING_WATCHED => {
            if scope::driving() == Driving::Loop {
                scope::want_prompt_cancel();
            }
            Poll::Pending
        }
        unknown => Poll::Ready(Err(Unknown(unknown))),
    }
}

/// A waker as a guest can use it: the same for all steps of a task.
///
/// Every reference that the guest has counts as one to this and as one to the Rust waker. The task has one to this alone: with
/// one to the Rust waker it would own itself, and outlive a loop that never polls it again.
#[repr(C)]
struct HostWaker {
    view: Waker,
    data: *const (),
    vtable: &'static RawWakerVTable,
}

// SAFETY: the pointers in it are to a static table of functions that any thread may call, and to what they are called with.
unsafe impl Send for HostWaker {}
// SAFETY: as above.
unsafe impl Sync for HostWaker {}

static WAKER: WakerVTable =
    WakerVTable { clone: waker_clone, wake: waker_wake, wake_by_ref: waker_wake_by_ref, drop: waker_drop };

impl HostWaker {
    fn of(waker: &std::task::Waker) -> Arc<Self> {
        Arc::new(Self {
            view: Waker { vtable: &raw const WAKER },
            data: waker.data(),
            vtable: waker.vtable(),
        })
    }

    fn is_of(&self, waker: &std::task::Waker) -> bool {
        self.data == waker.data() && ptr::eq(self.vtable, waker.vtable())
    }

    /// The Rust waker, borrowed.
    ///
    /// # Safety
    /// The caller must hold a reference to the Rust waker meanwhile.
    unsafe fn rust(&self) -> ManuallyDrop<std::task::Waker> {
        // SAFETY: they are a waker's, whose reference is not given up.
        ManuallyDrop::new(unsafe { std::task::Waker::new(self.data, self.vtable) })
    }
}

unsafe extern "C" fn waker_clone(waker: *const Waker) -> *const Waker {
    let copy = contained(None, || {
        // SAFETY: it is a `HostWaker` in an `Arc` that the caller has a reference to, and with it one to the Rust waker, be it
        // for the time of a poll.
        let rust = unsafe { (*waker.cast::<HostWaker>()).rust() };
        Some(ManuallyDrop::new(std::task::Waker::clone(&rust)))
    });
    match copy {
        None => &raw const NO_WAKER,
        // The usual case: wakers of `std::task::Wake` differ in nothing from their copies.
        // SAFETY: as above.
        Some(copy) if unsafe { (*waker.cast::<HostWaker>()).is_of(&copy) } => {
            // SAFETY: as above.
            unsafe { Arc::increment_strong_count(waker.cast::<HostWaker>()) };
            waker
        }
        Some(copy) => Arc::into_raw(HostWaker::of(&copy)).cast(),
    }
}

unsafe extern "C" fn waker_wake(waker: *const Waker) {
    contained((), || {
        // SAFETY: as above, and the caller gives its references up.
        let host = unsafe { Arc::from_raw(waker.cast::<HostWaker>()) };
        // SAFETY: as above.
        ManuallyDrop::into_inner(unsafe { host.rust() }).wake();
    });
}

unsafe extern "C" fn waker_wake_by_ref(waker: *const Waker) {
    // SAFETY: as for the copy.
    contained((), || unsafe { (*waker.cast::<HostWaker>()).rust() }.wake_by_ref());
}

unsafe extern "C" fn waker_drop(waker: *const Waker) {
    contained((), || {
        // SAFETY: as above, and the caller gives its references up.
        let host = unsafe { Arc::from_raw(waker.cast::<HostWaker>()) };
        // SAFETY: as above.
        drop(ManuallyDrop::into_inner(unsafe { host.rust() }));
    });
}

/// What a guest gets in place of the copy of a waker whose copying panicked: it wakes nothing.
static NO_WAKER: Waker = Waker { vtable: &raw const NO_WAKER_VTABLE };
static NO_WAKER_VTABLE: WakerVTable =
    WakerVTable { clone: no_waker_clone, wake: no_waker, wake_by_ref: no_waker, drop: no_waker };

unsafe extern "C" fn no_waker_clone(waker: *const Waker) -> *const Waker {
    waker
}

unsafe extern "C" fn no_waker(_: *const Waker) {}

/// Lends the waker that a guest's task would be polled with.
#[cfg(all(test, feature = "testing"))]
pub(super) fn with_waker(rust: &std::task::Waker, body: impl FnOnce(*const Waker)) {
    let waker = HostWaker::of(rust);
    body(Arc::as_ptr(&waker).cast());
}

/// Runs the body attached, and leaves its error as Python's exception.
fn attached(body: impl FnOnce(Python<'_>) -> PyResult<()>) -> Status {
    guarded(|| {
        Python::attach(|py| match body(py) {
            Ok(()) => Status::OK,
            Err(error) => {
                error.restore(py);
                Status::ERROR
            }
        })
    })
}

pub(super) unsafe extern "C" fn loop_acquire(running: *mut *mut c_void) -> Status {
    attached(|py| {
        let found = Box::new(Loop::running(py)?);
        // SAFETY: the caller gives a place to write to.
        unsafe { running.write(Box::into_raw(found).cast()) };
        Ok(())
    })
}

pub(super) unsafe extern "C" fn loop_spawn(
    running: *mut c_void,
    task: *const Task,
    awaitable: *mut *mut PyObject,
) -> Status {
    attached(|py| {
        // SAFETY: the caller's task lives during the call, and its first field says how much of it there is.
        let Some(task) = (unsafe { read_sized(task) }) else {
            return Err(PySystemError::new_err("a guest's task is smaller than any that there was"));
        };
        let task = Owned(task);
        let steps = match task.0.steps {
            Task::ONE => Steps::One,
            Task::MANY => Steps::Many,
            Task::ALL => Steps::All,
            unknown => {
                return Err(PySystemError::new_err(format!(
                    "a guest's task has the unknown steps {unknown}"
                )));
            }
        };
        let polled = Polled { task: Some(task), waker: None };
        let finish = |py: Python<'_>, task: Result<Owned, Unknown>| match task {
            Ok(task) => task.finish(py),
            Err(unknown) => Err(unknown.into_exception()),
        };
        // SAFETY: a loop of `loop_acquire` that was not released, or null.
        let made = match unsafe { running.cast::<Loop>().as_ref() } {
            Some(running) => running.spawn(py, steps, polled, finish)?,
            None => spawn(py, steps, polled, finish)?,
        };
        // SAFETY: the caller gives a place to write to.
        unsafe { awaitable.write(made.into_ptr()) };
        Ok(())
    })
}

pub(super) unsafe extern "C" fn loop_release(running: *mut c_void) {
    let _ = attached(|_| {
        // SAFETY: `loop_acquire` made it, and it is given back once.
        drop(unsafe { Box::from_raw(running.cast::<Loop>()) });
        Ok(())
    });
}

pub(super) unsafe extern "C" fn block_on(task: *const Task, exception: *mut *mut PyObject) -> Status {
    guarded(|| {
        // SAFETY: the caller's task lives during the call, and its first field says how much of it there is.
        let Some(task) = (unsafe { read_sized(task) }) else { return Status::ERROR };
        shield();
        let mut waker = None;
        let future = std::future::poll_fn(|cx| poll(&task, &mut waker, cx));
        let interrupted = || {
            if exception.is_null() {
                return Ok(());
            }
            // At the interpreter's end there is nothing to attach to, and no thread to interrupt.
            really_attached(|py| py.check_signals().map_err(|error| error.into_value(py).into_ptr()))
                .unwrap_or(Ok(()))
        };
        match block_on_until(future, interrupted) {
            Ok(Ok(())) => Status::OK,
            Ok(Err(_)) => Status::ERROR,
            Err(raised) => {
                // SAFETY: the caller gives a place to write to.
                unsafe { exception.write(raised) };
                Status::ERROR
            }
        }
    })
}
