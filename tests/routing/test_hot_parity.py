"""One request, sent to each level at which a hot route is answered: status, headers, body and log records are alike."""

from __future__ import annotations

import gzip
import logging
import zlib
from typing import Any

import pytest
from support.hot import Answer, Asked, ask_below, ask_early, ask_view, ask_wsgi, routes, sample_routes

# Connection is for ASGI alone: WSGI leaves it to the server.
NOT_COMPARED = ("connection",)

UUID = "0190a3f0-7c1e-7aaa-8bbb-0123456789ab"
GZIPPED = gzip.compress(b'{"a": [1, 2]}', mtime=0)

REQUESTS = [
    Asked("/echo/"),
    Asked("/echo/?a=1&a=2&b=%C3%BC"),
    Asked("/echo/", "POST", b"some bytes", {"User-Agent": "test/1"}),
    Asked("/echo/", "PATCH", b"\xff\xfe"),
    Asked("/echo/", "HEAD"),
    Asked("/echo/", "OPTIONS"),
    Asked(f"/echo/7/some text/a-b_c/{UUID}/x/y/z.txt"),
    Asked("/echo/", headers={"X-Forwarded-For": "198.51.100.7, 203.0.113.5"}),
    Asked("/post/", "POST", b"x" * 50),
    Asked("/post/", "POST", b"x" * 51),
    Asked("/post/"),
    Asked("/post/", "OPTIONS"),
    Asked("/get/"),
    Asked("/get/", "HEAD"),
    Asked("/get/", "DELETE"),
    Asked("/blocking/5/"),
    Asked("/raw/", "POST", b"\x00\x01"),
    Asked("/raw/", "POST", GZIPPED, {"Content-Encoding": "gzip"}),
    Asked("/raw/", "POST", GZIPPED[:-9], {"Content-Encoding": "gzip"}),
    Asked("/raw/", "POST", b"x", {"Content-Encoding": "lzma"}),
    Asked("/post/", "POST", zlib.compress(b"\0" * 1001), {"Content-Encoding": "deflate"}),
    Asked("/missing/"),
    Asked("/forbidden/"),
    Asked("/broken/"),
    Asked("/wrong/"),
    Asked("/refuses/"),
    Asked("/refuses/", "OPTIONS", headers={"Origin": "https://a.example", "Access-Control-Request-Method": "POST"}),
    Asked("/json/", "POST", b'{"a": [1, null, "x"]}'),
    Asked("/json/", "POST", GZIPPED, {"Content-Encoding": "gzip"}),
    Asked("/json/", "POST", b"{"),
    Asked("/json/", "POST", b"[" * 9000),
    Asked("/json/", "POST", b'"\xff"'),
    Asked("/cors/", headers={"Origin": "https://shop.example"}),
    Asked("/cors/", headers={"Origin": "https://other.example"}),
    Asked("/cors/"),
    Asked("/cors/", "DELETE", headers={"Origin": "https://shop.example"}),
    Asked("/cors/", "OPTIONS", headers={"Origin": "https://shop.example", "Access-Control-Request-Method": "GET"}),
    Asked("/cors/", "OPTIONS", headers={"Origin": "https://other.example", "Access-Control-Request-Method": "GET"}),
]

SETTINGS: list[dict[str, Any]] = [
    {},
    {"DEBUG": True},
    {
        "ALLOWED_HOSTS": ["testserver"],
        "SECURE_SSL_REDIRECT": True,
        "SECURE_HSTS_SECONDS": 60,
        "SECURE_PROXY_SSL_HEADER": ("HTTP_X_FORWARDED_PROTO", "https"),
    },
]


def compared(answer: Answer) -> tuple[int, dict[str, str], bytes]:
    headers = {name: value for name, value in answer.headers.items() if name not in NOT_COMPARED}
    body = answer.body
    if "debug" in headers.get("x-test", "") or b"<title>" in body:
        # Django's page of an error shows the request, which each level makes in its own way.
        headers.pop("content-length")
        body = body.partition(b"</title>")[0]
    return answer.status, headers, body


@pytest.mark.parametrize("asked", REQUESTS, ids=lambda asked: f"{asked.method} {asked.path[:30]}")
@pytest.mark.parametrize("settings", SETTINGS[:2], ids=["production", "debug"])
def test_all_levels_answer_alike(asked: Asked, settings: dict[str, Any], run: Any, caplog: Any) -> None:
    with routes(*sample_routes(), VCACHE={"TRUSTED_PROXIES": 1}, **settings):
        answers, records = [], []
        for ask in (
            lambda: ask_wsgi(asked),
            lambda: run(ask_view(asked)),
            lambda: run(ask_early(asked)),
            lambda: run(ask_below(asked)),
        ):
            caplog.clear()
            with caplog.at_level(logging.DEBUG, "django"):
                answers.append(compared(ask()))
            own = [r for r in caplog.records if r.name.startswith("django.")]
            records.append([(r.name, r.levelname, r.getMessage(), getattr(r, "status_code", None)) for r in own])
    assert answers[0] == answers[1] == answers[2] == answers[3]
    assert records[0] == records[1] == records[2] == records[3]


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Host": "testserver", "X-Forwarded-Proto": "https"}, 200),
        ({"Host": "testserver", "X-Forwarded-Proto": "http"}, 301),
        ({"Host": "testserver"}, 301),
        ({"Host": "evil.example", "X-Forwarded-Proto": "https"}, 400),
        ({"Host": "evil.example"}, 400),
        ({"Host": "testserver:80:80", "X-Forwarded-Proto": "https"}, 400),
    ],
)
def test_hosts_and_https_hold_at_all_levels(headers: dict[str, str], status: int, run: Any) -> None:
    asked = Asked("/echo/?q=1", headers=headers)
    with routes(*sample_routes(), **SETTINGS[2]):
        answers = [compared(each) for each in (ask_wsgi(asked), run(ask_view(asked)), run(ask_early(asked)))]
        # And again, from what was remembered.
        answers += [compared(run(ask(asked))) for ask in (ask_early, ask_below)]
    assert all(answer == answers[0] for answer in answers)
    assert answers[0][0] == status
    secure = headers.get("X-Forwarded-Proto") == "https"
    assert ("strict-transport-security" in answers[0][1]) == secure
    assert answers[0][1]["x-content-type-options"] == "nosniff"
    if status == 301:
        assert answers[0][1]["location"] == "https://testserver/echo/?q=1"
