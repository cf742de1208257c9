"""Middleware of hot routes: those that come along, and one of a project's."""

from __future__ import annotations

import logging
from typing import Any

import pytest
from django.test import override_settings
from prometheus_client import CollectorRegistry
from support.caches import cache_setting
from support.hot import Asked, ask_early, ask_wsgi, made, routes

from django_vcache.admission import Throttle, attach
from django_vcache.routing import Request, Response, hot
from django_vcache.routing.middleware import access_log, prometheus, rate_limit_headers


def both(asked: Asked, run: Any) -> list[Any]:
    return [run(ask_early(asked)), ask_wsgi(asked)]


def test_they_stand_around_the_target_in_their_order(run: Any) -> None:
    order: list[str] = []

    def named(name: str) -> Any:
        def factory(respond: Any) -> Any:
            async def middleware(request: Request) -> Response:
                order.append(f"{name} before")
                response: Response = await respond(request)
                order.append(f"{name} after")
                response.set(f"X-{name}", "was here")
                return response

            return middleware

        return factory

    with routes(hot("m/", made, middleware=[named("outer"), named("inner")])):
        for answer in both(Asked("/m/"), run):
            assert answer.status == 201
            assert answer.headers["x-outer"] == answer.headers["x-inner"] == "was here"
    assert order == ["outer before", "inner before", "inner after", "outer after"] * 2


def test_a_factory_is_called_once(run: Any) -> None:
    made_of: list[Any] = []

    def factory(respond: Any) -> Any:
        made_of.append(respond)
        return respond

    with routes(hot("m/<int:n>/", made, middleware=[factory])):
        for n in range(3):
            assert [answer.status for answer in both(Asked(f"/m/{n}/"), run)] == [201, 201]
    assert len(made_of) == 1


def test_a_dotted_path_is_imported(run: Any, caplog: pytest.LogCaptureFixture) -> None:
    with (
        routes(hot("m/<str:s>/", made, middleware=["django_vcache.routing.middleware.access_log"])),
        caplog.at_level(logging.INFO, "django_vcache.access"),
    ):
        for _ in both(Asked("/m/a\nb/", "PUT"), run):
            pass
    records = [record for record in caplog.records if record.name == "django_vcache.access"]
    assert len(records) == 2
    for record in records:
        assert record.getMessage().startswith(r"PUT /m/a\nb/ 201 4 ")
        assert (record.method, record.status, record.length) == ("PUT", 201, 4)  # type: ignore[attr-defined]


def test_an_error_is_logged_as_a_500(run: Any, caplog: pytest.LogCaptureFixture) -> None:
    async def fails(request: Request) -> bytes:
        raise RuntimeError("on purpose")

    with (
        routes(hot("f/", fails, middleware=[access_log])),
        caplog.at_level(logging.INFO, "django_vcache.access"),
    ):
        assert [answer.status for answer in both(Asked("/f/"), run)] == [500, 500]
    assert [r.status for r in caplog.records if r.name == "django_vcache.access"] == [500, 500]  # type: ignore[attr-defined]


def test_requests_are_counted_for_prometheus(run: Any) -> None:
    registry = CollectorRegistry()
    with routes(hot("m/<int:n>/", made, methods=["GET"], middleware=[prometheus("m", registry)])):
        for n in range(2):
            both(Asked(f"/m/{n}/"), run)
        # What the route does not take never gets there.
        assert [answer.status for answer in both(Asked("/m/1/", "BREW"), run)] == [405, 405]
    labels = {"route": "m", "method": "GET", "status": "201"}
    assert registry.get_sample_value("vcache_hot_requests_total", labels) == 4
    assert registry.get_sample_value("vcache_hot_request_seconds_count", {"route": "m"}) == 4


def test_two_routes_share_the_metrics(run: Any) -> None:
    registry = CollectorRegistry()
    prometheus("a", registry)
    prometheus("b", registry)


def test_a_client_is_told_of_its_limits(server: Any, run: Any) -> None:
    throttle = Throttle("hot", "2/h")

    async def limited(request: Request) -> Response:
        decision = await throttle.acheck("client")
        attach(request, decision)  # type: ignore[arg-type]
        return Response(200 if decision else 429)

    with (
        override_settings(CACHES={"default": cache_setting(server)}),
        routes(hot("l/", limited, middleware=[rate_limit_headers])),
    ):
        answers = [run(ask_early(Asked("/l/"))) for _ in range(3)]
    assert [answer.status for answer in answers] == [200, 200, 429]
    assert all("ratelimit" in answer.headers for answer in answers)
    assert ["retry-after" in answer.headers for answer in answers] == [False, False, True]
