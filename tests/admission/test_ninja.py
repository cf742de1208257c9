"""Throttles for Django Ninja on the server, and `@throttle` on Ninja's operations: whom they charge, and where they are
refused."""

from __future__ import annotations

import asyncio
import itertools
import threading
import uuid
from collections.abc import Iterator
from typing import Any

import pytest
from django.contrib.auth.models import AnonymousUser, Permission, User
from django.core.checks import run_checks
from django.http import HttpRequest, HttpResponse
from django.test import RequestFactory, override_settings
from support.caches import cache_setting
from support.driver import LOOPS, open_runner
from support.server import ValkeyServer

pytest.importorskip("ninja")

from ninja import NinjaAPI, Router, Schema
from ninja.decorators import decorate_view
from ninja.security import HttpBearer

from django_vcache import ninja as ours

pytestmark = pytest.mark.usefixtures("default_alias", "patient")

numbers = itertools.count()


@pytest.fixture(autouse=True)
def patient_throttles(monkeypatch: pytest.MonkeyPatch) -> None:
    from django_vcache.admission.views.classes import throttle_of

    # A throttle remembers for a while whom it has refused, and a slow machine is no outage.
    throttle_of.cache_clear()
    monkeypatch.setattr(ours.ValkeyRateThrottle, "deadline", None)


class Bearer(HttpBearer):
    """Whatever a test says that a token stands for."""

    stands_for: dict[str, Any] = {}  # noqa: RUF012

    def authenticate(self, request: Any, token: str) -> Any:
        return self.stands_for.get(token)


@pytest.fixture(autouse=True)
def stands_for() -> Iterator[dict[str, Any]]:
    Bearer.stands_for = {"five": User(pk=5), "seven": User(pk=7)}
    yield Bearer.stands_for
    Bearer.stands_for = {}


def new_api(**kwargs: Any) -> NinjaAPI:
    return NinjaAPI(urls_namespace=f"api-{next(numbers)}", **kwargs)


Ask = Any


@pytest.fixture(params=["sync", *LOOPS])
def ask(request: pytest.FixtureRequest) -> Iterator[Ask]:
    """Has an API answer requests, by operations that are sync or async."""
    with open_runner("asyncio" if request.param == "sync" else request.param) as runner:

        def ask(api: Any, token: str | None = None, peer: str = "192.0.2.1", session: Any = None, **more: Any) -> Any:
            headers = {} if token is None else {"authorization": f"Bearer {token}"}
            asked = RequestFactory().generic(more.pop("method", "GET"), "/x", headers=headers, REMOTE_ADDR=peer, **more)
            asked.user = session or AnonymousUser()
            [view] = [pattern.callback for pattern in api.urls[0] if str(pattern.pattern) == "x"]

            async def awaited() -> Any:
                return await view(asked)

            return runner.run(awaited()) if asyncio.iscoroutinefunction(view) else view(asked)

        ask.is_async = request.param != "sync"  # type: ignore[attr-defined]
        yield ask


def operation(ask: Ask, api: Any, *decorators: Any, **kwargs: Any) -> Any:
    """An operation at /x, sync or async, with decorators below the route."""
    if ask.is_async:

        async def seen(request: HttpRequest) -> str:
            await asyncio.sleep(0)
            return "seen"
    else:

        def seen(request: HttpRequest) -> str:  # type: ignore[misc]
            return "seen"

    view: Any = seen
    for decorate in reversed(decorators):
        view = decorate(view)
    return api.get("/x", **kwargs)(view)


def statuses(ask: Ask, api: NinjaAPI, count: int, *args: Any, **kwargs: Any) -> list[int]:
    return [ask(api, *args, **kwargs).status_code for _ in range(count)]


# The throttle classes.


def test_the_classes_are_ninjas_own_kind() -> None:
    from ninja import throttling

    for name in ("Anon", "Auth", "User"):
        each = getattr(ours, f"{name}RateThrottle")
        assert issubclass(each, getattr(throttling, f"{name}RateThrottle"))
        assert each is getattr(ours, f"Valkey{name}RateThrottle")
        assert each.scope == name.lower()


def test_addresses_are_limited_and_the_wait_is_told(ask: Ask) -> None:
    api = new_api(throttle=[ours.AnonRateThrottle("2/h")])
    operation(ask, api)
    assert statuses(ask, api, 2) == [200, 200]
    refused = ask(api)
    assert refused.status_code == 429
    assert 0 < int(refused.headers["Retry-After"]) <= 1800
    assert statuses(ask, api, 1, peer="192.0.2.2") == [200]
    # What a client writes itself chooses nothing.
    for number in range(3):
        assert statuses(ask, api, 1, HTTP_X_FORWARDED_FOR=f"203.0.113.{number}") == [429]


def test_who_is_authenticated_is_charged_and_not_the_address(ask: Ask, stands_for: Any, server: ValkeyServer) -> None:
    api = new_api(auth=Bearer(), throttle=[ours.AuthRateThrottle("1/h")])
    operation(ask, api)
    stands_for |= {"text": "customer-1", "uuid": uuid.UUID(int=1), "again": User(pk=5), "model": Permission(pk=3)}
    assert [statuses(ask, api, 2, token) for token in ("five", "seven", "text", "uuid", "model")] == [[200, 429]] * 5
    assert statuses(ask, api, 1, "again") == [429]
    keys = b" ".join(server.keys("*"))
    assert b":auth.1-3600s=throttle_auth_user-5" in keys
    assert b"customer" not in keys, "it may be the token itself"


def test_an_object_that_tells_no_client_from_another_is_an_error(ask: Ask, stands_for: Any) -> None:
    """Ninja takes its text, which is another with each request, and would never limit it."""
    from django_vcache.admission import throttle
    from django_vcache.exceptions import ConfigurationError

    class Key:
        pass

    stands_for |= {"object": Key(), "claims": {"sub": 5, "exp": 1}}
    by_class = new_api(auth=Bearer(), throttle=[ours.AuthRateThrottle("1/h")])
    operation(ask, by_class)
    by_decorator = new_api(auth=Bearer())
    by_decorator.add_exception_handler(ConfigurationError, lambda request, error: HttpResponse(str(error), status=500))
    operation(ask, by_decorator, throttle("1/h"))
    for token, name in (("object", "Key"), ("claims", "dict")):
        with pytest.raises(ConfigurationError, match=rf"request.auth is of the type {name}, .*key=lambda request"):
            ask(by_class, token)
        assert f"of the type {name}" in ask(by_decorator, token).content.decode()


def test_users_are_those_of_the_token_or_of_the_session(ask: Ask, server: ValkeyServer) -> None:
    api = new_api(throttle=[ours.UserRateThrottle("1/h")])
    operation(ask, api, auth=[Bearer(), lambda request: True])
    assert statuses(ask, api, 2, "five") == [200, 429]
    assert statuses(ask, api, 2, session=User(pk=5)) == [429, 429]
    assert statuses(ask, api, 2, session=User(pk=9)) == [200, 429]
    assert statuses(ask, api, 2) == [200, 429]
    assert len(server.keys("*")) == 3


def test_the_scopes_rates_are_those_of_the_settings(ask: Ask, server: ValkeyServer, monkeypatch: Any) -> None:
    monkeypatch.setattr(ours.SimpleRateThrottle, "THROTTLE_RATES", {"anon": "1/h"})
    api = new_api(throttle=ours.AnonRateThrottle())
    operation(ask, api)
    assert statuses(ask, api, 2) == [200, 429]
    assert server.keys("*") == [b"vcache:2:{v00}:t:anon:anon=throttle_anon_192.0.2.1"]


def test_rates_that_differ_have_budgets_that_differ(ask: Ask) -> None:
    """Ninja has a throttle for the API and another for an operation, of one class."""
    wide, narrow = new_api(throttle=[ours.AnonRateThrottle("5/h")]), new_api(throttle=[ours.AnonRateThrottle("5/h")])
    operation(ask, wide)
    operation(ask, narrow, throttle=[ours.AnonRateThrottle("1/h")])
    assert statuses(ask, narrow, 2) == [200, 429]
    assert statuses(ask, wide, 6) == [200] * 5 + [429]
    shared = [new_api(throttle=[ours.AnonRateThrottle("2/h", scope="shared")]) for _ in range(2)]
    for api in shared:
        operation(ask, api)
    assert [*statuses(ask, shared[0], 1), *statuses(ask, shared[1], 2)] == [200, 200, 429]


@pytest.mark.parametrize(
    ("rate", "expected"),
    [("100/h", (100, 3600)), ("10/30s", (10, 30)), ("5/2min", (5, 120)), ("7/sec", (7, 1)), ("6/60", (6, 60))],
)
def test_rates_are_what_ninja_takes(rate: str, expected: Any) -> None:
    throttle = ours.AnonRateThrottle(rate)
    assert (throttle.num_requests, throttle.duration) == expected


def test_a_mistake_is_raised_where_the_throttle_is_made() -> None:
    from django_vcache.exceptions import ConfigurationError

    for rate in ("often", "5/fortnight", "10/m/s"):
        with pytest.raises(ConfigurationError, match=f"AnonRateThrottle: .*{rate}"):
            ours.AnonRateThrottle(rate)
    for attributes, text in (({"burst": 0}, "burst"), ({"outage": "shrug"}, "shrug")):
        with pytest.raises(ConfigurationError, match=f"Own: .*{text}"):
            type("Own", (ours.AnonRateThrottle,), attributes)("5/m")


def test_a_subclass_has_its_key_its_burst_and_its_hooks(ask: Ask, server: ValkeyServer) -> None:
    called: list[str] = []

    class Tenant(ours.SimpleRateThrottle):  # type: ignore[misc,valid-type]
        scope = "tenant"
        burst = 2

        def get_cache_key(self, request: Any) -> str | None:
            return "acme" if "authorization" in request.headers else None

        def throttle_success(self) -> bool:
            called.append("success")
            return True

        def throttle_failure(self) -> bool:
            called.append("failure")
            return False

    api = new_api(throttle=Tenant("100/d"))
    operation(ask, api)
    assert statuses(ask, api, 3, "any") == [200, 200, 429]
    assert called == ["success", "success", "failure"]
    assert statuses(ask, api, 5) == [200] * 5
    assert server.keys("*") == [b"vcache:2:{v00}:t:tenant.100-86400s:tenant.100-86400s=acme"]


def test_an_outage_lets_through_or_refuses_as_the_class_says(ask: Ask) -> None:
    from django_vcache.backend import publish_alias

    with ValkeyServer() as gone:
        setting = cache_setting(gone)
    with override_settings(CACHES={"gone": setting, "default": setting}):
        publish_alias("gone")
        for outage, expected in (("open", 200), ("closed", 429)):
            own = type("Own", (ours.AnonRateThrottle,), {"using": "gone", "outage": outage})
            api = new_api(throttle=own("1/h", scope=outage))
            operation(ask, api)
            assert statuses(ask, api, 3) == [expected] * 3


def test_one_object_serves_threads_that_wait_for_different_times() -> None:
    throttle = ours.AnonRateThrottle("1/h")
    found: dict[str, Any] = {}
    both = threading.Barrier(2, timeout=60)

    def worker(name: str, peer: str, times: int) -> None:
        request = RequestFactory().get("/", REMOTE_ADDR=peer)
        allowed = [throttle.allow_request(request) for _ in range(times)]
        both.wait()
        found[name] = allowed, throttle.wait()

    threads = [
        threading.Thread(target=worker, args=arguments) for arguments in (("a", "192.0.2.1", 1), ("b", "192.0.2.2", 2))
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found["a"][0] == [True]
    assert not found["a"][1], "it was admitted"
    assert found["b"][0] == [True, False]
    assert 0 < found["b"][1] <= 3600


def test_the_middleware_the_metrics_and_the_signal_know_of_it(ask: Ask) -> None:
    from django_vcache.admission import decisions_of, limit_exceeded, metrics

    api = new_api(throttle=ours.AnonRateThrottle("1/h", scope="told"))
    operation(ask, api)
    seen: list[Any] = []

    def receive(sender: Any, request: Any, decision: Any, **kwargs: Any) -> None:
        seen.append((sender, decisions_of(request) == (decision,), kwargs["blocked"]))

    limit_exceeded.connect(receive)
    try:
        before = metrics().get("told", {"admitted": 0, "refused": 0, "deny_cache": 0})
        assert statuses(ask, api, 3) == [200, 429, 429]
    finally:
        limit_exceeded.disconnect(receive)
    assert seen == [(ours.AnonRateThrottle, True, True)] * 2
    after = metrics()["told"]
    assert after["admitted"] - before["admitted"] == 1
    assert sum(after[kind] - before[kind] for kind in ("refused", "deny_cache")) == 2


# The decorator.


@pytest.mark.parametrize("key", ["user", "user_or_ip"])
def test_below_the_route_the_token_is_charged(ask: Ask, key: str, stands_for: Any) -> None:
    from django_vcache.admission import throttle

    api = new_api(auth=Bearer())
    operation(ask, api, throttle("1/h", key=key))
    stands_for |= {"text": "customer-1", "other": "customer-2"}
    for token in ("five", "seven", "text", "other"):
        assert statuses(ask, api, 2, token) == [200, 429]
    stands_for["again"] = User(pk=5)
    assert statuses(ask, api, 1, "again") == [429]
    # The token's user goes before the session's.
    assert statuses(ask, api, 1, "again", session=User(pk=99)) == [429]
    assert statuses(ask, api, 1, "wrong") == [401]


class Item(Schema):
    name: str


def test_what_ninja_reads_of_a_function_it_reads_through_the_decorator(ask: Ask) -> None:
    """Annotations too that are written as text, as they are in this module."""
    from django_vcache.admission import throttle

    api = new_api()

    @api.post("/x", response=Item)
    @throttle("1/h", key="post:name")
    def create(request: HttpRequest, item: Item, word: str = "none") -> Any:
        """Makes an item."""
        return {"name": f"{item.name} {word}"}

    def post(name: str) -> Any:
        return ask(api, method="POST", data=f'{{"name": "{name}"}}', content_type="application/json")

    answer = post("anna")
    assert (answer.status_code, answer.content) == (200, b'{"name": "anna none"}')
    assert [post("ANNA").status_code, post("berta").status_code] == [429, 200]
    described = api.get_openapi_schema(path_prefix="")["paths"]["/x"]["post"]
    assert described["description"] == "Makes an item."
    assert described["requestBody"]["content"]["application/json"]["schema"] == {"$ref": "#/components/schemas/Item"}


@pytest.mark.parametrize("where", [NinjaAPI, Router])
def test_above_the_route_it_is_refused_at_import(where: Any) -> None:
    """The route has the function already, so it would never limit."""
    from django_vcache.admission import throttle
    from django_vcache.exceptions import ConfigurationError

    api = new_api() if where is NinjaAPI else Router()
    with pytest.raises(
        ConfigurationError, match=r"test_ninja\.py:\d+: it stands above Ninja's route.*never limit.*below"
    ):

        @throttle("5/m", key="ip")
        @api.get("/x")
        def view(request: HttpRequest) -> str:
            return "seen"


def test_around_the_operation_it_may_not_charge_users(ask: Ask, server: ValkeyServer, monkeypatch: Any) -> None:
    """`decorate_view` goes around the authentication as well."""
    import weakref

    from django_vcache.admission import throttle
    from django_vcache.admission.views import limit
    from django_vcache.exceptions import ConfigurationError

    monkeypatch.setattr(limit, "_all", weakref.WeakSet())
    by_user, by_address = throttle("1/h"), throttle("1/h", key="ip")
    api, other = new_api(auth=Bearer()), new_api(auth=Bearer())
    operation(ask, api, decorate_view(by_user))
    with override_settings(CACHES={"default": cache_setting(server)}):
        [message] = [message for message in run_checks(tags=["vcache"]) if message.id == "vcache.E006"]
    assert "decorate_view() of Ninja" in message.msg
    with pytest.raises(ConfigurationError, match="users with a token"):
        ask(api, "five")
    operation(ask, other, decorate_view(by_address))
    assert [*statuses(ask, other, 1, "five"), *statuses(ask, other, 1, "seven")] == [200, 429]
