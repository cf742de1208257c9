"""A web server in separate processes: it is started, waited for, asked, looked at and stopped."""

from __future__ import annotations

import http.client
import os
import re
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from payloads import Asked

START_SECONDS = 30.0
SETTLE_SECONDS = 10.0
TICKS_AT_REST = 2
"""CPU that a server at rest may use in a quarter of a second."""
TICK = os.sysconf("SC_CLK_TCK")


class ServingError(Exception):
    """The server did not start, or a view does not answer as it should."""


@dataclass(frozen=True)
class Usage:
    """What the processes of a server have taken so far."""

    cpu: float
    """Seconds, user and system time, of all its processes and threads."""
    rss_peak: int
    """Bytes at most, of all its processes together."""


class Serving:
    """A server that runs. `url` is where it answers."""

    def __init__(self, process: subprocess.Popen[bytes], port: int) -> None:
        self.process = process
        self.port = port
        self.url = f"http://127.0.0.1:{port}"

    def ask(self, asked: Asked, body: bytes | None = None) -> tuple[int, bytes]:
        """The status and the body of the answer to a request, or to one with another body.

        Raises:
            OSError: it does not answer.
        """
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        try:
            connection.request(asked.method, asked.path, asked.body if body is None else body, dict(asked.headers))
            answer = connection.getresponse()
            return answer.status, answer.read()
        except http.client.HTTPException as error:
            raise OSError(f"no HTTP came: {error!r}") from error
        finally:
            connection.close()

    def prove(self, asked: Asked) -> None:
        """Asks once, and with a body that is wrong.

        Raises:
            ServingError: an answer is not what it must be.
        """
        problem = asked.problem(*self.ask(asked))
        if problem is None and asked.wrong is not None:
            status, body = self.ask(asked, asked.wrong)
            if not 400 <= status < 500:
                problem = f"{asked.method} {asked.path} answers a wrong body with {status}: {body[:200]!r}"
        if problem:
            raise ServingError(problem)

    def settle(self) -> None:
        """Waits until it does nothing any more: what a load has left behind when it ended must not be counted to the
        next one. After ten seconds it is as quiet as it gets.
        """
        deadline = time.monotonic() + SETTLE_SECONDS
        used = self.usage().cpu
        while time.monotonic() < deadline:
            time.sleep(0.25)
            before, used = used, self.usage().cpu
            if used - before <= TICKS_AT_REST / TICK:
                return

    def usage(self) -> Usage:
        cpu = rss = 0
        for pid in _tree(self.process.pid):
            try:
                fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
                status = Path(f"/proc/{pid}/status").read_text()
            except (FileNotFoundError, ProcessLookupError):
                # It ended meanwhile.
                continue
            # User and system time are the fields 14 and 15; the first two are cut off.
            cpu += int(fields[11]) + int(fields[12])
            rss += next((int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM")), 0)
        return Usage(cpu / TICK, rss * 1024)


def _tree(pid: int) -> Iterator[int]:
    yield pid
    try:
        threads = os.listdir(f"/proc/{pid}/task")
    except FileNotFoundError:
        return
    for thread in threads:
        try:
            children = Path(f"/proc/{pid}/task/{thread}/children").read_text().split()
        except (FileNotFoundError, ProcessLookupError):
            continue
        for child in children:
            yield from _tree(int(child))


@contextmanager
def served(command: list[str], port: int, folder: Path, settings: dict[str, str], cores: str) -> Iterator[Serving]:
    """A server that a command starts. What it prints goes into the error if it does not start.

    Args:
        command: what to run.
        port: where it will listen on the loopback.
        folder: its working directory.
        settings: for the process's environment.
        cores: the cores that it is pinned to, as taskset writes them; empty for those of this process.

    Raises:
        ServingError: it does not start.
    """
    if cores:
        command = ["taskset", "-c", cores, *command]
    environment = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    environment |= {"PYTHONDONTWRITEBYTECODE": "1", **settings}
    # A file and no pipe: nothing would read it while the server runs, and a full one would stop it.
    with tempfile.TemporaryFile() as printed:
        try:
            process = subprocess.Popen(
                command,
                cwd=folder,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=printed,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        except OSError as error:
            raise ServingError(f"{command[0]} cannot be run: {error}") from error
        serving = Serving(process, port)
        try:
            _wait_for(serving, printed)
            yield serving
        finally:
            _stop(process)


def _wait_for(serving: Serving, printed: IO[bytes]) -> None:
    deadline = time.monotonic() + START_SECONDS
    while True:
        try:
            # Any answer will do.
            serving.ask(Asked("/nothing/"))
            return
        except OSError as error:
            if serving.process.poll() is not None or time.monotonic() > deadline:
                _stop(serving.process)
                printed.seek(0)
                raise ServingError(f"the server did not start: {_reason(printed.read().decode()) or error}") from error
            time.sleep(0.1)


def _reason(text: str) -> str:
    """The last line of what a server printed that names an error, or the last one."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    errors = [line for line in lines if re.match(r"[\w.]*(Error|Exception|Refused)\b", line)]
    return (errors or lines or [""])[-1]


def _stop(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            process.wait(10)
    # What it started and did not end goes with it.
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
