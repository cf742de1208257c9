"""REST framework's throttles on the server: what REST framework's own do not do, and what differs."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from django.contrib.auth.models import AnonymousUser, User
from django.test import override_settings
from support.caches import cache_setting
from support.server import ValkeyServer, wait_until

pytest.importorskip("rest_framework")

from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.settings import api_settings
from rest_framework.test import APIRequestFactory, force_authenticate
from rest_framework.views import APIView

from django_vcache.rest_framework import AnonRateThrottle, ScopedRateThrottle, SimpleRateThrottle, UserRateThrottle

pytestmark = pytest.mark.usefixtures("default_alias", "throttles_as_before")


class Page(APIView):
    def get(self, request: Any) -> Response:
        return Response("foo")


def test_without_an_address_all_clients_are_one_and_it_is_logged(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    from django_vcache.admission.views import address

    monkeypatch.setattr(address, "_warned", {})
    request = Request(APIRequestFactory().get("/", REMOTE_ADDR=""))
    with caplog.at_level("WARNING", "django_vcache"):
        assert AnonRateThrottle().get_cache_key(request, None) == "throttle_anon_None"
    [record] = caplog.records
    assert "TRUSTED_PROXIES" in record.getMessage()


def test_a_request_that_came_by_fewer_proxies_is_its_peers() -> None:
    api_settings.NUM_PROXIES = 2
    request = Request(APIRequestFactory().get("/", headers={"x-forwarded-for": "6.6.6.6"}, REMOTE_ADDR="192.0.2.1"))
    assert AnonRateThrottle().get_ident(request) == "192.0.2.1"


def statuses(view: Any, count: int, user: Any = None, peer: str = "192.0.2.1") -> list[int]:
    found = []
    for _ in range(count):
        request = APIRequestFactory().get("/", REMOTE_ADDR=peer)
        force_authenticate(request, user or AnonymousUser())
        found.append(view(request).status_code)
    return found


def view_with(*throttles: Any, **attributes: Any) -> Any:
    return type("Throttled", (Page,), {"throttle_classes": throttles, **attributes}).as_view()


def test_the_classes_are_rest_frameworks_own_kind() -> None:
    from rest_framework import throttling

    from django_vcache import rest_framework as ours

    assert issubclass(ours.ValkeyAnonRateThrottle, throttling.AnonRateThrottle)
    assert issubclass(ours.ValkeyUserRateThrottle, throttling.UserRateThrottle)
    assert issubclass(ours.ValkeyScopedRateThrottle, throttling.ScopedRateThrottle)
    assert ours.UserRateThrottle is ours.ValkeyUserRateThrottle
    assert ours.SimpleRateThrottle is ours.ValkeyRateThrottle
    assert (ours.AnonRateThrottle.scope, ours.UserRateThrottle.scope) == ("anon", "user")


def test_default_rates_of_the_settings_are_used() -> None:
    rates = {"anon": "2/hour", "user": "3/day"}
    anon = type("Anon", (AnonRateThrottle,), {"THROTTLE_RATES": rates})
    user = type("User", (UserRateThrottle,), {"THROTTLE_RATES": rates})
    view = view_with(anon, user)
    assert statuses(view, 3) == [200, 200, 429]
    assert statuses(view, 4, user=User(pk=5)) == [200, 200, 200, 429]


def test_scopes_have_budgets_of_their_own() -> None:
    scoped = type("Scoped", (ScopedRateThrottle,), {"THROTTLE_RATES": {"x": "3/hour", "y": "1/hour"}})
    x, y = view_with(scoped, throttle_scope="x"), view_with(scoped, throttle_scope="y")
    assert [*statuses(x, 4), *statuses(y, 2)] == [200, 200, 200, 429, 200, 429]
    # A view of the same scope shares it.
    assert statuses(view_with(scoped, throttle_scope="x"), 1) == [429]


def test_a_request_is_let_through_again_when_a_part_of_the_period_is_over() -> None:
    slow = view_with(type("Slow", (UserRateThrottle,), {"rate": "1/h", "scope": "refilled"}))
    assert statuses(slow, 2) == [200, 429]
    # What was charged is kept; at this rate it is given back while a test may wait for it.
    fast = view_with(type("Fast", (UserRateThrottle,), {"rate": "5/5s", "burst": 1, "scope": "refilled"}))
    wait_until(lambda: statuses(fast, 1) == [200])
    assert statuses(slow, 1) == [429]


def test_every_throttle_of_a_view_sees_each_request_and_the_longest_wait_is_told() -> None:
    short = type("Short", (UserRateThrottle,), {"rate": "3/hour", "scope": "short"})
    long = type("Long", (UserRateThrottle,), {"rate": "5/day", "scope": "long"})
    view = view_with(short, long)
    assert statuses(view, 5) == [200, 200, 200, 429, 429]
    response = view(APIRequestFactory().get("/", REMOTE_ADDR="192.0.2.1"))
    # Five a day is one in 17,280 seconds.
    assert 17_000 < int(response["Retry-After"]) <= 17_280


def test_a_parse_rate_and_a_cache_key_of_ones_own_are_used(server: ValkeyServer) -> None:
    class Own(SimpleRateThrottle):
        rate = "two in half an hour"
        scope = "own"

        def parse_rate(self, rate: str | None) -> Any:
            return 2, 1800.5

        def get_cache_key(self, request: Any, view: Any) -> str:
            return "everybody"

    view = view_with(Own)
    assert statuses(view, 2) == [200, 200]
    assert statuses(view, 1, peer="192.0.2.9") == [429]
    assert server.keys() == [b"vcache:2:{v00}:t:own:own=everybody"]


@pytest.mark.parametrize("sent", ["ü" * 5000 + "\ud800", ""], ids=["long", "empty"])
def test_long_and_odd_cache_keys_are_hashed(server: ValkeyServer, sent: str) -> None:
    class Own(SimpleRateThrottle):
        rate = "1/day"
        scope = "any thing: at {all}"

        def get_cache_key(self, request: Any, view: Any) -> str:
            return sent

    assert statuses(view_with(Own), 2) == [200, 429]
    [key] = server.keys()
    assert key.startswith(b"vcache:2:{v00}:t:any_thing__at__all_:")
    assert len(key) < 100


def test_hooks_for_success_and_failure_are_called() -> None:
    called: list[str] = []

    class Hooked(UserRateThrottle):
        rate = "1/day"
        scope = "hooked"

        def throttle_success(self) -> bool:
            called.append("success")
            return super().throttle_success()

        def throttle_failure(self) -> bool:
            called.append("failure")
            return bool(super().throttle_failure())

    statuses(view_with(Hooked), 2)
    assert called == ["success", "failure"]


def test_a_burst_may_be_less_than_the_rate() -> None:
    view = view_with(type("Even", (UserRateThrottle,), {"rate": "100/day", "burst": 2, "scope": "even"}))
    assert statuses(view, 3) == [200, 200, 429]


def test_wait_is_none_before_a_request_and_for_what_never_passes() -> None:
    throttle = type("Never", (UserRateThrottle,), {"rate": "0/day", "scope": "never"})()
    assert throttle.wait() is None
    request = Request(APIRequestFactory().get("/"))
    assert throttle.allow_request(request, None) is False
    assert throttle.wait() is None
    response = view_with(type(throttle))(APIRequestFactory().get("/"))
    assert response.status_code == 429
    assert "Retry-After" not in response


def test_two_at_once_do_not_slip_through_together() -> None:
    """REST framework reads, counts and writes in three steps, and loses counts between them."""
    view = view_with(type("Strict", (UserRateThrottle,), {"rate": "10/day", "scope": "strict"}))
    found: list[int] = []

    def worker() -> None:
        found.extend(statuses(view, 10))

    threads = [threading.Thread(target=worker) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (found.count(200), found.count(429)) == (10, 70)


def test_the_middleware_tells_of_it() -> None:
    from django.http import HttpResponse

    from django_vcache.admission.middleware import RateLimitHeadersMiddleware

    view = view_with(type("Told", (UserRateThrottle,), {"rate": "5/day", "scope": "told"}))

    def rendered(request: Any) -> HttpResponse:
        response = view(request)
        return HttpResponse(status=response.status_code)

    response = RateLimitHeadersMiddleware(rendered)(APIRequestFactory().get("/"))
    assert isinstance(response, HttpResponse)
    assert response.headers["RateLimit-Policy"] == '"told";q=5;w=86400'


def test_the_cache_attribute_or_using_or_the_setting_names_the_server(server: ValkeyServer) -> None:
    from django.core.cache import caches

    from django_vcache.backend import publish_alias
    from django_vcache.exceptions import ConfigurationError

    locmem = {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"}
    settings = {"default": locmem, "counts": cache_setting(server, DB=1), "others": cache_setting(server, DB=2)}
    with override_settings(CACHES=settings, VCACHE={"THROTTLE_ALIAS": "counts"}):
        publish_alias("counts")
        publish_alias("others")
        base: dict[str, Any] = {"rate": "1/day", "scope": "placed"}
        assert statuses(view_with(type("A", (UserRateThrottle,), base)), 2) == [200, 429]
        assert statuses(view_with(type("B", (UserRateThrottle,), {**base, "using": "others"})), 2) == [200, 429]
        cached = {**base, "scope": "cached", "cache": caches["others"]}
        assert statuses(view_with(type("C", (UserRateThrottle,), cached)), 2) == [200, 429]
        foreign = {**base, "cache": caches["default"]}
        with pytest.raises(ConfigurationError, match=r"LocMemCache.*set `using`"):
            statuses(view_with(type("D", (UserRateThrottle,), foreign)), 1)
    keyspace = {name: value.split(",")[0] for name, value in server.info("keyspace").items()}
    assert keyspace == {"db1": "keys=1", "db2": "keys=2"}


def test_an_outage_lets_through_or_is_a_503_as_the_class_says() -> None:
    from django_vcache.backend import publish_alias

    with ValkeyServer() as gone:
        setting = cache_setting(gone)
    with override_settings(CACHES={"gone": setting, "default": setting}):
        publish_alias("gone")
        base = {"rate": "1/day", "using": "gone"}
        assert statuses(view_with(type("Open", (UserRateThrottle,), {**base, "scope": "open"})), 3) == [200] * 3
        closed = view_with(type("Closed", (UserRateThrottle,), {**base, "scope": "closed", "outage": "closed"}))
        assert statuses(closed, 2) == [503, 503]
        wrong = view_with(type("Wrong", (UserRateThrottle,), {**base, "scope": "wrong", "outage": "maybe"}))
        with pytest.raises(ValueError, match=r"maybe.*outage policy"):
            statuses(wrong, 1)


def test_a_server_that_does_not_answer_in_time_is_an_outage(fresh_server: ValkeyServer) -> None:
    from django_vcache.backend import publish_alias

    with override_settings(CACHES={"slow": cache_setting(fresh_server), "default": cache_setting(fresh_server)}):
        publish_alias("slow")
        base = {"rate": "1/day", "scope": "slow", "using": "slow", "outage": "closed"}
        patient = view_with(type("Patient", (UserRateThrottle,), base))
        assert statuses(patient, 1) == [200]
        fresh_server.pause()
        hasty = view_with(type("Hasty", (UserRateThrottle,), {**base, "deadline": 0.01}))
        assert statuses(hasty, 1, peer="192.0.2.7") == [503]
        fresh_server.resume()
