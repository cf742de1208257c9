"""The ingest work by calls of a Django cache, as one writes it with any backend.

Three counters are read at once; if none is over its limit, each is raised and the event is put on a stream. That is the
least that it can cost. It is neither atomic nor exact: requests at once read the same counts, and all of them pass.
A cache has no call for a stream, so each backend's own client writes there.
"""

import json
import os
from collections.abc import Awaitable, Callable
from typing import Any

from asgiref.sync import sync_to_async
from django.core.cache import cache
from django.http import HttpRequest, HttpResponse, JsonResponse

from . import work

Add = Callable[[bytes], Awaitable[Any]]


def _ours() -> Add:
    def add(payload: bytes) -> Awaitable[Any]:
        return cache.aexecute("XADD", work.STREAM, "MAXLEN", "~", work.MAXLEN, "*", "payload", payload)

    return add


def _three_two() -> Add:
    words = [work.STREAM.encode(), b"MAXLEN", b"~", str(work.MAXLEN).encode(), b"*", b"payload"]

    def add(payload: bytes) -> Awaitable[Any]:
        return cache.get_raw_client().pipeline_exec([("XADD", [*words, payload])])

    return add


def _add(client: Any, payload: bytes) -> Any:
    return client.xadd(work.STREAM, {"payload": payload}, maxlen=work.MAXLEN)


def _valkey() -> Add:
    async def add(payload: bytes) -> None:
        await _add(await cache.client.get_client(write=True), payload)

    return add


def _redis() -> Add:
    @sync_to_async
    def add(payload: bytes) -> None:
        _add(cache.client.get_client(write=True), payload)

    return add


def _redis_cache() -> Add:
    @sync_to_async
    def add(payload: bytes) -> None:
        _add(cache._cache.get_client(None, write=True), payload)

    return add


_ADDS = {
    "vcache": _ours,
    "django-vcache-3.2": _three_two,
    "django-valkey": _valkey,
    "django-redis": _redis,
    "redis-cache": _redis_cache,
}
add: Add = _ADDS[json.loads(os.environ["BENCH"])["backend"]]()


async def ingest(request: HttpRequest, project_id: int) -> HttpResponse:
    """Checks an event, charges it and puts it on the stream."""
    body = request.body
    try:
        event_id = work.checked(body)
    except ValueError as error:
        return JsonResponse({"error": str(error)}, status=400)
    organisation = work.organisation(project_id)
    charges = {
        f"throttle:{project_id}": (1, work.THROTTLE, work.MINUTE),
        f"events:{organisation}": (1, work.EVENTS, work.DAY),
        f"bytes:{organisation}": (len(body), work.BYTES, work.DAY),
    }
    counts = await cache.aget_many(list(charges))
    for key, (cost, limit, _) in charges.items():
        if counts.get(key, 0) + cost > limit:
            return JsonResponse({"error": f"{key} is used up"}, status=429)
    for key, (cost, _, seconds) in charges.items():
        if key in counts:
            try:
                await cache.aincr(key, cost)
                continue
            except ValueError:
                # Its time was over meanwhile.
                pass
        await cache.aset(key, cost, seconds)
    await add(body)
    return JsonResponse({"id": event_id})
