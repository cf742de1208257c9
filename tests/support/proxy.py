"""A TCP proxy between a cache and its server, which does to the bytes what a network does: it leads elsewhere, is slow,
is narrow, or forgets a connection without a word. One thread runs it, on an event loop.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from types import TracebackType
from typing import TypeVar

from support.server import ValkeyServer

T = TypeVar("T")

# Bytes that are forwarded in one piece. A narrow line is paced by them.
PIECE = 16 * 1024
# Bytes that the proxy holds of one direction. What is more stays with the sender, as on a real line.
HELD = 8


class Line:
    """One connection through the proxy; `number` counts from 1. What the client sent is `sent`."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.sent = bytearray()
        self.is_dead = False
        self.writers: list[asyncio.StreamWriter] = []


class Proxy:
    """Listens on a free TCP port of 127.0.0.1 and leads new connections to a server.

    >>> with Proxy(server) as proxy:
    ...     make_cache(proxy.url).get("k")

    `delay` is how many seconds later replies arrive, and `rate` how many bytes of them a second; both may be changed at
    any time, and hold for what arrives from then on. `piece` is how many bytes go on at once, in both directions.
    """

    def __init__(
        self, target: ValkeyServer, *, delay: float = 0.0, rate: float | None = None, piece: int = PIECE
    ) -> None:
        self.delay = delay
        self.rate = rate
        self.piece = piece
        self.lines: list[Line] = []
        self._target = target
        self._tasks: set[asyncio.Task[None]] = set()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._listener = self._run(self._listen)
        self.port = self._listener.sockets[0].getsockname()[1]

    @property
    def url(self) -> str:
        return self._target.url_at(self.port)

    @property
    def accepted(self) -> int:
        """How many connections there were."""
        return len(self.lines)

    def lead_to(self, target: ValkeyServer) -> None:
        """New connections lead to another server; those that are there stay where they are."""
        self._target = target

    def forget(self) -> None:
        """Every connection of now stays open, and not one byte of it arrives any more, in either direction."""

        async def forget() -> None:
            for line in self.lines:
                line.is_dead = True

        self._run(forget)

    def cut(self) -> None:
        """Closes every connection of now."""

        async def cut() -> None:
            for line in self.lines:
                for writer in line.writers:
                    writer.transport.abort()

        self._run(cut)

    def stop(self) -> None:
        self._run(self._stop)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    def __enter__(self) -> Proxy:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _run(self, function: Callable[[], asyncio.Future[T] | object]) -> T:
        return asyncio.run_coroutine_threadsafe(function(), self._loop).result(10)  # type: ignore[arg-type]

    async def _listen(self) -> asyncio.Server:
        return await asyncio.start_server(self._accept, "127.0.0.1", 0, limit=PIECE)

    async def _stop(self) -> None:
        self._listener.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        # Transports close in the loop's next iterations.
        await asyncio.sleep(0.01)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        line = Line(len(self.lines) + 1)
        self.lines.append(line)
        line.writers.append(writer)
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            upstream = await asyncio.open_connection("127.0.0.1", self._target.port, limit=PIECE)
            line.writers.append(upstream[1])
            async with asyncio.TaskGroup() as group:
                group.create_task(self._forward(line, reader, upstream[1], is_reply=False))
                group.create_task(self._forward(line, upstream[0], writer, is_reply=True))
        except* (OSError, asyncio.CancelledError):
            pass
        finally:
            self._tasks.discard(task)
            for each in line.writers:
                each.transport.abort()

    async def _forward(
        self, line: Line, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, is_reply: bool
    ) -> None:
        """Reads and writes at once, because a slow line delays each piece and not one after the other."""
        pieces: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(HELD)
        loop = asyncio.get_running_loop()

        async def read() -> None:
            while True:
                piece = await reader.read(self.piece)
                if not is_reply:
                    line.sent += piece
                await pieces.put((loop.time(), piece))
                if not piece:
                    return

        reading = loop.create_task(read())
        try:
            free = 0.0
            while True:
                arrived, piece = await pieces.get()
                if line.is_dead:
                    continue
                if not piece:
                    break
                if is_reply:
                    due = arrived + self.delay
                    if self.rate is not None:
                        free = max(free, arrived) + len(piece) / self.rate
                        due = max(due, free)
                    if (wait := due - loop.time()) > 0:
                        await asyncio.sleep(wait)
                if line.is_dead:
                    continue
                writer.write(piece)
                await writer.drain()
        finally:
            reading.cancel()
        # The other direction may still have something to say, but no client or server of ours shuts only one down.
        raise ConnectionResetError
