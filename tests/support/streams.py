"""Streams for tests of consumers: what is on the server is written and read over the control connection, and a consumer
is iterated over in each of its forms by a test that is written once.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from typing import Any

from support.caches import cache_setting
from support.driver import LOOPS
from support.programs import Program
from support.resp import ServerError
from support.server import ValkeyServer, wait_until

GROUP = "billing"
PATIENCE = 60.0  # seconds
FORMS = ("sync", *LOOPS)

# A program's own half: it consumes in the form that its test names, and `work` is told each batch.
CONSUMING = """
from django_vcache.admission.consumer import Consumer
from support.streams import Shards

def consume(work, **options):
    consumer = Consumer(Shards(count=SHARDS), "billing", **{"max_wait": 0.02, **options})
    if FORM == "sync":
        for batch in consumer:
            work(batch)
    else:
        async def loop():
            async for batch in consumer:
                work(batch)
        run(loop())
    return consumer
"""


@dataclass(frozen=True)
class Shards:
    """A stream as the consumer wants it, with nothing besides."""

    name: str = "events"
    count: int = 1
    using: str = "default"

    @property
    def keys(self) -> tuple[str, ...]:
        return tuple(f"test:2:{{v{shard:02}}}:s:{self.name}" for shard in range(self.count))

    @property
    def dead_keys(self) -> tuple[str, ...]:
        return tuple(f"{key}:dead" for key in self.keys)


def add(server: ValkeyServer, stream: Shards, *payloads: str | int, shard: int | None = None) -> list[str]:
    """Writes entries, to the shards in turn unless one is named; their ids."""
    ids = []
    for number, payload in enumerate(payloads):
        key = stream.keys[number % stream.count if shard is None else shard]
        ids.append(server.execute("XADD", key, "*", "payload", payload, "org", 7).decode())
    return ids


def depth(server: ValkeyServer, stream: Shards) -> int:
    return sum(server.execute("XLEN", key) for key in stream.keys)


def pending(server: ValkeyServer, stream: Shards, group: str = GROUP) -> list[list[Any]]:
    """Each pending entry's id, consumer, idle milliseconds and deliveries; none where there is no such group."""
    rows = []
    for key in stream.keys:
        with contextlib.suppress(ServerError):
            rows += server.execute("XPENDING", key, group, "-", "+", 100_000)
    return rows


def dead(server: ValkeyServer, stream: Shards) -> list[dict[str, str]]:
    """The fields of each dead letter."""
    rows = [row for key in stream.dead_keys for row in server.execute("XRANGE", key, "-", "+")]
    return [
        {name.decode(): value.decode() for name, value in zip(words[::2], words[1::2], strict=True)}
        for _, words in rows
    ]


def consumers(server: ValkeyServer, stream: Shards, group: str = GROUP) -> set[str]:
    """The names on the group's list."""
    return {told[1].decode() for key in stream.keys for told in server.execute("XINFO", "CONSUMERS", key, group)}


Work = Callable[[Any], Awaitable[Any]]


def wait_until_it_waits(server: ValkeyServer, stream: Shards) -> None:
    """Waits until a consumer without work waits for the next entry."""
    if server.parts(stream.keys) == 1:
        wait_until(lambda: [client for client in server.clients() if "b" in client["flags"]])
        return

    # No command waits at several nodes: it looks at all shards again and again.
    def looks() -> int:
        return server.command_counts().get("xreadgroup", 0)

    before = looks()
    wait_until(lambda: looks() >= before + 2 * stream.count)


class Form:
    """One form of the consumer's API. What works on a batch is a coroutine function for all of them; where nothing else
    may be awaited, it awaits the methods of the batch by way of `say`."""

    def __init__(self, runner: asyncio.Runner | None) -> None:
        self._runner = runner

    @property
    def is_blocking(self) -> bool:
        return self._runner is None

    def run(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        """Runs a coroutine; in the blocking form one that waits for nothing."""
        return _run(coroutine) if self._runner is None else self._runner.run(coroutine)

    def consume(self, consumer: Any, work: Work) -> None:
        """Iterates, to the end or to the exception of the loop's body."""
        if self._runner is None:
            for batch in consumer:
                _run(work(batch))
            return

        async def loop() -> None:
            async for batch in consumer:
                await work(batch)

        self._runner.run(loop())

    def handle(self, consumer: Any, handler: Work) -> None:
        """Gives each batch to a handler."""
        if self._runner is None:
            consumer.run(lambda batch: _run(handler(batch)))
        else:
            self._runner.run(consumer.arun(handler))

    async def within(self, batch: Any, work: Callable[[], object]) -> None:
        """Works in a block of the batch."""
        if self._runner is None:
            with batch:
                work()
        else:
            async with batch:
                work()

    async def say(self, batch: Any, method: str, *args: Any, **kwargs: Any) -> Any:
        """Calls a method of a batch."""
        if self._runner is None:
            return getattr(batch, method)(*args, **kwargs)
        return await getattr(batch, f"a{method}")(*args, **kwargs)


def _run(coroutine: Coroutine[Any, Any, Any] | Awaitable[Any]) -> Any:
    """Runs a coroutine that waits for nothing."""
    assert isinstance(coroutine, Coroutine)
    try:
        coroutine.send(None)
    except StopIteration as end:
        return end.value
    raise AssertionError("the work awaited something")


def make(stream: Shards, **options: Any) -> Any:
    """A consumer that does not wait long for a batch to fill."""
    from django_vcache.admission.consumer import Consumer

    return Consumer(stream, GROUP, **{"max_wait": min(0.02, options.get("reclaim_after", 60.0) / 2), **options})


class Helper(threading.Thread):
    """A thread beside the test. What it raises is raised again by :meth:`join`; and before that `rescue` is called, so
    that whoever waits for what it did not do is not waiting for ever."""

    def __init__(self, work: Callable[[], object], rescue: Callable[[], object] = lambda: None) -> None:
        super().__init__()
        self._work = work
        self._rescue = rescue
        self._error: BaseException | None = None

    def run(self) -> None:
        try:
            self._work()
        except BaseException as error:
            self._error = error
            self._rescue()

    def join(self, timeout: float | None = PATIENCE) -> None:
        super().join(timeout)
        if self._error is not None:
            raise self._error
        assert not self.is_alive(), "the helper thread does not end"


def numbers(entries: Any) -> list[int]:
    return [int(entry.payload) for entry in entries]


def drain(form: Form, stream: Shards, until: int, **options: Any) -> list[Any]:
    """Consumes until there were so many entries, and acknowledges them."""
    consumer = make(stream, **options)
    seen: list[Any] = []

    async def work(batch: Any) -> None:
        seen.extend(batch)
        if len(seen) >= until:
            consumer.stop()

    form.consume(consumer, work)
    return seen


def program(form: str, shards: int, source: str, server: ValkeyServer, **options: Any) -> Program:
    """A program with `consume(work, **options)`, which consumes in one of the FORMS."""
    head = f"FORM = {form!r}\nSHARDS = {shards}\n"
    loop = "asyncio" if form == "sync" else form
    return Program(head + CONSUMING + source, {"default": cache_setting(server, **options)}, loop)
