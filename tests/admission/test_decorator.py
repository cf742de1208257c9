"""`@throttle` on views of every shape: what it lets through, whom it charges, and what a refused client is told."""

from __future__ import annotations

import asyncio
import functools
import re
from typing import Any

import pytest
from asgiref.sync import iscoroutinefunction, markcoroutinefunction
from django.contrib.auth.models import User
from django.http import HttpResponse
from django.test import override_settings
from django.views.decorators.csrf import csrf_exempt
from support.caches import cache_setting
from support.server import ValkeyServer
from support.views import (
    Call,
    async_class,
    async_function,
    functions,
    get,
    shapes,
    statuses,
    sync_function,
)

pytestmark = pytest.mark.usefixtures("default_alias", "patient")


@shapes
def test_the_limit_is_let_through_and_the_next_is_refused(call: Call, shape: Any) -> None:
    from django_vcache.admission import throttle

    view = shape(throttle("3/h"))
    answers = [call(view) for _ in range(3)]
    assert {(answer.status_code, answer.content) for answer in answers} == {(200, b"seen")}
    refused = call(view)
    assert refused.status_code == 429
    assert refused.content == b"Too many requests.\n"
    assert refused.headers["Content-Type"].startswith("text/plain")
    assert 0 < int(refused.headers["Retry-After"]) <= 1200
    assert ";q=3;w=3600" in refused.headers["RateLimit-Policy"]
    assert ";r=0;t=" in refused.headers["RateLimit"]
    assert statuses(call, view, 1, peer="192.0.2.2") == [200]


@shapes
def test_a_view_stays_what_it_was(shape: Any) -> None:
    from django_vcache.admission import throttle

    plain, throttled = shape(lambda view: view), shape(throttle("3/h"))
    assert iscoroutinefunction(throttled) == iscoroutinefunction(plain)
    assert throttled.__name__ == getattr(plain, "__name__", throttled.__name__)
    assert throttled.__doc__ == plain.__doc__
    assert getattr(throttled, "view_class", None).__class__ is getattr(plain, "view_class", None).__class__


@functions
def test_attributes_of_other_decorators_are_kept(shape: Any) -> None:
    from django_vcache.admission import throttle

    assert shape(lambda view: throttle("3/h")(csrf_exempt(view))).csrf_exempt
    assert shape(lambda view: csrf_exempt(throttle("3/h")(view))).csrf_exempt


@functions
def test_attributes_set_between_two_throttles_are_kept(shape: Any) -> None:
    from django_vcache.admission import throttle

    def permitted(view: Any) -> Any:
        # As REST framework's policies and Django's `login_not_required` do.
        view.permission = "staff"
        return view

    decorated = shape(lambda view: throttle("3/h")(permitted(throttle("5/h")(view))))
    assert decorated.permission == "staff"
    # And they are decided together all the same.
    assert len(decorated._vcache_around.rules) == 2


def test_each_view_has_a_budget_of_its_own_unless_they_share_a_name(call: Call) -> None:
    from django_vcache.admission import throttle

    once, shared = throttle("1/h"), throttle("2/h", name="exports")

    @once
    def first(request: Any) -> HttpResponse:
        return HttpResponse()

    @once
    async def second(request: Any) -> HttpResponse:
        return HttpResponse()

    assert [*statuses(call, first, 2), *statuses(call, second, 2)] == [200, 429, 200, 429]
    third, fourth = sync_function(shared), async_class(shared)
    assert [*statuses(call, third, 1), *statuses(call, fourth, 2), *statuses(call, third, 1)] == [200, 200, 429, 429]


@functions
def test_the_key_on_the_server_is_the_views_path_and_the_client(call: Call, shape: Any, server: ValkeyServer) -> None:
    from django_vcache.admission import throttle

    call(shape(throttle("3/h", name="login")))
    assert server.keys() == [b"vcache:2:{v00}:t:login:login=ip-192.0.2.1"]
    call(shape(throttle("3/h", key="user", prefix="shop")), get(user=User(pk=5)))
    [key] = server.keys("shop:*")
    assert re.fullmatch(
        rf"shop:2:{{v00}}:t:(.*{shape.__name__}\._locals_\.view\.1h\.user(\.\d+)?):\1=user-5", key.decode()
    )


@functions
def test_only_the_methods_named_count(call: Call, shape: Any) -> None:
    from django_vcache.admission import throttle

    view = shape(throttle("1/h", method="post"))
    assert statuses(call, view, 3) == [200, 200, 200]
    assert statuses(call, view, 2, method="POST") == [200, 429]
    assert statuses(call, view, 1) == [200]
    several = shape(throttle("1/h", method=["POST", "PUT"]))
    assert statuses(call, several, 1, method="PUT") == [200]
    assert statuses(call, several, 1, method="POST") == [429]
    assert statuses(call, several, 1, method="DELETE") == [200]


@functions
def test_users_and_addresses_are_charged_apart(call: Call, shape: Any) -> None:
    from django_vcache.admission import throttle

    view = shape(throttle("1/h"))
    assert statuses(call, view, 2, user=User(pk=1)) == [200, 429]
    assert statuses(call, view, 1, user=User(pk=1), peer="192.0.2.2") == [429]
    assert statuses(call, view, 1, user=User(pk=2)) == [200]
    assert statuses(call, view, 2) == [200, 429]


@functions
def test_a_spoofed_header_does_not_choose_the_key(call: Call, shape: Any) -> None:
    from django_vcache.admission import throttle

    view = shape(throttle("1/h", key="ip"))
    assert statuses(call, view, 1) == [200]
    for number in range(5):
        spoofed = {"x-forwarded-for": f"203.0.113.{number}", "x-real-ip": f"203.0.113.{number}"}
        assert statuses(call, view, 1, **spoofed) == [429]
    behind_a_proxy = shape(throttle("1/h", key="ip"))
    with override_settings(VCACHE={"TRUSTED_PROXIES": 1}):
        assert statuses(call, behind_a_proxy, 1, **{"x-forwarded-for": "198.51.100.1"}) == [200]
        assert statuses(call, behind_a_proxy, 1, **{"x-forwarded-for": "6.6.6.6, 198.51.100.1"}) == [429]
        assert statuses(call, behind_a_proxy, 1, **{"x-forwarded-for": "198.51.100.1, 198.51.100.2"}) == [200]


@functions
def test_a_header_or_a_callable_names_the_client(call: Call, shape: Any, server: ValkeyServer) -> None:
    from django_vcache.admission import throttle

    view = shape(throttle("1/h", key="header:X-Api-Key", name="by-key"))
    assert statuses(call, view, 2, **{"x-api-key": "secret one"}) == [200, 429]
    assert statuses(call, view, 1, **{"x-api-key": "secret two"}) == [200]
    assert not any(b"secret" in key for key in server.keys("*"))

    def tenant(request: Any) -> str | None:
        return request.headers.get("X-Tenant")

    by_tenant = shape(throttle("1/h", key=tenant))
    assert statuses(call, by_tenant, 2, **{"x-tenant": "a" * 5000}) == [200, 429]
    # None is a request that is not to be throttled.
    assert statuses(call, by_tenant, 3) == [200, 200, 200]


@functions
def test_a_rate_may_depend_on_the_request(call: Call, shape: Any) -> None:
    from django_vcache.admission import throttle

    rates = {"free": "1/h", "paid": "2/h", "none": "0/h", "staff": None}
    view = shape(throttle(lambda request: rates[request.headers["x-plan"]]))
    assert statuses(call, view, 2, peer="192.0.2.3", **{"x-plan": "free"}) == [200, 429]
    assert statuses(call, view, 3, peer="192.0.2.4", **{"x-plan": "paid"}) == [200, 200, 429]
    assert statuses(call, view, 1, peer="192.0.2.5", **{"x-plan": "none"}) == [429]
    assert statuses(call, view, 3, peer="192.0.2.5", **{"x-plan": "staff"}) == [200, 200, 200]


@functions
def test_a_rate_that_is_raised_lets_more_through_at_once(call: Call, shape: Any) -> None:
    from django_vcache.admission import throttle

    rates = ["1/h"]
    view = shape(throttle(lambda request: rates[0]))
    assert statuses(call, view, 2) == [200, 429]
    rates[0] = "10/h"
    assert statuses(call, view, 1) == [200]


@functions
def test_a_request_may_cost_more_than_one_or_nothing(call: Call, shape: Any) -> None:
    from django_vcache.admission import throttle

    view = shape(throttle("10/h", cost=5))
    assert statuses(call, view, 3) == [200, 200, 429]
    by_request = shape(throttle("10/h", cost=lambda request: int(request.headers["x-items"])))
    assert statuses(call, by_request, 1, **{"x-items": "9"}) == [200]
    assert statuses(call, by_request, 2, **{"x-items": "0"}) == [200, 200]
    assert statuses(call, by_request, 1, **{"x-items": "2"}) == [429]
    assert statuses(call, by_request, 2, **{"x-items": "1"}) == [200, 429]


def test_callables_of_an_async_view_may_be_async(call: Call) -> None:
    from django_vcache.admission import throttle

    async def key(request: Any) -> str:
        await asyncio.sleep(0)
        return "all"

    async def rate(request: Any) -> str:
        await asyncio.sleep(0)
        return "4/h"

    async def cost(request: Any) -> int:
        return 2

    async def response(request: Any, decision: Any) -> HttpResponse:
        return HttpResponse(f"come back in an hour, {decision.refused_by.kind}", status=420)

    view = async_function(throttle(rate, key=key, cost=cost, response=response))
    assert statuses(call, view, 3) == [200, 200, 420]


@pytest.mark.parametrize("which", ["key", "rate", "cost", "response"])
def test_an_async_callable_of_a_sync_view_is_an_error_that_names_it(which: str) -> None:
    from django_vcache.admission import throttle
    from django_vcache.exceptions import ConfigurationError

    async def slow(*args: Any) -> Any:
        raise AssertionError("not awaited")

    arguments: dict[str, Any] = {"rate": "0/h"} | {which: slow}
    view = sync_function(throttle(**arguments))
    with pytest.raises(ConfigurationError, match=r"slow.*is async, and the view is not"):
        view(get())


@functions
def test_a_refusal_can_have_a_response_of_its_own(call: Call, shape: Any) -> None:
    from django_vcache.admission import throttle

    def response(request: Any, decision: Any) -> HttpResponse:
        return HttpResponse(f"{request.method} {decision.refused_by.rule}", status=decision.status)

    view = shape(throttle("0/h", name="closed", response=response))
    answer = call(view)
    assert (answer.status_code, answer.content) == (429, b"GET closed")


@functions
def test_without_blocking_the_view_decides(call: Call, shape: Any) -> None:
    from django_vcache.admission import decisions_of, throttle

    seen: list[bool] = []

    def spy(view: Any) -> Any:
        if iscoroutinefunction(view):

            async def wrapper(request: Any) -> Any:
                seen.append(all(decisions_of(request)))
                return await view(request)
        else:

            def wrapper(request: Any) -> Any:
                seen.append(all(decisions_of(request)))
                return view(request)

        return throttle("1/h", name="captcha", block=False)(wrapper)

    assert statuses(call, shape(spy), 3) == [200, 200, 200]
    assert seen == [True, False, False]


@shapes
def test_several_limits_are_decided_together_and_a_refusal_is_charged_to_none(
    call: Call, shape: Any, server: ValkeyServer
) -> None:
    from django_vcache.admission import throttle

    minute, day = throttle("2/h", name="short"), throttle("100/d", name="long")

    def decorate(view: Any) -> Any:
        return minute(day(view))

    view = shape(decorate)
    assert statuses(call, view, 2) == [200, 200]
    before = {key: server.execute("DUMP", key) for key in server.keys("*")}
    assert len(before) == 2
    server.execute("CONFIG", "RESETSTAT")
    refused = call(view, get())
    assert refused.status_code == 429
    assert b"'short'" in refused.content
    assert refused.headers["RateLimit-Policy"].count(";q=") == 2
    counts = server.command_counts()
    # The refusal may be remembered, and otherwise it is one script.
    assert counts.get("evalsha", 0) + counts.get("eval", 0) <= 1
    assert {key: server.execute("DUMP", key) for key in server.keys("*")} == before


@functions
def test_limits_with_another_decorator_between_them_both_count(call: Call, shape: Any) -> None:
    from django_vcache.admission import throttle

    def between(view: Any) -> Any:
        @functools.wraps(view)
        def wrapper(request: Any) -> Any:
            return view(request)

        return markcoroutinefunction(wrapper) if iscoroutinefunction(view) else wrapper

    view = shape(lambda view: throttle("3/h")(between(throttle("2/h")(view))))
    assert statuses(call, view, 3) == [200, 200, 429]
    outside = shape(lambda view: throttle("2/h")(between(throttle("3/h")(view))))
    assert statuses(call, outside, 3) == [200, 200, 429]


@functions
def test_limits_on_different_terms_are_decided_one_after_the_other(call: Call, shape: Any) -> None:
    from django_vcache.admission import throttle

    view = shape(lambda view: throttle("2/h", cost=2)(throttle("5/h")(view)))
    assert statuses(call, view, 2) == [200, 429]
    same_name = shape(lambda view: throttle("2/h", name="same")(throttle("2/h", name="same")(view)))
    assert statuses(call, same_name, 2) == [200, 429]


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"rate": "ten a minute"}, "ten a minute.*is not a rate.*100/m"),
        ({"rate": "10/fortnight"}, "is not a rate"),
        ({"rate": 5}, "a rate is a str.*not int"),
        ({"rate": "10/m", "burst": 0}, "burst"),
        ({"rate": "10/m", "burst": -1}, "burst|negative|convert"),
        ({"rate": "10/m", "name": "no spaces"}, "no spaces"),
        ({"rate": "10/m", "key": "nobody"}, "key is"),
        ({"rate": "10/m", "key": "post:"}, "key is"),
        ({"rate": "10/m", "key": "cookie:x"}, "key is"),
        ({"rate": "10/m", "block": "no"}, "block is 'no': give True or False"),
        ({"rate": "10/m", "block": 0}, "block is 0"),
        ({"rate": "10/m", "response": "429.html"}, "response is '429.html': give a callable"),
        ({"rate": "10/m", "deduct": True}, "deduct is True: give a callable"),
        ({"rate": "10/m", "using": ""}, "using is ''"),
        ({"rate": "10/m", "using": 5}, "using is 5"),
        ({"rate": "10/m", "name": 5}, "name is 5"),
        ({"rate": "10/m", "deadline": "soon"}, "deadline|float|real number"),
        # Callables that could not be called.
        ({"rate": lambda request, pk: "10/m"}, "rate is called with the request"),
        ({"rate": "10/m", "key": lambda: "all"}, "key is called with the request"),
        ({"rate": "10/m", "cost": lambda: 1}, "cost is called with the request"),
        ({"rate": "10/m", "response": lambda request: None}, "response is called with the request and the decision"),
        ({"rate": "10/m", "deduct": lambda: True}, "deduct is called with the response"),
        # What a process counts by itself cannot be asked without being charged.
        ({"rate": "10/m", "deduct": bool, "outage": "local"}, "outage='local'"),
        ({"rate": "10/m", "outage": "shrug"}, "shrug.*outage policy"),
        ({"rate": "10/m", "nonsense": 1}, 'no keyword "nonsense"'),
        ({"rate": "10/m", "shards": 4}, "one shard"),
        # What would never limit anything.
        ({"rate": "10/m", "method": "POST,PUT"}, "POST,PUT"),
        ({"rate": "10/m", "method": "PSOT"}, "PSOT"),
        ({"rate": "10/m", "method": ""}, "method is"),
        ({"rate": "10/m", "method": []}, "method is"),
        ({"rate": "10/m", "method": [5]}, "method is"),
        ({"rate": "10/m", "cost": -1}, "cost is -1"),
        ({"rate": "10/m", "cost": "2"}, "cost is '2'"),
        ({"rate": "10/m", "cost": True}, "cost is True"),
        # Also for a method that no request has.
        ({"rate": "10/fortnight", "method": "POST"}, "is not a rate"),
    ],
    ids=lambda value: value if isinstance(value, str) else ", ".join(value),
)
def test_a_mistake_is_raised_at_import_and_says_where_it_is(arguments: dict[str, Any], text: str) -> None:
    from django_vcache.admission import throttle
    from django_vcache.exceptions import ConfigurationError

    with pytest.raises(ConfigurationError, match=text) as caught:
        throttle(**arguments)
    assert "test_decorator.py:" in str(caught.value)


@functions
def test_a_callable_that_returns_no_rate_is_an_error(call: Call, shape: Any, server: ValkeyServer) -> None:
    from django_vcache.admission import throttle

    with pytest.raises(ValueError, match="is not a rate"):
        call(shape(throttle(lambda request: "often")))
    with pytest.raises(TypeError, match="a rate is a str"):
        call(shape(throttle(lambda request: 5)))
    with pytest.raises(ValueError, match="cost is -1"):
        call(shape(throttle("1/h", cost=lambda request: -1)))
    assert server.keys() == []


def test_several_limits_around_what_has_no_name_are_named_by_what_is_inside(call: Call, server: ValkeyServer) -> None:
    from django_vcache.admission import throttle

    class Feed:
        def __call__(self, request: Any, word: str = "seen") -> HttpResponse:
            return HttpResponse(word)

    def page(request: Any, word: str) -> HttpResponse:
        return HttpResponse(word)

    Feed.__qualname__, page.__qualname__ = "Feed", "page"
    views = {
        "Feed": Feed(),
        "page": functools.partial(page, word="seen"),
        "Feed partly": functools.partial(Feed(), word="more"),
    }
    for name, view in views.items():
        server.execute("FLUSHALL")
        # Both in one limit each, and with something in between.
        for limit in (throttle("9/d"), throttle("9/d")):
            view = limit(view)
        assert statuses(call, throttle("1/d")(csrf_exempt(view)), 2) == [200, 429]
        names = {key.decode().split(":")[4] for key in server.keys("*")}
        assert {re.sub(r"\.\d+$", "", each) for each in names} == {f"{__name__}.{name.split()[0]}.1d"}
        assert len(names) == 3


def test_names_that_are_not_ascii_do_not_share_a_budget(call: Call, server: ValkeyServer) -> None:
    from django_vcache.admission import throttle

    def größe(request: Any) -> HttpResponse:
        return HttpResponse("seen")

    def grüße(request: Any) -> HttpResponse:
        return HttpResponse("seen")

    limit = throttle("1/d")
    assert [statuses(call, limit(view), 2) for view in (größe, grüße)] == [[200, 429], [200, 429]]
    names = [key.decode().split(":")[4] for key in server.keys("*")]
    assert all(re.fullmatch(r"[0-9a-f]{10}\.[\w.-]*gr__e\.1d(\.\d+)?", name) for name in names)
    assert len(set(names)) == 2


def test_what_is_no_view_is_told_so() -> None:
    from django_vcache.admission import throttle

    @throttle("1/h")
    def helper(number: int) -> int:
        return number

    with pytest.raises(TypeError, match="first argument is the request"):
        helper(5)


def test_a_long_path_becomes_a_name_that_is_its_own(call: Call, server: ValkeyServer) -> None:
    from django_vcache.admission import throttle

    views = []
    for last in ("a", "b"):

        def view(request: Any) -> HttpResponse:
            return HttpResponse()

        view.__qualname__ = f"{last}{'x' * 100}.view"
        views.append(throttle("1/h")(view))
    assert [statuses(call, view, 2) for view in views] == [[200, 429], [200, 429]]
    names = [key.decode().split(":")[4] for key in server.keys("*")]
    assert all(len(name) == 64 for name in names)
    assert len(set(names)) == 2


@functions
def test_an_outage_lets_through_or_refuses_as_the_throttle_says(call: Call, shape: Any) -> None:
    from django_vcache.admission import throttle
    from django_vcache.backend import publish_alias

    with ValkeyServer() as gone:
        setting = cache_setting(gone)
    with override_settings(CACHES={"gone": setting, "default": setting}):
        publish_alias("gone")
        assert statuses(call, shape(throttle("1/h", using="gone")), 3) == [200, 200, 200]
        closed = shape(throttle("1/h", using="gone", outage="closed", name="closed"))
        refused = call(closed)
        assert refused.status_code == 503
        assert refused.content == b"Service unavailable: closed could not be checked.\n"
        with override_settings(VCACHE={"THROTTLE_ALIAS": "gone"}):
            assert statuses(call, shape(throttle("1/h", outage="closed")), 1) == [503]
