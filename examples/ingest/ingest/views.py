"""Takes in events as an error tracker does: check, throttle, put on a stream, answer.

`store` and `store_sync` do the same, for an async and for a sync project. Every command they need,
from the cache and from the gate alike, goes over the one connection of the process.
"""

import json
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

from django_vcache.admission import Decision

from .limits import gate

LIMIT_TTL = 60  # seconds for which a project's limit is cached

# Of this process. The lock is there because sync views run in a thread of their own.
counts: Counter[str] = Counter()
counts_lock = threading.Lock()


class Refused(Exception):
    """A request that is not accepted: the HTTP status and the reason to answer with."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.response = JsonResponse({"error": reason}, status=status)


@csrf_exempt
@require_POST
async def store(request: HttpRequest, project_id: int) -> JsonResponse:
    """Accept an event: 200 and its id, or 400, 413, 429 or 503 and the reason."""
    try:
        event = read_event(request)
    except Refused as refused:
        return refused.response
    count("limit lookups")
    limit = await cache.aget_or_set(limit_key(project_id), partial(load_limit, project_id), LIMIT_TTL)
    event_id, payload = pack(project_id, event)
    decision = await gate.aadmit({"project": project_id}, payload=payload, rates={"project": rate(limit)})
    return JsonResponse({"id": event_id}) if decision else refusal(decision)


@csrf_exempt
@require_POST
def store_sync(request: HttpRequest, project_id: int) -> JsonResponse:
    """Accept an event: 200 and its id, or 400, 413, 429 or 503 and the reason."""
    try:
        event = read_event(request)
    except Refused as refused:
        return refused.response
    count("limit lookups")
    limit = cache.get_or_set(limit_key(project_id), partial(load_limit, project_id), LIMIT_TTL)
    event_id, payload = pack(project_id, event)
    decision = gate.admit({"project": project_id}, payload=payload, rates={"project": rate(limit)})
    return JsonResponse({"id": event_id}) if decision else refusal(decision)


@require_GET
async def stats(request: HttpRequest) -> JsonResponse:
    """What this process counted, and what the server says about it."""
    own = client_fields(await cache.aexecute("CLIENT", "INFO"))
    clients: list[bytes] = (await cache.aexecute("CLIENT", "LIST")).splitlines()
    return JsonResponse(
        {
            "cache_hits": counts["limit lookups"] - counts["limits loaded"],
            "cache_misses": counts["limits loaded"],
            "stream_length": await gate.stream.alength(),
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


def rate(limit: int) -> str:
    return f"{limit}/{settings.INGEST_PERIOD}s"


def refusal(decision: Decision) -> JsonResponse:
    """The answer to what the gate refused: a project that has used up its limit, a full stream, an outage."""
    headers = decision.headers()
    if decision.never:  # The limit is 0. It may be raised, though.
        headers["Retry-After"] = str(settings.INGEST_PERIOD)
    reason = "too many events for this project" if decision.status == 429 else "no room for the event: try again later"
    return JsonResponse({"error": reason}, status=decision.status, headers=headers)


def pack(project_id: int, event: dict[str, object]) -> tuple[str, str]:
    """The id of a new event, and what goes on the stream."""
    event_id = uuid4().hex
    return event_id, json.dumps({"id": event_id, "project": project_id, "event": event})


def limit_key(project_id: int) -> str:
    return f"limit:{project_id}"


def count(name: str) -> None:
    with counts_lock:
        counts[name] += 1


def client_fields(line: bytes) -> dict[str, str]:
    """One client of CLIENT LIST or CLIENT INFO: `id=3 addr=... lib-name=... lib-ver=...`."""
    return dict(field.partition("=")[::2] for field in line.decode().split())
