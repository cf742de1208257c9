"""Compare Django's request path: each view on each cache backend, on Django's ASGI handler and on ours, in one run.

    python benches/web/bench.py              the whole run, about 40 minutes
    python benches/web/bench.py --quick      a look at whether everything works, three minutes

Each row has a fresh server in each round, with one worker. Rounds are the outermost loop and their order
alternates, so that a machine that drifts treats all alike. A round with an answer that is no success is void.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
BUILD = ROOT / ".build"
sys.path.insert(0, str(HERE.parent / "django"))

import clients  # noqa: E402
import environments  # noqa: E402
import rows  # noqa: E402
import server  # noqa: E402
import serving  # noqa: E402
import table  # noqa: E402
import wrk  # noqa: E402
from run import machine  # noqa: E402  (of benches/django)

CONNECTIONS = 300
SECONDS = 10.0
WARMUP = 2.0
ROUNDS = 5


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ours-python", type=Path, default=ROOT / ".venv" / "bin" / "python")
    parser.add_argument("--peers-dir", type=Path, default=BUILD / "peers")
    parser.add_argument("--quick", action="store_true", help="one short round, not published")
    parser.add_argument("--only", default="", help="rows whose names hold one of these words, with commas")
    parser.add_argument("--rounds", type=int, help=f"default {ROUNDS}, or 1 with --quick")
    parser.add_argument("--seconds", type=float, help=f"of load for each measurement, default {SECONDS:g}")
    parser.add_argument("--connections", type=int, default=CONNECTIONS)
    parser.add_argument("--latency", type=float, default=0.0, help="ms before each reply of Valkey")
    parser.add_argument("--pinned", action="store_true", help="the server on one core, load on the others")
    parser.add_argument("--output", type=Path, help="default .build/bench-web")
    options = parser.parse_args()
    options.rounds = options.rounds or (1 if options.quick else ROUNDS)
    options.seconds = options.seconds or (2.0 if options.quick else SECONDS)
    options.warmup = min(WARMUP, options.seconds)
    options.output = options.output or BUILD / "bench-web"
    words = [word for word in options.only.split(",") if word]
    options.rows = [row for row in rows.rows() if not words or any(word in row.name for word in words)]
    if not options.rows:
        known = ", ".join(row.name for row in rows.rows())
        parser.error(f"no row's name holds any of {options.only!r}; they are {known}")
    return options


class Peers:
    """The interpreters of the rows, and where their packages are."""

    def __init__(self, options: argparse.Namespace, python: str) -> None:
        self.ours = options.ours_python.absolute()
        self.python = python
        self.folder: Path = options.peers_dir

    def of(self, row: rows.Row) -> tuple[str, list[Path]]:
        """The interpreter of a row, and more places for its imports.

        Raises:
            InstallError: it cannot be installed.
        """
        if not row.backend.environment:
            if not environments.importable(self.ours, "django_vcache._vcache", "granian"):
                raise environments.InstallError(f"{self.ours} has no django_vcache: run make setup")
            return str(self.ours), []
        name = row.backend.environment
        python = environments.ensure(name, self.python, self.folder, rows.ENVIRONMENTS[name])
        if row.handler != "ours":
            return python, []
        paths = [ROOT / "python"]
        if row.needs_renamed:
            paths.append(self._renamed(python))
        return python, paths

    def _renamed(self, python: str) -> Path:
        """A copy of django-vcache 3.2 under another name, so that our handler can be imported beside it."""
        target = self.folder / rows.RENAMED
        package = target / rows.RENAMED
        if not package.exists():
            code = "import django_vcache, os; print(os.path.dirname(django_vcache.__file__))"
            found = subprocess.run([python, "-c", code], capture_output=True, text=True, check=True)
            for path in sorted(Path(found.stdout.strip()).rglob("*")):
                copy = package / path.relative_to(found.stdout.strip())
                if path.is_dir() or "__pycache__" in path.parts:
                    continue
                copy.parent.mkdir(parents=True, exist_ok=True)
                content = path.read_bytes()
                if path.suffix == ".py":
                    content = re.sub(rb"\bdjango_vcache\b", rows.RENAMED.encode(), content)
                copy.write_bytes(content)
        return target


def cells(options: argparse.Namespace) -> Iterator[tuple[int, rows.Row]]:
    for number in range(options.rounds):
        for row in options.rows if number % 2 == 0 else reversed(options.rows):
            yield number, row


def measure(
    row: rows.Row, peers: Peers, ports: tuple[int, int], script: str, options: argparse.Namespace
) -> dict[str, Any]:
    """One cell: its figures, or why there are none."""
    front, direct = ports
    server.flush(direct)
    before = server.count_connections(direct)
    cores = ("0", "1-63") if options.pinned else ("", "")
    interface = "wsgi" if row.handler == "wsgi" else "asgi"
    try:
        python, paths = peers.of(row)
        listening = server.free_port()
        environment = row.environment(front)
        with serving.granian(python, interface, HERE / "site", paths, environment, listening, cores[0]) as running:
            running.get("store")
            if running.get(row.view) != "ok":
                raise serving.ServingError(f"{row.view} does not say ok")
            url = f"{running.url}/{row.view}/"
            wrk.run(url, options.connections, options.warmup, script, cores[1])
            connections = _Most(lambda: server.count_connections(direct) - before)
            used = running.usage()
            with connections:
                load = wrk.run(url, options.connections, options.seconds, script, cores[1])
            after = running.usage()
    except (environments.InstallError, serving.ServingError, wrk.LoadError) as error:
        return {"failed": " ".join(str(error).split())[:200]}
    if load.refused or load.failed or not load.requests:
        return {"failed": f"void: {load.refused} of {load.requests} answers are no success, {load.failed} have none"}
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


class _Most:
    """The largest of what a function says from time to time, while the block runs."""

    def __init__(self, ask: Any) -> None:
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


def progress(row: rows.Row, answer: dict[str, Any]) -> None:
    if "failed" in answer:
        figures = f"failed: {answer['failed']}"
    else:
        figures = f"{answer['rate']:8.0f}/s {1e6 * answer['cpu']:8.0f} us CPU, p99 {answer['p99_ms']:6.0f} ms, "
        figures += f"{answer['rss_peak'] / 2**20:5.0f} MB, {answer['connections']:4} connections"
    print(f"  {row.name:36} {figures}", flush=True)


def main() -> int:
    options = parse()
    python = environments.find_python()
    tools = environments.ensure(clients.TOOLS, python, options.peers_dir)
    peers = Peers(options, python)
    answers = []
    with ExitStack() as stack:
        direct = stack.enter_context(server.valkey(environments.valkey_binary(tools)))
        front = stack.enter_context(server.delay(tools, direct, options.latency)) if options.latency else direct
        facts = machine(server.version(direct))
        script = Path(stack.enter_context(tempfile.TemporaryDirectory())) / "done.lua"
        script.write_text(wrk.SCRIPT)
        announced = -1
        for number, row in cells(options):
            if number != announced:
                print(f"round {number + 1} of {options.rounds}", flush=True)
                announced = number
            answer = measure(row, peers, (front, direct), str(script), options)
            progress(row, answer)
            answers.append({"row": row.name, "round": number, **answer})
    result = {
        "machine": facts,
        "quick": options.quick,
        "connections": options.connections,
        "seconds": options.seconds,
        "latency_ms": options.latency,
        "pinned": options.pinned,
        "cells": answers,
    }
    options.output.mkdir(parents=True, exist_ok=True)
    (options.output / "latest.json").write_text(json.dumps(result, indent=1) + "\n")
    text = table.write(result, options.rows)
    (options.output / "README.md").write_text(text)
    print(text)
    return 1 if all("failed" in answer for answer in answers) else 0


if __name__ == "__main__":
    sys.exit(main())
