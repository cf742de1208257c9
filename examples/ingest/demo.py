"""Runs the ingest project for real, and shows what it does (`make demo`, `make serve`).

It starts an embedded Valkey server and granian with one worker, has a second process send events,
and compares what the clients were told with what the server holds. With `--serve` it stays up
until Ctrl-C instead. Whatever happens, it stops what it started.
"""

import argparse
import http.client
import importlib.util
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from functools import partial
from http import HTTPStatus
from pathlib import Path
from urllib.parse import quote, unquote, urlsplit

from django_vcache import embedded

HERE = Path(__file__).resolve().parent
LIMIT = 350  # events a minute for each project
START_TIMEOUT = 30.0  # seconds
STOP_TIMEOUT = 5.0  # seconds
LOAD_TIMEOUT = 120.0  # seconds

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

    def other_connections(self) -> int:
        """How many connections there are besides this one: only the worker has the URL."""
        own = f"id={self.ask('CLIENT ID')} "
        clients = self.ask("CLIENT LIST").strip().splitlines()
        return sum(not client.startswith(own) for client in clients)


@contextmanager
def step(text: str) -> Iterator[None]:
    """Say what is going on, and how long it took."""
    print(f"  {text}:", end=" ", flush=True)
    started = time.monotonic()
    yield
    print(f"{time.monotonic() - started:.1f} s", flush=True)


def start_server(stack: ExitStack, directory: Path) -> str:
    """Start a Valkey server of our own: its URL."""
    stack.callback(embedded.stop)
    try:
        return embedded.resolve(f"embedded://{quote(str(directory))}")
    except (ImportError, RuntimeError, ValueError) as error:
        raise Failure(str(error)) from error


def start_web(stack: ExitStack, url: str, log: Path | None) -> tuple[subprocess.Popen[bytes], int]:
    """Start granian with one worker, and wait until it answers: its process and its port."""
    if importlib.util.find_spec("granian") is None:
        raise Failure("granian is not installed: run `make setup`")
    port = free_port()
    command = [sys.executable, "-m", "granian", "--interface", "asginl", "--workers", "1"]
    command += ["--loop", "uvloop" if importlib.util.find_spec("uvloop") else "asyncio"]
    command += ["--no-ws", "--port", str(port), "ingest.asgi:application"]
    environment = {
        "DJANGO_SETTINGS_MODULE": "ingest.settings",
        "INGEST_LIMIT": str(LIMIT),
        "VCACHE_URL": url,
    }
    output = stack.enter_context(log.open("wb")) if log else None
    hold_signals()
    web = subprocess.Popen(
        command,
        cwd=HERE,
        env=os.environ | environment,
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=output,
        start_new_session=True,  # Ctrl-C is for this process, which then stops granian.
        preexec_fn=release_signals,
    )
    stack.callback(stop_web, web)
    release_signals()
    try:
        wait_for_web(web, port)
    except Failure as failure:
        words = log.read_text(errors="replace")[-3000:] if log else "its output is above"
        raise Failure(f"{failure}:\n{words}") from failure
    return web, port


def wait_for_web(web: subprocess.Popen[bytes], port: int) -> None:
    deadline = time.monotonic() + START_TIMEOUT
    while web.poll() is None and time.monotonic() < deadline:
        try:
            stats(port)
            return
        except ConnectionError:
            time.sleep(0.02)
    raise Failure("granian did not start")


def stop_web(web: subprocess.Popen[bytes]) -> None:
    """Stop granian and its worker, and wait until they are gone."""
    web.terminate()
    try:
        web.wait(STOP_TIMEOUT)
    except subprocess.TimeoutExpired:
        os.killpg(web.pid, signal.SIGKILL)
        web.wait()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def stats(port: int) -> dict[str, int]:
    """What the project says of itself; a ConnectionError while it does not listen."""
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=START_TIMEOUT)) as web:
        web.request("GET", "/stats/")
        answer = web.getresponse()
        body = answer.read()
    if answer.status != HTTPStatus.OK:
        raise Failure(f"GET /stats/ was answered with status {answer.status}")
    return json.loads(body)


def send_load(port: int) -> dict[int, int]:
    """Send events from a second process: how many answers came with each status."""
    load = subprocess.run(
        [sys.executable, str(HERE / "load.py"), f"http://127.0.0.1:{port}"],
        stdout=subprocess.PIPE,
        timeout=LOAD_TIMEOUT,
        start_new_session=True,
    )
    if load.returncode:
        raise Failure("the load generator failed: its output is above")
    return {int(status): n for status, n in json.loads(load.stdout)["statuses"].items()}


def demo(stack: ExitStack, directory: Path) -> None:
    """Run the project under load, and report."""
    print("\nvcache: a Django project that takes in events, under load\n")
    with step("starting a Valkey server on a private socket"):
        url = start_server(stack, directory)
        server = stack.enter_context(closing(Server(url)))
    with step("starting granian, one worker"):
        _, port = start_web(stack, url, log=directory / "granian.log")
    with step("sending requests from a second process"):
        statuses = send_load(port)
    report(server, stats(port), Counter(statuses))
    print(
        "\nEvery event that was accepted is on the server, over one connection.\n"
        "Next: `make serve` keeps it up for you to try. The code: examples/ingest/ingest/views.py"
    )


def report(server: Server, counted: dict[str, int], statuses: Counter[int]) -> None:
    """Print what happened; a Failure if it does not add up."""
    accepted, throttled = statuses.pop(200, 0), statuses.pop(429, 0)
    bad, too_large = statuses.pop(400, 0), statuses.pop(413, 0)
    in_stream = int(server.ask("XLEN ingest:vcache:2:{v00}:s:events"))
    connections = server.other_connections()
    print(f"\n  Valkey {server.version()} and the clients agree on this:\n")
    lines = {
        "events accepted (200)": accepted,
        "events throttled (429)": throttled,
        "bodies that are not JSON objects (400)": bad,
        "bodies that are too large (413)": too_large,
        "events in the stream, on the server": in_stream,
        "cache hits": counted["cache_hits"],
        "cache misses": counted["cache_misses"],
        "connections of the worker, on the server": connections,
    }
    for name, value in lines.items():
        print(f"  {name:<44}{value:>8,}")
    checks = {
        f"there were other answers: {dict(statuses)}": not statuses,
        "the stream does not hold as many events as were accepted": in_stream == accepted > 0,
        "the worker does not have one connection": connections == counted["connections"] == 1,
        "no event was throttled": throttled > 0,
        "a bad body was not refused": bad > 0 and too_large > 0,
        "the cache was not hit": counted["cache_hits"] > 0,
    }
    if problems := [problem for problem, fine in checks.items() if not fine]:
        raise Failure("; ".join(problems))


def serve(stack: ExitStack, directory: Path) -> None:
    """Run the project until Ctrl-C."""
    web, port = start_web(stack, start_server(stack, directory), log=None)
    address = f"http://127.0.0.1:{port}"
    print(f"""
The ingest project is up, with a private, empty Valkey. Try:

  curl -i {address}/api/1/store/ -d '{{"message": "it broke"}}'
  curl -i {address}/api/1/store-sync/ -d '{{"message": "it broke"}}'
  curl -i {address}/api/1/store/ -d 'it broke'
  curl {address}/stats/
  {sys.executable} {HERE / "load.py"} {address}

A project may send {LIMIT} events a minute. Ctrl-C stops everything.
""")
    try:
        web.wait()
    except KeyboardInterrupt:
        print("\nStopping.")
    else:
        raise Failure("granian stopped by itself: its output is above")


def stop_once(*_: object) -> None:
    """Begin to clean up. A second, impatient Ctrl-C must not cut that short."""
    for number in STOP_SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    raise KeyboardInterrupt


def main() -> int:
    """Run, and clean up whatever happens: the exit status."""
    parser = argparse.ArgumentParser(description="Run the ingest project, and show what it does.")
    parser.add_argument("--serve", action="store_true", help="keep it up until Ctrl-C")
    run = serve if parser.parse_args().serve else demo
    hold_signals()
    for number in STOP_SIGNALS:
        signal.signal(number, stop_once)
    try:
        with tempfile.TemporaryDirectory(prefix="vcache-demo-") as directory, ExitStack() as stack:
            release_signals()
            run(stack, Path(directory))
    except Failure as failure:
        print(f"\nFAILED: {failure}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nStopped.", file=sys.stderr)
        return 128 + signal.SIGINT
    return 0


if __name__ == "__main__":
    sys.exit(main())
