"""The one Valkey server of a run, the slow network before it, and a few words of RESP to ask it.

The words go over a plain socket, so that no client under test is used to observe another.
"""

from __future__ import annotations

import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, cast

HERE = Path(__file__).parent
START_SECONDS = 10.0


def command(port: int, *commands: tuple[str, ...]) -> list[str]:
    """Send each command on one fresh connection and return the replies, as text."""
    with (
        socket.create_connection(("127.0.0.1", port), timeout=10) as connection,
        connection.makefile("rb") as stream,
    ):
        replies = []
        for words in commands:
            connection.sendall((" ".join(words) + "\r\n").encode())
            replies.append(_reply(cast(BinaryIO, stream)))
        return replies


def _reply(stream: BinaryIO) -> str:
    line = stream.readline()
    kind, rest = line[:1], line[1:].strip()
    if kind == b"$":
        return stream.read(int(rest) + 2)[:-2].decode()
    if kind in (b"+", b":"):
        return rest.decode()
    raise ConnectionError(f"unexpected reply from the server: {line!r}")


def count_connections(port: int) -> int:
    """How many connections the server holds, without the one that asks."""
    own, clients = command(port, ("CLIENT", "ID"), ("CLIENT", "LIST"))
    return sum(1 for line in clients.splitlines() if line and not line.startswith(f"id={own} "))


def flush(port: int) -> None:
    command(port, ("FLUSHALL",))


def cpu_seconds(port: int) -> float:
    """CPU that the server's process has taken so far, all its threads, kernel time included."""
    fields = information(port, "cpu")
    return float(fields["used_cpu_user"]) + float(fields["used_cpu_sys"])


def information(port: int, section: str) -> dict[str, str]:
    (text,) = command(port, ("INFO", section))
    return dict(line.split(":", 1) for line in text.splitlines() if ":" in line)


def version(port: int) -> str:
    fields = information(port, "server")
    if "valkey_version" in fields:
        return f"Valkey {fields['valkey_version']}"
    return f"Redis {fields['redis_version']}"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def valkey(binary: str) -> Iterator[int]:
    """A server with nothing persisted, on a free port of the loopback; gone when this ends."""
    port = free_port()
    arguments = ["--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]
    with _process([binary, *arguments], port):
        yield port


@contextmanager
def delay(python: str, port: int, milliseconds: float) -> Iterator[int]:
    """A proxy in a process of its own, under a Python that has uvloop, that holds every reply back so long."""
    front = free_port()
    with _process([python, str(HERE / "proxy.py"), str(front), str(port), str(milliseconds)], front):
        yield front


@contextmanager
def _process(arguments: list[str], port: int) -> Iterator[None]:
    process = subprocess.Popen(arguments, stdout=subprocess.DEVNULL, start_new_session=True)
    try:
        deadline = time.monotonic() + START_SECONDS
        while True:
            try:
                command(port, ("PING",))
                break
            except OSError:
                if process.poll() is not None or time.monotonic() > deadline:
                    raise
                time.sleep(0.05)
        yield
    finally:
        process.terminate()
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
