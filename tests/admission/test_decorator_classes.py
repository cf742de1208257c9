"""`@throttle` on class-based views: by itself, by `method_decorator`, among other decorators, and around `as_view()`.
Each class has a budget of its own, in whatever order they are first called."""

from __future__ import annotations

import functools
from typing import Any

import pytest
from django.http import HttpResponse
from django.utils.decorators import method_decorator
from django.views import View
from django.views.decorators.csrf import csrf_exempt
from support.server import ValkeyServer
from support.views import Call, async_class, refusing_strangers, statuses, sync_class

pytestmark = pytest.mark.usefixtures("default_alias", "patient")


class Answering(View):
    def get(self, request: Any) -> HttpResponse:
        return HttpResponse("seen")


class AnsweringLater(View):
    async def get(self, request: Any) -> HttpResponse:
        return HttpResponse("seen")


@pytest.fixture(autouse=True)
def unnamed(monkeypatch: pytest.MonkeyPatch) -> None:
    """No class has a budget yet: of two limits of one class the second has a number."""
    from django_vcache.admission.views import names

    monkeypatch.setattr(names, "_named", {})


def names(server: ValkeyServer) -> list[str]:
    """What the budgets on the server are called, without this module's name."""
    return sorted(key.decode().split(":")[4].removeprefix(f"{__name__}.") for key in server.keys("*"))


def named(name: str, base: type[View]) -> Any:
    return type(name, (base,), {"__module__": __name__, "__qualname__": name})


def stored(server: ValkeyServer) -> dict[bytes, Any]:
    return {key: server.execute("DUMP", key) for key in server.keys("*")}


bases = pytest.mark.parametrize("base", [Answering, AnsweringLater], ids=["sync", "async"])
orders = pytest.mark.parametrize("backwards", [False, True], ids=["in order", "backwards"])


def test_attributes_set_between_two_throttles_of_a_class_are_kept() -> None:
    from django_vcache.admission import throttle

    page = throttle("5/h")(sync_class(lambda view: view).view_class)
    page.dispatch.permission = "staff"
    assert throttle("3/h")(page).dispatch.permission == "staff"


def test_each_class_has_a_budget_of_its_own(call: Call) -> None:
    """Also if the method that is decorated is Django's own, or a base class's."""
    from django_vcache.admission import throttle

    class Base(View):
        def get(self, request: Any) -> HttpResponse:
            return HttpResponse()

    once = throttle("1/h")
    first = method_decorator(once, name="dispatch")(type("First", (Base,), {}))
    second = method_decorator(once, name="dispatch")(type("Second", (Base,), {}))
    third = type("Third", (second,), {})
    for view in (first.as_view(), second.as_view(), third.as_view()):
        assert statuses(call, view, 2) == [200, 429]


def test_method_decorator_takes_several_at_once(call: Call, server: ValkeyServer) -> None:
    from django_vcache.admission import throttle

    limits = [throttle("2/h"), throttle("100/d")]
    view = async_class(method_decorator(limits, name="dispatch"))
    assert statuses(call, view, 3) == [200, 200, 429]
    assert len(server.keys()) == 2
    twice = sync_class(
        lambda cls: method_decorator(limits[0], name="dispatch")(method_decorator(limits[1], name="dispatch")(cls))
    )
    assert statuses(call, twice, 3) == [200, 200, 429]
    assert len(server.keys()) == 4


def test_with_get_goes_head(call: Call) -> None:
    from django_vcache.admission import throttle

    view = sync_class(throttle("2/d", method="get"))
    assert [*statuses(call, view, 1), *statuses(call, view, 2, method="HEAD")] == [200, 200, 429]
    assert statuses(call, view, 2, method="POST") == [200, 200]


def test_one_limit_around_views_of_two_classes_is_a_budget_for_each(call: Call) -> None:
    from django_vcache.admission import throttle

    class Other(View):
        def get(self, request: Any) -> HttpResponse:
            return HttpResponse("seen")

    limit = throttle("1/d")
    first, other = limit(sync_class(lambda each: each)), limit(Other.as_view())
    assert statuses(call, first, 2) == statuses(call, other, 2) == [200, 429]


@bases
@orders
@pytest.mark.parametrize("shared", [False, True], ids=["a list each", "one list"])
@pytest.mark.parametrize("method", ["dispatch", "get"])
def test_limits_in_a_list_are_named_by_the_class_in_whatever_order_classes_are_called(
    call: Call, server: ValkeyServer, base: Any, backwards: bool, shared: bool, method: str
) -> None:
    from django_vcache.admission import throttle

    def limits() -> list[Any]:
        return [throttle("2/d"), throttle("100/d")]

    one = limits()
    views = [
        method_decorator(one if shared else limits(), name=method)(named(name, base)).as_view()
        for name in ("First", "Second")
    ]
    for view in reversed(views) if backwards else views:
        before = stored(server)
        assert statuses(call, view, 3) == [200, 200, 429]
        assert stored(server).items() >= before.items()
    suffix = ".get" if method == "get" else ""
    # The number of a class's second limit of one period is by its place in the list.
    assert names(server) == [f"{name}{suffix}.1d{number}" for name in ("First", "Second") for number in ("", ".2")]


@bases
@pytest.mark.parametrize("between", [csrf_exempt, refusing_strangers], ids=["csrf_exempt", "wraps"])
def test_limits_in_a_list_with_another_decorator_are_named_by_the_class(
    call: Call, server: ValkeyServer, base: Any, between: Any
) -> None:
    from django_vcache.admission import throttle

    def decorated(name: str) -> Any:
        return method_decorator([throttle("2/d"), between, throttle("100/d")], name="dispatch")(named(name, base))

    for name in ("Second", "First"):
        assert statuses(call, decorated(name).as_view(), 3) == [200, 200, 429]
    assert names(server) == ["First.1d", "First.1d.2", "Second.1d", "Second.1d.2"]


@bases
def test_a_decorator_inside_that_answers_by_itself_is_heard(call: Call, base: Any) -> None:
    """Also in an async class, where what it returns is not to be awaited and everything else is."""
    from django_vcache.admission import throttle

    page = method_decorator([throttle("2/d"), refusing_strangers], name="dispatch")(named("Page", base))
    stranger = {"x-stranger": "yes"}
    assert statuses(call, page.as_view(), 1, **stranger) == [403]
    # It was charged: the limit stands outside.
    assert [*statuses(call, page.as_view(), 2), *statuses(call, page.as_view(), 1, **stranger)] == [200, 429, 429]
    whole = throttle("2/d")(method_decorator(refusing_strangers, name="dispatch")(named("Whole", base)))
    assert [*statuses(call, whole.as_view(), 1, **stranger), *statuses(call, whole.as_view(), 2)] == [403, 200, 429]


def test_an_async_class_is_asked_for_without_blocking_its_loop(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also with decorators between the limits and the class that know nothing of async views."""
    from django_vcache.admission import throttle
    from django_vcache.admission.views import decorator

    def blocking(*args: Any) -> Any:
        raise AssertionError("asked in the blocking form")

    monkeypatch.setattr(decorator, "refusal_now", blocking)
    for method in ("dispatch", "get"):
        for between in (csrf_exempt, refusing_strangers):
            page = method_decorator([throttle("1/d"), between, throttle("9/d")], name=method)(
                named("Page", AnsweringLater)
            )
            assert statuses(call, page.as_view(), 2) == [200, 429]


@bases
def test_limits_around_as_view_and_in_the_class_both_count(call: Call, server: ValkeyServer, base: Any) -> None:
    from django_vcache.admission import throttle

    class Page(base):  # type: ignore[misc]
        @throttle("3/d", name="inside")
        def dispatch(self, request: Any, *args: Any, **kwargs: Any) -> Any:
            return super().dispatch(request, *args, **kwargs)

    view = throttle("2/d", name="outside")(Page.as_view())
    assert statuses(call, view, 3) == [200, 200, 429]
    # In whichever of them it is refused.
    assert statuses(call, throttle("9/d", name="wide")(Page.as_view()), 2) == [200, 429]
    assert names(server) == ["inside", "outside", "wide"]


@bases
def test_limits_around_as_view_are_named_by_the_class_of_whatever_decorates_its_dispatch(
    call: Call, server: ValkeyServer, base: Any
) -> None:
    from django_vcache.admission import throttle

    limit = throttle("1/d")
    plain = limit(named("Plain", base).as_view())
    listed = limit(method_decorator([throttle("9/d")], name="dispatch")(named("Listed", base)).as_view())
    whole = limit(throttle("9/d")(named("Whole", base)).as_view())
    exempt = limit(csrf_exempt(named("Exempt", base).as_view()))
    bound = limit(functools.partial(named("Bound", base).as_view()))
    for view in (plain, listed, whole, exempt, bound):
        assert statuses(call, view, 2) == [200, 429]
    views = ("Bound", "Exempt", "Listed", "Plain", "Whole")
    assert names(server) == sorted([f"{name}.1d" for name in views] + ["Listed.1d.2", "Whole.1d.2"])


def test_a_classs_own_methods_are_named_by_their_class(call: Call, server: ValkeyServer) -> None:
    from django_vcache.admission import throttle

    class Pages:
        @classmethod
        def index(cls, request: Any) -> HttpResponse:
            return HttpResponse("seen")

        def page(self, request: Any) -> HttpResponse:
            return HttpResponse("seen")

    First, Second = (
        type(name, (Pages,), {"__module__": __name__, "__qualname__": name}) for name in ("First", "Second")
    )
    limit = throttle("1/d")
    for each in (First, Second):
        for method in (each.index, functools.partial(each().page)):
            assert statuses(call, limit(method), 2) == [200, 429]
    assert names(server) == ["First.index.1d", "First.page.1d", "Second.index.1d", "Second.page.1d"]
