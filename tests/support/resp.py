"""A tiny blocking RESP2 client for the tests' control connection. It shares no code with what is
under test, so what it reports about the server (keys as stored, clients, statistics) is
independent evidence. One request, one reply; no pipelining, no pooling, no retries.
"""

from __future__ import annotations

import socket
from typing import TypeAlias

Reply: TypeAlias = "str | bytes | int | list[Reply] | None"
Arg: TypeAlias = str | bytes | int | float


class ServerError(Exception):
    """The server answered with an error; the text is the server's."""


class Control:
    """One connection to the server. Simple strings come back as str, bulk strings as bytes."""

    def __init__(self, path: str, password: str | None = None, timeout: float = 10.0) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.settimeout(timeout)
        try:
            self._socket.connect(path)
        except BaseException:
            self._socket.close()
            raise
        self._file = self._socket.makefile("rb")
        if password is not None:
            self.execute("AUTH", password)

    def close(self) -> None:
        self._file.close()
        self._socket.close()

    def execute(self, *args: Arg) -> Reply:
        parts = [arg if isinstance(arg, bytes) else str(arg).encode() for arg in args]
        request = b"*%d\r\n" % len(parts)
        request += b"".join(b"$%d\r\n%s\r\n" % (len(part), part) for part in parts)
        self._socket.sendall(request)
        return self._reply()

    def _reply(self) -> Reply:
        line = self._file.readline()
        if not line.endswith(b"\r\n"):
            raise ConnectionResetError("the server closed the control connection")
        kind, rest = line[:1], line[1:-2]
        if kind == b"+":
            return rest.decode()
        if kind == b"-":
            raise ServerError(rest.decode())
        if kind == b":":
            return int(rest)
        if kind == b"$":
            size = int(rest)
            return None if size < 0 else self._file.read(size + 2)[:-2]
        if kind == b"*":
            return None if int(rest) < 0 else self._items(int(rest))
        raise ServerError(f"unexpected reply {line!r}")

    def _items(self, count: int) -> list[Reply]:
        """Read the whole array before an error among its items is raised, to stay in step."""
        items: list[Reply] = []
        failure: ServerError | None = None
        for _ in range(count):
            try:
                items.append(self._reply())
            except ServerError as error:
                failure = failure or error
        if failure is not None:
            raise failure
        return items
