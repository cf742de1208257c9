"""Requests through the handler, in this process: which thread does what, signals, the client's leaving, contexts,
bodies, and applications around it."""

from __future__ import annotations

import asyncio
import contextvars
import io
import tempfile
import threading
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from asgiref.sync import SyncToAsync, ThreadSensitiveContext, async_to_sync, sync_to_async
from django.core.cache import caches
from django.core.cache.backends.locmem import LocMemCache
from django.core.handlers import asgi
from django.core.signals import request_finished, request_started
from django.db import close_old_connections, reset_queries
from django.http import FileResponse, HttpRequest, HttpResponse, StreamingHttpResponse
from django.test import override_settings
from django.urls import get_urlconf, path
from support.asgi import HANG, Exchange, counted_calls, get, until
from support.driver import LOOPS, open_runner
from support.server import wait_until

from django_vcache.asgi import ASGIHandler
from django_vcache.asgi._lanes import lanes

seen: list[Any] = []
variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="unset")
local = threading.local()


async def quick(request: HttpRequest) -> HttpResponse:
    seen.append(threading.get_ident())
    return HttpResponse("quick")


async def slow(request: HttpRequest) -> HttpResponse:
    seen.append("began")
    try:
        await asyncio.sleep(3600)
    except asyncio.CancelledError:
        seen.append("cancelled")
        raise
    return HttpResponse()


async def stubborn(request: HttpRequest) -> HttpResponse:
    seen.append("began")
    try:
        await asyncio.sleep(3600)
    except asyncio.CancelledError:
        seen.append("cancelled")
    return HttpResponse("finished")


async def fails_when_cancelled(request: HttpRequest) -> HttpResponse:
    seen.append("began")
    try:
        await asyncio.sleep(3600)
    finally:
        seen.append("cancelled")
        raise ValueError("at the end")


def blocking(request: HttpRequest) -> HttpResponse:
    seen.append(threading.get_ident())
    return HttpResponse(threading.current_thread().name)


async def mixed(request: HttpRequest) -> HttpResponse:
    for _ in range(2):
        seen.append(await sync_to_async(threading.get_ident)())
    await sync_to_async(lambda: async_to_sync(inside)())()
    return HttpResponse()


async def inside() -> None:
    seen.append(await sync_to_async(threading.get_ident)())


async def sets_variable(request: HttpRequest) -> HttpResponse:
    assert variable.get() == "outside"
    await sync_to_async(lambda: variable.set(f"{variable.get()}, thread"))()
    variable.set(f"{variable.get()}, view")
    return HttpResponse()


def sync_sets_variable(request: HttpRequest) -> HttpResponse:
    variable.set(f"{variable.get()}, view")
    return HttpResponse()


async def background(request: HttpRequest) -> HttpResponse:
    go: asyncio.Event = request.scope["go"]  # type: ignore[attr-defined]

    async def outlives() -> None:
        await go.wait()
        seen.append(await sync_to_async(threading.current_thread)())

    seen.append(await sync_to_async(threading.current_thread)())
    request.scope["task"] = asyncio.create_task(outlives())  # type: ignore[attr-defined]
    return HttpResponse()


async def streams(request: HttpRequest) -> StreamingHttpResponse:
    async def parts() -> AsyncIterator[bytes]:
        try:
            for number in range(3):
                yield b"%d" % number
                await asyncio.sleep(0)
            if "wait" in request.GET:
                await asyncio.sleep(3600)
        finally:
            seen.append("closed")

    return StreamingHttpResponse(parts())


async def file(request: HttpRequest) -> FileResponse:
    return FileResponse(io.BytesIO(b"x" * 100_000))


async def echo(request: HttpRequest) -> HttpResponse:
    seen.append(type(request._stream).__name__)  # type: ignore[attr-defined]
    return HttpResponse(request.body)


def upload(request: HttpRequest) -> HttpResponse:
    given = request.FILES["file"]
    seen.append(given)
    return HttpResponse(str(given.size))


def remembers(request: HttpRequest) -> HttpResponse:
    local.count = getattr(local, "count", 0) + 1
    return HttpResponse(str(local.count))


async def uses_cache(request: HttpRequest) -> HttpResponse:
    seen.append(caches["default"])
    request.urlconf = __name__  # type: ignore[attr-defined]
    return HttpResponse()


async def fails(request: HttpRequest) -> HttpResponse:
    raise ValueError("a bug")


urlpatterns = [
    path("quick", quick),
    path("slow", slow),
    path("stubborn", stubborn),
    path("fails-when-cancelled", fails_when_cancelled),
    path("blocking", blocking),
    path("mixed", mixed),
    path("sets-variable", sets_variable),
    path("sync-sets-variable", sync_sets_variable),
    path("background", background),
    path("streams", streams),
    path("file", file),
    path("echo", echo),
    path("upload", upload),
    path("remembers", remembers),
    path("uses-cache", uses_cache),
    path("fails", fails),
]


class Closing(LocMemCache):
    """Says when it is closed."""

    def close(self, **kwargs: Any) -> None:
        seen.append("cache closed")


@pytest.fixture(autouse=True)
def _site() -> Iterator[None]:
    seen.clear()
    cache = {"BACKEND": f"{__name__}.Closing"}
    with override_settings(ROOT_URLCONF=__name__, MIDDLEWARE=[], CACHES={"default": cache}):
        yield


@pytest.fixture
def app() -> ASGIHandler:
    return ASGIHandler()


@pytest.fixture(params=[request_started, request_finished], ids=["started", "finished"])
def signal(request: pytest.FixtureRequest) -> Any:
    return request.param


def idle() -> bool:
    return lanes.state["idle"] == lanes.state["threads"]


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


# The client's leaving


def test_a_view_that_does_not_suspend_is_not_listened_for(app: ASGIHandler, run: Any) -> None:
    assert run(get(app, "/quick")).received == 1
    assert run(get(app, "/streams")).received == 2


@pytest.mark.parametrize(("where", "answered"), [("/slow", False), ("/stubborn", True)])
def test_a_client_that_leaves_cancels_the_view(app: ASGIHandler, run: Any, where: str, answered: bool) -> None:
    async def scenario() -> Exchange:
        exchange = Exchange(app, where)
        task = asyncio.create_task(exchange.run())
        await until(lambda: seen)
        exchange.leave.set()
        await asyncio.wait_for(task, HANG)
        assert task.cancelling() == 0
        return exchange

    finished = []

    def receiver(**given: Any) -> None:
        finished.append(True)

    request_finished.connect(receiver)
    try:
        exchange = run(scenario())
    finally:
        request_finished.disconnect(receiver)
    assert seen[:2] == ["began", "cancelled"]
    assert bool(exchange.sent) == answered
    assert finished == [True]


def test_a_client_that_leaves_during_a_stream_closes_it(app: ASGIHandler, run: Any) -> None:
    async def scenario() -> None:
        exchange = Exchange(app, "/streams?wait=1")
        task = asyncio.create_task(exchange.run())
        await until(lambda: len(exchange.sent) == 4)
        exchange.leave.set()
        await asyncio.wait_for(task, HANG)

    run(scenario())
    assert seen[0] == "closed"


def test_what_a_cancelled_view_raises_is_logged_as_any_error(app: ASGIHandler, run: Any) -> None:
    async def scenario() -> Exchange:
        exchange = Exchange(app, "/fails-when-cancelled")
        task = asyncio.create_task(exchange.run())
        await until(lambda: seen)
        exchange.leave.set()
        await asyncio.wait_for(task, HANG)
        return exchange

    assert run(scenario()).status == 500


def test_a_cancelled_request_lets_the_cancellation_through(app: ASGIHandler, run: Any) -> None:
    async def scenario() -> bool:
        task = asyncio.create_task(get(app, "/slow"))
        await until(lambda: seen)
        task.cancel()
        await asyncio.wait({task})
        # The listener has ended, too.
        return task.cancelled() and asyncio.all_tasks() == {asyncio.current_task()}

    assert run(scenario())
    assert seen == ["began", "cancelled"]


def test_a_client_that_leaves_before_its_body_is_there_gets_nothing(app: ASGIHandler, run: Any) -> None:
    exchange = Exchange(app, "/echo", method="POST", body=())
    exchange.leave.set()
    run(asyncio.wait_for(exchange.run(), HANG))
    assert exchange.sent == []
    assert seen == []


def test_a_server_that_says_nonsense_is_an_error(app: ASGIHandler, run: Any) -> None:
    messages = iter([{"type": "http.request", "body": b""}, {"type": "http.nonsense"}])

    async def receive() -> Any:
        return next(messages)

    async def outer(scope: Any, _: Any, send: Any) -> None:
        await app(scope, receive, send)

    with pytest.raises(AssertionError, match=r"http\.nonsense"):
        run(get(outer, "/slow"))
    assert seen == ["began", "cancelled"]


def test_an_error_of_a_view_is_a_500(app: ASGIHandler, run: Any) -> None:
    assert run(get(app, "/fails")).status == 500
    assert run(get(app, "/absent")).status == 404


# Context


def test_context_variables_go_in_and_come_out(app: ASGIHandler, run: Any) -> None:
    async def scenario(where: str) -> str:
        variable.set("outside")
        await get_here(app, where)
        return variable.get()

    async def get_here(app: Any, where: str) -> None:
        # In this task, and not in one that wait_for makes on 3.11.
        await Exchange(app, where).run()

    assert run(scenario("/sets-variable")) == "outside, thread, view"
    assert run(scenario("/sync-sets-variable")) == "outside, view"


# Bodies


@pytest.mark.parametrize("body", [(b"",), (b"one",), (b"one", b"two", b""), (b"", b"three")])
def test_small_bodies_are_kept_in_memory(app: ASGIHandler, run: Any, body: tuple[bytes, ...]) -> None:
    exchange = run(get(app, "/echo", method="POST", body=body))
    assert exchange.content == b"".join(body)
    assert seen == ["BytesIO"]


def test_large_bodies_are_spooled_as_djangos(app: ASGIHandler, run: Any) -> None:
    chunks = tuple(bytes([65 + number]) * 1000 for number in range(10))
    with override_settings(FILE_UPLOAD_MAX_MEMORY_SIZE=2500):
        exchange = run(get(app, "/echo", method="POST", body=chunks))
    assert exchange.content == b"".join(chunks)
    assert seen == [tempfile.SpooledTemporaryFile.__name__]


def test_another_way_to_read_bodies_is_kept(run: Any) -> None:
    class Reader(ASGIHandler):
        async def read_body(self, receive: Any) -> Any:
            with await super().read_body(receive) as body:
                return io.BytesIO(body.read().upper())

    assert run(get(Reader(), "/echo", method="POST", body=(b"one",))).content == b"ONE"


def test_a_client_that_leaves_during_a_large_body(app: ASGIHandler, run: Any) -> None:
    messages = iter([{"type": "http.request", "body": b"x" * 50, "more_body": True}, {"type": "http.disconnect"}])

    async def outer(scope: Any, _: Any, send: Any) -> None:
        async def receive() -> Any:
            return next(messages)

        await app(scope, receive, send)

    with override_settings(FILE_UPLOAD_MAX_MEMORY_SIZE=10):
        assert run(get(outer, "/echo", method="POST")).sent == []


def test_uploaded_files_are_closed(app: ASGIHandler, run: Any) -> None:
    body = (
        b"--X\r\nContent-Disposition: form-data; name=file; filename=f.txt\r\nContent-Type: text/plain\r\n\r\n"
        + b"x" * 5000
        + b"\r\n--X--\r\n"
    )
    headers = ((b"content-type", b"multipart/form-data; boundary=X"), (b"content-length", str(len(body)).encode()))
    with override_settings(FILE_UPLOAD_MAX_MEMORY_SIZE=1000):
        exchange = run(get(app, "/upload", method="POST", body=(body,), headers=headers))
    assert exchange.content == b"5000"
    assert seen[0].closed


@pytest.mark.filterwarnings("ignore:StreamingHttpResponse must consume")
def test_files_are_sent_in_large_chunks(app: ASGIHandler, run: Any) -> None:
    exchange = run(get(app, "/file"))
    assert exchange.content == b"x" * 100_000
    assert len(exchange.sent[1]["body"]) == 2**16


def test_a_head_that_cannot_be_decoded_is_a_400(app: ASGIHandler, run: Any) -> None:
    async def outer(scope: Any, receive: Any, send: Any) -> None:
        await app(scope | {"query_string": b"\xff"}, receive, send)

    assert run(get(outer, "/quick")).status == 400
    assert idle()


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
