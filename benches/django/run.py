"""Compare our cache with its peers: every client against the same server, in the same run.

    python benches/django/run.py            the whole run, about forty minutes
    python benches/django/run.py --quick    a look at whether everything works, five minutes

Each client gets an environment of its own, each measurement a process of its own. Rounds are the
outermost loop and their order alternates, so that a machine that drifts treats all alike.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import environments
import fleet
import report
import server
from clients import CLIENTS, GUEST, TOOLS, Client
from scenarios import ROUNDS, SCENARIOS, Scenario

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
BUILD = ROOT / ".build"
CELL_TIMEOUT = 120


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ours-python", type=Path, default=ROOT / ".venv" / "bin" / "python")
    parser.add_argument("--peers-dir", type=Path, default=BUILD / "peers")
    parser.add_argument("--quick", action="store_true", help="one short round, not published")
    parser.add_argument("--only", default="", help="names of clients and scenarios, with commas")
    parser.add_argument("--rounds", type=int, help=f"default {ROUNDS}, or 1 with --quick")
    parser.add_argument("--latency", type=float, default=0.0, help="add a scenario with so many ms per reply")
    parser.add_argument("--output", type=Path, help="default benches/results; .build/bench for a partial run")
    options = parser.parse_args()
    partial = options.quick or bool(options.only)
    options.rounds = options.rounds or (1 if options.quick else ROUNDS)
    options.output = options.output or (BUILD / "bench" if partial else HERE.parent / "results")
    options.clients, options.scenarios = select(parser, options.only, options.latency > 0)
    return options


def select(parser: argparse.ArgumentParser, only: str, delayed: bool) -> tuple[list[Client], list[Scenario]]:
    """The clients and scenarios named; all clients if none is named, and so for scenarios."""
    names = set(filter(None, only.split(",")))
    scenarios = [scenario for scenario in SCENARIOS if delayed or not scenario.delayed]
    known = {client.name for client in CLIENTS} | {scenario.name for scenario in scenarios}
    if names - known:
        parser.error(f"unknown: {', '.join(names - known)}; known: {', '.join(sorted(known))}")
    return (
        [client for client in CLIENTS if client.name in names] or list(CLIENTS),
        [scenario for scenario in scenarios if scenario.name in names] or scenarios,
    )


def pythons(options: argparse.Namespace, python: str) -> dict[str, str]:
    """Each client's Python; a client that has none is left out and reported as failed."""
    found: dict[str, str] = {}
    for client in options.clients:
        if not client.environment:
            if environments.importable(options.ours_python, "django_vcache._vcache"):
                found[client.name] = str(options.ours_python)
            continue
        try:
            found[client.name] = environments.ensure(client.environment, python, options.peers_dir)
        except environments.InstallError as error:
            print(f"{client.name}: {error}", file=sys.stderr)
    return found


def guest(options: argparse.Namespace) -> Path | None:
    """Where the guest was built; None if it is not wanted or cannot be built: its rows then say that they failed."""
    if all(client.name != GUEST for client in options.clients) or not options.ours_python.exists():
        return None
    try:
        return environments.build_guest(
            options.ours_python.absolute(), HERE.parent / "guest", BUILD / "bench" / "guest"
        )
    except environments.InstallError as error:
        print(f"the guest: {error}", file=sys.stderr)
        return None


def cells(options: argparse.Namespace) -> Iterator[tuple[int, Scenario, Client]]:
    for round_number in range(options.rounds):
        for scenario in options.scenarios:
            if round_number >= scenario.rounds:
                continue
            clients = [client for client in options.clients if client.takes_part(scenario)]
            for client in clients if round_number % 2 == 0 else reversed(clients):
                yield round_number, scenario, client


def measure(
    client: Client,
    scenario: Scenario,
    python: str | None,
    ports: tuple[int, int] | str,
    quick: bool,
    guest_dir: Path | None,
) -> dict[str, Any]:
    """One cell: a worker's line of JSON, or why there is none."""
    if python is None:
        return {"failed": "not installed"}
    if isinstance(ports, str):
        return {"failed": ports}
    port, admin_port = ports
    server.flush(admin_port)
    arguments = [python, str(HERE / "worker.py"), "--client", client.name]
    arguments += ["--scenario", scenario.name, "--port", str(port), "--admin-port", str(admin_port)]
    seconds = scenario.quick_seconds if quick else scenario.seconds
    warmup = 0.1 if quick else min(0.4, seconds / 3)
    arguments += ["--warmup", f"{warmup:g}", "--seconds", f"{seconds:g}"]
    if client.name == GUEST and guest_dir is not None:
        arguments += ["--guest-dir", str(guest_dir)]
    environment = {name: os.environ[name] for name in ("PATH", "HOME", "BENCH_CA") if name in os.environ}
    try:
        done = subprocess.run(arguments, capture_output=True, text=True, timeout=CELL_TIMEOUT, env=environment)
        answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    except subprocess.TimeoutExpired:
        return {"failed": f"no result within {CELL_TIMEOUT} s"}
    except (IndexError, ValueError):
        print(done.stderr, file=sys.stderr)
        return {"failed": f"the process ended with code {done.returncode} and no result"}
    if "failed" in answer:
        answer["failed"] = without_paths(answer["failed"])
    return answer


def without_paths(message: str) -> str:
    """One line for the table, without the places of this machine."""
    return re.sub(r"(?:/[\w.+~-]+){2,}", "...", " ".join(message.split()))[:160]


def progress(scenario: Scenario, client: Client, answer: dict[str, Any]) -> None:
    if "failed" in answer:
        figures = f"failed: {answer['failed']}"
    else:
        cpu, rate = 1e6 * answer["cpu"] / answer["ops"], answer["ops"] / answer["wall"]
        figures = f"{cpu:9.3f} us CPU {rate:9.0f}/s {answer['rss_peak_kb'] / 1024:6.1f} MB "
        figures += f"{answer['connections']:5} connections"
        if "decisions" in answer:
            figures += f" {answer['by_server']} of {answer['decisions']} decided by the server"
        if "worst_ms" in answer:
            figures += f" late by {answer['worst_ms']:.1f} ms, p99 {answer['p99_ms']:.2f}"
    print(f"  {scenario.name:25} {client.name:27} {figures}", flush=True)


def machine(version: str) -> dict[str, Any]:
    with open("/proc/cpuinfo") as lines:
        models = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    kernel = re.match(r"[\d.]+", platform.release())
    return {
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
        "cores": os.cpu_count(),
        "cpu": models[0] if models else platform.machine(),
        "kernel": f"{platform.system()} {kernel.group() if kernel else ''}".strip(),
        "server": version,
        "load_before": round(os.getloadavg()[0], 2),
    }


def start(stack: ExitStack, over: str, binary: str) -> tuple[int, int] | str:
    """Servers of one kind, until the run ends: where clients connect, and the server itself; or why there are none."""
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
    try:
        if over == fleet.CLUSTER:
            port = stack.enter_context(fleet.cluster(binary, folder))
            return port, port
        ports = stack.enter_context(fleet.with_tls(folder))
        os.environ["BENCH_CA"] = str(fleet.certificate_of(folder))
        return ports
    except fleet.MissingError as error:
        return str(error)


def run(options: argparse.Namespace) -> dict[str, Any]:
    python = environments.find_python()
    tools = environments.ensure(TOOLS, python, options.peers_dir)
    binary = environments.valkey_binary(tools)
    installed = pythons(options, python)
    guest_dir = guest(options)
    rows = []
    with ExitStack() as stack:
        direct = stack.enter_context(server.valkey(binary))
        facts = machine(server.version(direct))
        late = {scenario.late for scenario in options.scenarios} | {options.latency}
        fronts = {ms: stack.enter_context(server.delay(tools, direct, ms)) for ms in sorted(late) if ms}
        fleet_ports = {over: start(stack, over, binary) for over in {each.over for each in options.scenarios} if over}
        announced = -1
        for number, scenario, client in cells(options):
            if number != announced:
                print(f"round {number + 1} of {options.rounds}", flush=True)
                announced = number
            ms = options.latency if scenario.delayed else scenario.late
            ports = fleet_ports[scenario.over] if scenario.over else (fronts.get(ms, direct), direct)
            if client.is_plain and not isinstance(ports, str):
                ports = (ports[1],) * 2 if scenario.over == fleet.TLS else (direct, direct)
            answer = measure(client, scenario, installed.get(client.name), ports, options.quick, guest_dir)
            progress(scenario, client, answer)
            rows.append({"client": client.name, "scenario": scenario.name, "round": number, **answer})
    return {
        "machine": facts,
        "quick": options.quick,
        "rounds": options.rounds,
        "latency_ms": options.latency,
        "cells": rows,
    }


def main() -> None:
    options = parse()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: sys.exit("stopped"))
    try:
        results = run(options)
    except environments.InstallError as error:
        sys.exit(str(error))
    options.output.mkdir(parents=True, exist_ok=True)
    (options.output / "latest.json").write_text(json.dumps(results, indent=1) + "\n")
    report.write(options.output)
    print(f"written: {os.path.relpath(options.output)}/README.md, its plots, latest.json")


if __name__ == "__main__":
    main()
