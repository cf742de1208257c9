"""A server of the site, in separate processes: it is started, waited for, looked at and stopped."""

from __future__ import annotations

import os
import signal
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

START_SECONDS = 30.0
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

    def __init__(self, process: subprocess.Popen[bytes], url: str) -> None:
        self.process = process
        self.url = url

    def get(self, view: str) -> str:
        """The answer of a view.

        Raises:
            ServingError: it is not 200.
        """
        try:
            with urllib.request.urlopen(f"{self.url}/{view}/", timeout=10) as answer:
                return str(answer.read().decode())
        except urllib.error.HTTPError as error:
            raise ServingError(f"{view} answers {error.code}") from error

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
def granian(
    python: str, interface: str, folder: Path, paths: list[Path], settings: dict[str, str], port: int, cores: str
) -> Iterator[Serving]:
    """One worker of granian, as a project would run it. Its log goes to the terminal only if it does not start.

    Args:
        python: the interpreter of the row's environment.
        interface: `asgi` or `wsgi`.
        folder: where the site is.
        paths: more places of packages.
        settings: for the process's environment.
        port: where it listens.
        cores: the cores that it is pinned to, as taskset writes them; empty for all.
    """
    command = [python, "-m", "granian", f"site_.{interface}:application", "--interface", interface]
    command += ["--host", "127.0.0.1", "--port", str(port), "--workers", "1", "--loop", "uvloop", "--no-log"]
    if cores:
        command = ["taskset", "-c", cores, *command]
    environment = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    environment |= {
        "PYTHONPATH": os.pathsep.join(map(str, [folder, *paths])),
        "PYTHONDONTWRITEBYTECODE": "1",
        **settings,
    }
    process = subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True
    )
    serving = Serving(process, f"http://127.0.0.1:{port}")
    try:
        _wait_for(serving)
        yield serving
    finally:
        _stop(process)


def _wait_for(serving: Serving) -> None:
    deadline = time.monotonic() + START_SECONDS
    while True:
        try:
            serving.get("nothing")
        except (OSError, ServingError) as error:
            if serving.process.poll() is not None or time.monotonic() > deadline:
                _stop(serving.process)
                printed = serving.process.stdout.read().decode() if serving.process.stdout else ""
                raise ServingError(f"the server did not start: {error}; {printed[-2000:]}") from error
            time.sleep(0.1)
        else:
            return


def _stop(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            process.wait(10)
    # What it started and did not end goes with it.
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
