"""The middleware that tells clients of their limits, through Django's real handlers, sync and async, and what
`Decision.response()` and `headers()` say."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.http import HttpResponse, StreamingHttpResponse
from django.test import AsyncClient, Client, RequestFactory, override_settings
from django.urls import path
from support.caches import cache_setting
from support.driver import LOOPS, open_runner
from support.server import ValkeyServer

MIDDLEWARE = ["django_vcache.admission.middleware.RateLimitHeadersMiddleware"]

pytestmark = pytest.mark.usefixtures("default_alias", "patient", "limits")

Get = Callable[..., Any]


def by_hand(request: Any) -> HttpResponse:
    from django_vcache.admission import attach

    decision = gate.admit({"org": 1})
    attach(request, decision)
    return HttpResponse("seen") if decision else decision.response()


async def by_hand_async(request: Any) -> HttpResponse:
    from django_vcache.admission import attach

    decision = await gate.aadmit({"org": 1})
    attach(request, decision)
    return HttpResponse("seen") if decision else decision.response()


def untold(request: Any) -> HttpResponse:
    return HttpResponse("seen" if gate.admit({"org": 1}) else "full")


def streamed(request: Any) -> StreamingHttpResponse:
    from django_vcache.admission import attach

    attach(request, gate.admit({"org": 1}))
    return StreamingHttpResponse(iter(["seen"]))


def own_wait(request: Any) -> HttpResponse:
    from django_vcache.admission import attach

    attach(request, gate.admit({"org": 1}, cost=5))
    return HttpResponse(status=429, headers={"Retry-After": "7"})


gate: Any = None
urlpatterns: list[Any] = []


@pytest.fixture(autouse=True)
def views(patient: None) -> None:
    """New ones for each test: a limit remembers for a while whom it has refused."""
    from django_vcache.admission import throttle

    @throttle("2/h", name="short")
    @throttle("100/d", name="long")
    def decorated(request: Any) -> HttpResponse:
        return HttpResponse("seen")

    @throttle("2/h", name="short")
    @throttle("100/d", name="long")
    async def decorated_async(request: Any) -> HttpResponse:
        return HttpResponse("seen")

    @throttle("1/h", name="unblocked", block=False)
    def unblocked(request: Any) -> HttpResponse:
        return HttpResponse("seen")

    @throttle("0/h", name="closed")
    def closed(request: Any) -> HttpResponse:
        return HttpResponse("seen")

    views = [by_hand, by_hand_async, untold, streamed, own_wait, decorated, decorated_async, unblocked, closed]
    urlpatterns[:] = [path(view.__name__, view) for view in views]


@pytest.fixture
def limits() -> Iterator[None]:
    """A gate of the test's own, and the middleware."""
    global gate
    from django_vcache.admission import Gate, Quota, Throttle

    gate = Gate(throttles=[Throttle("org", "2/h")], quotas=[Quota("events", 100, "day")], owner="org")
    with override_settings(ROOT_URLCONF=__name__, MIDDLEWARE=MIDDLEWARE):
        yield


@pytest.fixture(params=["wsgi", *LOOPS])
def get(request: pytest.FixtureRequest) -> Iterator[Get]:
    """Sends a request through Django's handler of that kind."""
    if request.param == "wsgi":
        yield lambda name, **extra: Client(raise_request_exception=True).get(f"/{name}", **extra)
        return
    with open_runner(request.param) as runner:

        def send(name: str, **extra: Any) -> Any:
            async def call() -> Any:
                return await AsyncClient().get(f"/{name}", **extra)

            return runner.run(call())

        yield send


def told(answer: Any) -> dict[str, str]:
    return {name: value for name, value in answer.headers.items() if name == "Retry-After" or "RateLimit" in name}


@pytest.mark.parametrize("view", ["by_hand", "by_hand_async"])
def test_a_decision_made_by_hand_is_told(get: Get, view: str) -> None:
    answer = get(view)
    assert answer.status_code == 200
    headers = told(answer)
    assert headers.keys() == {"RateLimit-Policy", "RateLimit"}
    assert headers["RateLimit-Policy"] == '"org";q=2;w=3600, "events";q=100;w=86400'
    assert re.fullmatch(r'"org";r=1;t=\d+, "events";r=99;t=\d+', headers["RateLimit"])


@pytest.mark.parametrize("view", ["by_hand", "by_hand_async"])
def test_a_refusal_made_by_hand_is_told_once(get: Get, view: str) -> None:
    for _ in range(2):
        assert get(view).status_code == 200
    answer = get(view)
    assert answer.status_code == 429
    assert answer.content == b"Too many requests: refused by the throttle 'org'.\n"
    headers = told(answer)
    assert headers["RateLimit-Policy"].count("org") == 1
    assert 0 < int(headers["Retry-After"]) <= 1800


@pytest.mark.parametrize("view", ["decorated", "decorated_async"])
def test_the_limits_of_decorators_are_told(get: Get, view: str) -> None:
    headers = told(get(view))
    assert headers["RateLimit-Policy"] == '"short";q=2;w=3600, "long";q=100;w=86400'
    assert re.fullmatch(r'"short";r=1;t=\d+, "long";r=99;t=\d+', headers["RateLimit"])
    get(view)
    refused = get(view)
    assert refused.status_code == 429
    assert told(refused).keys() == {"RateLimit-Policy", "RateLimit", "Retry-After"}


def test_a_view_that_goes_on_after_a_refusal_has_no_retry_after(get: Get) -> None:
    get("unblocked")
    answer = get("unblocked")
    assert answer.status_code == 200
    assert told(answer).keys() == {"RateLimit-Policy", "RateLimit"}
    assert ";r=0;" in told(answer)["RateLimit"]


def test_a_retry_after_of_the_views_own_stays(get: Get) -> None:
    assert told(get("own_wait"))["Retry-After"] == "7"


def test_what_was_not_attached_is_not_told(get: Get) -> None:
    assert told(get("untold")) == {}


def test_a_streamed_response_is_told_as_well(get: Get) -> None:
    assert told(get("streamed")).keys() == {"RateLimit-Policy", "RateLimit"}


def test_what_never_passes_has_no_retry_after(get: Get) -> None:
    answer = get("closed")
    assert answer.status_code == 429
    assert "Retry-After" not in told(answer)


def test_the_x_ratelimit_triple_is_there_if_it_is_asked_for(get: Get) -> None:
    with override_settings(VCACHE={"LEGACY_HEADERS": True}):
        headers = told(get("decorated"))
    assert headers.keys() >= {"X-RateLimit-Limit", "X-RateLimit-Remaining", "X-RateLimit-Reset"}
    # Of two limits it is the one that is nearer.
    assert (headers["X-RateLimit-Limit"], headers["X-RateLimit-Remaining"]) == ("2", "1")
    assert 0 < int(headers["X-RateLimit-Reset"]) <= 3600


def test_outside_of_djangos_cache_it_tells_nobody_of_anothers_limits(get: Get) -> None:
    cached = [f"django.middleware.cache.{name}CacheMiddleware" for name in ("Update", "FetchFrom")]
    with override_settings(MIDDLEWARE=MIDDLEWARE + cached):
        assert told(get("decorated")).keys() == {"RateLimit-Policy", "RateLimit"}
        again = get("decorated")
    assert (again.content, told(again)) == (b"seen", {})


def test_outside_of_conditional_get_it_tells_of_what_is_not_modified(get: Get) -> None:
    with override_settings(MIDDLEWARE=[*MIDDLEWARE, "django.middleware.http.ConditionalGetMiddleware"]):
        first = get("decorated")
        again = get("decorated", headers={"if-none-match": first.headers["ETag"]})
    assert again.status_code == 304
    assert told(again).keys() == {"RateLimit-Policy", "RateLimit"}


def test_several_decisions_become_one_set_of_headers() -> None:
    from django_vcache.admission import Throttle
    from django_vcache.admission.responses import headers_of

    wide, narrow = Throttle("wide", "100/d"), Throttle("narrow", "1/h")
    decisions = [wide.check("a"), narrow.check("a"), narrow.check("a"), narrow.check("a", cost=0)]
    headers = headers_of(decisions, legacy=True)
    assert headers["RateLimit-Policy"] == '"wide";q=100;w=86400, "narrow";q=1;w=3600'
    assert headers["RateLimit"].startswith('"wide";r=99;')
    assert headers["X-RateLimit-Limit"] == "1"
    assert 3500 < int(headers["Retry-After"]) <= 3600
    assert headers_of([]) == {}


def test_a_decision_to_go_on_has_no_response() -> None:
    from django_vcache.admission import Throttle

    decision = Throttle("ip", "1/h").check("a")
    with pytest.raises(ValueError, match="only a refusal has a response"):
        decision.response()


def test_an_outage_is_a_503_that_names_the_rule() -> None:
    from django_vcache.admission import Throttle
    from django_vcache.backend import publish_alias

    with ValkeyServer() as gone:
        setting = cache_setting(gone)
    with override_settings(CACHES={"gone": setting, "default": setting}):
        publish_alias("gone")
        decision = Throttle("ip", "1/h", using="gone", outage="closed").check("a")
    response = decision.response()
    assert response.status_code == 503
    assert response.content == b"Service unavailable: ip could not be checked.\n"


def test_decisions_are_found_on_the_request_that_rest_framework_wraps() -> None:
    from django_vcache.admission import Throttle, attach, decisions_of

    request = RequestFactory().get("/")
    wrapped = type("Request", (), {"_request": request})()
    decision = Throttle("ip", "1/h").check("a")
    attach(wrapped, decision)
    assert decisions_of(request) == decisions_of(wrapped) == (decision,)
    assert decisions_of(RequestFactory().get("/")) == ()
