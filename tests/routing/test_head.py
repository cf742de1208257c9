"""The head of a request, from lines as they came and from ASGI's list."""

from __future__ import annotations

import pytest

from django_vcache.routing._head import Head, ScopeHead

PAIRS = [(b"Host", b"shop.example"), (b"X-A", b"1"), (b"x-empty", b""), (b"X-a", b"2"), (b"last", b"with: colon")]
LINES = b"Host: shop.example\r\nX-A:1\r\nx-empty: \r\nX-a: 2 \r\nlast:\twith: colon\r\n"


def heads() -> list[Head]:
    scope = {"type": "http", "method": "GET", "headers": [(name.lower(), value) for name, value in PAIRS]}
    return [
        Head("GET", "/", b"", LINES, None, "http"),
        Head("GET", "/", b"", list(PAIRS), None, "http"),
        ScopeHead(scope, "/"),
    ]


@pytest.mark.parametrize("head", heads(), ids=["lines", "pairs", "scope"])
def test_headers_are_found_in_any_case(head: Head) -> None:
    assert head.get(b"host") == b"shop.example"
    assert head.get(b"x-a") == b"1,2"
    assert head.get(b"x-empty") == b""
    assert head.get(b"last") == b"with: colon"
    assert head.get(b"x") is None
    assert head.get(b"ost") is None
    assert head.has("HTTP_X_EMPTY")
    assert not head.has("HTTP_NOTHING")
    assert [(name.lower(), value) for name, value in head.pairs()] == [(n.lower(), v) for n, v in PAIRS]


def test_django_reads_the_same() -> None:
    request = Head("POST", "/a", b"q=1", LINES, "192.0.2.1", "https").request(b"body")
    assert (request.method, request.path, request.GET["q"], request.body) == ("POST", "/a", "1", b"body")
    assert request.headers["X-A"] == "1,2"
    assert request.META["REMOTE_ADDR"] == "192.0.2.1"
    assert request.scheme == "https"
