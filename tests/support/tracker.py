"""`examples/ingest` as a whole, for tests: its database, its site under a server, its consumer, and requests to it."""

from __future__ import annotations

import contextlib
import http.client
import importlib.util
import json
import os
import socket
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

from support.server import ValkeyServer, wait_until

PROJECT = Path(__file__).parents[2] / "examples" / "ingest"
TIMEOUT = 60.0  # seconds
# KEY_PREFIX, and the key of the gate's stream.
STREAM = "ingest:vcache:2:{v00}:s:events"


@dataclass
class Answer:
    """What the site answered. Names of headers are in lower case."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def text(self) -> str:
        return self.body.decode()


@dataclass
class Client:
    """A project, as its clients know it."""

    address: str
    id: int
    key: str

    @property
    def dsn(self) -> str:
        return f"http://{self.key}@{self.address}/{self.id}"

    def request(self, method: str, path: str, body: bytes = b"", headers: dict[str, str] | None = None) -> Answer:
        """Any request to the site."""
        host, _, port = self.address.partition(":")
        with contextlib.closing(http.client.HTTPConnection(host, int(port), timeout=TIMEOUT)) as web:
            web.request(method, path, body, headers or {})
            answer = web.getresponse()
            return Answer(answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read())

    def envelope(self, body: bytes, headers: dict[str, str] | None = None, **more: str) -> Answer:
        """An envelope with the project's key."""
        headers = {"X-Sentry-Auth": f"Sentry sentry_key={self.key}, sentry_version=7"} | (headers or {}) | more
        return self.request("POST", f"/api/{self.id}/envelope/", body, headers)

    def store(self, body: bytes, headers: dict[str, str] | None = None) -> Answer:
        """An event alone with the project's key."""
        headers = {"X-Sentry-Auth": f"Sentry sentry_key={self.key}, sentry_version=7"} | (headers or {})
        return self.request("POST", f"/api/{self.id}/store/", body, headers)


def event(event_id: str | None = None, **data: Any) -> bytes:
    """An envelope with one event."""
    payload = json.dumps({"message": "it broke", **data}).encode()
    header = json.dumps({"event_id": event_id or uuid4().hex}).encode()
    return b'%s\n{"type":"event","length":%d}\n%s\n' % (header, len(payload), payload)


class Tracker:
    """The example on a server and a database of its own. `close` ends what it started."""

    def __init__(self, server: ValkeyServer, folder: Path, database_url: str | None = None, **environment: str) -> None:
        assert importlib.util.find_spec("ingest_hot._native"), "the hot routes are not built: run `make setup`"
        self.server = server
        self.folder = folder
        self.environment = os.environ | {
            "DJANGO_SETTINGS_MODULE": "ingest.settings",
            "PYTHONPATH": str(PROJECT),
            "PYTHONWARNINGS": "error::RuntimeWarning",
            "VCACHE_URL": server.url,
            "DATABASE_URL": database_url or f"sqlite:///{folder / 'tracker.sqlite3'}",
            **environment,
        }
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.address = f"127.0.0.1:{probe.getsockname()[1]}"
        self._stack = contextlib.ExitStack()
        self._consumers = 0
        self.manage("migrate", "--verbosity", "0")

    def close(self) -> None:
        self._stack.close()

    def manage(self, *arguments: str) -> str:
        """What a command of manage.py prints."""
        done = subprocess.run(
            [sys.executable, str(PROJECT / "manage.py"), *arguments],
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=TIMEOUT,
        )
        assert done.returncode == 0, done.stdout
        return done.stdout

    def client(self, rate: int = -1, events: int = -1, bytes: int = -1) -> Client:
        """A new project, put straight into the SQLite database."""
        key = uuid4().hex
        with contextlib.closing(sqlite3.connect(self.folder / "tracker.sqlite3", timeout=20)) as database, database:
            made = database.execute(
                "INSERT INTO tracker_project (name, public_key, is_active, rate, events_quota, bytes_quota) "
                "VALUES (?, ?, 1, ?, ?, ?)",
                (key, key, rate, events, bytes),
            )
            return Client(self.address, int(made.lastrowid or 0), key)

    def project(self, name: str | None = None, **limits: int) -> Client:
        """A new project, made by the command."""
        options = [f"--{limit}={number}" for limit, number in limits.items()]
        dsn = self.manage("tracker_project", name or uuid4().hex, "--address", f"http://{self.address}", *options)
        user, _, place = dsn.strip().removeprefix("http://").partition("@")
        return Client(self.address, int(place.rpartition("/")[2]), user)

    def start(self, *command: str) -> Tracker:
        """The site, until `close`: under uvicorn with hot routes answered below ASGI, or another server's command."""
        command = command or ("uvicorn", "--no-access-log", "--http", "django_vcache.uvicorn:HotProtocol")
        port = self.address.partition(":")[2]
        self._run([sys.executable, "-m", *command, "--port", port, "ingest.asgi:application"], self.folder / "web.log")
        client = Client(self.address, 0, "")

        def answers() -> bool:
            with contextlib.suppress(ConnectionError):
                return client.request("GET", "/").status == 200
            return False

        wait_until(answers, timeout=TIMEOUT)
        return self

    @contextlib.contextmanager
    def consumer(self) -> Iterator[subprocess.Popen[bytes]]:
        """The process that stores events; it must end well."""
        log = self.folder / "consumer.log"
        with contextlib.ExitStack() as stack:
            command = [sys.executable, str(PROJECT / "manage.py"), "vcache_consume", "tracker.consumer.store"]
            process = self._run(
                [*command, "--group", "store", "--max-wait", "0.05", "--reclaim-after", "2"], log, stack
            )
            self._consumers += 1
            yield process
            # One that is still starting knows no SIGTERM yet: all was done by another.
            wait_until(lambda: log.read_text(errors="replace").count("Consuming ") >= self._consumers, timeout=TIMEOUT)
            process.terminate()
            assert process.wait(TIMEOUT) == 0, log.read_text(errors="replace")

    def _run(self, command: list[str], log: Path, stack: contextlib.ExitStack | None = None) -> subprocess.Popen[bytes]:
        stack = stack or self._stack
        output = stack.enter_context(log.open("ab"))
        process = subprocess.Popen(
            command, env=self.environment, stdin=subprocess.DEVNULL, stdout=output, stderr=output
        )

        def stop() -> None:
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

        stack.callback(stop)
        return process

    def query(self, sql: str) -> list[tuple[Any, ...]]:
        """Rows of the SQLite database."""
        with contextlib.closing(sqlite3.connect(self.folder / "tracker.sqlite3", timeout=20)) as database:
            return database.execute(sql).fetchall()

    def count(self, table: str = "tracker_event") -> int:
        """How many rows there are."""
        return int(self.query(f"SELECT count(*) FROM {table}")[0][0])

    def entries(self) -> list[dict[str, bytes]]:
        """What waits on the stream."""
        found = self.server.execute("XRANGE", STREAM, "-", "+")
        return [{fields[at].decode(): fields[at + 1] for at in range(0, len(fields), 2)} for _, fields in found]
