"""Measure one client in one scenario, in a fresh process, and print one line of JSON.

The tasks or threads start, warm up, and keep going while the clocks are read twice; so connecting,
importing and thread starts are outside the figures. CPU is that of the whole process, all threads,
kernel time included. Server-side connections are counted through a plain socket of our own while
the load is on. Run by ``run.py`` with the client's own Python.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import os
import platform
import sys
import threading
import time
from collections.abc import Callable
from importlib import metadata
from typing import Any

import admission
import server
from admission import Contestant
from clients import CLIENTS, Client
from fleet import CLUSTER
from scenarios import FIVE, FIVE_KEY, KEY, MANY_KEYS, SCENARIOS, VALUE, Scenario, document
from sessions import Session

START_TIMEOUT = 30.0
"""Seconds for every task or thread to finish its first operation, and to end when told."""


class Meter:
    """Counts each task's or thread's operations and reads the clocks around a stretch of them."""

    def __init__(self, scenario: Scenario, admin_port: int) -> None:
        self.counts = [0] * scenario.at_once
        self.calls = scenario.calls
        self.stop: list[bool] = []
        self.admin_port = admin_port
        self.errors: list[BaseException] = []
        self.rss_before = memory("VmRSS")

    def read(self) -> tuple[float, float, int]:
        return time.perf_counter(), time.process_time(), sum(self.counts) * self.calls

    def server_cpu(self) -> float:
        """To be asked outside the stretch that is measured, since asking holds this thread up."""
        return server.cpu_seconds(self.admin_port)

    def result(self, start: tuple[float, float, int], end: tuple[float, float, int]) -> dict[str, Any]:
        """Called while the load is still on, so that the connections counted are those in use."""
        return {
            "wall": end[0] - start[0],
            "cpu": end[1] - start[1],
            "ops": end[2] - start[2],
            "rss_before_kb": self.rss_before,
            "rss_peak_kb": memory("VmHWM"),
            "threads": thread_count(),
            "connections": server.count_connections(self.admin_port),
        }


def status() -> dict[str, str]:
    with open("/proc/self/status") as lines:
        return dict(line.split(":", 1) for line in lines)


def memory(field: str) -> int:
    """``VmRSS`` or ``VmHWM`` (its peak) of this process, in kB."""
    return int(status()[field].split()[0])


def thread_count() -> int:
    return int(status()["Threads"])


def key_of(scenario: Scenario, number: int) -> str:
    """What one task or thread gets: on a cluster the keys are on all nodes."""
    return MANY_KEYS[number % len(MANY_KEYS)] if scenario.over == CLUSTER else KEY


def stored(scenario: Scenario) -> dict[str, str | int]:
    """What is written before the operation is measured."""
    operation = scenario.operation
    if scenario.over == CLUSTER:
        return dict.fromkeys((KEY, *MANY_KEYS), VALUE)
    if operation.endswith("nothing"):
        return {}
    if operation == "afive":
        return FIVE
    return dict.fromkeys(MANY_KEYS if operation.endswith("get_many") else (KEY,), VALUE)


def arguments_of(operation: str, session: Session, key: str = KEY) -> Any:
    """The arguments of every call, or for admission an iterator over those of one call after the other."""
    if isinstance(session, Contestant):
        return admission.calls(session, operation)
    if operation.endswith("nothing"):
        return ()
    if operation == "afive":
        return (FIVE_KEY,)
    if operation.endswith("get_many"):
        return (list(MANY_KEYS),)
    if operation.endswith("set"):
        return (KEY, session.encode(document()))
    return (key,)


def check(operation: str, session: Session, got: Any) -> None:
    """The value read back through the client under test must be the one that was written."""
    if operation.endswith("nothing"):
        return
    if operation == "afive":
        if got != 1:
            raise ValueError(f"the first count was {got}")
        return
    if operation.endswith("get_many"):
        values = list(got.values()) if isinstance(got, dict) else got
        expected: object = [VALUE] * len(MANY_KEYS)
        actual: object = [session.decode(value) for value in values]
    else:
        expected = document() if operation.endswith("set") else VALUE
        actual = session.decode(got)
    if actual != expected:
        raise ValueError(f"{operation} answered something else than what was set")


async def prepare_async(session: Session, scenario: Scenario, admin_port: int) -> None:
    operation = scenario.operation
    async with session.request():
        if isinstance(session, Contestant):
            await admission.aprove(session, operation, admin_port)
            return
        cache = await session.asynchronous()
        for key, value in stored(scenario).items():
            await cache.aset(key, session.encode(value))
        answer = await getattr(cache, operation)(*arguments_of(operation, session))
        check(operation, session, await cache.aget(KEY) if operation == "aset" else answer)


async def run_async(
    session: Session, scenario: Scenario, meter: Meter, warmup: float, seconds: float
) -> dict[str, Any]:
    # NOTE: each task has a context of its own, so Django makes it a cache object of its own, as it
    # does for a request. Preparing in a task keeps that object out of the context they copy.
    await asyncio.create_task(prepare_async(session, scenario, meter.admin_port))
    # Wait for the thread of that request, if it had one: it holds on to what it ran last.
    await asyncio.sleep(0.1)
    gc.collect()
    arguments = arguments_of(scenario.operation, session)
    counts, stop = meter.counts, meter.stop

    async def work(number: int) -> None:
        async with session.request():
            if isinstance(session, Contestant):
                await admission.aload(session, scenario.operation, arguments, counts, number, stop)
                return
            cache = await session.asynchronous()
            if session.looks_up:
                while not stop:
                    await cache.aget(*arguments)
                    counts[number] += 1
                return
            operation = getattr(cache, scenario.operation)
            own = arguments_of(scenario.operation, session, key_of(scenario, number))
            while not stop:
                await operation(*own)
                counts[number] += 1

    async with session.company():
        tasks = [asyncio.create_task(work(number)) for number in range(scenario.at_once)]
        deadline = time.monotonic() + START_TIMEOUT
        await asyncio.sleep(warmup)
        while not all(counts) and time.monotonic() < deadline:
            if any(task.done() for task in tasks):
                break
            await asyncio.sleep(0.02)
        server_before = meter.server_cpu()
        session.begin()
        start = meter.read()
        await asyncio.sleep(seconds)
        end = meter.read()
        figures = session.figures()
        server_after = meter.server_cpu()
        result = meter.result(start, end) | {"server_cpu": server_after - server_before} | figures
        stop.append(True)
        await asyncio.wait_for(asyncio.gather(*tasks), START_TIMEOUT)
    return result


def prepare_blocking(session: Session, scenario: Scenario, admin_port: int) -> None:
    operation = scenario.operation
    if isinstance(session, Contestant):
        admission.prove(session, operation, admin_port)
        return
    cache = session.blocking()
    for key, value in stored(scenario).items():
        cache.set(key, session.encode(value))
    answer = getattr(cache, operation)(*arguments_of(operation, session))
    check(operation, session, cache.get(KEY) if operation == "set" else answer)


def start_thread(meter: Meter, target: Callable[..., None], *arguments: Any) -> threading.Thread:
    def guarded() -> None:
        try:
            target(*arguments)
        except BaseException as error:
            meter.errors.append(error)

    thread = threading.Thread(target=guarded, daemon=True)
    thread.start()
    return thread


def run_blocking(session: Session, scenario: Scenario, meter: Meter, warmup: float, seconds: float) -> dict[str, Any]:
    counts, stop, errors = meter.counts, meter.stop, meter.errors
    start_thread(meter, prepare_blocking, session, scenario, meter.admin_port).join(START_TIMEOUT)
    arguments = arguments_of(scenario.operation, session)

    def work(number: int) -> None:
        if isinstance(session, Contestant):
            admission.load(session, scenario.operation, arguments, counts, number, stop)
            return
        cache = session.blocking()
        if session.looks_up:
            while not stop:
                cache.get(*arguments)
                counts[number] += 1
            return
        operation = getattr(cache, scenario.operation)
        own = arguments_of(scenario.operation, session, key_of(scenario, number))
        while not stop:
            operation(*own)
            counts[number] += 1

    if errors:
        raise errors[0]
    gc.collect()
    threads = [start_thread(meter, work, number) for number in range(scenario.at_once)]
    deadline = time.monotonic() + START_TIMEOUT
    time.sleep(warmup)
    while not all(counts) and not errors and time.monotonic() < deadline:
        time.sleep(0.02)
    server_before = meter.server_cpu()
    start = meter.read()
    time.sleep(seconds)
    end = meter.read()
    server_after = meter.server_cpu()
    result = meter.result(start, end) | {"server_cpu": server_after - server_before}
    stop.append(True)
    for thread in threads:
        thread.join(START_TIMEOUT)
    if errors:
        raise errors[0]
    return result


def measure(client: Client, scenario: Scenario, options: argparse.Namespace) -> dict[str, Any]:
    timing = (options.warmup, options.seconds)
    if scenario.is_async:
        import uvloop

        async def main() -> tuple[Session, dict[str, Any]]:
            session = client.open(options.port)
            meter = Meter(scenario, options.admin_port)
            return session, await run_async(session, scenario, meter, *timing)

        session, result = uvloop.run(main())
    else:
        session = client.open(options.port)
        result = run_blocking(session, scenario, Meter(scenario, options.admin_port), *timing)
    if isinstance(session, Contestant):
        session.finish(scenario.operation)
    if not result["ops"]:
        raise TimeoutError(f"no operation finished within {options.seconds:g} s")
    return result


def version_of(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not installed"


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--client", required=True)
    parser.add_argument("--scenario", required=True)
    parser.add_argument("--port", type=int, required=True, help="where the client connects")
    parser.add_argument("--admin-port", type=int, required=True, help="the server itself")
    parser.add_argument("--warmup", type=float, required=True)
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("--guest-dir", help="where the guest extension module lies")
    return parser.parse_args()


def main() -> None:
    options = parse()
    if options.guest_dir:
        sys.path.append(options.guest_dir)
    client = next(client for client in CLIENTS if client.name == options.client)
    scenario = next(scenario for scenario in SCENARIOS if scenario.name == options.scenario)
    try:
        answer = measure(client, scenario, options)
        answer["python"] = platform.python_version()
        answer["versions"] = {name: version_of(name) for name in (*client.packages, "uvloop")}
    except Exception as error:
        answer = {"failed": f"{type(error).__name__}: {error}"}
    print(json.dumps(answer), flush=True)
    # NOTE: leave without the clients' own shutdown, which some take seconds over: not measured.
    sys.stdout.flush()
    os._exit(0)


if __name__ == "__main__":
    main()
