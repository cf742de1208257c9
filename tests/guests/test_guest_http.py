"""A hot path that takes a request and gives a response, compiled apart from the wheel: what it reads, what it answers,
and what a request that it refuses becomes.
"""

from __future__ import annotations

import gzip
import json
import zlib
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from support.caches import cache_setting
from support.programs import run_program
from support.server import ValkeyServer

Request = tuple[str, str, bytes, list[tuple[bytes, bytes]] | bytes, bytes, str | None, str, int, int]


def request(
    body: bytes = b'{"say": "hello"}',
    *,
    headers: list[tuple[bytes, bytes]] | bytes = [(b"host", b"example.com"), (b"x-forwarded-for", b"192.0.2.7")],  # noqa: B006
    proxies: int = 1,
    most: int = 1000,
) -> Request:
    return ("POST", "/api/7/", b"q=a%20b&q=c", headers, body, "10.0.0.1", "https", proxies, most)


@pytest.mark.parametrize(
    "headers", [None, b"Host: example.com\r\nX-Forwarded-For: 192.0.2.7\r\n"], ids=["list", "lines"]
)
def test_a_request_is_answered(cache: Any, probe: ModuleType, way: Any, headers: bytes | None) -> None:
    cache.execute("DEL", "hits:7")
    given = request() if headers is None else request(headers=headers)
    for hits in (1, 2):
        status, sent, body = way(probe).answer(given, 7)
        assert status == 201
        assert sent == [(b"X-Host", b"example.com"), (b"Content-Type", b"application/json")]
        assert json.loads(body) == ["POST", "/api/7/", "c", "192.0.2.7", "hello", hits]
    assert way(probe).answer(SimpleNamespace(__vcache_request__=given), 7)[0] == 201


@pytest.mark.parametrize(
    ("encoding", "encode"), [(b"gzip", gzip.compress), (b"deflate", zlib.compress)], ids=["gzip", "deflate"]
)
def test_a_compressed_body_is_decoded_within_the_limit(
    cache: Any, probe: ModuleType, way: Any, encoding: bytes, encode: Any
) -> None:
    from django_vcache.exceptions import RequestError

    headers = [(b"content-encoding", encoding)]
    body = encode(json.dumps({"say": "a" * 5000}).encode())
    assert way(probe).answer(request(body, headers=headers, most=5100), 7)[0] == 201
    with pytest.raises(RequestError, match="larger than 5000 bytes when decoded") as caught:
        way(probe).answer(request(body, headers=headers, most=5000), 7)
    assert caught.value.status == 413


@pytest.mark.parametrize(
    ("body", "encoding", "status", "text"),
    [
        (b'{"say"', b"identity", 400, "bad JSON at line 1, column "),
        (b"{}", b"identity", 400, "missing field `say`"),
        (b'{"say": "no", "refuse": 402}', b"identity", 402, "^no$"),
        (b'{"say": "later", "refuse": 503}', b"identity", 503, "^later$"),
        (b"{}", b"lzma", 415, 'the Content-Encoding "lzma" is not known'),
        (b"{}", b"gzip", 400, "the body is not valid gzip"),
    ],
)
def test_a_refused_request_is_an_error_with_a_status(
    cache: Any, probe: ModuleType, way: Any, body: bytes, encoding: bytes, status: int, text: str
) -> None:
    from django_vcache.exceptions import RequestError, VcacheError

    with pytest.raises(RequestError, match=text) as caught:
        way(probe).answer(request(body, headers=[(b"content-encoding", encoding)]), 7)
    assert caught.value.status == status
    assert isinstance(caught.value, VcacheError)


def test_a_status_of_success_is_a_mistake_of_the_hot_path(cache: Any, probe: ModuleType, way: Any) -> None:
    with pytest.raises(ValueError, match="a status from 400 to 599, not with 200; the text was: fine"):
        way(probe).answer(request(b'{"say": "fine", "refuse": 200}'), 7)


@pytest.mark.parametrize("given", [None, {}, "GET", object(), SimpleNamespace(__vcache_request__=None)])
def test_what_is_not_a_request_is_told_so(cache: Any, probe: ModuleType, given: object) -> None:
    with pytest.raises(TypeError, match=r"a request expected, not .* is the target of a hot route"):
        probe.answer(given, 7)
    with pytest.raises(TypeError, match=r"a request expected, not .* is the target of a hot route"):
        probe.aanswer(given, 7)


def test_the_stub_names_both_types(probe: ModuleType) -> None:
    stub = probe.__vcache_stub__()
    answer = "tuple[int, list[tuple[bytes, bytes]], bytes]"
    assert f"def answer(req: django_vcache.routing.Request, project: int) -> {answer}:\n" in stub
    assert "import django_vcache.routing\n" in stub


def test_a_wheel_without_the_exception_says_what_it_would_have_said(server: ValkeyServer) -> None:
    source = """
        import probe_guest

        del exceptions.RequestError
        cache.get("connect")
        try:
            probe_guest.answer(("GET", "/", b"", [], b"no json", None, "http", 0, 100), 7)
        except RuntimeError as error:
            report([str(error), type(error.__cause__).__name__])
    """
    text, cause = run_program(source, {"default": cache_setting(server)})
    assert text.startswith("bad JSON at line 1, column ")
    assert cause == "AttributeError"
