//! Hot paths as Python sees them: a module of them in an embedded interpreter, called blocking and from asyncio.
//!
//! The Python halves of these tests stand in the tests; `check` runs them. They need the server of `make test`.

#![allow(missing_docs)]

mod modules;

use std::ffi::CString;
use std::sync::Once;
use std::sync::atomic::Ordering;
use std::time::Duration;

use modules::{LINGERED, mixed, shop};
use vcache::Config;
use vcache::pyo3::prelude::*;
use vcache::pyo3::types::PyDict;
use vcache::testing::Server;

/// Starts the interpreter with what the hot paths expect there.
fn start() {
    static START: Once = Once::new();
    START.call_once(|| {
        let url = std::env::var("VCACHE_URL").expect("run the tests with `make test`, which starts a server");
        let config = Config::from_url(&url).expect("the URL is one");
        vcache::configure("default", config.clone());
        vcache::configure("second", config);
        Python::initialize();
        Python::attach(|py| {
            let modules = py.import("sys")?.getattr("modules")?;
            modules.set_item("shop", vcache::pyo3::wrap_pymodule!(shop)(py))?;
            modules.set_item("mixed", vcache::pyo3::wrap_pymodule!(mixed)(py))?;
            let names = PyDict::new(py);
            names.set_item("home", concat!(env!("CARGO_MANIFEST_DIR"), "/../python/django_vcache"))?;
            py.run(
                cr#"
import importlib.util, sys, types

def module(name, **items):
    made = types.ModuleType(name)
    made.__dict__.update(items)
    sys.modules[name] = made
    return made

# Without Django, and without the wheel's extension: only the exceptions are wanted.
module("django"); module("django.core")
module("django.core.exceptions", ImproperlyConfigured=type("ImproperlyConfigured", (Exception,), {}))
module("django_vcache").__path__ = [home]
module("shop_errors", SoldOut=type("SoldOut", (Exception,), {}), answer=42)
import django_vcache.exceptions
"#,
                Some(&names),
                None,
            )
        })
        .expect("the interpreter starts");
    });
}

/// Runs Python code in which `shop` is the module, and `run` runs a coroutine function.
fn check(code: &str) {
    start();
    Python::attach(|py| {
        let names = PyDict::new(py);
        let before = c"import asyncio, datetime, decimal, inspect, shop, mixed, shop_errors, time\nfrom django_vcache import exceptions\ndef run(f): return asyncio.run(f())\ndef raises(kind, f):\n    try:\n        f()\n    except kind as error:\n        return error\n    raise AssertionError('nothing was raised')\n";
        py.run(before, Some(&names), None)?;
        py.run(&CString::new(code)?, Some(&names), None)
    })
    .unwrap_or_else(|error| Python::attach(|py| {
        error.display(py);
        panic!("{error}")
    }));
}

#[test]
fn names_and_forms_are_as_asked_for() {
    check(
        r#"
names = {name for name in dir(shop) if not name.startswith("__")}
assert {"spend", "aspend", "get", "get_soon", "blocking", "aawaited"} <= names
assert not {"renamed", "arenamed", "ablocking", "awaited", "not_compiled", "anot_compiled"} & names
assert shop.get() == 7
assert shop.blocking() is None
async def main():
    assert await shop.get_soon() == 7
    assert await shop.aawaited() is None
    assert await asyncio.create_task(shop.get_soon()) == 7
run(main)
assert asyncio.run(shop.get_soon()) == 7
assert shop.which() == "second"
assert inspect.iscoroutinefunction(shop.aspend) and not inspect.iscoroutinefunction(shop.spend)
"#,
    );
}

#[test]
fn signatures_and_docs_read_well() {
    check(
        r#"
assert str(inspect.signature(shop.spend)) == "(project, cost=1)", inspect.signature(shop.spend)
assert str(inspect.signature(shop.aspend)) == "(project, cost=1)"
assert shop.spend.__doc__ == 'Spend `cost` units.\n\nSays "what" is left.', shop.spend.__doc__
assert shop.aspend.__doc__.endswith("\n\nThe form of `spend` to await.")
assert shop.aawaited.__doc__.endswith("To be awaited.")
assert shop.__doc__ == "The shop's hot paths.\n\nThey are all for tests."
signature = inspect.signature(shop.defaults)
assert str(signature) == "(a='x\"y', b=b'\\x00b', c=None, d=-1, e='z', /, *, flag=True, rest=Ellipsis)", signature
assert "conn" not in shop.texts.__text_signature__
"#,
    );
}

#[test]
fn defaults_are_of_the_types_that_the_function_takes() {
    check(
        r#"
assert shop.defaults() == 'x"y [0, 98] None -1 Some("z") true []', shop.defaults()
assert shop.defaults("a", "b", b"c", 2, None, flag=False, rest=b"d") == 'a [98] Some([99]) 2 None false [100]'
assert shop.stars(1, 2, 3, a=1.5) == (6, 1)
assert shop.stars() == (0, 0)
"#,
    );
}

#[test]
fn every_kind_of_parameter_and_result_goes_through() {
    check(
        r#"
assert shop.texts("a", "b", None, "d") == "ab-d"
assert shop.texts("a", b="b", c="c", d="d") == "abcd"
for one in (b"x", bytearray(b"x"), memoryview(b"x"), "x"):
    assert shop.bytes(one, one, one, one) == b"xxxx"
assert shop.bytes(b"", b"", None, None) == b"-"
assert shop.numbers(-1, 2, 3, True) == (1, 3.0, True)
assert shop.many([2, 1, 2], {"a": None, "b": 1}) == ([2, 1, 2], {"a": None, "b": 1.0}, {1, 2})
price, wait = shop.price(4, datetime.timedelta(seconds=2))
assert (price, wait) == (decimal.Decimal(5), datetime.timedelta(seconds=2))
assert shop.unknown() is None
assert shop.annotated(type="a") == "a"
error = raises(TypeError, lambda: shop.texts("a", 1, None, "d"))
assert error.__notes__ == ["while processing 'b'"], error.__notes__
raises(OverflowError, lambda: shop.numbers(1000, 2, 3, True))
async def main():
    assert await shop.abytes(memoryview(b"x"), "y", None, b"z") == b"xy-z"
    assert await shop.atexts("a", "b", None, "d") == "ab-d"
run(main)
"#,
    );
}

#[test]
fn the_rust_function_is_still_one() {
    start();
    let mut conn = vcache::connection().unwrap();
    let text = vcache::block_on(shop::texts(&mut conn, "a", "b".into(), None, 'c')).unwrap();
    assert_eq!(text, "ab-c");
}

#[test]
fn errors_are_the_exceptions_that_were_meant() {
    check(
        r#"
assert str(raises(ValueError, lambda: shop.fail("value"))) == "bad"
assert str(raises(exceptions.HotPathPanic, lambda: shop.fail("panic"))) == "a hot path panicked: it burst"
assert str(raises(shop_errors.SoldOut, shop.sold_out)) == "none are left"
for how, why in (("wrong path", "has no attribute 'Nothing'"), ("no class", "not a class of exceptions")):
    error = raises(RuntimeError, lambda: shop.fail(how))
    assert "the message" in str(error) and "'shop_errors." in str(error) and why in str(error), error
    assert error.__cause__ is not None
async def main():
    for how, kind in (("value", ValueError), ("panic", exceptions.HotPathPanic)):
        try:
            await shop.afail(how)
        except kind:
            continue
        raise AssertionError(how)
    assert await shop.afail("nothing") is None
run(main)
"#,
    );
}

#[test]
fn an_exception_of_pythons_passes_through_unchanged() {
    check(
        r#"
assert shop.pass_through("1 + 1") == 2
error = raises(ZeroDivisionError, lambda: shop.pass_through("1 / 0"))
assert str(error) == "division by zero" and error.__traceback__ is not None
assert isinstance(raises(RuntimeError, lambda: shop.pass_through("next(iter([]))")).__cause__, StopIteration)
async def main():
    try:
        await shop.apass_through("{}['x']")
    except KeyError as error:
        assert error.args == ("x",)
    try:
        await asyncio.wait_for(shop.apass_through("next(iter([]))"), 5)
    except RuntimeError as error:
        assert isinstance(error.__cause__, StopIteration)
run(main)
"#,
    );
}

#[test]
fn a_time_out_is_the_budget_of_the_whole_hot_path() {
    let server = Server::start();
    vcache::configure("busy", server.connection().config().clone());
    check("shop.hurried(100)");
    let mut conn = server.connection().with_timeout(Duration::from_secs(60));
    let busy = std::thread::spawn(move || {
        let script = "local start = os.clock() while os.clock() - start < 0.6 do end return 1";
        vcache::block_on(vcache::redis::Script::new(script).invoke_async::<_, i64>(&mut conn)).unwrap()
    });
    check(
        r#"
error = None
until = time.monotonic() + 5
while error is None and time.monotonic() < until:
    try:
        shop.hurried(1)
    except exceptions.TimeoutError as met:
        error = met
assert isinstance(error, TimeoutError) and "busy" in str(error), error
async def main():
    try:
        await shop.ahurried(1)
    except exceptions.TimeoutError:
        return
    raise AssertionError("no time-out")
run(main)
error = raises(exceptions.TimeoutError, shop.hurried_elsewhere)
assert str(error) == "cache 'default': the hot path took longer than its time-out of 50ms", error
"#,
    );
    assert_eq!(busy.join().unwrap(), 1);
}

#[test]
fn a_cancelled_hot_path_stops_between_two_steps_unless_it_is_to_finish() {
    check(
        r#"
shop.forget(["cancel:drop", "cancel:finish"])
async def cancelled(f, key):
    pending = asyncio.create_task(f(key))
    await asyncio.sleep(0)
    pending.cancel()
    await asyncio.gather(pending, return_exceptions=True)
    # What was submitted before is answered before.
    return await shop.aspend(1)
async def main():
    # A call that waits for the connection to be made is given up before it is sent.
    await shop.aspend(1)
    for _ in range(3):
        await cancelled(shop.atwo_steps, "cancel:drop")
        await cancelled(shop.aboth_steps, "cancel:finish")
run(main)
"#,
    );
    let mut conn = vcache::connection().unwrap();
    let mut count = |key: &str| {
        vcache::block_on(vcache::redis::cmd("GET").arg(key).query_async::<i64>(&mut conn)).unwrap()
    };
    assert_eq!(["cancel:drop", "cancel:finish"].map(&mut count), [3, 6]);
}

#[test]
fn a_spawned_body_leaves_the_loop_free() {
    check(
        r#"
shop.forget(["compute"])
assert shop.compute("compute", datetime.timedelta()) == 1
async def main():
    pending = asyncio.create_task(shop.acompute("compute", datetime.timedelta(milliseconds=200)))
    turns = 0
    while not pending.done():
        turns += 1
        await asyncio.sleep(0.005)
    assert turns > 5, turns
    assert await pending == 2
    try:
        await shop.aburst()
    except exceptions.HotPathPanic as error:
        assert str(error) == "a hot path panicked: it burst elsewhere", error
    else:
        raise AssertionError("no panic")
run(main)
assert "it burst elsewhere" in str(raises(exceptions.HotPathPanic, shop.burst))
"#,
    );
}

#[test]
fn a_spawned_body_is_given_up_when_its_awaitable_is_cancelled() {
    check(
        r#"
import threading, builtins
builtins.begun, builtins.gone = threading.Event(), threading.Event()
async def main():
    pending = asyncio.create_task(
        shop.aendless("import builtins; builtins.begun.set()", "import builtins; builtins.gone.set()"))
    assert await asyncio.to_thread(builtins.begun.wait, 60)
    assert not builtins.gone.is_set()
    pending.cancel()
    await asyncio.gather(pending, return_exceptions=True)
    assert await asyncio.to_thread(builtins.gone.wait, 60)
    lingering = asyncio.create_task(shop.alinger())
    await asyncio.sleep(0)
    lingering.cancel()
run(main)
"#,
    );
    let until = std::time::Instant::now() + Duration::from_secs(5);
    while LINGERED.load(Ordering::SeqCst) == 0 {
        assert!(std::time::Instant::now() < until, "it did not finish");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn a_forked_child_spawns_on_a_runtime_of_its_own() {
    // In a process with no other tests in it, which might be anywhere when it forks.
    let alone = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--ignored", "--exact", "forks"])
        .status();
    assert!(alone.unwrap().success());
}

#[test]
#[ignore = "run by another test, alone"]
fn forks() {
    check(
        r#"
import os, signal, warnings
warnings.simplefilter("ignore")
shop.forget(["forked"])
assert shop.compute("forked", datetime.timedelta()) == 1
child = os.fork()
if child == 0:
    signal.alarm(20)
    try:
        assert shop.compute("forked", datetime.timedelta()) == 2
        async def main():
            return await shop.acompute("forked", datetime.timedelta())
        assert run(main) == 3
        os._exit(0)
    except BaseException as error:
        print(error)
    os._exit(1)
assert os.waitpid(child, 0)[1] == 0
assert shop.compute("forked", datetime.timedelta()) == 4
"#,
    );
}

#[test]
fn the_stub_says_what_the_types_say() {
    start();
    let stub: String = Python::attach(|py| {
        py.import("shop").unwrap().call_method0("__vcache_stub__").unwrap().extract().unwrap()
    });
    if let Some(path) = std::env::var_os("VCACHE_STUB") {
        std::fs::write(path, &stub).unwrap();
    }
    let bytes = "bytes | bytearray | memoryview | str";
    for line in [
        "\"\"\"The shop's hot paths.\n\nThey are all for tests.\n\"\"\"\n\nimport ".to_owned(),
        "def spend(project: int, cost: int = 1) -> int:\n    \"\"\"Spend `cost` units.\n\n    Says \"what\" is left.\n    \"\"\"\n".to_owned(),
        "async def aspend(project: int, cost: int = 1) -> int:\n".to_owned(),
        "def get() -> int: ...\n".to_owned(),
        "async def aawaited() -> None:\n".to_owned(),
        "def texts(a: str, b: str, c: str | None, d: str) -> str: ...\n".to_owned(),
        format!("def bytes(a: {bytes}, b: {bytes}, c: {bytes} | None, d: {bytes} | None) -> bytes: ...\n").replace("bytes |", "builtins.bytes |").replace("-> bytes:", "-> builtins.bytes:"),
        "def many(list: Sequence[int], map: dict[str, float | None]) -> tuple[list[int], dict[str, float | None], set[int]]: ...\n".to_owned(),
        "def price(price: int, wait: datetime.timedelta) -> tuple[decimal.Decimal, datetime.timedelta]: ...\n".to_owned(),
        "def stars(*values: int, **named: float) -> tuple[int, int]: ...\n".to_owned(),
        "def annotated(type: Literal['a', 'b']) -> Literal['a', 'b']: ...\n".to_owned(),
        "def unknown() -> Any: ...\n".to_owned(),
        "rest: builtins.bytes | bytearray | memoryview | str = ...) -> str: ...\n".to_owned(),
    ] {
        assert!(stub.contains(&line), "{line}\nis not in\n{stub}");
    }
    assert!(!stub.contains("__getattr__") && !stub.contains("not_compiled"), "{stub}");
    check("import ast; ast.parse(shop.__vcache_stub__())");
}

#[test]
fn other_items_of_pyo3s_stand_beside_hot_paths() {
    check(
        r#"
assert (mixed.plain(), mixed.set(), mixed.answer, mixed.late) == (1, {1}, 42, True)
stub = mixed.__vcache_stub__()
assert "def set() -> builtins.set[int]: ...\n" in stub, stub
assert stub.endswith("def __getattr__(name: str) -> Any: ...\n"), stub
"#,
    );
}
