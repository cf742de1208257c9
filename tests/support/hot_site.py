"""A site with hot routes below ASGI, and an application beside them: what a server of the tests loads.

The routes are made here, without Django's URLs. VCACHE_TEST_FOLDER is where a route says what a client cannot see.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from pathlib import Path
from typing import Any

from django.conf import settings

from django_vcache import routing
from django_vcache._vcache import RouteTable
from django_vcache.exceptions import RequestError
from django_vcache.routing._row import Row
from django_vcache.uvicorn import _server

if not settings.configured:
    settings.configure(SECRET_KEY="vcache-tests", FORCE_SCRIPT_NAME=os.environ.get("VCACHE_TEST_SCRIPT"))

FOLDER = Path(os.environ.get("VCACHE_TEST_FOLDER", "."))

Response = tuple[int, list[tuple[bytes, bytes]], bytes]
seen: ContextVar[str] = ContextVar("seen", default="nothing")
gates: dict[str, asyncio.Event] = {}


class Route:
    def __init__(self, work: Callable[..., Any], limit: int | None = 1000) -> None:
        self.work = work
        self.limit = limit

    async def respond(self, head: Any, body: bytes, params: Mapping[str, Any], outcome: None) -> routing.Response:
        return routing.Response(*await self.work(head, body, **params))

    def refused(self, head: Any, error: RequestError) -> routing.Response:
        return routing.Response(error.status, [(b"Content-Type", b"text/plain")], str(error).encode())

    def too_large(self, length: int | None) -> RequestError:
        return RequestError(f"{length} bytes are more than {self.limit}", status=413)


async def echo(head: Any, body: bytes) -> Response:
    """What a route is given."""
    given = {
        "method": head.method,
        "path": head.path,
        "query": head.query.decode(),
        "headers": head.headers.decode("latin1"),
        "body": body.decode("latin1"),
        "peer": head.peer,
        "scheme": head.scheme,
    }
    return 200, [(b"Content-Type", b"application/json")], json.dumps(given).encode()


async def quick(head: Any, body: bytes) -> Response:
    return 200, [], b"hot"


async def later(head: Any, body: bytes) -> Response:
    """Waits, within a task."""
    async with asyncio.timeout(60):
        await asyncio.sleep(0)
    return 200, [], b"hot " + body


async def gate(head: Any, body: bytes, name: str) -> Response:
    """Answers once `open` has been asked for the same name."""
    event = gates.setdefault(name, asyncio.Event())
    (FOLDER / f"began-{name}").touch()
    try:
        await event.wait()
    except asyncio.CancelledError:
        (FOLDER / f"cancelled-{name}").touch()
        raise
    return 200, [], b"through " + name.encode()


async def opened(head: Any, body: bytes, name: str) -> Response:
    gates.setdefault(name, asyncio.Event()).set()
    return 204, [], b""


async def context(head: Any, body: bytes) -> Response:
    before = seen.get()
    seen.set("something")
    await asyncio.sleep(0)
    return 200, [], before.encode()


async def large(head: Any, body: bytes) -> Response:
    return 200, [], b"x" * int(head.query)


async def broken(head: Any, body: bytes) -> Response:
    raise LookupError("a route that fails")


async def odd(head: Any, body: bytes) -> Response:
    return 200, [(b"x-split", b"a\r\nb: c")], b""


async def status(head: Any, body: bytes, code: str) -> Response:
    return int(code), [(b"X-Kind", b"status")], b"text"


answered = 0


async def counted(head: Any, body: bytes) -> Response:
    global answered
    answered += 1
    return 200, [], b"counted"


async def counted_later(head: Any, body: bytes) -> Response:
    await asyncio.sleep(0)
    return await counted(head, body)


async def close(head: Any, body: bytes) -> Response:
    return 200, [(b"Connection", b"close")], b"bye"


ROUTES = {
    "/hot/echo": Route(echo),
    "/hot/ä": Route(echo),
    "/hot/quick": Route(quick),
    "/hot/later": Route(later),
    "/hot/counted": Route(counted),
    "/hot/counted-later": Route(counted_later),
    "/hot/context": Route(context),
    "/hot/large": Route(large),
    "/hot/broken": Route(broken),
    "/hot/odd": Route(odd),
    "/hot/close": Route(close),
    "/hot/any": Route(quick, limit=None),
    "/hot/mb": Route(quick, limit=1_000_000),
}
FAMILIES = {
    "/hot/gate/": (Route(gate), "name"),
    "/hot/open/": (Route(opened), "name"),
    "/hot/status/": (Route(status), "code"),
}


def table(application: object) -> RouteTable:
    """In place of the routes of Django's URLs."""
    rows = [Row([path.removeprefix("/")], route, limit=route.limit) for path, route in ROUTES.items()]
    for prefix, (route, name) in FAMILIES.items():
        rows.append(Row([prefix.removeprefix("/"), ("str", name)], route, limit=route.limit))
    return RouteTable(rows)


# In a process of a test, a fixture sees to it, because other tests have URLs.
if "pytest" not in sys.modules:
    _server.table = table


async def application(scope: Any, receive: Any, send: Any) -> None:
    """Says which path it was asked for, and how large the body was. `/slow` waits for `/hot/open/slow`."""
    if scope["type"] == "lifespan":
        for _ in range(2):
            event = (await receive())["type"]
            if event == "lifespan.shutdown" and "VCACHE_TEST_FOLDER" in os.environ:
                (FOLDER / "answered").write_text(str(answered))
            await send({"type": f"{event}.complete"})
        return
    if scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.accept"})
        await send({"type": "websocket.send", "text": (await receive())["text"]})
        await send({"type": "websocket.close"})
        return
    size, more = 0, True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            return
        size += len(message["body"])
        more = message["more_body"]
    if scope["path"] == "/slow":
        await gates.setdefault("slow", asyncio.Event()).wait()
    body = f"cold {scope['path']} {size}".encode()
    await send(
        {"type": "http.response.start", "status": 200, "headers": [(b"content-length", str(len(body)).encode())]}
    )
    await send({"type": "http.response.body", "body": body})
