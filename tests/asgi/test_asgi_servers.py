"""The handler under the servers that there are: each is started as a user starts it, and asked over the network."""

from __future__ import annotations

import contextlib
import http.client
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.development import free_port
from support.server import ValkeyServer, wait_until

TESTS = Path(__file__).parents[1]
SERVERS = {
    "granian": ["granian", "--interface", "asgi", "--workers", "1", "--host", "127.0.0.1", "--port", "{port}"],
    "uvicorn": ["uvicorn", "--host", "127.0.0.1", "--port", "{port}"],
    "hypercorn": ["hypercorn", "--bind", "127.0.0.1:{port}"],
    "daphne": ["daphne", "-b", "127.0.0.1", "-p", "{port}"],
}
# Daphne has no lifespan.
WITH_LIFESPAN = [name for name in SERVERS if name != "daphne"]


class Site:
    """A server at work on `support.site`."""

    def __init__(self, name: str, folder: Path, url: str) -> None:
        self.folder = folder
        self.port = free_port()
        self.output = folder / "output"
        path = os.pathsep.join(filter(None, [str(TESTS), os.environ.get("PYTHONPATH")]))
        command = [part.format(port=self.port) for part in SERVERS[name]]
        with self.output.open("wb") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", *command, "support.site:application"],
                env={
                    **os.environ,
                    "PYTHONPATH": path,
                    "VCACHE_TEST_FOLDER": str(folder),
                    "VCACHE_TEST_URL": url,
                },
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def wait(self) -> None:
        """Until it listens."""

        def listens() -> bool:
            assert self.process.poll() is None, self.told()
            with socket.socket() as probe:
                return probe.connect_ex(("127.0.0.1", self.port)) == 0

        wait_until(listens)

    def told(self) -> str:
        return self.output.read_text(errors="replace")

    def ask(self, where: str, method: str = "GET", body: Any = None, **headers: str) -> tuple[int, bytes, Any]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            connection.request(method, where, body, headers)
            response = connection.getresponse()
            return response.status, response.read(), response.headers
        finally:
            connection.close()

    def get(self, where: str) -> bytes:
        status, content, _ = self.ask(where)
        assert status == 200, self.told()
        return content

    def stop(self) -> int:
        """The exit code after SIGTERM."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(30)

    def kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


@pytest.fixture(scope="module", params=SERVERS)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def site(name: str, server: ValkeyServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    site = Site(name, tmp_path_factory.mktemp(name), server.url)
    try:
        site.wait()
        yield site
    finally:
        site.kill()


def test_views(site: Site) -> None:
    assert site.get("/awaited") == b"from the cache"
    assert site.get("/stream") == b"0,1,2,3,4,"
    assert {site.get("/blocking")[:12] for _ in range(5)} == {b"vcache-lane-"}
    assert site.ask("/absent")[0] == 404


def test_sessions(site: Site) -> None:
    _, content, headers = site.ask("/visits")
    assert content == b"1"
    cookie = headers["Set-Cookie"].partition(";")[0]
    assert site.ask("/visits", Cookie=cookie)[1] == b"2"


def test_context_variables_of_an_application_around_it(site: Site) -> None:
    assert site.get("/context") == b"somebody somebody"


@pytest.mark.parametrize("size", [10, 100_000, 2_400_000])
def test_uploads(site: Site, size: int) -> None:
    assert site.ask("/upload", "POST", b"x" * size)[:2] == (200, b"%d" % size)


def test_uploads_in_chunks(site: Site) -> None:
    assert site.ask("/upload", "POST", iter([b"one", b"two", b"three"]))[:2] == (200, b"11")


def test_a_client_that_leaves_cancels_its_view(site: Site) -> None:
    with socket.create_connection(("127.0.0.1", site.port)) as client:
        client.sendall(b"GET /slow HTTP/1.1\r\nHost: localhost\r\n\r\n")
        wait_until((site.folder / "began").exists)
    wait_until((site.folder / "cancelled").exists)
    assert site.get("/blocking")


def test_websockets_go_on_to_the_other_application(site: Site) -> None:
    from websockets.sync.client import connect

    with connect(f"ws://127.0.0.1:{site.port}/any") as client:
        client.send("hello")
        assert client.recv(timeout=30) == "you said hello"


@pytest.mark.parametrize("name", WITH_LIFESPAN, scope="function")
def test_lifespan_connects_first_and_ends_cleanly(name: str, fresh_server: ValkeyServer, tmp_path: Path) -> None:
    site = Site(name, tmp_path, fresh_server.url)
    try:
        site.wait()
        wait_until((tmp_path / "lifespan.startup").exists)
        # Before the first request.
        assert b"lib-name=vcache" in bytes(fresh_server.execute("CLIENT", "LIST"))  # type: ignore[arg-type]
        assert site.get("/blocking")
        assert site.stop() in (0, -signal.SIGTERM)
        assert (tmp_path / "lifespan.shutdown").exists()
        assert "Traceback" not in site.told()
    finally:
        site.kill()


def test_without_valkey(name: str, tmp_path: Path) -> None:
    site = Site(name, tmp_path, "")
    try:
        site.wait()
        assert site.get("/awaited") == b"from the cache"
        assert site.get("/blocking")
    finally:
        site.kill()
