"""Compare what a request costs: each work on each cache backend, on Django's ASGI handler and on ours, as hot routes,
and beside other servers, in one run.

    python benches/web/bench.py              the whole run, about five hours
    python benches/web/bench.py --quick      a look at whether everything works, a quarter of an hour

Each row has a fresh server in each round, with one worker. Rounds are the outermost loop and their order
alternates, so that a machine that drifts treats all alike. A round with an answer that is no success is void.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
BUILD = ROOT / ".build"
sys.path.insert(0, str(HERE.parent / "django"))

import clients  # noqa: E402
import environments  # noqa: E402
import measuring  # noqa: E402
import parts  # noqa: E402
import rows  # noqa: E402
import server  # noqa: E402
import table  # noqa: E402
from peers import Peers  # noqa: E402
from run import machine, without_paths  # noqa: E402  (of benches/django)

LATENCY = 1.0
QUICK_SECONDS = 4.0


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """The options of a run; `parts` are those that were asked for."""
    names = [part.name for part in parts.parts()]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ours-python", type=Path, default=ROOT / ".venv" / "bin" / "python")
    parser.add_argument("--peers-dir", type=Path, default=BUILD / "peers")
    parser.add_argument("--quick", action="store_true", help=f"one round of {QUICK_SECONDS:g} s each, not published")
    parser.add_argument("--parts", default="", help=f"some of {','.join(names)}; with --quick all but pinned")
    parser.add_argument("--only", default="", help="rows whose names hold one of these words, with commas")
    parser.add_argument("--rounds", type=int, help="of each part, instead of its own number")
    parser.add_argument("--seconds", type=float, help="of load for each measurement, instead of the part's own")
    parser.add_argument("--connections", type=int, help="at once, instead of the part's own")
    parser.add_argument("--rate", type=float, default=parts.SEED_RATE, help="requests a second of the part seed-rate")
    parser.add_argument(
        "--latency", type=float, default=LATENCY, help="ms each way between site and Valkey, in the parts of the seed"
    )
    parser.add_argument("--output", type=Path, help="default benches/web/results; .build/bench-web for a partial run")
    options = parser.parse_args(arguments)

    asked = [name for name in options.parts.split(",") if name]
    if unknown := sorted(set(asked) - set(names)):
        parser.error(f"there is no part {', '.join(unknown)}; they are {', '.join(names)}")
    if options.quick and not asked:
        asked = [name for name in names if name != "pinned"]

    def shorten(part: parts.Part) -> parts.Part:
        seconds = options.seconds or (QUICK_SECONDS if options.quick else part.seconds)
        rounds = options.rounds or (1 if options.quick else part.rounds)
        return replace(part, seconds=seconds, rounds=rounds, connections=options.connections or part.connections)

    words = [word for word in options.only.split(",") if word]
    options.parts = parts.chosen(parts.parts(options.rate), asked, words, shorten)
    if not options.parts:
        known = ", ".join(row.name for row in rows.rows())
        parser.error(f"no row's name holds any of {options.only!r}; they are {known}")
    partial = options.quick or words or asked
    options.output = options.output or (BUILD / "bench-web" if partial else HERE / "results")
    return options


@contextmanager
def pinned(part: parts.Part) -> Iterator[None]:
    """What is started in the block runs beside the web server's core, if the part is pinned."""
    cores = os.sched_getaffinity(0)
    if part.pinned:
        os.sched_setaffinity(0, cores.intersection(measuring.LOAD_CORES) or cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, cores)


def run(options: argparse.Namespace, result: dict[str, Any], peers: Peers, tools: str) -> Iterator[None]:
    """Measures; gives its turn to the caller after each round."""
    binary = environments.valkey_binary(tools)
    for part in options.parts:
        with ExitStack() as stack:
            stack.enter_context(pinned(part))
            direct = stack.enter_context(server.valkey(binary))
            result.setdefault("machine", machine(server.version(direct)))
            front = direct
            if part.slow and options.latency:
                front = stack.enter_context(server.delay(tools, direct, options.latency, options.latency))
                trip, without = 1000 * server.round_trip(front), 1000 * server.round_trip(direct)
                result["parts"][part.name]["round_trip_ms"] = trip
                print(f"a PING takes {trip:.2f} ms behind the slow network, {without:.3f} without")
            valkey = measuring.Valkey(front, direct)
            for number in range(part.rounds):
                print(f"{part.name}: round {number + 1} of {part.rounds}", flush=True)
                for row in part.rows if number % 2 == 0 else reversed(part.rows):
                    rate, answer = _cell(part, row, peers, valkey, result["cells"])
                    progress(row, answer)
                    cell = {"part": part.name, "row": row.name, "round": number, "asked_rate": rate, **answer}
                    result["cells"].append(cell)
                yield


def _cell(
    part: parts.Part, row: rows.Row, peers: Peers, valkey: measuring.Valkey, cells: list[dict[str, Any]]
) -> tuple[float | None, dict[str, Any]]:
    try:
        rate = part.rate_for(row, cells)
    except parts.PartError as error:
        return None, {"failed": str(error)}
    warmup = min(parts.WARMUP, part.seconds)
    how = measuring.How(part.connections, part.seconds, warmup, rate, part.pinned)
    answer = measuring.measure(row, peers, valkey, how)
    if "failed" in answer:
        answer["failed"] = without_paths(answer["failed"])
    return rate, answer


def progress(row: rows.Row, answer: dict[str, Any]) -> None:
    if "failed" in answer:
        figures = f"failed: {answer['failed']}"
    else:
        figures = f"{answer['rate']:8.0f}/s {1e6 * answer['cpu']:8.1f} us CPU, p99 {answer['p99_ms']:7.1f} ms, "
        figures += f"{answer['rss_peak'] / 2**20:5.0f} MB, {answer['connections']:4} connections"
    print(f"  {row.name:36} {figures}", flush=True)


def main() -> int:
    options = parse()
    try:
        python = environments.find_python()
        tools = environments.ensure(clients.TOOLS, python, options.peers_dir)
        peers = Peers(options.ours_python.absolute(), python, options.peers_dir, BUILD / "bench" / "guest")
        result: dict[str, Any] = {
            "quick": options.quick,
            "latency_ms": options.latency,
            "parts": {part.name: _facts(part) for part in options.parts},
            "cells": [],
        }
        options.output.mkdir(parents=True, exist_ok=True)
        # Written after each round: a long run that is stopped has what it measured.
        for _ in run(options, result, peers, tools):
            (options.output / table.JSON).write_text(json.dumps(result, indent=1) + "\n")
            text = table.write(options.output)
    except environments.InstallError as error:
        sys.exit(str(error))
    print(text)
    print(f"written: {os.path.relpath(options.output)}/README.md, its plots, {table.JSON}")
    return 1 if all("failed" in cell for cell in result["cells"]) else 0


def _facts(part: parts.Part) -> dict[str, Any]:
    """What the report says of a part."""
    return {
        "title": part.title,
        "connections": part.connections,
        "seconds": part.seconds,
        "rounds": part.rounds,
        "rows": [row.name for row in part.rows],
    }


if __name__ == "__main__":
    sys.exit(main())
