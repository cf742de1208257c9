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
from statistics import median
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
    if kind == b"-":
        raise ConnectionError(f"the server refused a command: {rest.decode()}")
    if kind == b"*":
        return "\n".join(_reply(stream) for _ in range(int(rest)))
    raise ConnectionError(f"unexpected reply from the server: {line!r}")


def nodes(port: int) -> list[int]:
    """The ports of all nodes of a cluster; that of a server that stands alone."""
    if information(port, "cluster").get("cluster_enabled") != "1":
        return [port]
    (rows,) = command(port, ("CLUSTER", "NODES"))
    return [int(row.split()[1].partition("@")[0].rpartition(":")[2]) for row in rows.splitlines()]


def count_connections(port: int) -> int:
    """How many connections clients have to the server, or to all nodes of its cluster."""
    return sum(map(_connections, nodes(port)))


def _connections(port: int) -> int:
    own, clients = command(port, ("CLIENT", "ID"), ("CLIENT", "LIST"))
    return sum(1 for line in clients.splitlines() if line and not line.startswith(f"id={own} "))


def stream_length(port: int) -> int:
    """The entries of all streams of all databases."""
    entries = 0
    for line in information(port, "keyspace"):
        _, keys = command(port, ("SELECT", line.removeprefix("db")), ("KEYS", "*"))
        for key in filter(None, keys.splitlines()):
            _, kind, *_ = command(port, ("SELECT", line.removeprefix("db")), ("TYPE", key))
            if kind == "stream":
                entries += int(command(port, ("SELECT", line.removeprefix("db")), ("XLEN", key))[1])
    return entries


def round_trip(port: int, times: int = 200) -> float:
    """The median of so many PINGs, one after another on one connection, in seconds."""
    with (
        socket.create_connection(("127.0.0.1", port), timeout=10) as connection,
        connection.makefile("rb") as stream,
    ):
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        taken = []
        for _ in range(times):
            begun = time.perf_counter()
            connection.sendall(b"PING\r\n")
            _reply(cast(BinaryIO, stream))
            taken.append(time.perf_counter() - begun)
    return median(taken)


def flush(port: int) -> None:
    for node in nodes(port):
        command(node, ("FLUSHALL",))


def cpu_seconds(port: int) -> float:
    """CPU that the server has taken so far, all its threads, kernel time included; in a cluster that of all nodes."""
    each = [information(node, "cpu") for node in nodes(port)]
    return sum(float(fields["used_cpu_user"]) + float(fields["used_cpu_sys"]) for fields in each)


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
def valkey(binary: str, *words: str) -> Iterator[int]:
    """A server with nothing persisted, on a free port of the loopback; gone when this ends."""
    port = free_port()
    arguments = ["--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no", *words]
    with _process([binary, *arguments], port):
        yield port


@contextmanager
def delay(python: str, port: int, milliseconds: float, before: float = 0.0) -> Iterator[int]:
    """A proxy in a separate process, under a Python that has uvloop.

    It holds every reply back for ``milliseconds``, and every request for ``before`` milliseconds.
    """
    front = free_port()
    words = [str(HERE / "proxy.py"), str(front), str(port), str(milliseconds), str(before)]
    with _process([python, *words], front):
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
