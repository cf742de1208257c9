"""The forms to await are coroutine functions, and what they return is a coroutine: it does nothing before it is awaited
or scheduled, it warns when it is dropped, and it has no truth."""

from __future__ import annotations

import asyncio
import gc
import inspect
import subprocess
import sys
import warnings
import weakref
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from asgiref.sync import iscoroutinefunction as asgiref_knows
from support.server import ValkeyServer

from django_vcache import hotpaths
from django_vcache.admission import Gate, Quota, Stream, Throttle

pytestmark = pytest.mark.usefixtures("patient")

FORMS_TO_AWAIT = [
    (owner, f"a{name}")
    for owner in (Gate, Quota, Stream, Throttle, hotpaths)
    for name in vars(owner)
    if f"a{name}" in vars(owner)
]


def throttle() -> Throttle:
    return Throttle("org", "2/h")


def calls() -> dict[str, Callable[[], Any]]:
    """A call of each kind, and what it would charge or write."""
    gate = Gate([Throttle("org", "2/h")], stream=Stream("events"))
    quota, stream = Quota("exports", 2, "day", key="org"), Stream("other")
    return {
        "check": lambda: throttle().acheck(1),
        "consume": lambda: quota.aconsume(1),
        "admit": lambda: gate.aadmit({"org": 1}, payload=b"x"),
        "admit_many": lambda: gate.aadmit_many([{"scope": {"org": 1}, "payload": b"x"}]),
        "add": lambda: stream.aadd(b"x"),
        "add_many": lambda: stream.aadd_many([b"x"]),
        "allow": lambda: hotpaths.aallow("k", 2, 60.0),
        "enqueue": lambda: hotpaths.aenqueue("s", b"x"),
    }


@pytest.fixture(params=list(calls()))
def call(request: pytest.FixtureRequest, default_alias: None) -> Callable[[], Any]:
    return calls()[request.param]


@pytest.mark.parametrize(("owner", "name"), FORMS_TO_AWAIT, ids=lambda value: getattr(value, "__name__", str(value)))
def test_each_is_a_coroutine_function_that_tells_of_itself(owner: Any, name: str) -> None:
    function = getattr(owner, name)
    assert asyncio.iscoroutinefunction(function) if sys.version_info < (3, 14) else True
    assert inspect.iscoroutinefunction(function)
    assert asgiref_knows(function)
    # asyncio does not think so of the blocking form.
    assert not inspect.iscoroutinefunction(getattr(owner, name[1:]))
    assert function.__name__ == name
    assert function.__doc__
    assert "await" in function.__doc__
    assert inspect.signature(function) == inspect.signature(function.__wrapped__)
    assert name in repr(function)


def test_so_is_the_method_of_an_object() -> None:
    method = throttle().acheck
    assert inspect.iscoroutinefunction(method)
    assert asgiref_knows(method)
    assert inspect.signature(method).parameters.keys() == {"scope", "cost", "rate"}


def test_it_is_a_coroutine_to_asyncio_and_does_nothing_by_itself(call: Callable[[], Any], server: ValkeyServer) -> None:
    called = call()
    try:
        assert asyncio.iscoroutine(called)
        assert isinstance(called, Coroutine)
        assert inspect.isawaitable(called)
        assert called.__qualname__.endswith(called.__name__)
        assert called.__qualname__ in repr(called)

        async def nothing_is_asked() -> None:
            for _ in range(3):
                await asyncio.sleep(0)
            assert await hotpaths.aconnection_id()

        asyncio.run(nothing_is_asked())
        assert server.keys() == []
    finally:
        called.close()


@pytest.mark.parametrize(
    "way", ["await", "run", "create_task", "TaskGroup", "gather", "wait_for", "async_to_sync", "debug"]
)
def test_it_can_be_scheduled_in_every_way(call: Callable[[], Any], way: str, server: ValkeyServer) -> None:
    async def awaited() -> Any:
        match way:
            case "create_task":
                return await asyncio.create_task(call())
            case "TaskGroup":
                async with asyncio.TaskGroup() as group:
                    task = group.create_task(call())
                return task.result()
            case "gather":
                return (await asyncio.gather(call()))[0]
            case "wait_for":
                return await asyncio.wait_for(call(), 30)
        return await call()

    match way:
        case "run":
            answer = asyncio.run(call())
        case "async_to_sync":
            answer = async_to_sync(awaited)()
        case _:
            answer = asyncio.run(awaited(), debug=way == "debug")
    assert answer
    assert server.keys()


def test_async_to_sync_takes_the_method_itself(default_alias: None, server: ValkeyServer) -> None:
    assert [bool(async_to_sync(throttle().acheck)(1)) for _ in range(3)] == [True, True, False]
    with pytest.raises(RuntimeError, match="You cannot use AsyncToSync in the same thread as an async event loop"):
        asyncio.run(_on_a_loop(lambda: async_to_sync(throttle().acheck)(1)))


async def _on_a_loop(function: Callable[[], Any]) -> Any:
    return function()


def test_one_that_was_never_awaited_warns_and_charged_nothing(call: Callable[[], Any], server: ValkeyServer) -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        called = call()
        name = called.__qualname__
        gone = weakref.ref(called)
        del called
        gc.collect()
    assert gone() is None
    assert [(each.category, str(each.message)) for each in caught] == [
        (RuntimeWarning, f"coroutine '{name}' was never awaited")
    ]
    assert server.keys() == []


def test_a_warning_that_is_an_error_does_not_replace_what_is_raised(default_alias: None) -> None:
    def drop_one_while_raising() -> None:
        kept = throttle().acheck(1)
        raise KeyError(kept.__name__)

    with warnings.catch_warnings(), pytest.MonkeyPatch.context() as patch:
        told: list[Any] = []
        patch.setattr(sys, "unraisablehook", told.append)
        warnings.simplefilter("error")
        with pytest.raises(KeyError):
            drop_one_while_raising()
        gc.collect()
    assert [str(each.exc_value) for each in told] == ["coroutine 'Throttle.acheck' was never awaited"]


def test_it_has_no_truth(call: Callable[[], Any], server: ValkeyServer) -> None:
    called = call()
    name = called.__qualname__
    with pytest.raises(TypeError) as raised:
        bool(called)
    assert (
        str(raised.value)
        == f"{name}() was not awaited, so there is no answer yet: write `await ...{name.split('.')[-1]}(...)`"
    )
    with pytest.raises(TypeError, match="was not awaited"):
        assert not called
    called.close()
    assert server.keys() == []


def test_it_is_awaited_once(call: Callable[[], Any]) -> None:
    async def twice() -> None:
        called = call()
        assert await called
        with pytest.raises(RuntimeError, match="was awaited already: call it again"):
            await called
        with pytest.raises(RuntimeError, match="was awaited already: call it again"):
            await asyncio.create_task(called)
        task = asyncio.create_task(again := call())
        assert await task
        with pytest.raises(RuntimeError, match="was awaited already: call it again"):
            await again

    asyncio.run(twice())


def test_closed_or_thrown_into_before_it_began_it_never_does(call: Callable[[], Any], server: ValkeyServer) -> None:
    closed, thrown = call(), call()
    closed.close()
    closed.close()
    with pytest.raises(KeyError, match="why"):
        thrown.throw(KeyError("why"))
    with pytest.raises(ValueError, match="why"):
        call().throw(ValueError, "why", None)
    with pytest.raises(asyncio.CancelledError):
        call().throw(asyncio.CancelledError)
    for called in (closed, thrown):
        with pytest.raises(RuntimeError, match="was awaited already"):
            called.send(None)
        with pytest.raises(RuntimeError, match="was awaited already"):
            called.throw(KeyError())
    assert server.keys() == []


def test_without_a_loop_it_says_so(call: Callable[[], Any]) -> None:
    called = call()
    with pytest.raises(RuntimeError, match="no asyncio loop runs on this thread"):
        called.send(None)


def test_a_task_that_is_cancelled_before_it_ran_charges_nothing(call: Callable[[], Any], server: ValkeyServer) -> None:
    async def cancelled() -> None:
        task = asyncio.create_task(call())
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(cancelled())
    assert server.keys() == []


# The nodes of a cluster that are silent hold each other for failed, and are it for a while after that.
@pytest.mark.one_server
def test_a_task_that_waits_for_the_server_is_cancelled(default_alias: None, server: ValkeyServer) -> None:
    async def cancelled() -> None:
        assert await throttle().acheck(1)
        server.pause()
        try:
            task = asyncio.create_task(throttle().acheck(1))
            assert "acheck" in repr(task)
            await asyncio.sleep(0)
            assert "acheck" in repr(task)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            gone = weakref.ref(task)
            del task
            # The loop's own handle has it until here.
            await asyncio.sleep(0)
            gc.collect()
            assert gone() is None
        finally:
            server.resume()

    asyncio.run(cancelled())


def test_subclasses_and_super_keep_the_form(default_alias: None) -> None:
    class Counting(Throttle):
        asked = 0

        async def acheck(self, scope: Any, cost: int = 1, *, rate: Any = None) -> Any:
            type(self).asked += 1
            return await super().acheck(scope, cost, rate=rate)

    counting = Counting("org", "2/h")
    assert [bool(asyncio.run(counting.acheck(1))) for _ in range(3)] == [True, True, False]
    assert Counting.asked == 3


def test_a_mistake_in_the_arguments_is_told_at_the_call(default_alias: None) -> None:
    with pytest.raises(TypeError, match="missing"):
        throttle().acheck()  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="scope"):
        throttle().acheck(None)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="bytes"):
        Stream("events").aadd(1)  # type: ignore[arg-type]


FORGOTTEN = """
from django_vcache.admission import Gate, Quota, Stream, Throttle

async def view(throttle: Throttle, quota: Quota, gate: Gate, stream: Stream) -> None:
    throttle.acheck(1)
    quota.aconsume(1)
    gate.aadmit({"org": 1})
    stream.aadd(b"x")
    if not throttle.acheck(1): return
    if not quota.aconsume(1): return
    if not gate.aadmit({"org": 1}): return
    if not stream.aadd(b"x"): return
"""


@pytest.mark.parametrize("checker", ["mypy", "basedpyright"])
def test_type_checkers_find_the_forgotten_await(checker: str, tmp_path: Path) -> None:
    (tmp_path / "forgotten.py").write_text(FORGOTTEN)
    (tmp_path / "pyrightconfig.json").write_text('{"typeCheckingMode": "strict"}')
    options = {
        "mypy": ["--enable-error-code", "truthy-bool", "--cache-dir", str(tmp_path)],
        "basedpyright": ["--pythonpath", sys.executable],
    }
    program = str(Path(sys.executable).with_name(checker))
    ran = subprocess.run(
        [program, *options[checker], "forgotten.py"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    expected = {
        "mypy": ("[unused-coroutine]", "[truthy-bool]"),
        "basedpyright": ("reportUnusedCoroutine", "reportUnnecessaryComparison"),
    }
    for of, lines in zip(expected[checker], (range(5, 9), range(9, 13)), strict=True):
        for line in lines:
            assert any(f"forgotten.py:{line}:" in told and of in told for told in ran.stdout.splitlines()), ran.stdout


def test_none_is_missing() -> None:
    assert {name for owner, name in FORMS_TO_AWAIT if owner is Throttle} == {"acheck", "apeek", "areset"}
    assert len(FORMS_TO_AWAIT) == 19
