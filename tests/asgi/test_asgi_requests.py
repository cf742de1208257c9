"""Requests through the handler, in this process: which thread does what, signals, applications around it, and what
tools patch."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest
from asgiref.sync import SyncToAsync, ThreadSensitiveContext, sync_to_async
from django.core.handlers import asgi
from django.core.signals import request_finished, request_started
from django.db import close_old_connections, reset_queries
from django.http import HttpRequest, HttpResponse
from django.test import override_settings
from django.urls import get_urlconf, path
from support.asgi import HANG, counted_calls, get, until
from support.asgi_views import Closing, idle, seen, urlpatterns
from support.driver import LOOPS, open_runner
from support.server import wait_until

from django_vcache import _aliases
from django_vcache._lanes import lanes
from django_vcache.asgi import ASGIHandler

pytestmark = pytest.mark.usefixtures("view_site")

# Threads


def test_an_async_view_takes_no_thread(app: ASGIHandler, run: Any) -> None:
    exchange = run(get(app, "/quick"))
    assert (exchange.status, exchange.content) == (200, b"quick")
    assert seen == [threading.get_ident()]
    assert lanes.state["threads"] == 0


def test_blocking_code_of_a_request_runs_on_one_thread(app: ASGIHandler, run: Any) -> None:
    run(get(app, "/mixed"))
    assert len(seen) == 3
    assert len(set(seen)) == 1
    assert threading.get_ident() not in seen


def test_the_next_request_gets_the_same_thread(app: ASGIHandler, run: Any) -> None:
    async def twice() -> set[bytes]:
        return {(await get(app, "/blocking")).content for _ in range(5)}

    [name] = run(twice())
    assert name.startswith(b"vcache-lane-")
    assert lanes.state == {"threads": 1, "idle": 1, "waiting": 0}


def test_requests_start_no_thread_once_there_is_one(
    app: ASGIHandler, run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    started = []
    start = threading.Thread.start
    monkeypatch.setattr(threading.Thread, "start", lambda self: (started.append(self.name), start(self)))

    async def several() -> None:
        for where in ("/blocking", "/mixed", "/quick", "/blocking"):
            await get(app, where)

    run(several())
    # asgiref would start one for the calls of each request, and another one to wait for its end.
    assert len(started) == 1
    assert started[0].startswith("vcache-lane-")


def test_thread_locals_live_on_with_the_thread_unless_there_are_no_lanes(app: ASGIHandler, run: Any) -> None:
    async def three() -> list[bytes]:
        return [(await get(app, "/remembers")).content for _ in range(3)]

    assert run(three()) == [b"1", b"2", b"3"]
    with override_settings(VCACHE={"LANES": 0}):
        assert run(three()) == [b"1", b"1", b"1"]


def test_many_requests_share_few_threads(app: ASGIHandler, run: Any) -> None:
    async def many() -> list[int]:
        return [exchange.status for exchange in await asyncio.gather(*(get(app, "/blocking") for _ in range(40)))]

    with override_settings(VCACHE={"LANES": 2}):
        assert run(many()) == [200] * 40
    assert lanes.state["threads"] == 2


def test_requests_that_wait_for_a_thread_can_be_cancelled(app: ASGIHandler, run: Any) -> None:
    async def scenario() -> None:
        held = lanes.lane()
        go = threading.Event()
        held.submit(go.wait)
        waiting = [asyncio.create_task(get(app, "/blocking")) for _ in range(3)]
        await until(lambda: lanes.state["waiting"] == 3)
        for task in waiting[:2]:
            task.cancel()
        assert [type(each) for each in await asyncio.gather(*waiting[:2], return_exceptions=True)] == [
            asyncio.CancelledError
        ] * 2
        assert lanes.state["waiting"] == 1
        go.set()
        held.end()
        assert (await waiting[2]).status == 200

    with override_settings(VCACHE={"LANES": 1}):
        run(scenario())
    assert len(seen) == 1
    assert idle()


def test_a_cancelled_request_gives_its_thread_back_when_its_call_is_over(app: ASGIHandler, run: Any) -> None:
    go, begun = threading.Event(), threading.Event()

    def view(request: HttpRequest) -> HttpResponse:
        begun.set()
        go.wait(HANG)
        return HttpResponse()

    async def scenario() -> None:
        task = asyncio.create_task(get(app, "/held"))
        await until(begun.is_set)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert lanes.state == {"threads": 1, "idle": 0, "waiting": 0}
        go.set()
        await until(idle)

    urlpatterns.append(path("held", view))
    try:
        run(scenario())
    finally:
        del urlpatterns[-1]


def test_a_task_that_outlives_its_request_gets_another_thread(app: ASGIHandler, run: Any) -> None:
    async def scenario() -> None:
        go = asyncio.Event()
        scopes: list[Any] = []

        async def outer(scope: Any, receive: Any, send: Any) -> None:
            scope["go"] = go
            scopes.append(scope)
            await app(scope, receive, send)

        await get(outer, "/background")
        await until(idle)
        go.set()
        await scopes[0]["task"]

    run(scenario())
    first, second = seen
    assert first.name.startswith("vcache-lane-")
    assert not second.name.startswith("vcache-lane-")


# Applications around it


def test_an_executor_that_is_there_is_used_and_left_alone(app: ASGIHandler, run: Any) -> None:
    async def scenario() -> None:
        async with ThreadSensitiveContext():
            thread = await sync_to_async(threading.get_ident)()
            context = SyncToAsync.thread_sensitive_context.get()
            executor = SyncToAsync.context_to_thread_executor[context]
            await get(app, "/mixed")
            assert SyncToAsync.context_to_thread_executor[context] is executor
            assert set(seen) == {thread}

    run(scenario())
    assert lanes.state["threads"] == 0


def test_a_request_within_a_request_shares_its_thread(app: ASGIHandler, run: Any) -> None:
    async def outer(request: HttpRequest) -> HttpResponse:
        seen.append(await sync_to_async(threading.get_ident)())
        inner = await get(app, "/blocking")
        seen.append(await sync_to_async(threading.get_ident)())
        return HttpResponse(inner.content)

    urlpatterns.append(path("outer", outer))
    try:
        assert run(get(app, "/outer")).content.startswith(b"vcache-lane-")
    finally:
        del urlpatterns[-1]
    assert len(set(seen)) == 1
    assert lanes.state["threads"] == 1


# Signals


def test_idle_receivers_cost_no_thread_and_still_do_their_work(app: ASGIHandler, run: Any) -> None:
    async def scenario() -> str | None:
        await get(app, "/uses-cache")
        return get_urlconf()

    assert run(scenario()) is None  # reset_urlconf ran
    assert isinstance(seen[0], Closing)
    assert seen[1:] == ["cache closed"]
    assert lanes.state["threads"] == 0


def test_what_embedded_servers_need_costs_no_thread(app: ASGIHandler, run: Any, monkeypatch: Any) -> None:
    called = []
    monkeypatch.setattr(_aliases, "_is_embedded", called.append)
    monkeypatch.setattr(_aliases, "_shared", {"default": object()})
    request_started.connect(_aliases.renew_embedded)
    try:
        assert run(get(app, "/quick")).status == 200
    finally:
        request_started.disconnect(_aliases.renew_embedded)
    assert called == ["default"]
    assert lanes.state["threads"] == 0


def test_a_receiver_of_another_gets_its_signal(app: ASGIHandler, run: Any, signal: Any) -> None:
    threads = []

    def receiver(sender: type, **given: Any) -> None:
        threads.append(threading.get_ident())
        assert sender is ASGIHandler
        assert ("scope" in given) == (signal is request_started)

    signal.connect(receiver)
    try:
        run(get(app, "/quick"))
    finally:
        signal.disconnect(receiver)
    assert len(threads) == 1
    assert threads[0] != threading.get_ident()
    run(get(app, "/quick"))
    assert len(threads) == 1


def test_an_async_receiver_gets_its_signal_on_the_loop(app: ASGIHandler, run: Any, signal: Any) -> None:
    threads = []

    async def receiver(sender: type, **given: Any) -> None:
        threads.append(threading.get_ident())

    signal.connect(receiver)
    try:
        run(get(app, "/quick"))
    finally:
        signal.disconnect(receiver)
    # request_finished is sent by blocking code, which runs an async receiver on the loop that waits for it.
    assert threads == [threading.get_ident()]


def test_what_a_receiver_raises_is_seen(app: ASGIHandler, run: Any) -> None:
    def receiver(**given: Any) -> None:
        raise ValueError("refused")

    request_started.connect(receiver)
    try:
        with pytest.raises(ValueError, match="refused"):
            run(get(app, "/quick"))
    finally:
        request_started.disconnect(receiver)
    wait_until(idle)


def test_skipped_receivers_run_on_the_thread_before_its_first_call(
    app: ASGIHandler, run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    order: list[Any] = []
    monkeypatch.setattr("django.db.connections.all", lambda **_: order.append(threading.current_thread().name) or [])

    async def view(request: HttpRequest) -> HttpResponse:
        order.append("view")
        await sync_to_async(order.append)("call")
        return HttpResponse()

    urlpatterns.append(path("ordered", view))
    try:
        run(get(app, "/ordered"))
    finally:
        del urlpatterns[-1]
    [thread] = {name for name in order if name.startswith("vcache-lane")}
    # reset_queries and close_old_connections, before the call; close_old_connections at the end.
    assert order == ["view", thread, thread, "call", thread]


def test_receivers_that_are_disconnected_do_not_run(
    app: ASGIHandler, run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked: list[bool] = []
    monkeypatch.setattr("django.db.connections.all", lambda **_: looked.append(True) or [])
    request_started.disconnect(close_old_connections)
    request_started.disconnect(reset_queries)
    request_finished.disconnect(close_old_connections)
    try:
        run(get(app, "/blocking"))
    finally:
        request_started.connect(reset_queries)
        request_started.connect(close_old_connections)
        request_finished.connect(close_old_connections)
    assert looked == []


# What tools patch


def test_methods_that_tools_patch_are_djangos() -> None:
    assert vars(ASGIHandler).keys() & set(dir(asgi.ASGIHandler)) - {"__module__", "__doc__", "__qualname__"} <= {
        "handle",
        "load_middleware",
        "__firstlineno__",
        "__static_attributes__",
    }


def test_other_threads_with_loops_of_their_own(app: ASGIHandler) -> None:
    statuses: list[int] = []

    def serve(loop: str) -> None:
        with open_runner(loop) as runner:
            for _ in range(20):
                statuses.append(runner.run(get(app, "/mixed")).status)

    threads = [threading.Thread(target=serve, args=(loop,)) for loop in LOOPS]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(HANG)
    assert statuses == [200] * 20 * len(LOOPS)


def test_calls_are_counted_as_the_other_tests_count_them(
    app: ASGIHandler, run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    with counted_calls(monkeypatch) as calls:
        run(get(app, "/blocking"))
    assert calls == ["blocking", "close"]
