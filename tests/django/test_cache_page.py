"""Whole pages through Django's real WSGI and ASGI handlers: a response with cookies is cached,
comes back with them, and survives being cached a second time. Sessions ride along.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Iterator
from http.cookies import SimpleCookie
from typing import Any
from wsgiref.util import setup_testing_defaults

import pytest
from django.core.handlers.asgi import ASGIHandler
from django.core.handlers.wsgi import WSGIHandler
from django.http import HttpRequest, HttpResponse
from django.test import override_settings
from django.urls import path
from django.views.decorators.cache import cache_page
from support.caches import cache_setting
from support.driver import LOOPS, open_runner
from support.server import ValkeyServer

visits = itertools.count(1)
MIDDLEWARE = [
    "django.middleware.cache.UpdateCacheMiddleware",
    "django.middleware.cache.FetchFromCacheMiddleware",
]


def page(request: HttpRequest) -> HttpResponse:
    response = HttpResponse(f"visit {next(visits)}", headers={"X-Own": "clé".encode("latin-1")})
    response.set_cookie("seen", "yes", max_age=60)
    response.set_signed_cookie("signed", "v", samesite="Lax")
    return response


async def async_page(request: HttpRequest) -> HttpResponse:
    await asyncio.sleep(0)
    return page(request)


def session(request: Any) -> HttpResponse:
    request.session["n"] = request.session.get("n", 0) + 1
    return HttpResponse(str(request.session["n"]))


async def async_session(request: Any) -> HttpResponse:
    await request.session.aset("n", await request.session.aget("n", 0) + 1)
    return HttpResponse(str(await request.session.aget("n")))


once = cache_page(60)(page)
urlpatterns = [
    path("page", page),
    path("async-page", async_page),
    path("once", once),
    path("twice", cache_page(60, cache="outer")(once)),
    path("session", session),
    path("async-session", async_session),
]

Reply = tuple[int, bytes, SimpleCookie]
Get = Callable[..., Reply]


def reply(status: int, headers: list[tuple[str, str]], body: bytes) -> Reply:
    cookies: SimpleCookie = SimpleCookie()
    for name, value in headers:
        if name.lower() == "set-cookie":
            cookies.load(value)
    return status, body, cookies


def wsgi_get(path: str, cookie: str = "") -> Reply:
    environ: dict[str, Any] = {"PATH_INFO": path, "HTTP_COOKIE": cookie}
    setup_testing_defaults(environ)
    started: list[Any] = []
    response = WSGIHandler()(environ, lambda status, headers: started.extend((status, headers)))
    try:
        body = b"".join(response)
    finally:
        response.close()
    return reply(int(started[0].split()[0]), started[1], body)


async def asgi_get(path: str, cookie: str = "") -> Reply:
    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": "GET",
        "path": path,
        "query_string": b"",
        "headers": [(b"host", b"127.0.0.1"), (b"cookie", cookie.encode())],
    }
    sent: list[dict[str, Any]] = []
    requests = iter([{"type": "http.request", "body": b"", "more_body": False}])

    async def receive() -> dict[str, Any]:
        message = next(requests, None)
        if message is None:
            await asyncio.Event().wait()  # the client stays until it has the answer
        assert message is not None
        return message

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    await ASGIHandler()(scope, receive, send)
    start, *bodies = sent
    headers = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in start["headers"]]
    return reply(start["status"], headers, b"".join(part["body"] for part in bodies))


@pytest.fixture(params=["wsgi", *LOOPS])
def get(request: pytest.FixtureRequest) -> Iterator[Get]:
    """GET a path through Django's WSGI handler, and through its ASGI handler on each loop."""
    if request.param == "wsgi":
        yield wsgi_get
        return
    with open_runner(request.param) as runner:
        yield lambda *args: runner.run(asgi_get(*args))


@pytest.fixture
def sites(server: ValkeyServer) -> Iterator[Callable[..., None]]:
    """Configures a site on our cache: `sites(**settings)`."""
    applied = []

    def configure(**settings: Any) -> None:
        caches = {
            "default": cache_setting(server),
            "outer": cache_setting(server, KEY_PREFIX="outer"),
        }
        override = override_settings(ROOT_URLCONF=__name__, CACHES=caches, **settings)
        override.enable()
        applied.append(override)

    yield configure
    for override in reversed(applied):
        override.disable()


def check_cached(get: Get, path: str) -> None:
    first = get(path)
    assert first[0] == 200
    assert first[1].startswith(b"visit ")
    assert first[2]["seen"].value == "yes"
    assert set(first[2]) == {"seen", "signed"}
    for _ in range(2):
        assert get(path) == first


def test_a_page_with_cookies_is_cached(get: Get, sites: Any) -> None:
    sites()
    check_cached(get, "/once")
    assert get("/page")[1] != get("/page")[1]


def test_a_cached_page_is_cached_again(get: Get, sites: Any, server: ValkeyServer) -> None:
    """The outer cache stores a response that the inner one has unpickled before."""
    sites()
    check_cached(get, "/twice")
    for key in server.keys("outer:*"):
        server.execute("DEL", key)
    check_cached(get, "/twice")


@pytest.mark.parametrize("path", ["/page", "/async-page"])
def test_a_site_behind_the_cache_middleware(get: Get, sites: Any, path: str) -> None:
    sites(MIDDLEWARE=MIDDLEWARE)
    check_cached(get, path)


@pytest.mark.parametrize("path", ["/session", "/async-session"])
def test_sessions_live_in_the_cache(get: Get, sites: Any, server: ValkeyServer, path: str) -> None:
    sites(
        MIDDLEWARE=["django.contrib.sessions.middleware.SessionMiddleware"],
        SESSION_ENGINE="django.contrib.sessions.backends.cache",
    )
    _, body, cookies = get(path)
    assert body == b"1"
    [key] = server.keys()
    assert key.startswith(b":1:django.contrib.sessions.cache")
    cookie = f"sessionid={cookies['sessionid'].value}"
    assert get(path, cookie)[1] == b"2"
    assert get(path, cookie)[1] == b"3"
    assert get(path)[1] == b"1"
