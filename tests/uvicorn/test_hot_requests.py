"""What a hot route gets of a request, and what a client gets of its response."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.hot_server import HotServer, request

Serve = Callable[..., HotServer]


def echo(site: HotServer, path: str = "/hot/echo", *args: Any, **keywords: Any) -> dict[str, Any]:
    answer = site.ask(path, *args, **keywords)
    assert answer.status == 200, answer.body
    given: dict[str, Any] = json.loads(answer.body)
    return given


def test_a_request(site: HotServer) -> None:
    assert echo(site, "/hot/echo?a=%20b", b"abc", headers="X-One: \t1 \r\nX-One: 2\r\n") == {
        "method": "POST",
        "path": "/hot/echo",
        "query": "a=%20b",
        "headers": "Host: localhost\r\nContent-Length: 3\r\nX-One: \t1 \r\nX-One: 2\r\n",
        "body": "abc",
        "peer": "127.0.0.1",
        "scheme": "http",
    }


@pytest.mark.parametrize("path", ["/hot/%C3%A4", "/%68ot/%c3%a4"])
def test_a_path_is_decoded(site: HotServer, path: str) -> None:
    assert echo(site, path)["path"] == "/hot/ä"


def test_a_response(site: HotServer) -> None:
    answer = site.ask("/hot/status/418")
    assert (answer.status, answer.body) == (418, b"text")
    assert answer.headers["Server"] == "uvicorn"
    assert answer.headers["Date"]
    assert answer.headers["X-Kind"] == "status"
    assert answer.headers["Content-Length"] == "4"
    assert "Connection" not in answer.headers


def test_default_headers_are_those_of_the_options(serve: Serve) -> None:
    site = serve(headers=[("X-Site", "one"), ("X-Site", "two")], server_header=False, date_header=False)
    answer = site.ask("/hot/quick")
    assert answer.headers.get_all("X-Site") == ["one", "two"]
    assert "Server" not in answer.headers
    assert "Date" not in answer.headers


def test_head_has_the_length_and_no_body(site: HotServer) -> None:
    with site.client() as client:
        answer = client.ask("/hot/quick", method="HEAD")
        assert (answer.status, answer.body, answer.headers["Content-Length"]) == (200, b"", "3")
        assert client.ask("/hot/quick").body == b"hot"


@pytest.mark.parametrize("status", [204, 304])
def test_a_status_without_a_body(site: HotServer, status: int) -> None:
    with site.client() as client:
        answer = client.ask(f"/hot/status/{status}")
        assert (answer.status, answer.body) == (status, b"")
        assert "Content-Length" not in answer.headers
        assert client.ask("/hot/quick").body == b"hot"


def test_a_route_that_waits_runs_in_a_task(site: HotServer) -> None:
    with site.client() as client:
        for _ in range(3):
            assert client.ask("/hot/later", b"body").body == b"hot body"


def test_context_variables_of_a_request_are_not_seen_by_the_next(site: HotServer) -> None:
    with site.client() as client:
        client.send(request("/hot/context") * 3)
        assert [client.answer().body for _ in range(3)] == [b"nothing"] * 3
        assert client.ask("/hot/context").body == b"nothing"


@pytest.mark.parametrize(
    ("path", "said"),
    [("/hot/broken", "a route that fails"), ("/hot/odd", "header has the value"), ("/hot/status/99", "99")],
)
def test_a_route_that_breaks_its_word(site: HotServer, caplog: pytest.LogCaptureFixture, path: str, said: str) -> None:
    with site.client() as client:
        answer = client.ask(path)
        assert (answer.status, answer.body) == (500, b"Internal Server Error")
        assert client.is_at_end()
    assert path in caplog.text
    assert said in caplog.text


@pytest.mark.parametrize("path", ["/hot/quick", "/hot/later"])
def test_connection_close_of_the_client(site: HotServer, path: str) -> None:
    with site.client() as client:
        answer = client.ask(path, b"", headers="Connection: Close\r\n")
        assert answer.status == 200
        assert answer.headers["Connection"] == "close"
        assert client.is_at_end()


def test_connection_close_of_the_route(site: HotServer) -> None:
    with site.client() as client:
        client.send(request("/hot/close") + request("/hot/quick"))
        answer = client.answer()
        assert answer.headers.get_all("Connection") == ["close"]
        assert client.is_at_end()


def test_the_root_path_is_not_part_of_the_path(serve: Serve) -> None:
    site = serve(root_path="/mounted")
    assert echo(site)["path"] == "/hot/echo"
    assert site.ask("/other").text == "cold /mounted/other 0"


def test_a_unix_socket_has_no_peer(serve: Serve, tmp_path: Path) -> None:
    site = serve(uds=str(tmp_path / "socket"))
    assert echo(site)["peer"] is None


def test_routes_without_a_limit(site: HotServer) -> None:
    assert site.ask("/hot/any", b"x" * 3_000_000).body == b"hot"
