//! Panics in what the table's functions call: wakers, and Python's objects. They come out as a status, or not at all.

use std::ffi::c_void;
use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::task::{RawWaker, RawWakerVTable};

use pyo3::prelude::*;
use pyo3::types::PyDict;

use super::guest_tests::{finish, poll};
use super::{TABLE, tasks};
use crate::abi::fenced::Fenced;
use crate::abi::table::{Connection, Status, Task, Text};

/// A waker each of whose functions panics from a moment on.
static ARMED: AtomicBool = AtomicBool::new(false);

fn explode() {
    assert!(!ARMED.load(Ordering::SeqCst), "on purpose");
}

static PANICKING: RawWakerVTable = RawWakerVTable::new(
    |data| {
        explode();
        RawWaker::new(data, &PANICKING)
    },
    |_| explode(),
    |_| explode(),
    |_| explode(),
);

#[test]
fn a_waker_that_panics_does_not_unwind_into_the_guest() {
    // SAFETY: its data is not used.
    let rust = unsafe { std::task::Waker::new(ptr::null(), &PANICKING) };
    tasks::with_waker(&rust, |waker| {
        // SAFETY: a waker of the host's, with a reference for each that is given up.
        unsafe {
            let vtable = &*(*waker).vtable;
            let (first, second) = ((vtable.clone)(waker), (vtable.clone)(waker));
            assert!(first == waker, "a copy that is the same");
            ARMED.store(true, Ordering::SeqCst);
            (vtable.wake_by_ref)(waker);
            (vtable.wake)(first);
            (vtable.drop)(second);
            let no_copy = (vtable.clone)(waker);
            assert!(no_copy != waker);
            let vtable = &*(*no_copy).vtable;
            let again = (vtable.clone)(no_copy);
            (vtable.wake_by_ref)(no_copy);
            (vtable.wake)(again);
            (vtable.drop)(no_copy);
        }
    });
    ARMED.store(false, Ordering::SeqCst);
}

/// A waker whose copies are not what it is itself.
static CHANGING: RawWakerVTable = RawWakerVTable::new(
    |data| {
        // SAFETY: the counts of the test below.
        let counts = unsafe { &*data.cast::<Counts>() };
        counts.copies.fetch_add(1, Ordering::SeqCst);
        RawWaker::new(data, &COPY)
    },
    |_| unreachable!("the guest has no reference to it"),
    |_| {},
    |_| {},
);
static COPY: RawWakerVTable = RawWakerVTable::new(
    |_| unreachable!("it is not copied"),
    |data| {
        // SAFETY: as above.
        unsafe { (*data.cast::<Counts>()).ends.fetch_add(1, Ordering::SeqCst) };
    },
    |_| {},
    |data| {
        // SAFETY: as above.
        unsafe { (*data.cast::<Counts>()).ends.fetch_add(1, Ordering::SeqCst) };
    },
);

struct Counts {
    copies: AtomicU32,
    ends: AtomicU32,
}

#[test]
fn a_waker_whose_copies_differ_is_copied_all_the_same() {
    let counts = Counts { copies: 0.into(), ends: 0.into() };
    // SAFETY: the data lives until the end.
    let rust = unsafe { std::task::Waker::new((&raw const counts).cast(), &CHANGING) };
    tasks::with_waker(&rust, |waker| {
        // SAFETY: as above.
        unsafe {
            let vtable = &*(*waker).vtable;
            let (first, second) = ((vtable.clone)(waker), (vtable.clone)(waker));
            assert!(first != waker && second != first);
            ((*(*first).vtable).wake)(first);
            ((*(*second).vtable).drop)(second);
        }
    });
    assert_eq!((counts.copies.into_inner(), counts.ends.into_inner()), (2, 2));
}

/// In Python a `PanicException`, which PyO3 makes a panic again when it comes back to Rust.
#[pyfunction]
#[expect(unused_variables, reason = "its callers give it something")]
#[pyo3(signature = (*arguments))]
fn panicking(arguments: &Bound<'_, pyo3::types::PyTuple>) {
    panic!("on purpose");
}

#[test]
fn a_panic_while_an_alias_is_configured_is_a_status() {
    Python::initialize();
    let callable = Python::attach(|py| wrap_pyfunction!(panicking, py).unwrap().into_any().unbind());
    crate::python::on_unknown_alias(callable);
    let (place, mut error) =
        (Fenced::holding(&size_of::<Connection>(), size_of::<Connection>()), ptr::null_mut());
    // SAFETY: the place is as large as it says.
    let status = unsafe { (TABLE.acquire)(Text::of("panics"), place.at(), &raw mut error) };
    assert_eq!((status, error.is_null()), (Status::PANIC, true));
}

unsafe extern "C" fn freed(data: *mut c_void) {
    // SAFETY: the count of the test below.
    unsafe { *data.cast::<u32>() += 1 };
}

#[test]
fn a_panic_while_a_task_is_spawned_is_a_status_and_the_task_is_dropped_once() {
    /// Spawns a task that is dropped on the loop that runs here; the status, and how often it was dropped.
    #[pyfunction]
    fn spawn() -> (i32, u32) {
        let mut drops = 0_u32;
        let task = Task {
            size: size_of::<Task>(),
            steps: Task::MANY,
            reserved: 0,
            data: (&raw mut drops).cast(),
            poll,
            finish,
            drop: freed,
            #[cfg(feature = "__abi_longer")]
            of_tomorrow: 0,
        };
        let mut awaitable = ptr::null_mut();
        // SAFETY: attached, on the loop's thread, with a task that is handed over.
        let status = unsafe { (TABLE.loop_spawn)(ptr::null_mut(), &raw const task, &raw mut awaitable) };
        assert!(awaitable.is_null());
        (status.0, drops)
    }

    Python::initialize();
    Python::attach(|py| {
        let globals = PyDict::new(py);
        globals.set_item("spawn", wrap_pyfunction!(spawn, py).unwrap()).unwrap();
        globals.set_item("panicking", wrap_pyfunction!(panicking, py).unwrap()).unwrap();
        let program = cr"
import asyncio

class Loop(asyncio.SelectorEventLoop):
    armed = False

    def create_future(self):
        return panicking() if self.armed else super().create_future()

async def main():
    loop = asyncio.get_running_loop()
    loop.armed = True
    try:
        return spawn()
    finally:
        loop.armed = False

with asyncio.Runner(loop_factory=Loop) as runner:
    outcome = runner.run(main())
";
        py.run(program, Some(&globals), None).unwrap();
        let outcome: (i32, u32) = globals.get_item("outcome").unwrap().unwrap().extract().unwrap();
        assert_eq!(outcome, (Status::PANIC.0, 1));
    });
}
