"""Hot routes behind a root path build the URLs that Django's handler does, and know the same of the server."""

from __future__ import annotations

import json

import pytest
from django.http import JsonResponse
from django.urls import reverse
from support import hot_site
from support.hot import routes
from support.hot_server import HOT, HotServer

from django_vcache.asgi import ASGIApplication, ASGIHandler
from django_vcache.routing import Request, hot
from django_vcache.uvicorn import _server, _site


@pytest.fixture(autouse=True)
def _routes_of_the_site(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_server, "table", _site.table)
    monkeypatch.setattr(hot_site, "application", ASGIApplication(ASGIHandler()))


async def told(request: Request) -> JsonResponse:
    made = request.as_django()
    return JsonResponse(
        {
            "reverse": reverse("told"),
            "path": request.path,
            "full": made.path,
            "absolute": made.build_absolute_uri(),
            "server": [made.META["SERVER_NAME"], made.META["SERVER_PORT"]],
            "peer": made.META["REMOTE_ADDR"],
        }
    )


@pytest.mark.parametrize("root", ["", "/app"])
def test_each_level_knows_the_root_path(root: str) -> None:
    answers = []
    with routes(hot("told/", told, name="told"), ALLOWED_HOSTS=["localhost"]):
        for http in (HOT, "httptools"):
            with HotServer(http=http, root_path=root) as site:
                found = json.loads(site.ask("/told/").body)
                assert found["server"].pop() == str(site.port)
                answers.append(found)
    assert answers[0] == answers[1]
    assert answers[0]["reverse"] == answers[0]["full"] == f"{root}/told/"
    assert answers[0]["absolute"] == f"http://localhost{root}/told/"


@pytest.mark.parametrize("http", [HOT, "httptools"])
def test_a_redirect_to_https_and_the_log_have_it(http: str, caplog: pytest.LogCaptureFixture) -> None:
    with (
        routes(hot("told/", told, methods=["POST"], name="told"), SECURE_SSL_REDIRECT=True, ALLOWED_HOSTS=["*"]),
        HotServer(http=http, root_path="/app") as site,
    ):
        assert site.ask("/told/").headers["location"] == "https://localhost/app/told/"
    with (
        routes(hot("told/", told, methods=["POST"], name="told"), ALLOWED_HOSTS=["*"]),
        HotServer(http=http, root_path="/app") as site,
    ):
        assert site.ask("/told/").status == 405
    assert "Method Not Allowed (GET): /app/told/" in caplog.text
