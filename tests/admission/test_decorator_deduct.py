"""`@throttle(..., deduct=...)` charges when the view has answered, and only for the answers that count."""

from __future__ import annotations

from typing import Any

import pytest
from asgiref.sync import iscoroutinefunction
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpResponse
from django.test import override_settings
from support.caches import cache_setting
from support.server import ValkeyServer
from support.views import SHAPES, Call, async_function, functions, get, statuses, sync_function

pytestmark = pytest.mark.usefixtures("default_alias", "patient")


def failed(response: Any) -> bool:
    return bool(response.status_code == 401)


def login(view: Any) -> Any:
    """A view that refuses requests without the header X-Password, not decorated yet."""
    if iscoroutinefunction(view):

        async def wrapper(request: Any, *args: Any, **kwargs: Any) -> Any:
            return await view(request) if "x-password" in request.headers else HttpResponse(status=401)
    else:

        def wrapper(request: Any, *args: Any, **kwargs: Any) -> Any:
            return view(request) if "x-password" in request.headers else HttpResponse(status=401)

    return wrapper


RIGHT = {"x-password": "right"}


@functions
def test_only_failures_are_charged(call: Call, shape: Any, server: ValkeyServer) -> None:
    from django_vcache.admission import throttle

    view = shape(lambda view: throttle("2/h", deduct=failed)(login(view)))
    assert statuses(call, view, 5, **RIGHT) == [200] * 5
    assert server.keys("*") == []
    assert statuses(call, view, 2) == [401, 401]
    # Used up, for the right password too.
    assert statuses(call, view, 1) == [429]
    assert statuses(call, view, 1, **RIGHT) == [429]
    assert statuses(call, view, 1, peer="192.0.2.2") == [401]


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape.__name__)
def test_views_of_every_shape_are_charged_after_their_answer(call: Call, shape: Any) -> None:
    from django_vcache.admission import throttle

    seen: list[int] = []

    def every(response: Any) -> bool:
        seen.append(response.status_code)
        return True

    view = shape(throttle("2/h", deduct=every))
    assert statuses(call, view, 3) == [200, 200, 429]
    assert seen == [200, 200]


@functions
def test_several_are_asked_together_and_charged_each(call: Call, shape: Any, server: ValkeyServer) -> None:
    from django_vcache.admission import throttle

    minute, day = throttle("3/h", name="short", deduct=failed), throttle("5/d", name="long", deduct=failed)
    view = shape(lambda view: minute(day(login(view))))
    server.execute("CONFIG", "RESETSTAT")
    assert statuses(call, view, 1, **RIGHT) == [200]
    counts = server.command_counts()
    assert counts.get("evalsha", 0) + counts.get("eval", 0) - counts.get("script|load", 0) <= 2
    assert statuses(call, view, 4) == [401, 401, 401, 429]
    assert sorted(server.keys("*")) == [
        b"vcache:2:{v00}:t:long:long=ip-192.0.2.1",
        b"vcache:2:{v00}:t:short:short=ip-192.0.2.1",
    ]


@functions
def test_it_stands_beside_limits_that_charge_every_request(call: Call, shape: Any) -> None:
    from django_vcache.admission import throttle

    view = shape(lambda view: throttle("4/h")(throttle("2/h", deduct=failed)(login(view))))
    assert statuses(call, view, 2, **RIGHT) == [200, 200]
    assert statuses(call, view, 3) == [401, 401, 429]


@functions
def test_an_exception_counts_by_the_status_that_it_becomes(call: Call, shape: Any) -> None:
    from django_vcache.admission import throttle

    class OfAFramework(Exception):
        status_code = 418

    seen: list[int] = []

    def count(response: Any) -> bool:
        seen.append(response.status_code)
        return True

    for number, (raised, status) in enumerate(
        [(PermissionDenied(), 403), (Http404(), 404), (OfAFramework(), 418), (ZeroDivisionError(), 500)]
    ):

        def failing(view: Any, raised: Exception = raised) -> Any:
            if iscoroutinefunction(view):

                async def wrapper(request: Any) -> Any:
                    raise raised
            else:

                def wrapper(request: Any) -> Any:
                    raise raised

            return wrapper

        def decorate(view: Any, number: int = number, failing: Any = failing) -> Any:
            return throttle("1/h", name=f"raises-{number}", deduct=count)(failing(view))

        view = shape(decorate)
        with pytest.raises(type(raised)):
            call(view)
        assert seen[-1] == status
        assert statuses(call, view, 1) == [429]


def test_deduct_of_an_async_view_may_be_async(call: Call) -> None:
    from django_vcache.admission import throttle
    from django_vcache.exceptions import ConfigurationError

    async def later(response: Any) -> bool:
        return True

    assert statuses(call, async_function(throttle("1/h", deduct=later)), 2) == [200, 429]
    with pytest.raises(ConfigurationError, match="is async, and the view is not"):
        call(sync_function(throttle("1/h", deduct=later)))


@functions
def test_the_headers_are_those_after_the_charge(call: Call, shape: Any) -> None:
    from django_vcache.admission import decisions_of, throttle
    from django_vcache.admission.views.refusal import headers_of

    view = shape(lambda view: throttle("5/h", name="logins", deduct=failed)(login(view)))
    failure, success = get(), get(**RIGHT)
    call(view, failure)
    assert headers_of(decisions_of(failure))["RateLimit"].startswith('"logins";r=4;')
    call(view, success)
    assert headers_of(decisions_of(success))["RateLimit"].startswith('"logins";r=4;')


@functions
def test_costs_and_rates_of_the_request_are_what_is_charged(call: Call, shape: Any) -> None:
    from django_vcache.admission import throttle

    view = shape(throttle(lambda request: "10/h", cost=lambda request: 5, deduct=lambda response: True))
    assert statuses(call, view, 3) == [200, 200, 429]


@functions
def test_an_outage_is_decided_before_the_view(call: Call, shape: Any) -> None:
    from django_vcache.admission import throttle
    from django_vcache.backend import publish_alias

    with ValkeyServer() as gone:
        setting = cache_setting(gone)
    with override_settings(CACHES={"gone": setting, "default": setting}):
        publish_alias("gone")
        assert statuses(call, shape(throttle("1/h", using="gone", deduct=failed)), 3) == [200, 200, 200]
        closed = shape(throttle("1/h", using="gone", outage="closed", deduct=failed))
        assert statuses(call, closed, 2) == [503, 503]
