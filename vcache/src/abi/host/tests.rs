//! What no guest of ours asks of the table, but another may: a loop that is kept between two tasks. The rest is tested from
//! outside, by guests.

use std::ffi::{CString, c_void};
use std::ptr;

use pyo3::exceptions::PyRuntimeError;
use pyo3::ffi::PyObject;
use pyo3::prelude::*;

use super::TABLE;
use crate::abi::table::{Status, Task, Waker};

/// Two polls, between which it wakes itself; then the number that it was made with.
struct Number {
    number: i64,
    polls: u32,
}

unsafe extern "C" fn poll(data: *mut c_void, waker: *const Waker) -> u32 {
    // SAFETY: the tasks here have a `Number`.
    let number = unsafe { &mut *data.cast::<Number>() };
    number.polls += 1;
    if number.polls == 2 {
        return Task::READY;
    }
    // SAFETY: the waker lives during the poll.
    unsafe {
        let kept = ((*(*waker).vtable).clone)(waker);
        ((*(*kept).vtable).wake)(kept);
    }
    Task::PENDING
}

unsafe extern "C" fn finish(data: *mut c_void, result: *mut *mut PyObject) -> Status {
    // SAFETY: as above; the caller is attached and gives a place.
    unsafe {
        let number = (*data.cast::<Number>()).number;
        result.write(number.into_pyobject(Python::assume_attached()).unwrap().into_any().into_ptr());
    }
    Status::OK
}

unsafe extern "C" fn free(data: *mut c_void) {
    // SAFETY: `number` made it.
    drop(unsafe { Box::from_raw(data.cast::<Number>()) });
}

fn number(number: i64) -> Task {
    let data = Box::into_raw(Box::new(Number { number, polls: 0 }));
    Task {
        size: size_of::<Task>(),
        steps: Task::MANY,
        reserved: 0,
        data: data.cast(),
        poll,
        finish,
        drop: free,
        #[cfg(feature = "__abi_longer")]
        of_tomorrow: u64::MAX,
    }
}

fn acquire() -> (Status, *mut c_void) {
    let mut running = ptr::null_mut();
    // SAFETY: called attached, with a place of ours.
    let status = unsafe { (TABLE.loop_acquire)(&raw mut running) };
    (status, running)
}

/// Two awaitables on a loop that is acquired once.
#[pyfunction]
fn two(py: Python<'_>) -> PyResult<(Py<PyAny>, Py<PyAny>)> {
    let (status, running) = acquire();
    assert!(status == Status::OK);
    let spawn = |value| {
        let (task, mut awaitable) = (number(value), ptr::null_mut());
        // SAFETY: attached, on the loop's thread, with a task that is handed over.
        let status = unsafe { (TABLE.loop_spawn)(running, &raw const task, &raw mut awaitable) };
        assert!(status == Status::OK);
        // SAFETY: the contract: an owned reference.
        unsafe { Bound::from_owned_ptr_or_err(py, awaitable) }.map(Bound::unbind)
    };
    let both = (spawn(1)?, spawn(2)?);
    // SAFETY: it was acquired above.
    unsafe { (TABLE.loop_release)(running) };
    Ok(both)
}

#[test]
fn a_loop_that_was_acquired_takes_tasks_until_it_is_released() {
    Python::initialize();
    Python::attach(|py| {
        let globals = pyo3::types::PyDict::new(py);
        globals.set_item("two", wrap_pyfunction!(two, py).unwrap()).unwrap();
        let program = "
import asyncio, gc, weakref

async def main():
    loop = weakref.ref(asyncio.get_running_loop())
    return loop, await asyncio.gather(*two())

loop, numbers = asyncio.run(main())
gc.collect()
assert numbers == [1, 2], numbers
assert loop() is None, 'the loop is still held'
";
        py.run(&CString::new(program).unwrap(), Some(&globals), None).unwrap();
    });
}

#[test]
fn without_a_loop_there_is_none_to_acquire() {
    Python::initialize();
    Python::attach(|py| {
        let (status, running) = acquire();
        assert!(status == Status::ERROR && running.is_null());
        assert!(PyErr::take(py).is_some_and(|error| error.is_instance_of::<PyRuntimeError>(py)));
    });
}
