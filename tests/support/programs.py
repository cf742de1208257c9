"""Whole programs for a test: Python source run in a process of its own, with Django configured on the
caches of the test. The program finds `cache` (the default alias), `run` (a coroutine to its end, on the
loop the test names), `report` (a JSON value for the test) and `wait_for_word` (the test's `tell`).
"""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import signal
import subprocess
import sys
import textwrap
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

_PREAMBLE = """
import asyncio, gc, json, os, signal, sys, threading, time

_request = json.loads(os.environ["VCACHE_TEST_PROGRAM"])
import django
from django.conf import settings

# A shell that runs the tests in the background has it ignored, and that is inherited.
signal.signal(signal.SIGINT, signal.default_int_handler)
settings.configure(SECRET_KEY="vcache-tests", CACHES=_request["caches"], USE_TZ=True)
django.setup()
from django.core.cache import caches
from django_vcache import exceptions, hotpaths
from support.driver import begun, open_runner

cache = caches["default"]


def run(coroutine):
    with open_runner(_request["loop"]) as runner:
        return runner.run(coroutine)


def report(value):
    # A loop may have left it without blocking, and then a long line is cut.
    os.set_blocking(1, True)
    os.write(1, (json.dumps(value) + "\\n").encode())


def wait_for_word():
    return os.read(0, 64)


def fds():
    return len(os.listdir("/proc/self/fd"))


def threads():
    return len(os.listdir("/proc/self/task"))


def rss():
    with open("/proc/self/statm") as statm:
        return int(statm.read().split()[1]) * os.sysconf("SC_PAGESIZE")


def report_leftovers(round, few, many, call=None):
    # With `call`, the rounds have threads of their own. The system ends a thread a moment after Python has joined it.
    # What the thread knew of its loop is let go by the next call after that, since a thread that ends must not wait for
    # the interpreter.
    round(few)
    before = fds(), threads()
    round(many)
    patience = time.monotonic() + 30
    while call and fds() > before[0] + 4 and time.monotonic() < patience:
        time.sleep(0.01)
        call()
    report([before, (fds(), threads())])


def in_threads(count, function):
    failures = []

    def body(number):
        try:
            function(number)
        except BaseException as error:
            failures.append(error)

    started = [threading.Thread(target=body, args=(number,)) for number in range(count)]
    for thread in started:
        thread.start()
    for thread in started:
        thread.join()
    if failures:
        raise failures[0]
"""

# A program that hangs is a failure of its own kind, so the limit is far above what any of them needs.
PATIENCE = 60.0


class Program:
    """A running program, perhaps `under` another one. It is killed when the block is left."""

    def __init__(
        self, source: str, caches: dict[str, Any], loop: str = "asyncio", *, under: Sequence[str] = ()
    ) -> None:
        request = json.dumps({"caches": caches, "loop": loop})
        paths = [str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", "")]
        environment = {**os.environ, "VCACHE_TEST_PROGRAM": request, "PYTHONPATH": os.pathsep.join(filter(None, paths))}
        self._process = subprocess.Popen(
            [*under, sys.executable, "-X", "faulthandler", "-c", _PREAMBLE + textwrap.dedent(source)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            bufsize=0,
            env=environment,
            # A process group of its own: forked grandchildren are killed with it.
            start_new_session=True,
        )
        self._buffer = b""

    @property
    def pid(self) -> int:
        return self._process.pid

    def report(self, timeout: float = PATIENCE) -> Any:
        """The next reported value; what else the program prints ends up in the failure's message."""
        other = []
        while (line := self._line(timeout)) is not None:
            try:
                return json.loads(line)
            except ValueError:
                other.append(line.decode(errors="replace"))
        raise AssertionError(f"the program reported nothing (exit {self._process.wait(5)}):\n{''.join(other)}")

    def tell(self, word: str = "go") -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(word.encode())

    def end(self, timeout: float = PATIENCE) -> None:
        """Wait for a clean exit."""
        rest = b"".join(iter(lambda: self._line(timeout), None))
        code = self._process.wait(timeout)
        assert code == 0, f"exit {code}:\n{rest.decode(errors='replace')}"

    def exit_code(self, timeout: float = PATIENCE) -> tuple[int, str]:
        """The exit code and what was printed."""
        rest = b"".join(iter(lambda: self._line(timeout), None))
        return self._process.wait(timeout), rest.decode(errors="replace")

    def __enter__(self) -> Program:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, 9)
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout):
            assert stream is not None
            stream.close()

    def _stacks(self) -> str:
        """Where the program and its children are, as faulthandler tells when they are aborted."""
        assert self._process.stdout is not None
        os.killpg(self._process.pid, signal.SIGABRT)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(10)
        os.set_blocking(self._process.stdout.fileno(), False)
        told = self._buffer
        with contextlib.suppress(BlockingIOError):
            while chunk := os.read(self._process.stdout.fileno(), 65536):
                told += chunk
        return f"so far:\n{told.decode(errors='replace')}"

    def _line(self, timeout: float) -> bytes | None:
        assert self._process.stdout is not None
        with selectors.DefaultSelector() as selector:
            selector.register(self._process.stdout, selectors.EVENT_READ)
            while b"\n" not in self._buffer:
                if not selector.select(timeout):
                    raise AssertionError(f"the program hangs: nothing for {timeout} s; {self._stacks()}")
                chunk = os.read(self._process.stdout.fileno(), 65536)
                if not chunk:
                    line, self._buffer = self._buffer, b""
                    return line or None
                self._buffer += chunk
        line, _, self._buffer = self._buffer.partition(b"\n")
        return line + b"\n"


def run_program(source: str, caches: dict[str, Any], loop: str = "asyncio") -> Any:
    """Run a program to its clean end; the value it reported, or a list if there were several."""
    with Program(source, caches, loop) as program:
        code, printed = program.exit_code()
        assert code == 0, f"exit {code}:\n{printed}"
        reports = []
        for line in printed.splitlines():
            try:
                reports.append(json.loads(line))
            except ValueError:
                continue
        return reports[0] if len(reports) == 1 else reports
