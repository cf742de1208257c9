"""Starts and stops the parts of the tracker for the demo: a Valkey server, the database, the site and the consumer.

Whatever happens, what was started is stopped.
"""

import http.client
import importlib.util
import json
import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import ExitStack, closing
from functools import partial
from http import HTTPStatus
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote, urlsplit

from django_vcache import embedded

HERE = Path(__file__).resolve().parent
START_TIMEOUT = 30.0  # seconds
STOP_TIMEOUT = 10.0  # seconds
STEP_TIMEOUT = 120.0  # seconds

# A signal that arrives while something is being made waits until it is known how to unmake it.
STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
hold_signals = partial(signal.pthread_sigmask, signal.SIG_BLOCK, STOP_SIGNALS)
release_signals = partial(signal.pthread_sigmask, signal.SIG_UNBLOCK, STOP_SIGNALS)


class Failure(Exception):
    """What went wrong, for the user to read."""


class Server:
    """A connection of our own to the Valkey server, for the truth behind the project's answers."""

    def __init__(self, url: str) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.connect(unquote(urlsplit(url).path))
        self._reader = self._socket.makefile("rb")

    def close(self) -> None:
        self._reader.close()
        self._socket.close()

    def ask(self, command: str) -> str:
        """The server's answer to a command, as text."""
        self._socket.sendall(f"{command}\r\n".encode())
        first = self._reader.readline().decode().rstrip()
        if first.startswith("-"):
            raise Failure(f"the server refused {command}: {first[1:]}")
        return self._reader.read(int(first[1:]) + 2).decode() if first[0] == "$" else first[1:]

    def version(self) -> str:
        """The version of the server, such as 9.1.2."""
        return self.ask("INFO server").split("valkey_version:")[1].split("\r\n")[0]

    def connections(self) -> list[dict[str, str]]:
        """The connections besides this one: only the tracker's processes have the URL."""
        own = self.ask("CLIENT ID")
        clients = [
            dict(field.partition("=")[::2] for field in line.split()) for line in self.ask("CLIENT LIST").splitlines()
        ]
        return [client for client in clients if client and client["id"] != own]


def start_server(stack: ExitStack, directory: Path) -> str:
    """Start a Valkey server of our own: its URL."""
    stack.callback(embedded.stop)
    try:
        return embedded.resolve(f"embedded://{quote(str(directory))}")
    except (ImportError, RuntimeError, ValueError) as error:
        raise Failure(str(error)) from error


def free_port() -> int:
    """A port that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Site:
    """The tracker's processes, with a server, a database and a port of their own."""

    def __init__(self, stack: ExitStack, directory: Path, url: str, *, is_loud: bool) -> None:
        if importlib.util.find_spec("ingest_hot._native") is None:
            raise Failure("the hot routes are not built: run `make setup`")
        self._stack = stack
        self._directory = directory
        self._is_loud = is_loud
        self.port = free_port()
        self.address = f"http://127.0.0.1:{self.port}"
        self.database = directory / "tracker.sqlite3"
        self._environment = os.environ | {
            "DJANGO_SETTINGS_MODULE": "ingest.settings",
            "DATABASE_URL": f"sqlite:///{self.database}",
            "VCACHE_URL": url,
        }

    def manage(self, *arguments: str) -> str:
        """What a command of manage.py prints."""
        command = [sys.executable, "manage.py", *arguments]
        done = subprocess.run(
            command, cwd=HERE, env=self._environment, capture_output=True, text=True, timeout=STEP_TIMEOUT, check=False
        )
        if done.returncode:
            raise Failure(f"manage.py {arguments[0]} failed:\n{done.stdout}{done.stderr}")
        return done.stdout

    def projects(self, *names: str) -> list[str]:
        """Make projects, `NAME` or `NAME:RATE` with so many events a minute: their DSNs."""
        return self.manage("tracker_project", *names, "--rate=-1", "--address", self.address).split()

    def start_web(self) -> subprocess.Popen[bytes]:
        """Start uvicorn, one process, and wait until it answers."""
        if importlib.util.find_spec("uvicorn") is None:
            raise Failure("uvicorn is not installed: run `make setup`")
        command = [sys.executable, "-m", "uvicorn", "--no-access-log", "--log-level", "warning"]
        # Hot routes are answered from the bytes that uvicorn has just read.
        command += ["--http", "django_vcache.uvicorn:HotProtocol"]
        log = self._log("web")
        web = self._start([*command, "--port", str(self.port), "ingest.asgi:application"], log)
        deadline = time.monotonic() + START_TIMEOUT
        while web.poll() is None and time.monotonic() < deadline:
            try:
                self.live()
                return web
            except ConnectionError:
                time.sleep(0.02)
        words = log.read_text(errors="replace")[-3000:] if log else "its output is above"
        raise Failure(f"uvicorn did not start:\n{words}")

    def start_consumer(self) -> subprocess.Popen[bytes]:
        """Start the process that stores events."""
        command = [sys.executable, "manage.py", "vcache_consume", "tracker.consumer.store", "--group", "store"]
        return self._start([*command, "--max-wait", "0.2", "--verbosity", "0"], self._log("consumer"))

    def _log(self, name: str) -> Path | None:
        return None if self._is_loud else self._directory / f"{name}.log"

    def _start(self, command: list[str], log: Path | None) -> subprocess.Popen[bytes]:
        output = self._stack.enter_context(log.open("wb")) if log else None
        hold_signals()
        process = subprocess.Popen(
            command,
            cwd=HERE,
            env=self._environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,  # Ctrl-C is for this process, which then stops that one.
            preexec_fn=release_signals,
        )
        self._stack.callback(stop, process)
        release_signals()
        return process

    def live(self, project: str = "") -> dict[str, int]:
        """What became of events in the last minutes; a ConnectionError while the site does not listen."""
        path = f"/projects/{project}/live/" if project else "/live/"
        with closing(http.client.HTTPConnection("127.0.0.1", self.port, timeout=START_TIMEOUT)) as web:
            web.request("GET", path)
            answer = web.getresponse()
            body = answer.read()
        if answer.status != HTTPStatus.OK:
            raise Failure(f"GET {path} was answered with status {answer.status}")
        totals: dict[str, int] = json.loads(body)["totals"]
        return totals


def stop(process: subprocess.Popen[Any]) -> None:
    """Stop a process, and wait until it is gone."""
    process.terminate()
    try:
        process.wait(STOP_TIMEOUT)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def run(program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a program of this folder to its end."""
    return subprocess.run(
        [sys.executable, str(HERE / program), *arguments],
        capture_output=True,
        text=True,
        timeout=STEP_TIMEOUT,
        start_new_session=True,
        check=False,
    )
