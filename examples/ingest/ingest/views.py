"""Takes in events as an error tracker does: check, throttle, put on a stream, answer.

`store` and `store_sync` do the same, for an async and for a sync project. Every command they need,
from the cache and from the hot paths alike, goes over the one connection of the process.
"""

import json
import math
import threading
from collections import Counter
from functools import partial
from uuid import uuid4

from django.conf import settings
from django.core.cache import cache
from django.core.exceptions import RequestDataTooBig
from django.http import HttpRequest, JsonResponse
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_GET, require_POST

from django_vcache import hotpaths

LIMIT_TTL = 60  # seconds for which a project's limit is cached

# Of this process. The lock is there because sync views run in a thread of their own.
counts: Counter[str] = Counter()
counts_lock = threading.Lock()


class Refused(Exception):
    """A request that is not accepted: the HTTP status and the reason to answer with."""

    def __init__(self, status: int, reason: str, headers: dict[str, str] | None = None) -> None:
        super().__init__(reason)
        self.response = JsonResponse({"error": reason}, status=status, headers=headers)


@csrf_exempt
@require_POST
async def store(request: HttpRequest, project_id: int) -> JsonResponse:
    """Accept an event: 200 and its id, or 400, 413 or 429 and the reason."""
    try:
        event = read_event(request)
        count("limit lookups")
        limit = await cache.aget_or_set(limit_key(project_id), partial(load_limit, project_id), LIMIT_TTL)
        decision = await hotpaths.aallow(throttle_key(project_id), limit, settings.INGEST_PERIOD)
        if not decision.allowed:
            raise too_many(decision.retry_after)
    except Refused as refused:
        return refused.response
    event_id, payload = pack(project_id, event)
    await hotpaths.aenqueue(settings.INGEST_STREAM, payload, maxlen=settings.INGEST_STREAM_MAXLEN)
    return JsonResponse({"id": event_id})


@csrf_exempt
@require_POST
def store_sync(request: HttpRequest, project_id: int) -> JsonResponse:
    """Accept an event: 200 and its id, or 400, 413 or 429 and the reason."""
    try:
        event = read_event(request)
        count("limit lookups")
        limit = cache.get_or_set(limit_key(project_id), partial(load_limit, project_id), LIMIT_TTL)
        decision = hotpaths.allow(throttle_key(project_id), limit, settings.INGEST_PERIOD)
        if not decision.allowed:
            raise too_many(decision.retry_after)
    except Refused as refused:
        return refused.response
    event_id, payload = pack(project_id, event)
    hotpaths.enqueue(settings.INGEST_STREAM, payload, maxlen=settings.INGEST_STREAM_MAXLEN)
    return JsonResponse({"id": event_id})


@require_GET
async def stats(request: HttpRequest) -> JsonResponse:
    """What this process counted, and what the server says about it."""
    own = client_fields(await cache.aexecute("CLIENT", "INFO"))
    clients: list[bytes] = (await cache.aexecute("CLIENT", "LIST")).splitlines()
    return JsonResponse(
        {
            "cache_hits": counts["limit lookups"] - counts["limits loaded"],
            "cache_misses": counts["limits loaded"],
            "stream_length": await cache.aexecute("XLEN", settings.INGEST_STREAM),
            # The connections that present themselves as ours does: one a worker process.
            "connections": sum(client_fields(line).get("lib-name") == own.get("lib-name") for line in clients),
        }
    )


def read_event(request: HttpRequest) -> dict[str, object]:
    """The event in the body of a request."""
    limit = settings.DATA_UPLOAD_MAX_MEMORY_SIZE
    try:
        body = request.body  # Django checks the Content-Length here, but a chunked body has none.
    except RequestDataTooBig:
        body = None
    if body is None or len(body) > limit:
        raise Refused(413, f"the event is too large: at most {limit} bytes are accepted")
    try:
        event = json.loads(body, parse_constant=refuse_constant)
    except (ValueError, RecursionError) as error:
        raise Refused(400, f"the body is not JSON: {error}") from error
    if not isinstance(event, dict):
        raise Refused(400, "the body is not a JSON object")
    return event


def refuse_constant(name: str) -> None:
    """Python's parser takes NaN and Infinity, which JSON does not have."""
    raise ValueError(f"{name} is not a number in JSON")


def load_limit(project_id: int) -> int:
    """A project's limit in events a period; stands for a query to the database."""
    count("limits loaded")
    return settings.INGEST_LIMIT


def too_many(retry_after: float | None) -> Refused:
    """The refusal of a project that has used up its limit; `retry_after` is in seconds."""
    if retry_after is None:  # Never, because the limit is 0. It may be raised, though.
        retry_after = settings.INGEST_PERIOD
    # The header takes whole seconds, and a client that comes too early is refused again.
    seconds = max(1, math.ceil(retry_after))
    return Refused(429, "too many events for this project", {"Retry-After": str(seconds)})


def pack(project_id: int, event: dict[str, object]) -> tuple[str, str]:
    """The id of a new event, and what goes on the stream."""
    event_id = uuid4().hex
    return event_id, json.dumps({"id": event_id, "project": project_id, "event": event})


def limit_key(project_id: int) -> str:
    return f"limit:{project_id}"


def throttle_key(project_id: int) -> str:
    return f"throttle:{project_id}"


def count(name: str) -> None:
    with counts_lock:
        counts[name] += 1


def client_fields(line: bytes) -> dict[str, str]:
    """One client of CLIENT LIST or CLIENT INFO: `id=3 addr=... lib-name=... lib-ver=...`."""
    return dict(field.partition("=")[::2] for field in line.decode().split())
