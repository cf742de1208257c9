"""Requests to an ASGI application in this process, and what it does with threads meanwhile."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from django_vcache._lanes import Lane, lanes

# Tells what never happens from what is slow.
HANG = 20.0


def scope_of(path: str, method: str = "GET", headers: Iterable[tuple[bytes, bytes]] = ()) -> dict[str, Any]:
    return {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": method,
        "path": path.partition("?")[0],
        "query_string": path.partition("?")[2].encode(),
        "headers": [(b"host", b"127.0.0.1"), *headers],
    }


@dataclass
class Exchange:
    """One request, and what was sent in answer. `leave` ends the client's part."""

    app: Any
    path: str
    method: str = "GET"
    body: tuple[bytes, ...] = (b"",)
    headers: tuple[tuple[bytes, bytes], ...] = ()
    sent: list[dict[str, Any]] = field(default_factory=list)
    received: int = 0
    leave: asyncio.Event = field(default_factory=asyncio.Event)

    async def run(self) -> Exchange:
        chunks = iter(self.body)
        left = len(self.body)

        async def receive() -> dict[str, Any]:
            nonlocal left
            self.received += 1
            for chunk in chunks:
                left -= 1
                return {"type": "http.request", "body": chunk, "more_body": left > 0}
            await self.leave.wait()
            return {"type": "http.disconnect"}

        async def send(message: dict[str, Any]) -> None:
            self.sent.append(message)

        await self.app(scope_of(self.path, self.method, self.headers), receive, send)
        return self

    @property
    def status(self) -> int:
        return int(self.sent[0]["status"])

    @property
    def content(self) -> bytes:
        return b"".join(message.get("body", b"") for message in self.sent[1:])

    @property
    def answer_headers(self) -> dict[str, str]:
        return {name.decode("latin-1"): value.decode("latin-1") for name, value in self.sent[0]["headers"]}


async def get(app: Any, path: str, **given: Any) -> Exchange:
    """A whole GET, or another method."""
    return await asyncio.wait_for(Exchange(app, path, **given).run(), HANG)


async def until(condition: Callable[[], object]) -> None:
    """Waits on the loop for what another thread does."""
    async with asyncio.timeout(HANG):
        while not condition():  # noqa: ASYNC110 - nothing says so
            await asyncio.sleep(0.002)


@contextlib.contextmanager
def counted_calls(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """What is run on lanes, by the name of the function that was given to `sync_to_async`."""
    calls: list[str] = []
    submit = Lane.submit

    def counting(self: Lane, fn: Any, /, *args: Any, **kwargs: Any) -> Any:
        inner = fn.args[-1]  # of asgiref: thread_handler with its arguments; the last one is a partial of the function
        calls.append(getattr(inner.func, "__name__", "?"))
        return submit(self, fn, *args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(Lane, "submit", counting)
        yield calls


@pytest.fixture
def drained() -> Iterator[None]:
    """Begins and ends without a lane."""
    lanes.drain()
    yield
    lanes.drain()
    assert lanes.state == {"threads": 0, "idle": 0, "waiting": 0}
