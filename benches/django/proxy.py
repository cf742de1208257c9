"""A TCP proxy that holds every reply, and if asked every request, back for a few milliseconds: a network, not loopback.

Run as ``proxy.py FRONT_PORT SERVER_PORT REPLY_MILLISECONDS [REQUEST_MILLISECONDS]``. It has its own process, so what it
costs is not counted to a client; but it shares the machine, so rates through it are only comparable with one another.
It runs on uvloop, so that it is not what limits a client that sends many small requests on many connections.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections import deque
from collections.abc import Callable
from typing import cast

import uvloop


class Held:
    """Chunks on their way, in one direction: each is written ``seconds`` after it came."""

    def __init__(self, write: Callable[[bytes], object], seconds: float) -> None:
        self.write = write
        self.seconds = seconds
        self.chunks: deque[tuple[float, bytes]] = deque()
        self.loop = asyncio.get_running_loop()

    def take(self, data: bytes) -> None:
        if not self.seconds:
            self.write(data)
            return
        self.chunks.append((time.monotonic() + self.seconds, data))
        self.loop.call_later(self.seconds, self._forward)

    def _forward(self) -> None:
        # NOTE: uvloop's timers count whole milliseconds of its own clock, and may be early by one.
        if self.chunks[0][0] > time.monotonic():
            self.loop.call_later(0.001, self._forward)
            return
        self.write(self.chunks.popleft()[1])


class Replies(asyncio.Protocol):
    """The server's side."""

    def __init__(self, client: asyncio.Transport, seconds: float) -> None:
        self.client = client
        self.held = Held(client.write, seconds)

    def data_received(self, data: bytes) -> None:
        self.held.take(data)

    def connection_lost(self, _error: Exception | None) -> None:
        self.client.close()


class Requests(asyncio.Protocol):
    """The client's side: what it sends before the server is connected waits for that."""

    def __init__(self, port: int, reply_seconds: float, request_seconds: float) -> None:
        self.port = port
        self.reply_seconds = reply_seconds
        self.held = Held(self._write, request_seconds)
        self.waiting: list[bytes] = []
        self.upstream: asyncio.WriteTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.connecting = asyncio.create_task(self._connect(cast(asyncio.Transport, transport)))

    async def _connect(self, transport: asyncio.Transport) -> None:
        loop = asyncio.get_running_loop()
        seconds = self.reply_seconds
        upstream, _ = await loop.create_connection(lambda: Replies(transport, seconds), "127.0.0.1", self.port)
        self.upstream = upstream
        upstream.writelines(self.waiting)
        if transport.is_closing():
            upstream.close()

    def data_received(self, data: bytes) -> None:
        self.held.take(data)

    def _write(self, data: bytes) -> None:
        if self.upstream is None:
            self.waiting.append(data)
        else:
            self.upstream.write(data)

    def connection_lost(self, _error: Exception | None) -> None:
        if self.upstream is not None:
            self.upstream.close()


async def main(front: int, port: int, reply_seconds: float, request_seconds: float) -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(
        lambda: Requests(port, reply_seconds, request_seconds), "127.0.0.1", front, backlog=1024
    )
    await server.serve_forever()


if __name__ == "__main__":
    held = [float(milliseconds) / 1000 for milliseconds in sys.argv[3:]]
    uvloop.run(main(int(sys.argv[1]), int(sys.argv[2]), held[0], held[1] if len(held) > 1 else 0.0))
