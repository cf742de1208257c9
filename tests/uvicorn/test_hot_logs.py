"""The access log and the headers of proxies: as uvicorn writes and reads them, for hot and cold requests alike."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from typing import Any

import pytest
from support.hot_server import HotServer, request
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware

Serve = Callable[..., HotServer]


def lines(caplog: pytest.LogCaptureFixture) -> list[logging.LogRecord]:
    return [record for record in caplog.records if record.name == "uvicorn.access"]


@pytest.mark.parametrize("forwarded", ["", "X-Forwarded-For: 10.1.2.3\r\n"])
def test_the_access_log_has_the_same_lines(serve: Serve, caplog: pytest.LogCaptureFixture, forwarded: str) -> None:
    caplog.set_level(logging.INFO, "uvicorn.access")
    site = serve(root_path="/mounted")
    asked = "/%C3%A4%20b?c=%20d"
    with site.client() as client:
        client.ask("/hot" + asked.replace("%20b", ""), headers=forwarded)
        client.ask("/cold" + asked, b"", "PUT", forwarded)
        port = client.socket.getsockname()[1]
    address = "10.1.2.3:0" if forwarded else f"127.0.0.1:{port}"
    assert [record.getMessage() for record in lines(caplog)] == [
        f'{address} - "GET /mounted/hot/%C3%A4?c=%20d HTTP/1.1" 200',
        f'{address} - "PUT /mounted/cold/%C3%A4%20b?c=%20d HTTP/1.1" 200',
    ]
    hot, cold = lines(caplog)
    # uvicorn's formatter takes the arguments apart.
    assert [type(each) for each in hot.args or ()] == [type(each) for each in cold.args or ()]


def test_every_answer_is_in_the_access_log(serve: Serve, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "uvicorn.access")
    site = serve()
    for path, body in (("/hot/status/404", b""), ("/hot/broken", b""), ("/hot/quick", b"x" * 1001)):
        site.ask(path, body)
    assert [record.args[-1] for record in lines(caplog) if isinstance(record.args, tuple)] == [404, 500, 413]


def test_there_may_be_no_access_log(serve: Serve, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "uvicorn.access")
    access = logging.getLogger("uvicorn.access")
    try:
        site = serve(access_log=False)
        site.ask("/hot/quick")
        assert lines(caplog) == []
    finally:
        access.propagate = True


HEADERS = [
    "X-Forwarded-For: 10.1.2.3\r\n",
    "x-forwarded-for: 10.1.2.3, 127.0.0.1\r\n",
    "X-Forwarded-For: 10.1.2.3\r\nX-Forwarded-For: 10.9.9.9:80\r\n",
    "X-Forwarded-For: [::2]:80\r\n",
    "X-Forwarded-For: \r\n",
    "X-Forwarded-For: 127.0.0.1, ::1\r\n",
    "X-Forwarded-For: no address\r\n",
    "X-Forwarded-For: \xff\xfe\r\n",
    "X-Forwarded-Proto: https\r\n",
    "X-Forwarded-Proto: https \r\nX-Forwarded-For: 10.1.2.3\r\n",
    "X-Forwarded-Proto: https\r\nX-Forwarded-Proto: gopher\r\n",
    "X-Forwarded-Proto: https, http\r\n",
]


def as_uvicorn(headers: str, trusted: str) -> tuple[str | None, str]:
    """The client's address and the scheme that an application would see."""
    seen: list[Any] = []

    async def application(scope: Any, receive: Any, send: Any) -> None:
        seen.append(scope)

    pairs = [line.partition(": ") for line in headers.split("\r\n")[:-1]]
    scope = {
        "type": "http",
        "client": ("127.0.0.1", 1),
        "scheme": "http",
        "headers": [(name.lower().encode(), value.strip().encode("latin1")) for name, _, value in pairs],
    }
    coroutine: Any = ProxyHeadersMiddleware(application, trusted)(scope, None, None)  # type: ignore[arg-type]
    with pytest.raises(StopIteration):
        coroutine.send(None)
    return seen[0]["client"][0], seen[0]["scheme"]


@pytest.mark.parametrize("trusted", ["127.0.0.1,::1", "*", "10.0.0.0/8", ""])
def test_proxy_headers(serve: Serve, trusted: str) -> None:
    site = serve(forwarded_allow_ips=trusted)
    with site.client() as client:
        for headers in HEADERS:
            client.send(request("/hot/echo", headers=headers))
            given = json.loads(client.answer().body)
            assert (given["peer"], given["scheme"]) == as_uvicorn(headers, trusted), headers


def test_proxy_headers_may_be_off(serve: Serve) -> None:
    site = serve(proxy_headers=False)
    given = json.loads(site.ask("/hot/echo", headers=HEADERS[9]).body)
    assert (given["peer"], given["scheme"]) == ("127.0.0.1", "http")
