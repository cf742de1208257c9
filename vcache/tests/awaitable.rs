//! Python's awaitables inside hot paths: on a running asyncio loop, with an interpreter inside the test.

use std::ffi::CString;
use std::pin::Pin;
use std::task::Poll;

use vcache::Awaitable;
use vcache::pyo3::exceptions::{PyRuntimeError, PyTypeError};
use vcache::pyo3::prelude::*;
use vcache::pyo3::types::PyDict;
use vcache::python::{Steps, block_on, output_to_python, spawn};

/// Awaits it, and gives a number one larger.
#[pyfunction]
fn increase<'py>(py: Python<'py>, awaitable: Awaitable) -> PyResult<Bound<'py, PyAny>> {
    let body = async move { Ok(awaitable.extract::<i64>().await? + 1) };
    spawn(py, Steps::Many, body, output_to_python)
}

/// Awaits all of them, one after the other, and gives them as they are.
#[pyfunction]
fn each<'py>(py: Python<'py>, awaitables: Vec<Awaitable>) -> PyResult<Bound<'py, PyAny>> {
    let body = async move {
        let mut all = Vec::new();
        for awaitable in awaitables {
            all.push(awaitable.await?);
        }
        Ok(all)
    };
    spawn(py, Steps::Many, body, output_to_python)
}

/// Does not need it.
#[pyfunction]
fn ignore<'py>(py: Python<'py>, awaitable: Awaitable) -> PyResult<Bound<'py, PyAny>> {
    let body = async move {
        drop(awaitable);
        Ok("cached")
    };
    spawn(py, Steps::Many, body, output_to_python)
}

/// Begins to await it, and then chooses another branch: once `stop` is there.
#[pyfunction]
fn until<'py>(py: Python<'py>, awaitable: Awaitable, stop: Awaitable) -> PyResult<Bound<'py, PyAny>> {
    let body = async move {
        let (mut awaitable, mut stop) = (awaitable, stop);
        std::future::poll_fn(|context| match Pin::new(&mut awaitable).poll(context) {
            Poll::Ready(result) => Poll::Ready(result),
            Poll::Pending => Pin::new(&mut stop).poll(context),
        })
        .await
    };
    spawn(py, Steps::Many, body, output_to_python)
}

/// Awaits it on a thread of its own.
#[pyfunction]
fn elsewhere<'py>(py: Python<'py>, awaitable: Awaitable) -> PyResult<Bound<'py, PyAny>> {
    let (sender, receiver) = tokio::sync::oneshot::channel();
    std::thread::spawn(move || {
        let _ = sender.send(vcache::block_on(awaitable.extract::<i64>()));
    });
    let body = async move { receiver.await.expect("the thread sends") };
    spawn(py, Steps::Many, body, output_to_python)
}

/// The blocking form.
#[pyfunction]
fn blocking(py: Python<'_>, awaitable: Awaitable) -> PyResult<Py<PyAny>> {
    output_to_python(py, block_on(py, awaitable)?)
}

/// Runs Python in which the functions above are known, and `run` to run a coroutine.
fn python(source: &str) {
    Python::initialize();
    Python::attach(|py| {
        let names = PyDict::new(py);
        for function in [
            wrap_pyfunction!(increase, py),
            wrap_pyfunction!(each, py),
            wrap_pyfunction!(ignore, py),
            wrap_pyfunction!(until, py),
            wrap_pyfunction!(elsewhere, py),
            wrap_pyfunction!(blocking, py),
        ] {
            let function = function.unwrap();
            names.set_item(function.getattr("__name__").unwrap(), function).unwrap();
        }
        let prelude = "import asyncio, contextvars, gc, warnings, weakref\nfrom asyncio import run\n";
        let source = CString::new(format!("{prelude}{source}")).unwrap();
        if let Err(error) = py.run(&source, Some(&names), None) {
            error.print(py);
            panic!("the Python above raised");
        }
    });
}

#[test]
fn whatever_python_can_await_is_awaited() {
    python(
        "
class Own:
    def __await__(self):
        yield from asyncio.sleep(0).__await__()
        return 4

async def slow(value):
    await asyncio.sleep(0.001)
    return value

async def main():
    future = asyncio.get_running_loop().create_future()
    done = asyncio.get_running_loop().create_future()
    done.set_result(2)
    asyncio.get_running_loop().call_later(0.001, future.set_result, 1)
    task = asyncio.ensure_future(slow(3))
    assert await each([future, done, task, Own(), slow(5), increase(slow(5))]) == [1, 2, 3, 4, 5, 6]
    assert await asyncio.gather(*(increase(slow(n)) for n in range(300))) == list(range(1, 301))
    marker = object()
    assert (await each([slow(marker)]))[0] is marker

run(main())
",
    );
}

#[test]
fn it_runs_in_a_copy_of_the_callers_context() {
    python(
        "
user = contextvars.ContextVar('user')

async def who():
    seen = user.get()
    user.set(0)
    return seen

async def main():
    user.set(41)
    call = increase(who())
    user.set(1)
    assert await call == 42
    assert user.get() == 1

run(main())
",
    );
}

#[test]
fn what_it_raises_and_what_it_is_not_reach_the_caller() {
    python(
        "
mine = LookupError('mine')

async def fail():
    raise mine

async def text():
    return 'seven'

async def main():
    try:
        await increase(fail())
    except LookupError as error:
        assert error is mine
    else:
        raise AssertionError('it raises')
    try:
        await increase(text())
    except TypeError as error:
        assert 'int' in str(error), error
    else:
        raise AssertionError('it raises')
    return 'done'

assert run(main()) == 'done'
",
    );
}

#[test]
fn it_starts_when_it_is_needed_and_not_before() {
    python(
        "
started = []

async def load():
    started.append(1)

async def main():
    assert await ignore(load()) == 'cached'
    future = asyncio.get_running_loop().create_future()
    task = asyncio.ensure_future(asyncio.sleep(0.001, 'mine'))
    await ignore(future)
    await ignore(task)
    assert not future.cancelled() and await task == 'mine'
    assert not started

with warnings.catch_warnings():
    warnings.simplefilter('error')
    run(main())
    gc.collect()
",
    );
}

#[test]
fn a_cancelled_hot_path_cancels_what_it_awaits_at_once() {
    python(
        "
seen = []

async def forever():
    try:
        await asyncio.Event().wait()
    finally:
        seen.append('ended')

async def main():
    call = increase(forever())
    await asyncio.sleep(0.001)
    call.cancel()
    try:
        await call
    except asyncio.CancelledError:
        pass
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert seen == ['ended'], seen

    try:
        await asyncio.wait_for(increase(forever()), 0.001)
    except TimeoutError:
        pass
    future = asyncio.get_running_loop().create_future()
    call = increase(future)
    await asyncio.sleep(0.001)
    call.cancel()
    await asyncio.sleep(0.001)
    assert seen == ['ended', 'ended'] and future.cancelled(), (seen, future)

    # Before the loop had its turn: it does not begin.
    call = increase(forever())
    call.cancel()
    await asyncio.sleep(0.001)
    assert seen == ['ended', 'ended'] and len(asyncio.all_tasks()) == 1, asyncio.all_tasks()

with warnings.catch_warnings():
    warnings.simplefilter('error')
    run(main())
    gc.collect()
",
    );
}

#[test]
fn a_branch_that_was_not_taken_is_cancelled() {
    python(
        "
seen = []

async def forever():
    try:
        await asyncio.Event().wait()
    finally:
        seen.append('ended')

async def main():
    assert await until(forever(), asyncio.sleep(0.001, 'stopped')) == 'stopped'
    await asyncio.sleep(0.001)
    assert seen == ['ended']
    assert len(asyncio.all_tasks()) == 1

run(main())
",
    );
}

#[test]
fn one_that_is_cancelled_itself_is_an_error_and_not_the_end_of_the_hot_path() {
    python(
        "
async def main():
    future = asyncio.get_running_loop().create_future()
    call = increase(future)
    await asyncio.sleep(0.001)
    future.cancel()
    try:
        await call
    except BaseException as error:
        assert 'ancel' in repr(error), error
    else:
        raise AssertionError('it raises')

run(main())
",
    );
}

#[test]
fn another_thread_may_await_it() {
    python(
        "
async def value():
    await asyncio.sleep(0.001)
    return 7

async def main():
    assert await asyncio.gather(*(elsewhere(value()) for _ in range(20))) == [7] * 20

run(main())
",
    );
}

#[test]
fn the_blocking_form_says_that_it_cannot() {
    python(
        "
async def value():
    return 7

def refused(call):
    try:
        call()
    except Exception as error:
        assert 'only = \"async\"' in str(error), error
    else:
        raise AssertionError('it raises')

coroutine = value()
refused(lambda: blocking(coroutine))
coroutine.close()

async def main():
    # The loop's own thread would wait for the loop.
    future = asyncio.get_running_loop().create_future()
    refused(lambda: blocking(future))

run(main())
",
    );
    Python::attach(|py| {
        let asleep = py.eval(c"__import__('asyncio').sleep(0)", None, None).unwrap();
        assert!(asleep.extract::<Awaitable>().err().unwrap().is_instance_of::<PyRuntimeError>(py));
        asleep.call_method0("close").unwrap();
        for source in [c"7", c"print", c"__import__('concurrent.futures').futures.Future()"] {
            let error = py.eval(source, None, None).unwrap().extract::<Awaitable>().err().unwrap();
            assert!(error.is_instance_of::<PyTypeError>(py), "{error}");
        }
    });
}

#[test]
fn a_loop_that_is_closed_takes_its_awaitables_with_it() {
    python(
        "
class Marker:
    pass

def forsaken():
    marker = Marker()
    async def forever():
        kept = marker
        await asyncio.Event().wait()
    loop = asyncio.new_event_loop()
    async def begin():
        increase(forever())
        await asyncio.sleep(0.001)
    loop.run_until_complete(begin())
    loop.set_exception_handler(lambda loop, context: None)
    loop.close()
    return weakref.ref(marker)

marker = forsaken()

async def other():
    assert await increase(asyncio.sleep(0, 1)) == 2

run(other())
gc.collect()
assert marker() is None, gc.get_referrers(marker())
",
    );
}
