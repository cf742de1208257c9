"""What budgets are called without `name=`: by the view and the limit, and not by its position. Clients see neither
such a name nor anything that it is made of."""

from __future__ import annotations

from typing import Any

import pytest
from django.http import HttpResponse
from django.test import RequestFactory, override_settings
from support.server import ValkeyServer
from support.views import SHAPES, Call, functions, get, statuses

pytestmark = pytest.mark.usefixtures("default_alias", "patient")


@pytest.fixture(autouse=True)
def unnamed(monkeypatch: pytest.MonkeyPatch) -> None:
    """No view has a budget yet."""
    from django_vcache.admission.views import names

    monkeypatch.setattr(names, "_named", {})


def search(request: Any) -> HttpResponse:
    return HttpResponse("seen")


def names_of(*limits: Any) -> list[str]:
    """What the limits are called around one view, the outermost first."""
    view: Any = search
    for limit in reversed(limits):
        view = limit(view)
    return [name.removeprefix(f"{__name__}.") for _, name in view._vcache_around.rules]


def by_plan(request: Any) -> str:
    return "5/m"


def test_a_name_holds_the_period_and_what_is_not_the_default() -> None:
    from django_vcache.admission import throttle

    assert names_of(throttle("100/m"), throttle("1000/60m"), throttle("5/30s"), throttle("9/d")) == [
        "search.1m",
        "search.1h",
        "search.30s",
        "search.1d",
    ]
    assert names_of(throttle("5/m", key="ip", method="POST")) == ["search.1m.ip.POST"]
    assert names_of(throttle("5/m", key="post:username")) == ["search.1m.post-username"]
    assert names_of(throttle("5/m", key=by_plan, cost=5)) == ["search.1m.by_plan.cost-5"]
    assert names_of(throttle(by_plan, deduct=bool)) == ["search.by_plan.deduct"]


def test_a_decorator_that_is_added_or_moved_renames_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    from django_vcache.admission import throttle
    from django_vcache.admission.views import names

    def made() -> dict[str, Any]:
        return {
            "search.1m.ip": throttle("5/m", key="ip"),
            "search.1d.ip": throttle("100/d", key="ip"),
            "search.1m.user": throttle("50/m", key="user"),
            "search.1m.POST": throttle("7/m", method="POST"),
        }

    for first in range(4):
        monkeypatch.setattr(names, "_named", {})
        limits = list(made().items())
        limits = limits[first:] + limits[:first]
        assert names_of(*(limit for _, limit in limits)) == [name for name, _ in limits]
        monkeypatch.setattr(names, "_named", {})
        alone = limits[0]
        assert names_of(alone[1]) == [alone[0]]


def test_a_rate_that_is_changed_keeps_its_counter(monkeypatch: pytest.MonkeyPatch) -> None:
    from django_vcache.admission import throttle
    from django_vcache.admission.views import names

    found = set()
    # As in the process before, and in the one after.
    for rate in ("1/d", "5/d", "50/24h"):
        monkeypatch.setattr(names, "_named", {})
        found.update(names_of(throttle(rate)))
    assert found == {"search.1d"}


SECRETS = (__name__.encode(), b"support.views", b"search", b"locals", b"_function", b"Page")


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape.__name__)
def test_nothing_tells_a_client_where_the_view_is(call: Call, shape: Any) -> None:
    from django_vcache.admission import decisions_of, throttle
    from django_vcache.admission.middleware import RateLimitHeadersMiddleware

    hour, day = throttle("1/h"), throttle("9/d")
    view = shape(lambda view: hour(day(view)))
    for _ in range(2):
        request = get()
        answer = call(view, request)
        middleware = RateLimitHeadersMiddleware(lambda request, answer=answer: answer)  # type: ignore[misc]
        told = middleware(request)
        assert isinstance(told, HttpResponse)
        assert told.headers["RateLimit-Policy"].count(";q=") == 2
        everything = str(told.headers).encode() + told.content
        assert not any(secret in everything for secret in SECRETS), everything
        assert all(decisions_of(request)[0].rules)
    assert answer.status_code == 429


@functions
def test_headers_that_a_view_takes_from_a_decision_do_not_tell_it_either(call: Call, shape: Any) -> None:
    from django_vcache.admission import decisions_of, throttle

    def own(request: Any, decision: Any) -> HttpResponse:
        headers = decision.headers() | {"X-Sentry-Rate-Limits": f"60:error:organization:{decision.refused_by.rule}"}
        return HttpResponse(status=429, headers=headers)

    refused = call(shape(throttle("0/h", response=own)))
    assert refused.status_code == 429
    assert refused.headers["X-Sentry-Rate-Limits"].startswith("60:error:organization:limit-")
    blocked = shape(throttle("5/h", response=own, name="told"))
    assert call(blocked).status_code == 200

    def telling(view: Any) -> Any:
        @throttle("5/m")
        def wrapper(request: Any) -> HttpResponse:
            [decision] = decisions_of(request)
            return HttpResponse(headers=decision.headers())

        return wrapper

    answer = telling(search)(get())
    assert ";q=5;w=60" in answer.headers["RateLimit-Policy"]
    for response in (refused, answer):
        assert not any(secret in str(response.headers).encode() for secret in SECRETS)


def test_views_are_told_apart_and_a_view_is_always_called_the_same(call: Call) -> None:
    from django_vcache.admission import decisions_of, throttle
    from django_vcache.admission.views.refusal import headers_of

    def other(request: Any) -> HttpResponse:
        return HttpResponse("seen")

    def policy(view: Any) -> str:
        request = get()
        view(request)
        return headers_of(decisions_of(request))["RateLimit-Policy"]

    first, second = throttle("5/m")(search), throttle("5/m")(other)
    assert policy(first) == policy(first) != policy(second)
    assert policy(first).startswith('"limit-')


def test_an_outage_of_a_nameless_limit_names_none() -> None:
    from support.caches import cache_setting

    from django_vcache.admission import throttle
    from django_vcache.backend import publish_alias

    with ValkeyServer() as gone:
        setting = cache_setting(gone)
    with override_settings(CACHES={"gone": setting, "default": setting}):
        publish_alias("gone")
        answer = throttle("1/h", using="gone", outage="closed")(search)(RequestFactory().get("/"))
    assert (answer.status_code, answer.content) == (503, b"Service unavailable: a limit could not be checked.\n")


def test_a_name_that_was_given_is_told(call: Call) -> None:
    from django_vcache.admission import throttle

    view = throttle("1/h", name="search")(search)
    assert statuses(call, view, 1) == [200]
    refused = call(view)
    assert refused.content == b"Too many requests: refused by the throttle 'search'.\n"
    assert refused.headers["RateLimit-Policy"] == '"search";q=1;w=3600'
