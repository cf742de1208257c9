"""The pages: projects, their issues, and what happened. They work without JavaScript, but for the chart."""

import mimetypes
from pathlib import Path

from django.contrib.staticfiles import finders
from django.db.models import Count, Max, Sum
from django.http import Http404, HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import aget_object_or_404, render
from django.views.decorators.http import require_safe
from ingest.limits import gate

from django_vcache.exceptions import VcacheError

from . import reading
from .counts import MINUTES, counts
from .models import LARGEST_ID, Event, Issue, Project

MOST_ISSUES = 100
MOST_EVENTS = 20


@require_safe
async def index(request: HttpRequest) -> HttpResponse:
    """All projects."""
    found = Project.objects.annotate(
        issue_count=Count("issues"), event_count=Sum("issues__count", default=0), last_seen=Max("issues__last_seen")
    )
    context = {"projects": [project async for project in found], **await counted()}
    return render(request, "tracker/index.html", context)


@require_safe
async def project(request: HttpRequest, project_id: int) -> HttpResponse:
    """A project: what it sends, and its issues, latest first."""
    found = await aget_object_or_404(Project, pk=project_id)
    issues = [issue async for issue in found.issues.order_by("-last_seen", "-pk")[:MOST_ISSUES]]
    context = {
        "project": found,
        "dsn": found.dsn(request.build_absolute_uri("/").rstrip("/")),
        "issues": issues,
        "quotas": await quotas(found),
        **await counted(found.pk),
    }
    return render(request, "tracker/project.html", context)


@require_safe
async def issue(request: HttpRequest, issue_id: int, event_id: str | None = None) -> HttpResponse:
    """An issue, and one of its events: the latest, unless another is asked for."""
    found = await aget_object_or_404(Issue.objects.select_related("project"), pk=issue_id)
    events = found.events.order_by("-received", "-pk")
    event = await (events.filter(event_id=event_id) if event_id else events).afirst()
    if event is None:
        raise Http404("the issue has no such event")
    others = events.defer("data")[:MOST_EVENTS]
    context = {
        "project": found.project,
        "issue": found,
        "event": event,
        "events": [other async for other in others],
        **shown(event),
    }
    return render(request, "tracker/issue.html", context)


def shown(event: Event) -> dict[str, object]:
    """The parts of an event that the page has a place for."""
    data = event.data if isinstance(event.data, dict) else {}
    return {
        "exceptions": reading.exceptions(data),
        "message": reading.message(data),
        "tags": reading.tags(data),
        "asked": reading.asked(data),
        "breadcrumbs": reading.breadcrumbs(data),
    }


@require_safe
async def live(request: HttpRequest, project_id: int | None = None) -> JsonResponse:
    """The chart's numbers: of a project, or of all."""
    if project_id is not None and not 0 < project_id <= LARGEST_ID:
        raise Http404("no project has such a number")
    try:
        return JsonResponse((await counts(project_id or 0)).as_dict(), headers={"Cache-Control": "no-store"})
    except VcacheError:
        return JsonResponse({"detail": "the cache is away"}, status=503, headers={"Retry-After": "5"})


@require_safe
def static(request: HttpRequest, path: str) -> HttpResponse:
    """A file of the pages. In production a web server does this, or WhiteNoise."""
    found = finders.find(path)
    if not found or not Path(found).is_file():
        raise Http404("there is no such file")
    kind, _ = mimetypes.guess_type(path)
    return HttpResponse(Path(found).read_bytes(), content_type=kind, headers={"Cache-Control": "max-age=300"})


async def counted(project_id: int = 0) -> dict[str, object]:
    """The counts for a page, which is there without them too."""
    try:
        return {"counts": await counts(project_id), "minutes": MINUTES}
    except VcacheError:
        return {"counts": None, "minutes": MINUTES}


async def quotas(project: Project) -> list[dict[str, object]]:
    """What a project has used of its month: asked of the gate, which charges it."""
    limits = project.quotas
    try:
        rules = await gate.apeek({"project": project.pk}, limits=limits)
    except VcacheError:
        return []
    used = {rule.name: rule.used for rule in rules}
    return [{"name": name, "used": used[name], "limit": limit} for name, limit in limits.items()]
