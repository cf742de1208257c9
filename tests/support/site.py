"""A site for the tests of ASGI servers: the module that a server loads. VCACHE_TEST_URL is its cache's server, and
VCACHE_TEST_FOLDER is where it says what a client cannot see."""

from __future__ import annotations

import asyncio
import contextvars
import os
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from asgiref.sync import sync_to_async
from django.conf import settings
from django.core.cache import cache
from django.http import HttpRequest, HttpResponse, StreamingHttpResponse
from django.urls import path

FOLDER = Path(os.environ["VCACHE_TEST_FOLDER"])

settings.configure(
    SECRET_KEY="vcache-tests",
    ALLOWED_HOSTS=["*"],
    ROOT_URLCONF=__name__,
    MIDDLEWARE=[
        "django.middleware.security.SecurityMiddleware",
        "django.contrib.sessions.middleware.SessionMiddleware",
        "django.middleware.common.CommonMiddleware",
        "django.middleware.csrf.CsrfViewMiddleware",
        "django.middleware.clickjacking.XFrameOptionsMiddleware",
    ],
    SESSION_ENGINE="django.contrib.sessions.backends.cache",
    CACHES={"default": {"BACKEND": "django_vcache.ValkeyCache", "LOCATION": os.environ["VCACHE_TEST_URL"]}}
    if os.environ["VCACHE_TEST_URL"]
    else {"default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"}},
    # Not "django_vcache": its app connects when a server starts, and here lifespan is to do it.
    INSTALLED_APPS=["django.contrib.sessions"],
    USE_TZ=True,
)

visitor: contextvars.ContextVar[str] = contextvars.ContextVar("visitor", default="nobody")


async def awaited(request: HttpRequest) -> HttpResponse:
    await cache.aset("key", "from the cache")
    return HttpResponse(await cache.aget("key"))


def blocking(request: HttpRequest) -> HttpResponse:
    return HttpResponse(threading.current_thread().name)


async def context(request: HttpRequest) -> HttpResponse:
    return HttpResponse(f"{visitor.get()} {await sync_to_async(visitor.get)()}")


async def stream(request: HttpRequest) -> StreamingHttpResponse:
    async def parts() -> AsyncIterator[bytes]:
        for number in range(5):
            yield b"%d," % number
            await asyncio.sleep(0.001)

    return StreamingHttpResponse(parts())


async def visits(request: Any) -> HttpResponse:
    count = await request.session.aget("visits", 0) + 1
    await request.session.aset("visits", count)
    return HttpResponse(str(count))


def upload(request: HttpRequest) -> HttpResponse:
    return HttpResponse(str(len(request.body)))


upload.csrf_exempt = True  # type: ignore[attr-defined]


async def slow(request: HttpRequest) -> HttpResponse:
    (FOLDER / "began").touch()
    try:
        await asyncio.sleep(3600)
    finally:
        (FOLDER / "cancelled").touch()
    return HttpResponse()


urlpatterns = [
    path("awaited", awaited),
    path("blocking", blocking),
    path("context", context),
    path("stream", stream),
    path("visits", visits),
    path("upload", upload),
    path("slow", slow),
]


async def others(scope: Any, receive: Any, send: Any) -> None:
    """Says its lifespan's events to the test, and websockets what they say."""
    while True:
        message = await receive()
        match message["type"]:
            case "lifespan.startup" | "lifespan.shutdown":
                (FOLDER / message["type"]).touch()
                await send({"type": f"{message['type']}.complete"})
            case "websocket.connect":
                await send({"type": "websocket.accept"})
            case "websocket.receive":
                await send({"type": "websocket.send", "text": f"you said {message['text']}"})
            case "websocket.disconnect":
                return
        if message["type"] == "lifespan.shutdown":
            return


def make() -> Any:
    from django_vcache.asgi import get_asgi_application

    return get_asgi_application(others)


_inner = make()


async def application(scope: Any, receive: Any, send: Any) -> None:
    """An application around it, as a tool's middleware is one."""
    if scope["type"] == "http":
        visitor.set("somebody")
    await _inner(scope, receive, send)
