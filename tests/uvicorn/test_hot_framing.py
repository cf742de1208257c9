"""Which requests are answered below ASGI, however their bytes come, and which go on to the application."""

from __future__ import annotations

import socket

import pytest
from support.hot_server import HotServer, request
from support.server import wait_until

HOST = "Host: localhost\r\n"

COLD = {
    "another path": request("/other", b"abc"),
    "a chunked body": request("/hot/quick", None, "POST", "Transfer-Encoding: chunked\r\n") + b"3\r\nabc\r\n0\r\n\r\n",
    "absolute form": b"GET http://localhost/hot/quick HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "two connections": request("/hot/quick", headers="Connection: keep-alive, x\r\n"),
    "many headers": request("/hot/quick", headers="X: y\r\n" * 97),
    "percent without digits": request("/hot/quick%"),
    "percent that is no UTF-8": request("/hot/%ff"),
    "no expectation of ours": request("/hot/quick", b"abc", headers="Expect: something\r\n"),
    "an upgrade that uvicorn does not know": request("/hot/quick", headers="Upgrade: h2c\r\n"),
}
WRONG = {
    "two lengths": request("/hot/quick", b"abc", headers="Content-Length: 4\r\n"),
    "a signed length": request("/hot/quick", None, "POST", "Content-Length: +3\r\n") + b"abc",
    "a space before the colon": request("/hot/quick", None, "POST", "Content-Length : 3\r\n") + b"abc",
    "NUL": request("/hot/quick", headers="X: a\0b\r\n"),
    "CR": request("/hot/quick", headers="X: a\rb\r\n"),
    "no HTTP": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
    "invalid UTF-8 in the method": b"G\xff\xfe / HTTP/1.1\r\n" + HOST.encode() + b"\r\n",
}


@pytest.mark.parametrize("name", COLD)
def test_what_is_not_of_the_subset_is_uvicorns(site: HotServer, name: str) -> None:
    with site.client() as client:
        client.send(COLD[name])
        assert client.answer().text.startswith("cold ")


@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_is_refused_by_uvicorn(site: HotServer, name: str) -> None:
    with site.client() as client:
        client.send(WRONG[name])
        answer = client.answer()
        assert (answer.status, answer.text) == (400, "Invalid HTTP request received.")
        assert client.is_at_end()


def test_http_1_0(site: HotServer) -> None:
    with site.client() as client:
        client.send(b"GET /hot/quick HTTP/1.0\r\n\r\n")
        assert client.answer().text == "cold /hot/quick 0"
        assert client.is_at_end()


def test_a_client_that_waits_for_100_continue(site: HotServer) -> None:
    with site.client() as client:
        client.send(request("/hot/quick", None, "POST", "Content-Length: 3\r\nExpect: 100-continue\r\n"))
        assert client._file.readline() == b"HTTP/1.1 100 Continue\r\n"
        assert client._file.readline() == b"\r\n"
        client.send(b"abc")
        assert client.answer().text == "cold /hot/quick 3"
        assert client.ask("/hot/quick").text == "hot"


def test_a_websocket(site: HotServer) -> None:
    from websockets.sync.client import connect

    assert site.ask("/hot/quick").text == "hot"
    with connect(f"ws://127.0.0.1:{site.port}/hot/quick") as client:
        client.send("hello")
        assert client.recv(timeout=30) == "hello"


@pytest.mark.parametrize("path", ["/hot/later", "/cold"])
def test_a_request_comes_in_two_parts(site: HotServer, path: str) -> None:
    """Cut at every byte, on one connection."""
    whole = request(path, b"abc")
    expected = "hot abc" if path == "/hot/later" else "cold /cold 3"
    with site.client() as client:
        for cut in range(1, len(whole)):
            client.send(whole[:cut])
            client.send(whole[cut:])
            assert client.answer().text == expected


@pytest.mark.parametrize("path", ["/hot/later", "/cold"])
def test_a_request_comes_byte_by_byte(site: HotServer, path: str) -> None:
    with site.client() as client:
        for byte in request(path, b"abc"):
            client.send(bytes([byte]))
        assert client.answer().text in ("hot abc", "cold /cold 3")


def test_after_a_cold_request_a_hot_one_is_answered_below(site: HotServer) -> None:
    with site.client() as client:
        for number in range(3):
            assert client.ask(f"/cold/{number}", b"abc").text == f"cold /cold/{number} 3"
            assert client.ask("/hot/quick").text == "hot"


def test_a_half_request_of_others_keeps_the_connection_with_uvicorn(site: HotServer) -> None:
    with site.client() as client:
        client.send(request("/cold") + b"GET /hot/quick HT")
        assert client.answer().text == "cold /cold 0"
        client.send(b"TP/1.1\r\nHost: localhost\r\n\r\n")
        assert client.answer().text == "cold /hot/quick 0"
        assert client.ask("/hot/quick").text == "hot"


def test_an_answer_before_the_body_leaves_the_rest_with_uvicorn(site: HotServer) -> None:
    # A body that looks like a hot request.
    inside = request("/hot/quick")
    with site.client() as client:
        client.send(request("/cold", None, "POST", f"Content-Length: {len(inside)}\r\n"))
        client.send(inside)
        assert client.answer().text == f"cold /cold {len(inside)}"
        assert client.ask("/hot/quick").text == "hot"


def test_a_long_head_is_uvicorns(site: HotServer) -> None:
    with site.client() as client:
        client.send(request("/hot/quick", headers=f"X: {'x' * 20_000}\r\n"))
        assert client.answer().text == "cold /hot/quick 0"


def test_a_head_that_has_no_end_is_uvicorns(site: HotServer, kind: tuple[str, str]) -> None:
    with site.client() as client:
        client.send(b"GET /hot/quick HTTP/1.1\r\nX: " + b"x" * 20_000)
        # It is no longer kept here: uvicorn has no time-out for it, and h11 a limit.
        if kind[1] == "h11":
            assert client.answer().status == 400
        else:
            wait_until(lambda: [each._is_foreign for each in site.connections] == [True])


def test_a_length_that_is_too_short_is_followed_by_what_is_no_request(site: HotServer) -> None:
    with site.client() as client:
        client.send(request("/hot/later", None, "POST", "Content-Length: 3\r\n") + b"abcdef\r\n\r\n")
        assert client.answer().text == "hot abc"
        assert client.answer().status == 400
        assert client.is_at_end()


def test_a_body_above_the_limit(site: HotServer) -> None:
    with site.client() as client:
        client.send(request("/hot/quick", b"x" * 1001) + request("/hot/quick"))
        answer = client.answer()
        assert (answer.status, answer.closes) == (413, True)
        assert answer.text == "1001 bytes are more than 1000"
        assert client.is_at_end()
    assert site.ask("/hot/quick", b"x" * 1000).text == "hot"


def test_a_large_body_above_the_limit_is_read_so_that_the_client_sees_the_answer(site: HotServer) -> None:
    body = b"x" * 4_000_000
    with site.client() as client:
        # All of it is sent before the answer is read.
        client.send(request("/hot/quick", body))
        assert client.answer().status == 413
        assert client.is_at_end()


def test_a_body_above_the_limit_that_never_comes(site: HotServer) -> None:
    with site.client() as client:
        client.send(request("/hot/quick", None, "POST", "Content-Length: 999999999999\r\n"))
        assert client.answer().status == 413
        client.socket.shutdown(socket.SHUT_WR)
        assert client.is_at_end()


def test_bytes_that_are_no_text(site: HotServer) -> None:
    bad = "\xff\xfe\xc3("
    answer = site.ask("/hot/echo?" + "%FF", bad.encode("latin1"), headers=f"X: {bad}\r\n")
    assert answer.status == 200
    assert bad.encode().decode() in answer.body.decode("unicode_escape")
    assert site.ask(f"/hot/echo?{bad}").text != "hot"
