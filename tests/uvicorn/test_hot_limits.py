"""Time, numbers and clients that leave."""

from __future__ import annotations

import socket
import struct
from collections.abc import Callable
from pathlib import Path

import pytest
from support.hot_server import Client, HotServer, request
from support.server import wait_until

Serve = Callable[..., HotServer]


def reset(client: Client) -> None:
    """Ends a connection without a farewell."""
    client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client._file.really_close()
    client.socket.close()


@pytest.mark.parametrize("path", ["/hot/quick", "/hot/later", "/cold"])
def test_an_idle_connection_ends(serve: Serve, path: str) -> None:
    site = serve(timeout_keep_alive=0.2)
    with site.client() as client:
        assert client.ask(path).status == 200
        assert client.is_at_end()


@pytest.mark.parametrize(
    "part",
    [
        b"GET",
        b"GET /hot/quick HTTP/1.1\r\nHost: a\r\n",
        b"POST /hot/quick HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nabc",
    ],
)
@pytest.mark.parametrize("before", ["", "/hot/quick", "/hot/later"])
def test_half_a_request_ends_with_its_connection(serve: Serve, part: bytes, before: str) -> None:
    site = serve(timeout_keep_alive=0.2)
    with site.client() as client:
        if before:
            client.ask(before)
        client.send(part)
        assert client.is_at_end()


def test_the_clock_does_not_stop_a_request_that_is_under_way(serve: Serve, folder: Path) -> None:
    site = serve(timeout_keep_alive=0.05)
    with site.client() as client, site.client() as other:
        client.send(request("/hot/quick") + request("/hot/gate/a"))
        assert client.answer().text == "hot"
        wait_until((folder / "began-a").exists)
        # The time of a connection that began to wait later is over.
        assert other.ask("/hot/quick").text == "hot"
        assert other.is_at_end()
        site.ask("/hot/open/a")
        assert client.answer().text == "through a"
        assert client.is_at_end()


def test_the_clock_does_not_end_a_websocket(serve: Serve) -> None:
    from websockets.sync.client import connect

    site = serve(timeout_keep_alive=0.05)
    with connect(f"ws://127.0.0.1:{site.port}/any") as client, site.client() as other:
        assert other.ask("/hot/quick").text == "hot"
        assert other.is_at_end()
        client.send("hello")
        assert client.recv(timeout=30) == "hello"


def test_limit_concurrency_of_connections(serve: Serve, caplog: pytest.LogCaptureFixture) -> None:
    site = serve(limit_concurrency=3)
    with site.client() as one, site.client() as two:
        assert one.ask("/hot/quick").text == "hot"
        assert two.ask("/hot/quick").text == "hot"
        for path in ("/hot/quick", "/cold"):
            with site.client() as three:
                answer = three.ask(path, b"")
                assert (answer.status, answer.text, answer.closes) == (503, "Service Unavailable", True)
                assert three.is_at_end()
            wait_until(lambda: len(site.connections) == 2)
        assert one.ask("/hot/quick").text == "hot"
    assert "Exceeded concurrency limit." in caplog.text


def test_limit_max_requests_counts_hot_ones(serve: Serve) -> None:
    site = serve(limit_max_requests=7)
    with site.client() as client:
        for path in ("/hot/quick", "/hot/later", "/cold", "/hot/quick", "/hot/broken"):
            client.ask(path)
    wait_until(lambda: site.answered == 5)
    assert site.ask("/hot/large?1", b"x" * 2000).status == 413
    site.ask("/hot/quick")
    site._thread.join(30)
    assert not site._thread.is_alive()


@pytest.mark.parametrize("ends", [Client.__exit__, reset], ids=["close", "reset"])
def test_a_client_that_leaves_cancels_its_request(site: HotServer, folder: Path, ends: Callable[..., None]) -> None:
    client = site.client()
    client.send(request("/hot/gate/a") + request("/hot/quick"))
    wait_until((folder / "began-a").exists)
    ends(client)
    wait_until((folder / "cancelled-a").exists)
    wait_until(lambda: not site.connections and not site.server.server_state.tasks)
    assert site.answered == 0
    assert site.ask("/hot/quick").text == "hot"


def test_a_client_leaves_after_each_byte(site: HotServer, caplog: pytest.LogCaptureFixture) -> None:
    whole = request("/hot/later", b"abc")
    for cut in range(len(whole) + 1):
        client = site.client()
        client.send(whole[:cut])
        (reset if cut % 2 else Client.__exit__)(client)
    wait_until(lambda: not site.connections and not site.server.server_state.tasks)
    assert site.ask("/hot/quick").text == "hot"
    assert not [record for record in caplog.records if record.levelname in ("ERROR", "CRITICAL")]


def test_a_client_that_leaves_before_it_has_read(site: HotServer) -> None:
    client = site.client()
    client.send(request("/hot/large?5000000") * 3)
    wait_until(lambda: any(each.flow.write_paused for each in site.connections))
    reset(client)
    wait_until(lambda: not site.connections)
    assert site.ask("/hot/quick").text == "hot"


def test_two_thousand_idle_connections(site: HotServer) -> None:
    clients = [site.client() for _ in range(2000)]
    try:
        for client in clients:
            client.send(request("/hot/quick")[:-1])
        for client in clients:
            client.send(b"\n")
        assert {client.answer().text for client in clients} == {"hot"}
        assert len(site.connections) == 2000
        assert site.ask("/hot/later", b"x").text == "hot x"
    finally:
        for client in clients:
            client.__exit__()
    wait_until(lambda: not site.connections)
