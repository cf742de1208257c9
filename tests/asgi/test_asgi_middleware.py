"""Middleware under our handler does what it does under Django's: each stack answers the same requests under both, and
what its hooks saw is compared."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
from django.core.handlers import asgi
from django.test import override_settings
from support.asgi import Exchange, get
from support.asgi_middleware import DJANGO, MORE, events, ours, threads
from support.driver import open_runner

from django_vcache.asgi import ASGIHandler

pytestmark = pytest.mark.usefixtures("middleware_site")


@pytest.fixture
def run() -> Iterator[Any]:
    """One loop is enough for these: what depends on the loop is tested with the requests."""
    with open_runner("asyncio") as runner:
        yield runner.run


def answer(handler: Any, run: Any, where: str, **given: Any) -> tuple[Any, ...]:
    """What a request comes to: the response, and what the hooks noted."""
    events.clear()
    threads.clear()
    exchange: Exchange = run(get(handler, where, **given))
    headers = exchange.answer_headers
    return exchange.status, exchange.content, headers, list(events)


STACKS = {
    "one": ours("One"),
    "three": ours("One", "Two", "Three"),
    "gaps": ours("OnlyRequest", "One", "OnlyResponse", "Two", "OnlyRequest"),
    "function between": ours("One", "function", "Two"),
    "function within": ours("One", "Two", "function"),
    "function around": ours("function", "One", "Two"),
    "async between": ours("One", "AsyncOnly", "Two", "Three"),
    "unused between": ours("One", "Unused", "Two"),
    "own call between": ours("One", "OwnCall", "Two"),
    "Django's between": [*ours("One"), *DJANGO, *ours("Two", "Three")],
    "among Django's": [*DJANGO[:2], *ours("One"), *DJANGO[2:5], *ours("Subclass", "Three"), *DJANGO[5:], *MORE],
}
WISHES = [
    "",
    *(f"two={wish}-{hook}" for wish in ("answer", "fail", "404") for hook in ("request", "view", "response")),
    "one=fail-response&two=fail-request",
    "one=answer-request",
    "one=fail-request",
    "three=answer-exception",
    "three=fail-exception",
    "three=fail-response&two=answer-response",
]


CASES = [
    *(f"/{view}/?{wish}" for view in ("page", "fails") for wish in WISHES),
    *(
        f"/{view}/?{wish}"
        for view in ("blocking", "rendered", "absent")
        for wish in ("", "two=answer-response", "two=fail-view")
    ),
]
# What Django's handler answers, by the stack.
DJANGOS_ANSWERS: dict[str, list[tuple[Any, ...]]] = {}


@pytest.mark.parametrize("stack", STACKS)
@pytest.mark.parametrize("inline", [(), ours("One", "Two", "Three"), ours("Two")], ids=["none", "all", "two"])
def test_a_stack_behaves_as_under_djangos_handler(run: Any, stack: str, inline: tuple[str, ...]) -> None:
    with override_settings(MIDDLEWARE=STACKS[stack], VCACHE={"INLINE_MIDDLEWARE": list(inline)}):
        # Of the setting, Django's handler knows nothing.
        if stack not in DJANGOS_ANSWERS:
            djangos = asgi.ASGIHandler()
            DJANGOS_ANSWERS[stack] = [answer(djangos, run, where) for where in CASES]
        here = ASGIHandler()
        for where, expected in zip(CASES, DJANGOS_ANSWERS[stack], strict=True):
            assert answer(here, run, where) == expected, where


def scrubbed(result: tuple[Any, ...]) -> tuple[Any, ...]:
    """Without what is another each time."""
    status, content, headers, noted = result
    cookie = re.sub(r"(sessionid|csrftoken|messages)=[^;]+|expires=[^;]+", r"\1", headers.get("Set-Cookie", ""))
    headers = headers | {"Set-Cookie": cookie, "ETag": "any" if "ETag" in headers else "none"}
    content = re.sub(rb'nonce="[^"]+"|^\w{64}$', b"any", content)
    return status, content, headers, noted


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"SESSION_SAVE_EVERY_REQUEST": True},
        {"SESSION_ENGINE": "django.contrib.sessions.backends.signed_cookies"},
        {"SESSION_ENGINE": "django.contrib.sessions.backends.file"},
        {"CSRF_USE_SESSIONS": True},
        {"MESSAGE_STORAGE": "django.contrib.messages.storage.cookie.CookieStorage"},
        {"MESSAGE_STORAGE": "django.contrib.messages.storage.session.SessionStorage"},
        {"SECURE_SSL_REDIRECT": True, "SECURE_HSTS_SECONDS": 60},
        {"VCACHE": {"INLINE": False}},
        {"VCACHE": {"LANES": 0}},
    ],
    ids=str,
)
def test_djangos_middleware_behaves_as_under_djangos_handler(run: Any, settings: dict[str, Any], tmp_path: Any) -> None:
    visitors: list[Any] = [{}, {b"cookie": b"sessionid=gone"}, {b"accept-language": b"de"}, {}]
    with override_settings(MIDDLEWARE=[*DJANGO, *MORE], SESSION_FILE_PATH=str(tmp_path), **settings):
        told = {handler: [visit(handler, run, dict(each)) for each in visitors] for handler in HANDLERS}
    for visitor, ours_, djangos in zip(visitors, *told.values(), strict=True):
        assert ours_ == djangos, visitor


HANDLERS = (ASGIHandler, asgi.ASGIHandler)


def visit(handler: type, run: Any, headers: dict[bytes, bytes]) -> list[Any]:
    """The answers that a client gets which keeps its cookies."""
    told = []
    for where, method in [
        ("/page/", "GET"),
        ("/page", "GET"),
        ("/absent", "GET"),
        ("/reads/", "GET"),
        ("/visits/", "GET"),
        ("/visits/", "GET"),
        ("/says/", "GET"),
        ("/page/", "GET"),
        ("/hears/", "GET"),
        ("/token/", "GET"),
        ("/post/", "POST"),
        ("/exempt/", "POST"),
        ("/fails-after-write/", "GET"),
        ("/fails/", "GET"),
        ("/flushes/", "GET"),
        ("/reads/", "GET"),
    ]:
        exchange: Exchange = run(get(handler(), where, method=method, headers=tuple(headers.items())))
        if given := exchange.answer_headers.get("Set-Cookie"):
            kept = dict(part.split(b"=", 1) for part in headers.get(b"cookie", b"").split(b"; ") if part)
            name, _, value = given.partition(";")[0].partition("=")
            kept[name.encode()] = value.encode()
            headers[b"cookie"] = b"; ".join(b"=".join(item) for item in kept.items())
        told.append((where, *scrubbed((exchange.status, exchange.content, exchange.answer_headers, []))))
    return told
