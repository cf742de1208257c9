"""uvicorn with `support.hot_site` in a thread of the test's process, and a client that says byte for byte what it
sends."""

from __future__ import annotations

import asyncio
import http.client
import logging
import os
import socket
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self
from unittest import mock

import uvicorn

from django_vcache.uvicorn._inner import VARIABLE
from support import hot_site
from support.driver import open_runner
from support.server import wait_until

HOT = "django_vcache.uvicorn:HotProtocol"


class Answer:
    """A response that was read."""

    def __init__(self, response: http.client.HTTPResponse) -> None:
        self.body = response.read()
        self.status = response.status
        self.headers = response.headers
        self.closes = response.will_close

    @property
    def text(self) -> str:
        return self.body.decode()


class _OneByOne:
    """A connection as `http.client` reads it, with nothing read ahead of one response."""

    def __init__(self, file: Any) -> None:
        self._file = file

    def makefile(self, mode: str) -> Any:
        return self._file


class Client:
    """A connection to a server. It is closed at the end of the `with`."""

    def __init__(self, connected: socket.socket) -> None:
        self.socket = connected
        self.socket.settimeout(30)
        self.socket.setsockopt(
            socket.IPPROTO_TCP, socket.TCP_NODELAY, 1
        ) if connected.family != socket.AF_UNIX else None
        self._file = _Kept(self.socket.makefile("rb"))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.really_close()
        self.socket.close()

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def answer(self, method: str = "GET") -> Answer:
        """The next response."""
        response = http.client.HTTPResponse(_OneByOne(self._file), method=method)  # type: ignore[arg-type]
        response.begin()
        return Answer(response)

    def ask(self, path: str, body: bytes | None = None, method: str = "", headers: str = "") -> Answer:
        method = method or ("GET" if body is None else "POST")
        self.send(request(path, body, method, headers))
        return self.answer(method)

    def is_at_end(self) -> bool:
        """Waits for the server to close the connection; False if it sends something instead."""
        try:
            return self._file.read(1) == b""
        except ConnectionResetError:
            return True


class _Kept:
    """A file that a response closes when it is read, and that the next one reads on."""

    def __init__(self, file: Any) -> None:
        self._file = file
        self.really_close = file.close

    def close(self) -> None:
        pass

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)


def request(path: str, body: bytes | None = None, method: str = "", headers: str = "") -> bytes:
    """A request as most clients write it."""
    method = method or ("GET" if body is None else "POST")
    length = "" if body is None else f"Content-Length: {len(body)}\r\n"
    return f"{method} {path} HTTP/1.1\r\nHost: localhost\r\n{length}{headers}\r\n".encode("latin1") + (body or b"")


class HotServer:
    """A server at work. `options` are those of `uvicorn.Config`."""

    def __init__(self, loop: str = "asyncio", inner: str = "auto", **options: Any) -> None:
        options = {"http": HOT, "log_config": None, "lifespan": "off", "timeout_keep_alive": 60, **options}
        self.config = uvicorn.Config("support.hot_site:application", **options)
        self.server = uvicorn.Server(self.config)
        self._loop_name = loop
        self._environment = mock.patch.dict(os.environ, {VARIABLE: inner})
        self.uds: str | None = options.get("uds")
        self.is_tls = self.config.is_ssl
        self.loop: asyncio.AbstractEventLoop
        self._thread = threading.Thread(target=self._run, name="uvicorn")

    def _run(self) -> None:
        with open_runner(self._loop_name) as runner:
            self.loop = runner.get_loop()
            runner.run(self.server.serve(None if self.uds else [self._socket]))

    def __enter__(self) -> Self:
        hot_site.gates.clear()
        self._environment.start()
        if not self.uds:
            self._socket = socket.create_server(("127.0.0.1", 0), backlog=2048)
            self.port = self._socket.getsockname()[1]
        self._thread.start()
        wait_until(lambda: self.server.started or not self._thread.is_alive())
        assert self.server.started
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
        self._environment.stop()

    def stop(self) -> None:
        """Stops it as a signal would, and waits for its end."""
        self.begin_to_stop()
        self.loop_calls(self._give_up)
        self._thread.join(60)
        assert not self._thread.is_alive()

    def begin_to_stop(self) -> None:
        self.server.should_exit = True

    def _give_up(self) -> None:
        # Requests that a test has left behind.
        for task in list(self.server.server_state.tasks):
            task.cancel()

    def loop_calls(self, call: Callable[[], Any]) -> None:
        if self._thread.is_alive():
            try:
                self.loop.call_soon_threadsafe(call)
            except RuntimeError:
                logging.getLogger("uvicorn.error").debug("the loop is closed")

    def client(self) -> Client:
        if self.uds:
            connected = socket.socket(socket.AF_UNIX)
            connected.connect(self.uds)
            return Client(connected)
        return Client(socket.create_connection(("127.0.0.1", self.port), timeout=30))

    def ask(self, path: str, body: bytes | None = None, method: str = "", headers: str = "") -> Answer:
        """One request on a connection of its own."""
        with self.client() as client:
            return client.ask(path, body, method, headers)

    @property
    def connections(self) -> list[Any]:
        """The protocols of the connections as they are now. The loop's thread may be making one more."""
        return [each for each in list(self.server.server_state.connections) if hasattr(each, "_reader")]

    @property
    def answered(self) -> int:
        return self.server.server_state.total_requests
