"""A server that misbehaves on purpose. It speaks just enough RESP to be connected to, counts what it
accepts, records the commands that reach it, and lets a test script each connection by hand. Every
connection has a thread of its own; what goes wrong in a script fails the test when the server stops.
"""

from __future__ import annotations

import contextlib
import io
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from types import TracebackType

HELLO = b"%2\r\n$6\r\nserver\r\n$6\r\nvalkey\r\n$5\r\nproto\r\n:3\r\n"
OK = b"+OK\r\n"
PONG = b"+PONG\r\n"


def bulk(value: bytes) -> bytes:
    """`value` as the reply to a GET."""
    return b"$%d\r\n%s\r\n" % (len(value), value)


class Closed(Exception):
    """The client went away."""


class Peer:
    """One accepted connection; `number` counts from 1."""

    def __init__(self, fake: FakeServer, connection: socket.socket, number: int) -> None:
        self.fake = fake
        self.number = number
        self._socket = connection
        self._file = connection.makefile("rb")

    def command(self) -> list[bytes]:
        """The next command; Closed at the end."""
        command = self._command()
        self.fake.record(self.number, command)
        return command

    def _command(self) -> list[bytes]:
        try:
            header = self._line(b"*")
            command = []
            for _ in range(header):
                size = self._line(b"$")
                command.append(self._file.read(size + 2)[:-2])
        except (OSError, ValueError) as error:
            raise Closed from error
        return command

    def commands(self) -> Iterator[list[bytes]]:
        """Commands until the client goes away."""
        while True:
            yield self.command()

    def shake_hands(self) -> None:
        """Answer HELLO and what follows it, up to the PING at its end; none of it is recorded."""
        while True:
            command = self.command_of_handshake()
            self.send({b"HELLO": HELLO, b"PING": PONG}.get(command[0], OK))
            if command[0] == b"PING":
                return

    def command_of_handshake(self) -> list[bytes]:
        """The next command, which is not recorded."""
        return self._command()

    def send(self, data: bytes) -> None:
        try:
            self._socket.sendall(data)
        except OSError as error:
            raise Closed from error

    def wait_for_the_end(self) -> None:
        """Say nothing until the client goes away, or the server is stopped."""
        while True:
            self.command()

    def reset(self) -> None:
        """Close without a farewell: the client gets a reset, behind what was sent."""
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._file.close()
        self._socket.close()

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        with contextlib.suppress(OSError):
            self._file.close()
        self._socket.close()

    def _line(self, kind: bytes) -> int:
        line = self._file.readline()
        if line[:1] != kind:
            raise Closed
        return int(line[1:])


Script = Callable[[Peer], None]


class FakeServer:
    """Listens on a free TCP port, or at an address, and runs `script(peer)` for each connection, then closes it.

    >>> with FakeServer(answer_keys) as fake:
    ...     make_cache(fake.url).execute("GET", "k")
    b'k'
    """

    def __init__(self, script: Script, *, backlog: int = 1024, address: tuple[str, int] = ("127.0.0.1", 0)) -> None:
        self.script = script
        self.errors: list[BaseException] = []
        self._received: list[tuple[int, list[bytes]]] = []
        self._changed = threading.Condition()
        self._peers: list[Peer] = []
        self._threads: list[threading.Thread] = []
        self._listener = socket.create_server(address, backlog=backlog)
        self._host, self.port = self._listener.getsockname()[:2]
        self._accepting = threading.Thread(target=self._accept, daemon=True)
        self._accepting.start()

    @property
    def url(self) -> str:
        return f"redis://{self._host}:{self.port}/0"

    @property
    def accepted(self) -> int:
        """How many connections there were."""
        return len(self._peers)

    def received(self, *names: str) -> list[tuple[int, list[bytes]]]:
        """(connection number, command) of all commands so far, or of those with these names."""
        with self._changed:
            return [entry for entry in self._received if not names or entry[1][0].decode().upper() in names]

    def record(self, number: int, command: list[bytes]) -> None:
        with self._changed:
            self._received.append((number, command))
            self._changed.notify_all()

    def wait_for(self, count: int, timeout: float = 10.0) -> None:
        """Until `count` commands have arrived."""
        with self._changed:
            if not self._changed.wait_for(lambda: len(self._received) >= count, timeout):
                raise AssertionError(f"{len(self._received)} commands arrived, not {count}")

    def drop(self) -> None:
        """End all connections that there are; new ones are taken."""
        for peer in self._peers:
            peer.close()

    def stop(self) -> None:
        # Closing a listener does not wake the thread in accept(); a connection does.
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._accepting.join(5)
        for peer in self._peers:
            peer.close()
        for thread in self._threads:
            thread.join(5)

    def __enter__(self) -> FakeServer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
        if error is None and self.errors:
            raise AssertionError("the fake server's script failed") from self.errors[0]

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            peer = Peer(self, connection, len(self._peers) + 1)
            self._peers.append(peer)
            thread = threading.Thread(target=self._run, args=(peer,), daemon=True)
            self._threads.append(thread)
            thread.start()

    def _run(self, peer: Peer) -> None:
        try:
            self.script(peer)
        except (Closed, io.UnsupportedOperation):
            pass
        except BaseException as error:
            self.errors.append(error)
        finally:
            peer.close()


def answer(command: list[bytes]) -> bytes:
    """What an honest server whose keys hold their own names says."""
    name = command[0].upper()
    if name == b"GET":
        return bulk(command[1])
    if name in (b"INCR", b"UNLINK", b"DEL", b"EXISTS", b"PEXPIRE"):
        return b":1\r\n"
    if name == b"PING":
        return PONG
    if name == b"XADD":
        return bulk(b"1-1")
    return OK


def answer_keys(peer: Peer) -> None:
    """An honest server."""
    peer.shake_hands()
    for command in peer.commands():
        peer.send(answer(command))
