"""Hot routes inside ASGI: bodies that come in pieces or are too large, clients that leave, root paths, and what stays
with Django's handler."""

from __future__ import annotations

import asyncio
import json
import threading
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.http import HttpResponse
from django.test import override_settings
from django.urls import path
from support.asgi import Exchange, get, scope_of, until
from support.hot import Asked, ask_application, ask_early, echo, made, raw, routes

from django_vcache._lanes import lanes
from django_vcache.asgi import ASGIApplication, ASGIHandler
from django_vcache.routing import Request, hot


def application() -> ASGIApplication:
    return ASGIApplication(ASGIHandler())


def test_a_body_in_pieces_is_joined(run: Any) -> None:
    with routes(hot("raw/", raw)):
        exchange = run(get(application(), "/raw/", method="POST", body=(b"a", b"", b"bc")))
    assert (exchange.status, exchange.content) == (200, b"abc")


def test_what_is_too_large_is_not_read_to_its_end(run: Any) -> None:
    pieces = (b"x" * 40_000,) * 100
    with routes(hot("raw/", raw, limit=100_000)):
        exchange = run(get(application(), "/raw/", method="POST", body=pieces))
    assert exchange.status == 413
    assert exchange.answer_headers["connection"] == "close"
    assert exchange.content == b"the body has more than 100000 bytes, which is the limit"
    # A little more is read, so that the client gets the answer; not all.
    assert 4 < exchange.received < 50


def test_a_length_above_the_limit_is_refused_unread(run: Any) -> None:
    with routes(hot("raw/", raw, limit=10)):
        exchange = run(get(application(), "/raw/", method="POST", body=(b"",), headers=((b"content-length", b"11"),)))
    assert exchange.status == 413
    assert exchange.content == b"the body has 11 bytes, and 10 are the limit"


def test_the_default_limit_is_djangos(run: Any) -> None:
    with routes(hot("raw/", raw), DATA_UPLOAD_MAX_MEMORY_SIZE=5):
        assert run(ask_early(Asked("/raw/", "POST", b"123456"))).status == 413
        assert run(ask_early(Asked("/raw/", "POST", b"12345"))).status == 200
    with routes(hot("raw/", raw), DATA_UPLOAD_MAX_MEMORY_SIZE=None):
        assert run(ask_early(Asked("/raw/", "POST", b"1" * 4_000_000))).status == 200


def test_a_client_that_leaves_within_the_body_is_let_go(run: Any) -> None:
    called = []

    async def target(request: Request) -> bytes:
        called.append(request)
        return b""

    async def leave() -> list[Any]:
        messages = iter([{"type": "http.request", "body": b"a", "more_body": True}, {"type": "http.disconnect"}])
        sent: list[Any] = []

        async def receive() -> Any:
            return next(messages)

        async def send(message: Any) -> None:
            sent.append(message)

        await application()(scope_of("/t/", "POST"), receive, send)
        return sent

    with routes(hot("t/", target)):
        assert run(leave()) == []
    assert called == []


def test_a_client_that_leaves_cancels_the_target(run: Any) -> None:
    ends: list[str] = []

    async def waits(request: Request) -> bytes:
        ends.append("began")
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            ends.append("cancelled")
            raise
        return b""

    async def leave() -> Exchange:
        exchange = Exchange(application(), "/w/")
        task = asyncio.ensure_future(exchange.run())
        await until(lambda: ends)
        exchange.leave.set()
        return await task

    with routes(hot("w/", waits)):
        exchange = run(leave())
    assert ends == ["began", "cancelled"]
    assert exchange.sent == []


def test_a_cancelled_server_task_is_not_swallowed(run: Any) -> None:
    began = asyncio.Event()

    async def waits(request: Request) -> bytes:
        began.set()
        await asyncio.sleep(3600)
        return b""

    async def cancel() -> None:
        task = asyncio.ensure_future(Exchange(application(), "/w/").run())
        await began.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    with routes(hot("w/", waits)):
        run(cancel())


def test_a_quick_target_has_no_listener(run: Any) -> None:
    with routes(hot("made/", made)):
        exchange = run(get(application(), "/made/"))
    assert exchange.received == 1


def test_the_root_path_is_left_out(run: Any) -> None:
    async def under(root: str, asked: str) -> Any:
        async def app(scope: Any, receive: Any, send: Any) -> None:
            await application()({**scope, "root_path": root}, receive, send)

        return await ask_application(app, Asked(asked))

    with routes(hot("echo/", echo)):
        assert json.loads(run(under("/shop", "/shop/echo/")).body)["path"] == "/echo/"
        with override_settings(FORCE_SCRIPT_NAME="/forced"):
            assert json.loads(run(under("", "/forced/echo/")).body)["path"] == "/echo/"


def view(request: Any) -> HttpResponse:
    return HttpResponse("a view")


def test_other_requests_go_on_to_django(run: Any) -> None:
    with routes(hot("made/", made), path("view/", view)):
        assert run(get(application(), "/view/")).content == b"a view"
        assert run(get(application(), "/nothing/")).status == 404


def test_the_handler_alone_answers_early_too(run: Any) -> None:
    class Plain(ASGIHandler):
        async def get_response_async(self, request: Any) -> Any:
            raise AssertionError("the request reached Django's part")

    with routes(hot("made/", made)):
        assert run(get(Plain(), "/made/")).status == 201


def test_urls_that_cannot_be_imported_are_for_django_to_tell(run: Any) -> None:
    with override_settings(ROOT_URLCONF="support.no_such_module"), pytest.raises(ModuleNotFoundError):
        run(get(application(), "/made/"))


# Threads of Python functions


def test_blocking_code_of_a_target_has_one_thread_that_is_kept(run: Any) -> None:
    seen = []

    def look() -> None:
        seen.append(threading.current_thread().name)

    async def target(request: Request) -> bytes:
        await sync_to_async(look)()
        await sync_to_async(look)()
        return b""

    def blocking(request: Request) -> HttpResponse:
        look()
        return HttpResponse("done")

    with routes(hot("t/", target), hot("b/", blocking)):
        for _ in range(2):
            run(get(application(), "/t/"))
        assert run(get(application(), "/b/")).content == b"done"
    assert len(set(seen)) == 1
    assert seen[0].startswith("vcache-lane-")
    assert lanes.state["threads"] == 1
