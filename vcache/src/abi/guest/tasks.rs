//! Futures as C structs that the host polls, and the host's wakers as Rust's.

use std::any::Any;
use std::cell::Cell;
use std::ffi::c_void;
use std::future::Future;
use std::mem::ManuallyDrop;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::pin::Pin;
use std::ptr;
use std::task::{Context, Poll, RawWaker, RawWakerVTable};

use pyo3::ffi::PyObject;
use pyo3::prelude::*;

use super::find::table;
use crate::abi::border::contained;
use crate::abi::table::{Status, Task, Waker};
use crate::python::{Steps, panic_message, panicked, to_exception};

thread_local! {
    static WATCHED: Cell<bool> = const { Cell::new(false) };
    static BLOCKING: Cell<bool> = const { Cell::new(false) };
}

/// Notes that the task being polled must learn of its cancellation at once.
#[cfg(any(feature = "awaitable", feature = "spawn"))]
pub(crate) fn note_prompt_cancel() {
    WATCHED.set(true);
}

/// Whether this thread waits for the future being polled.
#[cfg(feature = "awaitable")]
pub(crate) fn is_blocking() -> bool {
    BLOCKING.get()
}

/// A future, then its output, and what makes that a Python object.
pub(super) struct Body<F: Future, C> {
    /// Pinned: it is polled and dropped where it lies, and never moved.
    future: Option<F>,
    output: Option<Result<F::Output, Box<dyn Any + Send>>>,
    finish: Option<C>,
}

impl<F: Future, C> Body<F, C> {
    pub(super) fn new(future: F, finish: Option<C>) -> Self {
        Self { future: Some(future), output: None, finish }
    }

    fn step(&mut self, cx: &mut Context<'_>) -> u32 {
        WATCHED.set(false);
        // SAFETY: a body is boxed, or on the stack of one that waits, and not moved between its first poll and the
        // future's end, which is assigned in place below.
        let future = unsafe { Pin::new_unchecked(&mut self.future) };
        let polled = catch_unwind(AssertUnwindSafe(|| future.as_pin_mut().map(|future| future.poll(cx))));
        let output = match polled {
            Ok(Some(Poll::Pending)) if WATCHED.take() => return Task::PENDING_WATCHED,
            Ok(Some(Poll::Pending)) => return Task::PENDING,
            Ok(Some(Poll::Ready(output))) => Ok(output),
            Ok(None) => return Task::READY,
            Err(panic) => Err(panic),
        };
        self.output = Some(output);
        // A destructor of the hot path's may panic too.
        contained((), || self.future = None);
        Task::READY
    }

    pub(super) fn take_output(&mut self) -> Option<Result<F::Output, Box<dyn Any + Send>>> {
        self.output.take()
    }
}

/// # Safety
/// `data` must be a `Body<F, C>` that no one else uses, and the waker a host's.
unsafe extern "C" fn poll<F: Future, C>(data: *mut c_void, waker: *const Waker) -> u32 {
    contained(Task::READY, || {
        // SAFETY: the caller's promise.
        let body = unsafe { &mut *data.cast::<Body<F, C>>() };
        // SAFETY: as above; it is borrowed, so it is not dropped here.
        let waker = ManuallyDrop::new(unsafe { std::task::Waker::from_raw(raw_waker(waker)) });
        body.step(&mut Context::from_waker(&waker))
    })
}

/// # Safety
/// `data` must be a `Body<F, C>` that is ready, and this thread attached.
unsafe extern "C" fn finish<F, C>(data: *mut c_void, result: *mut *mut PyObject) -> Status
where
    F: Future,
    C: FnOnce(Python<'_>, F::Output) -> PyResult<Py<PyAny>>,
{
    contained(Status::PANIC, || {
        // SAFETY: the caller's promise.
        let body = unsafe { &mut *data.cast::<Body<F, C>>() };
        Python::attach(|py| {
            let made = match (body.output.take(), body.finish.take()) {
                (Some(Ok(output)), Some(finish)) => catch_unwind(AssertUnwindSafe(|| finish(py, output)))
                    .unwrap_or_else(|payload| Err(panicked(py, payload))),
                (Some(Err(payload)), _) => Err(panicked(py, payload)),
                _ => Err(to_exception(py, &panic_message(&"finished before it was ready"))),
            };
            match made {
                Ok(object) => {
                    // SAFETY: the host gives a place to write to.
                    unsafe { result.write(object.into_ptr()) };
                    Status::OK
                }
                Err(error) => {
                    error.restore(py);
                    Status::ERROR
                }
            }
        })
    })
}

/// # Safety
/// `data` must be a boxed `Body<F, C>`, given up by its owner.
unsafe extern "C" fn free<F: Future, C>(data: *mut c_void) {
    contained((), || {
        // SAFETY: the caller's promise.
        let body = unsafe { Box::from_raw(data.cast::<Body<F, C>>()) };
        drop(body);
    });
}

/// The task of a boxed body, whose owner is the one that frees the task.
pub(super) fn task<F, C>(steps: Steps, body: *mut Body<F, C>) -> Task
where
    F: Future,
    C: FnOnce(Python<'_>, F::Output) -> PyResult<Py<PyAny>>,
{
    let steps = match steps {
        Steps::One => Task::ONE,
        Steps::Many => Task::MANY,
        Steps::All => Task::ALL,
    };
    Task {
        size: size_of::<Task>(),
        steps,
        reserved: 0,
        data: body.cast(),
        poll: poll::<F, C>,
        finish: finish::<F, C>,
        drop: free::<F, C>,
        #[cfg(feature = "__abi_longer")]
        of_tomorrow: u64::MAX,
    }
}

/// What a body is finished with that Python never sees.
pub(super) type Unfinished<T> = fn(Python<'_>, T) -> PyResult<Py<PyAny>>;

/// Has the host poll a body until it is ready. With `exception`, signals are looked for.
pub(super) fn drive<F: Future>(
    body: &mut Body<F, Unfinished<F::Output>>,
    exception: Option<&mut *mut PyObject>,
) -> crate::Result<Status> {
    let table = table()?;
    let task = task(Steps::All, ptr::from_mut(body));
    let exception = exception.map_or(ptr::null_mut(), ptr::from_mut);
    let before = BLOCKING.replace(true);
    // SAFETY: the task lives during the call, and the host neither finishes nor frees it.
    let status = unsafe { (table.block_on)(&raw const task, exception) };
    BLOCKING.set(before);
    Ok(status)
}

/// Runs a future to its end on this thread, driving the connections while it waits.
///
/// In Python, release the GIL first. On an asyncio loop's own thread it works, and blocks that loop.
///
/// # Panics
/// If Python has not imported this library as an extension module: then there is no connection to drive.
pub fn block_on<F: Future>(future: F) -> F::Output {
    let mut body = Body::new(future, None);
    match drive(&mut body, None) {
        Ok(status) => match body.take_output() {
            Some(Ok(output)) => output,
            Some(Err(panic)) => resume_unwind(panic),
            None => panic!("django-vcache could not drive a future (status {}); please report it", status.0),
        },
        Err(error) => panic!("{error}"),
    }
}

const WAKER: RawWakerVTable = RawWakerVTable::new(waker_clone, waker_wake, waker_wake_by_ref, waker_drop);

fn raw_waker(waker: *const Waker) -> RawWaker {
    static VTABLE: RawWakerVTable = WAKER;
    RawWaker::new(waker.cast(), &VTABLE)
}

unsafe fn waker_clone(data: *const ()) -> RawWaker {
    let waker = data.cast::<Waker>();
    // SAFETY: a waker of the host's, by the contract of `RawWaker`.
    raw_waker(unsafe { ((*(*waker).vtable).clone)(waker) })
}

unsafe fn waker_wake(data: *const ()) {
    let waker = data.cast::<Waker>();
    // SAFETY: as above.
    unsafe { ((*(*waker).vtable).wake)(waker) }
}

unsafe fn waker_wake_by_ref(data: *const ()) {
    let waker = data.cast::<Waker>();
    // SAFETY: as above.
    unsafe { ((*(*waker).vtable).wake_by_ref)(waker) }
}

unsafe fn waker_drop(data: *const ()) {
    let waker = data.cast::<Waker>();
    // SAFETY: as above.
    unsafe { ((*(*waker).vtable).drop)(waker) }
}
