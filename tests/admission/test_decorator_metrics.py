"""`metrics()` counts what decorators and throttle classes decided in this process, by the names of their budgets."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from django.http import HttpResponse
from django.test import override_settings
from support.caches import cache_setting
from support.server import ValkeyServer
from support.views import Call, functions, get, shapes, statuses, sync_function

pytestmark = pytest.mark.usefixtures("default_alias", "patient")

NOTHING = dict.fromkeys(
    ("admitted", "refused", "deny_cache", "guard", "outages", "outage_open", "outage_closed", "outage_local"), 0
)


@pytest.fixture(autouse=True)
def uncounted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing has been counted yet."""
    from django_vcache.admission.views import counts

    monkeypatch.setattr(counts, "_counts", {})


@shapes
def test_a_limit_counts_for_the_views_that_it_decorates(call: Call, shape: Any) -> None:
    from django_vcache.admission import metrics, throttle

    limit = throttle("2/h", deny_cache=False)
    assert limit.metrics() == NOTHING
    assert statuses(call, shape(limit), 3) == [200, 200, 429]
    assert limit.metrics() == {**NOTHING, "admitted": 2, "refused": 1}
    [name] = metrics()
    assert name.endswith(".1h") or ".1h." in name
    assert metrics()[name] == limit.metrics()


@functions
def test_of_several_the_one_that_refuses_is_counted(call: Call, shape: Any) -> None:
    from django_vcache.admission import metrics, throttle

    short, long = throttle("2/h", name="short", deny_cache=False), throttle("9/d", name="long", deny_cache=False)
    assert statuses(call, shape(lambda view: short(long(view))), 4) == [200, 200, 429, 429]
    assert metrics() == {
        "short": {**NOTHING, "admitted": 2, "refused": 2},
        "long": {**NOTHING, "admitted": 2},
    }


def test_remembered_refusals_are_told_apart(call: Call) -> None:
    from django_vcache.admission import throttle

    limit = throttle("1/h", name="remembers")
    assert statuses(call, sync_function(limit), 3) == [200, 429, 429]
    assert limit.metrics() == {**NOTHING, "admitted": 1, "refused": 1, "deny_cache": 1}


@functions
def test_a_request_that_is_charged_later_is_counted_once(call: Call, shape: Any) -> None:
    from django_vcache.admission import throttle

    limit = throttle("2/h", deny_cache=False, deduct=lambda response: True)
    assert statuses(call, shape(limit), 3) == [200, 200, 429]
    assert limit.metrics() == {**NOTHING, "admitted": 2, "refused": 1}


@functions
def test_outages_are_counted_by_what_became_of_them(call: Call, shape: Any) -> None:
    from django_vcache.admission import throttle
    from django_vcache.backend import publish_alias

    with ValkeyServer() as gone:
        setting = cache_setting(gone)
    limits = {
        outage: throttle("1/h", name=f"outage-{outage}", using="gone", outage=outage, processes=1)
        for outage in ("open", "closed", "local")
    }
    with override_settings(CACHES={"gone": setting, "default": setting}):
        publish_alias("gone")
        found = {outage: statuses(call, shape(limit), 2) for outage, limit in limits.items()}
    assert found == {"open": [200, 200], "closed": [503, 503], "local": [200, 429]}
    assert limits["open"].metrics() == {**NOTHING, "outages": 2, "outage_open": 2}
    assert limits["closed"].metrics() == {**NOTHING, "outages": 2, "outage_closed": 2}
    assert limits["local"].metrics() == {**NOTHING, "outages": 2, "outage_open": 1, "outage_local": 1}


def test_no_count_is_lost_between_threads() -> None:
    from django_vcache.admission import throttle

    limit = throttle("1000000/h")
    view = sync_function(limit)

    def worker() -> None:
        for _ in range(200):
            view(get())

    threads = [threading.Thread(target=worker) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert limit.metrics()["admitted"] == 1600


def test_rest_frameworks_throttles_are_counted_by_their_scopes() -> None:
    framework = pytest.importorskip("django_vcache.rest_framework")
    from rest_framework.request import Request
    from rest_framework.test import APIRequestFactory

    from django_vcache.admission import metrics

    framework._throttle.cache_clear()
    scoped = type("Scoped", (framework.UserRateThrottle,), {"rate": "2/d", "scope": "burst", "deadline": None})
    nameless = type("Nameless", (framework.UserRateThrottle,), {"rate": "2/d", "scope": None, "deadline": None})
    for _ in range(3):
        request = Request(APIRequestFactory().get("/"))
        scoped().allow_request(request, None)
    nameless().allow_request(request, None)
    assert metrics() == {
        "burst": {**NOTHING, "admitted": 2, "refused": 1},
        f"{__name__}.Nameless": {**NOTHING, "admitted": 1},
    }


def test_rest_frameworks_refusals_are_signalled_and_a_class_is_not_told(server: ValkeyServer) -> None:
    framework = pytest.importorskip("django_vcache.rest_framework")
    from rest_framework.request import Request
    from rest_framework.test import APIRequestFactory

    from django_vcache.admission import limit_exceeded
    from django_vcache.admission.middleware import RateLimitHeadersMiddleware

    framework._throttle.cache_clear()
    nameless = type("Nameless", (framework.UserRateThrottle,), {"rate": "1/d", "scope": None, "deadline": None})
    seen: list[Any] = []

    def receive(sender: Any, decision: Any, **kwargs: Any) -> None:
        seen.append((sender, bool(decision)))

    def view(request: Any) -> HttpResponse:
        return HttpResponse(status=200 if nameless().allow_request(Request(request), None) else 429)

    limit_exceeded.connect(receive)
    try:
        answers = [RateLimitHeadersMiddleware(view)(APIRequestFactory().get("/")) for _ in range(2)]
    finally:
        limit_exceeded.disconnect(receive)
    assert seen == [(nameless, False)]
    assert all("Nameless" not in str(answer.headers) for answer in answers if isinstance(answer, HttpResponse))
    assert b"Nameless" in server.keys("*")[0]
