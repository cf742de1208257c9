"""`examples/ingest`: a database that accepts connections and then says nothing."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest
from support.server import ValkeyServer, wait_until
from support.tracker import TIMEOUT, Answer, Client, Tracker, event

pytest.importorskip("psycopg")


@pytest.fixture
def silent() -> Iterator[socket.socket]:
    """A listener. The kernel accepts connections for it, and nothing answers."""
    with socket.create_server(("127.0.0.1", 0), backlog=100) as listener:
        listener.settimeout(TIMEOUT)
        yield listener


class Site(Tracker):
    """The site on another database than the one that was made for it."""

    def start_on(self, listener: socket.socket) -> Client:
        """Starts it, and waits until it answers where it needs no database."""
        host, port = listener.getsockname()
        self.environment |= {"DATABASE_URL": f"postgres://user:secret@{host}:{port}/name"}
        command = [sys.executable, "-m", "uvicorn", "--no-access-log", "--http", "django_vcache.uvicorn:HotProtocol"]
        command += ["--port", self.address.partition(":")[2], "ingest.asgi:application"]
        self._run(command, self.folder / "web.log")
        client = Client(self.address, 1, uuid4().hex)

        def answers() -> bool:
            try:
                return client.request("GET", "/live/").status == 200
            except ConnectionError:
                return False

        wait_until(answers, timeout=TIMEOUT)
        return client


def is_told_to_come_again(answer: Answer) -> bool:
    return (answer.status, answer.headers.get("retry-after")) == (503, "1")


def test_a_client_is_told_to_come_again_while_the_database_says_nothing(
    fresh_server: ValkeyServer, tmp_path: Path, silent: socket.socket
) -> None:
    site = Site(fresh_server, tmp_path, INGEST_LOOKUP_TIMEOUT="0.2")
    try:
        client = site.start_on(silent)
        others = [Client(client.address, number, client.key) for number in range(2, 12)]
        name = f"ingest:tracker:project:{client.id}"
        record = json.dumps({"key": client.key, "rate": -1, "events": -1, "bytes": -1})
        fresh_server.execute("SET", name, record)
        # More than there are threads for lookups.
        for other in others:
            assert is_told_to_come_again(other.envelope(event()))
            assert is_told_to_come_again(other.store(b"{}"))
        silent.accept()[0].close()  # There was one, so the database was asked.
        assert client.envelope(event()).status == 200, "what is in the cache is taken"
        fresh_server.execute("DEL", name)
        assert is_told_to_come_again(client.envelope(event()))
        assert fresh_server.execute("EXISTS", name) == 0, "nothing is kept of a project that is not known"
        log = (tmp_path / "web.log").read_text()
        assert "Project 2 cannot be loaded: the database has not answered in time" in log
        assert "secret" not in log
    finally:
        site.close()


LOOKUPS = """
import asyncio, threading
import django; django.setup()
from django.test import override_settings
from tracker import lookups, projects

calls, is_free, may_end = [], threading.Event(), threading.Event()

def load(number):
    calls.append(number)
    if number == 1:
        is_free.wait()
    if number == 4:
        may_end.wait()
    if number == 3:
        raise ValueError("three")
    return b"%d" % number

projects.load = load

async def main():
    with override_settings(INGEST_LOOKUP_TIMEOUT=0.05):
        while not calls:  # The machine may be slow to start the thread.
            assert await asyncio.gather(*(projects.aload(1) for _ in range(5))) == [None] * 5
    with override_settings(INGEST_LOOKUP_TIMEOUT=60):
        assert await projects.aload(1) is None
        assert calls == [1], "one lookup at a time"
        assert await asyncio.gather(*(projects.aload(2) for _ in range(5))) == [b"2"] * 5
        lost = asyncio.create_task(projects.aload(4))
        kept = asyncio.create_task(projects.aload(4))
        await asyncio.sleep(0)
        lost.cancel()
        await asyncio.wait([lost])
        assert lost.cancelled()
        may_end.set()
        assert await kept == b"4", "a caller that gives up does not take it from the others"
        try:
            await projects.aload(3)
        except ValueError as error:
            assert str(error) == "three"
        else:
            raise AssertionError("what is no outage is an error")
        assert calls.count(4) == 1
        lookups.MOST = 1
        assert await projects.aload(5) is None, "1 is still looked up, and there may be one"
        is_free.set()
        while (record := await projects.aload(1)) is None:
            await asyncio.sleep(0)
        assert record == b"1"
        assert await projects.aload(5) == b"5"
        assert calls.count(1) == 2

try:
    asyncio.run(main())
finally:  # A thread that waits would keep the process.
    is_free.set()
    may_end.set()
"""


def test_a_project_is_looked_up_once_at_a_time_and_its_callers_wait_for_so_long(
    server: ValkeyServer, tmp_path: Path
) -> None:
    tracker = Tracker(server, tmp_path)
    try:
        command = [sys.executable, "-c", LOOKUPS]
        done = subprocess.run(
            command, env=tracker.environment, capture_output=True, text=True, timeout=TIMEOUT, check=False
        )
        assert done.returncode == 0, done.stderr
        assert done.stderr.count("has not answered in time") >= 1
    finally:
        tracker.close()
