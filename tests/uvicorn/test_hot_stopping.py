"""A server that stops: what has begun is answered, and nothing that was answered is lost."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from support.development import free_port
from support.hot_server import HOT, Client, HotServer, request
from support.server import wait_until

Serve = Callable[..., HotServer]
TESTS = Path(__file__).parents[1]


def is_stopping(site: HotServer) -> bool:
    return not site.server.servers[0].is_serving()


def test_an_idle_connection_is_closed(site: HotServer) -> None:
    with site.client() as client:
        assert client.ask("/hot/quick").text == "hot"
        site.begin_to_stop()
        assert client.is_at_end()


def test_a_request_under_way_is_answered_first(site: HotServer, folder: Path) -> None:
    with site.client() as client, site.client() as other:
        other.ask("/hot/quick")
        client.send(request("/hot/gate/a") + request("/hot/quick"))
        wait_until((folder / "began-a").exists)
        site.begin_to_stop()
        assert other.is_at_end()
        site.loop_calls(lambda: _open("a"))
        answer = client.answer()
        assert (answer.text, answer.headers["Connection"]) == ("through a", "close")
        # The one after it was not taken, and the client can tell.
        assert client.is_at_end()


def _open(name: str) -> None:
    from support import hot_site

    hot_site.gates[name].set()


def test_a_body_that_has_begun_is_waited_for(site: HotServer) -> None:
    whole = request("/hot/later", b"abc")
    with site.client() as client, site.client() as other:
        other.ask("/hot/quick")
        client.send(whole[:-1])
        wait_until(lambda: any(each._reader.is_in_body for each in site.connections))
        site.begin_to_stop()
        assert other.is_at_end()
        client.send(whole[-1:])
        answer = client.answer()
        assert (answer.text, answer.closes) == ("hot abc", True)
        assert client.is_at_end()


def test_a_cold_request_under_way_is_answered_first(site: HotServer) -> None:
    with site.client() as client, site.client() as other:
        other.ask("/hot/quick")
        client.ask("/hot/quick")
        client.send(request("/slow"))
        wait_until(lambda: any(each._is_foreign and each.cycle for each in site.connections))
        site.begin_to_stop()
        assert other.is_at_end()
        site.loop_calls(lambda: _open("slow"))
        assert client.answer().text == "cold /slow 0"
        assert client.is_at_end()


def test_a_request_that_does_not_end_in_time_is_cancelled(
    serve: Serve, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    site = serve(timeout_graceful_shutdown=0.2)
    with site.client() as client:
        client.send(request("/hot/gate/a"))
        wait_until((folder / "began-a").exists)
        site.begin_to_stop()
        wait_until((folder / "cancelled-a").exists)
        assert client.answer().status == 500
        assert client.is_at_end()
    assert "timeout graceful shutdown exceeded" in caplog.text


def test_nothing_is_lost_under_load(kind: tuple[str, str], tmp_path: Path) -> None:
    """Each client counts the answers that it has read in whole, the routes count what they answered."""
    loop, inner = kind
    port = free_port()
    command = f"-m uvicorn --http {HOT} --loop {loop} --port {port} --no-access-log support.hot_site:application"
    process = subprocess.Popen(
        [sys.executable, *command.split()],
        cwd=TESTS,
        env={**os.environ, "VCACHE_UVICORN_HTTP": inner, "VCACHE_TEST_FOLDER": str(tmp_path)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )

    def listens() -> bool:
        assert process.poll() is None, process.communicate()[1]
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", port)) == 0

    wait_until(listens)
    broken: list[str] = []
    read = [0] * 8
    begun = threading.Barrier(len(read) + 1)

    def ask(number: int) -> None:
        path = ("/hot/counted", "/hot/counted-later")[number % 2]
        with Client(socket.create_connection(("127.0.0.1", port), timeout=30)) as client:
            client.ask(path, b"x")
            read[number] += 1
            begun.wait()
            while True:
                try:
                    client.send(request(path, b"x"))
                    line = client._file.peek(1)
                except OSError:
                    return
                if not line:
                    return
                try:
                    answer = client.answer()
                except Exception as error:
                    # An answer that has begun has no end.
                    broken.append(repr(error))
                    return
                if answer.status == 200:
                    read[number] += 1
                if answer.closes:
                    return

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(len(read))]
    for thread in threads:
        thread.start()
    begun.wait()
    before = sum(read)
    wait_until(lambda: sum(read) > before + 200)
    process.send_signal(signal.SIGTERM)
    for thread in threads:
        thread.join(60)
    _, errors = process.communicate(timeout=60)
    assert process.returncode in (0, -signal.SIGTERM), errors
    assert "Traceback" not in errors
    assert broken == []
    assert sum(read) == int((tmp_path / "answered").read_text())
