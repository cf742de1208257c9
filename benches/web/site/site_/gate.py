"""The ingest work with our gate: as a Django view, and as a hot route in Python."""

from django.http import HttpRequest, HttpResponse, JsonResponse

from django_vcache.admission import Gate, Quota, Stream, Throttle
from django_vcache.exceptions import RequestError
from django_vcache.routing import Request

from . import work

gate = Gate(
    throttles=[Throttle("project", f"{work.THROTTLE}/m")],
    quotas=[
        Quota("events", work.EVENTS, "day", key="organisation"),
        Quota("bytes", work.BYTES, "day", key="organisation"),
    ],
    stream=Stream(work.STREAM, maxlen=work.MAXLEN, full="trim"),
    owner="organisation",
    # An outage must void a round, and a row that is slow must not look like one.
    outage="raise",
    deadline=None,
)


async def admitted(project_id: int, body: bytes) -> bool:
    scope = {"project": project_id, "organisation": work.organisation(project_id)}
    return bool(await gate.aadmit(scope, payload=body, costs={"bytes": len(body)}))


async def ingest(request: HttpRequest, project_id: int) -> HttpResponse:
    """As a view."""
    body = request.body
    try:
        event_id = work.checked(body)
    except ValueError as error:
        return JsonResponse({"error": str(error)}, status=400)
    if not await admitted(project_id, body):
        return JsonResponse({"error": "over a limit"}, status=429)
    return JsonResponse({"id": event_id})


async def hot_ingest(request: Request, project_id: int) -> HttpResponse:
    """As the target of a hot route."""
    event_id = _checked(request)
    if not await admitted(project_id, request.body):
        return JsonResponse({"error": "over a limit"}, status=429)
    return JsonResponse({"id": event_id})


async def hot_check(request: Request) -> HttpResponse:
    """The target of a hot route that needs no Valkey."""
    return JsonResponse({"id": _checked(request)})


def _checked(request: Request) -> str:
    try:
        return work.checked(request.body)
    except ValueError as error:
        raise RequestError(str(error), status=400) from None
