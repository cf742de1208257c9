"""The views that are measured. Each says "ok", and fails if a value is not what was stored."""

from typing import Any

from django.core.cache import cache
from django.http import HttpRequest, HttpResponse, JsonResponse

from . import work

SIX = {f"key-{number}": {"number": number, "name": "x" * 20} for number in range(6)}


async def nothing(request: HttpRequest) -> HttpResponse:
    """What Django costs."""
    return HttpResponse("ok")


def nothing_sync(request: HttpRequest) -> HttpResponse:
    return HttpResponse("ok")


async def store(request: HttpRequest) -> HttpResponse:
    """Puts there what the others read. It is asked once, before anything is measured."""
    for key, value in SIX.items():
        await cache.aset(key, value, timeout=None)
    await cache.aset("hits", 0, timeout=None)
    return HttpResponse("ok")


def _check(found: Any, expected: Any) -> None:
    if found != expected:
        raise ValueError(f"{found!r} was stored as {expected!r}")


async def six(request: HttpRequest) -> HttpResponse:
    """Six values, one after another."""
    for key, value in SIX.items():
        _check(await cache.aget(key), value)
    return HttpResponse("ok")


def six_sync(request: HttpRequest) -> HttpResponse:
    for key, value in SIX.items():
        _check(cache.get(key), value)
    return HttpResponse("ok")


async def mix(request: HttpRequest) -> HttpResponse:
    """Permissions, quotas and a counter, and the event is kept: three reads, many at once, a step and a write."""
    for key in ("key-0", "key-1", "key-2"):
        _check(await cache.aget(key), SIX[key])
    _check(await cache.aget_many(["key-3", "key-4"]), {key: SIX[key] for key in ("key-3", "key-4")})
    await cache.aincr("hits")
    await cache.aset("event", SIX["key-5"], timeout=60)
    return HttpResponse("ok")


async def check(request: HttpRequest) -> HttpResponse:
    """Checks an event, and keeps nothing."""
    try:
        return JsonResponse({"id": work.checked(request.body)})
    except ValueError as error:
        return JsonResponse({"error": str(error)}, status=400)
