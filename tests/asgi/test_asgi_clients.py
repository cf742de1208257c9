"""What a client does to a request: it leaves, or sends a body in parts or a large one. And what is seen of a request
outside of it."""

from __future__ import annotations

import asyncio
import io
import tempfile
from typing import Any

import pytest
from django.core.signals import request_finished
from django.test import override_settings
from support.asgi import HANG, Exchange, get, until
from support.asgi_views import idle, seen, variable

from django_vcache.asgi import ASGIHandler

pytestmark = pytest.mark.usefixtures("view_site")

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
