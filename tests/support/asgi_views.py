"""Views for the tests of the ASGI handler, which note in `seen` what a client cannot see, and fixtures for them."""

from __future__ import annotations

import asyncio
import contextvars
import io
import threading
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from asgiref.sync import async_to_sync, sync_to_async
from django.core.cache import caches
from django.core.cache.backends.locmem import LocMemCache
from django.core.signals import request_finished, request_started
from django.http import FileResponse, HttpRequest, HttpResponse, StreamingHttpResponse
from django.test import override_settings
from django.urls import path

from django_vcache._lanes import lanes
from django_vcache.asgi import ASGIHandler

seen: list[Any] = []
variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="unset")
local = threading.local()


async def quick(request: HttpRequest) -> HttpResponse:
    seen.append(threading.get_ident())
    return HttpResponse("quick")


async def slow(request: HttpRequest) -> HttpResponse:
    seen.append("began")
    try:
        await asyncio.sleep(3600)
    except asyncio.CancelledError:
        seen.append("cancelled")
        raise
    return HttpResponse()


async def stubborn(request: HttpRequest) -> HttpResponse:
    seen.append("began")
    try:
        await asyncio.sleep(3600)
    except asyncio.CancelledError:
        seen.append("cancelled")
    return HttpResponse("finished")


async def fails_when_cancelled(request: HttpRequest) -> HttpResponse:
    seen.append("began")
    try:
        await asyncio.sleep(3600)
    finally:
        seen.append("cancelled")
        raise ValueError("at the end")


def blocking(request: HttpRequest) -> HttpResponse:
    seen.append(threading.get_ident())
    return HttpResponse(threading.current_thread().name)


async def mixed(request: HttpRequest) -> HttpResponse:
    for _ in range(2):
        seen.append(await sync_to_async(threading.get_ident)())
    await sync_to_async(lambda: async_to_sync(inside)())()
    return HttpResponse()


async def inside() -> None:
    seen.append(await sync_to_async(threading.get_ident)())


async def sets_variable(request: HttpRequest) -> HttpResponse:
    assert variable.get() == "outside"
    await sync_to_async(lambda: variable.set(f"{variable.get()}, thread"))()
    variable.set(f"{variable.get()}, view")
    return HttpResponse()


def sync_sets_variable(request: HttpRequest) -> HttpResponse:
    variable.set(f"{variable.get()}, view")
    return HttpResponse()


async def background(request: HttpRequest) -> HttpResponse:
    go: asyncio.Event = request.scope["go"]  # type: ignore[attr-defined]

    async def outlives() -> None:
        await go.wait()
        seen.append(await sync_to_async(threading.current_thread)())

    seen.append(await sync_to_async(threading.current_thread)())
    request.scope["task"] = asyncio.create_task(outlives())  # type: ignore[attr-defined]
    return HttpResponse()


async def streams(request: HttpRequest) -> StreamingHttpResponse:
    async def parts() -> AsyncIterator[bytes]:
        try:
            for number in range(3):
                yield b"%d" % number
                await asyncio.sleep(0)
            if "wait" in request.GET:
                await asyncio.sleep(3600)
        finally:
            seen.append("closed")

    return StreamingHttpResponse(parts())


async def file(request: HttpRequest) -> FileResponse:
    return FileResponse(io.BytesIO(b"x" * 100_000))


async def echo(request: HttpRequest) -> HttpResponse:
    seen.append(type(request._stream).__name__)  # type: ignore[attr-defined]
    return HttpResponse(request.body)


def upload(request: HttpRequest) -> HttpResponse:
    given = request.FILES["file"]
    seen.append(given)
    return HttpResponse(str(given.size))


def remembers(request: HttpRequest) -> HttpResponse:
    local.count = getattr(local, "count", 0) + 1
    return HttpResponse(str(local.count))


async def uses_cache(request: HttpRequest) -> HttpResponse:
    seen.append(caches["default"])
    request.urlconf = __name__  # type: ignore[attr-defined]
    return HttpResponse()


async def fails(request: HttpRequest) -> HttpResponse:
    raise ValueError("a bug")


urlpatterns = [
    path("quick", quick),
    path("slow", slow),
    path("stubborn", stubborn),
    path("fails-when-cancelled", fails_when_cancelled),
    path("blocking", blocking),
    path("mixed", mixed),
    path("sets-variable", sets_variable),
    path("sync-sets-variable", sync_sets_variable),
    path("background", background),
    path("streams", streams),
    path("file", file),
    path("echo", echo),
    path("upload", upload),
    path("remembers", remembers),
    path("uses-cache", uses_cache),
    path("fails", fails),
]


class Closing(LocMemCache):
    """Says when it is closed."""

    def close(self, **kwargs: Any) -> None:
        seen.append("cache closed")


@pytest.fixture
def view_site() -> Iterator[None]:
    seen.clear()
    cache = {"BACKEND": f"{__name__}.Closing"}
    with override_settings(ROOT_URLCONF=__name__, MIDDLEWARE=[], CACHES={"default": cache}):
        yield


@pytest.fixture
def app() -> ASGIHandler:
    return ASGIHandler()


@pytest.fixture(params=[request_started, request_finished], ids=["started", "finished"])
def signal(request: pytest.FixtureRequest) -> Any:
    return request.param


def idle() -> bool:
    return lanes.state["idle"] == lanes.state["threads"]
