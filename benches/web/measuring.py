"""One measurement: a fresh server of a row is proven to answer, warmed up, loaded and looked at."""

from __future__ import annotations

import os
import tempfile
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import environments
import oha
import server
import servers
import serving
import wrk
from loading import Load, LoadError
from payloads import get
from peers import Peers
from rows import Row

SITE = Path(__file__).parent / "site"
SERVER_CORES, LOAD_CORES = "0", range(1, 64)
"""Where the web server runs, and where all others do, if they are pinned apart."""


@dataclass(frozen=True)
class Valkey:
    """Where the site finds the server, and where it is asked directly; the same without a slow network between."""

    front: int
    direct: int


@dataclass(frozen=True)
class How:
    """How a row is loaded. Without a rate, as much as it takes."""

    connections: int
    seconds: float
    warmup: float
    rate: float | None = None
    pinned: bool = False


def measure(row: Row, peers: Peers, valkey: Valkey, how: How) -> dict[str, Any]:
    """The figures of a row, or why there are none, under `failed`."""
    server.flush(valkey.direct)
    before = server.count_connections(valkey.direct)
    try:
        python, paths = peers.of(row)
        with tempfile.TemporaryDirectory() as name:
            scratch = Path(name)
            port = server.free_port()
            settings = row.environment(valkey.front) | {"PYTHONPATH": os.pathsep.join(map(str, [SITE, *paths]))}
            command = servers.command(row, python, port, scratch)
            cores = SERVER_CORES if how.pinned else ""
            with serving.served(command, port, scratch, settings, cores) as running:
                prove(row, running, valkey.direct)
                _load(row, running.url, how, how.warmup, scratch)
                running.settle()
                connections = _Most(lambda: server.count_connections(valkey.direct) - before)
                used = running.usage()
                with connections:
                    load = _load(row, running.url, how, how.seconds, scratch)
                after = running.usage()
    except (environments.InstallError, serving.ServingError, LoadError, OSError) as error:
        return {"failed": " ".join(str(error).split())[:200]}
    if load.problem:
        return {"failed": load.problem}
    return {
        "requests": load.requests,
        "seconds": load.seconds,
        "rate": load.requests / load.seconds,
        "cpu": (after.cpu - used.cpu) / load.requests,
        "mean_ms": load.mean,
        "p50_ms": load.p50,
        "p99_ms": load.p99,
        "rss_peak": after.rss_peak,
        "connections": connections.most,
    }


def prove(row: Row, running: serving.Serving, valkey: int) -> None:
    """Has a row's server answer once, and looks at what it did.

    Raises:
        ServingError: the answer is wrong, or an event did not reach the stream.
    """
    if row.reads_stored:
        running.prove(get("/store/"))
    running.prove(row.asked)
    if row.writes_stream and (entries := server.stream_length(valkey)) != 1:
        raise serving.ServingError(f"the streams have {entries} entries after one event")


def _load(row: Row, url: str, how: How, seconds: float, scratch: Path) -> Load:
    if how.rate is None:
        return wrk.run(url, row.asked, how.connections, seconds, scratch)
    return oha.run(url, row.asked, how.connections, seconds, how.rate, scratch)


class _Most:
    """The largest of what a function says from time to time, while the block runs."""

    def __init__(self, ask: Callable[[], int]) -> None:
        self.most = 0
        self._ask = ask
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        while not self._over.wait(0.5):
            self.most = max(self.most, self._ask())

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()
        self.most = max(self.most, self._ask())
