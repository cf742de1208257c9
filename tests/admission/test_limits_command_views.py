"""`manage.py vcache_limits user=5` and `ip=192.0.2.1`: the limits of decorated views that have a URL, by the names and
for the clients that requests are charged by."""

from __future__ import annotations

import io
import json
import re
import sys
import types
from collections.abc import Iterator
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.management import CommandError, call_command
from django.http import HttpResponse
from django.test import override_settings
from django.urls import clear_url_caches, include, path
from django.utils.decorators import method_decorator
from django.views import View
from django.views.decorators.csrf import csrf_exempt
from support.server import ValkeyServer
from support.views import get

pytestmark = pytest.mark.usefixtures("default_alias", "patient")


@pytest.fixture
def module(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A module for URLs and gates, and no view has a budget yet."""
    from django_vcache.admission import decorators

    monkeypatch.setattr(decorators, "_named", {})
    module: Any = types.ModuleType("urls_of_a_shop")
    module.urlpatterns = []
    sys.modules[module.__name__] = module
    with override_settings(ROOT_URLCONF=module.__name__):
        yield module
    del sys.modules[module.__name__]


def run(*arguments: str) -> tuple[str, str]:
    """What is printed, and what is warned of."""
    out, errors = io.StringIO(), io.StringIO()
    call_command("vcache_limits", *arguments, stdout=out, stderr=errors, no_color=True)
    return out.getvalue(), errors.getvalue()


def rows(*arguments: str) -> dict[str, str]:
    """The rules under the heading, and what is left of each."""
    lines = run(*arguments)[0].splitlines()
    below = lines[lines.index("views") + 2 :]
    # The columns: rule, kind, limit, "/", period, its unit, burst, remaining.
    return {line.split()[0]: line.split()[7] for line in below}


def answer(request: Any, *args: Any, **kwargs: Any) -> HttpResponse:
    return HttpResponse("seen")


def named(name: str, **attributes: Any) -> Any:
    """A view of that name: a function, or with methods a class."""
    if attributes:
        return type(name, (View,), {"__module__": "shop", "__qualname__": name, **attributes})

    def view(request: Any) -> HttpResponse:
        return HttpResponse("seen")

    view.__module__, view.__qualname__ = "shop", name
    return view


def throttled_views() -> dict[str, Any]:
    """Views of every shape, each with a limit, by the name of its budget."""
    from django_vcache.admission import throttle

    def method(self: Any, request: Any) -> HttpResponse:
        return HttpResponse("seen")

    method.__module__, method.__qualname__ = "shop", "Methods.get"
    limit = throttle("10/d")
    return {
        "shop.function": limit(named("function")),
        "shop.exempt": csrf_exempt(limit(csrf_exempt(named("exempt")))),
        "shop.Whole": limit(named("Whole", get=answer)).as_view(),
        "shop.Around": limit(named("Around", get=answer).as_view()),
        "shop.Methods.get": named("Methods", get=limit(method)).as_view(),
        "shared": throttle("10/d", name="shared")(csrf_exempt(throttle("20/d", name="wide")(named("stacked")))),
    }


@pytest.mark.parametrize(
    ("word", "request_"),
    [
        ("user=5", {"user": User(pk=5)}),
        ("ip=192.0.2.1", {"peer": "192.0.2.1"}),
        ("ip=::ffff:192.0.2.1", {"peer": "192.0.2.1"}),
        ("ip=2001:db8::9", {"peer": "2001:db8::1"}),
    ],
)
def test_what_requests_were_charged_is_shown_and_reset(module: Any, word: str, request_: Any) -> None:
    views = throttled_views()
    module.urlpatterns += [path("shop/", include([path(name, view) for name, view in views.items()]))]
    for calls, view in enumerate(views.values()):
        for _ in range(calls):
            assert view(get(**request_)).status_code == 200
    left = {name: str(10 - calls) for calls, name in enumerate(views)}
    assert rows(word) == {**left, "wide": "15"}
    assert set(rows("user=6", "ip=192.0.2.6").values()) == {"10", "20"}
    assert run(word, "--reset", "shop.Whole")[0].startswith("reset views: shop.Whole\n")
    assert rows(word) == {**left, "shop.Whole": "10", "wide": "15"}
    assert run(word, "--reset")[0].count("reset views: ") == 7
    assert set(rows(word).values()) == {"10", "20"}


def test_a_view_is_shown_for_the_clients_that_its_key_is_about(module: Any, server: ValkeyServer) -> None:
    from django_vcache.admission import throttle

    keys: dict[str, Any] = {name: name for name in ("user", "ip", "user_or_ip")}
    keys |= {"header": "header:x-key", "callable": lambda request: "all"}
    module.urlpatterns += [path(name, throttle("1/d", key=key, name=name)(answer)) for name, key in keys.items()]
    assert rows("user=5").keys() == {"user", "user_or_ip"}
    assert rows("ip=192.0.2.1").keys() == {"ip", "user_or_ip"}
    assert rows("ip=192.0.2.1", "user=5").keys() == {"user", "ip", "user_or_ip"}
    # Of a user it is the user who is charged, and not the address.
    view = throttle("1/d", name="user_or_ip")(answer)
    view(get(user=User(pk=5)))
    assert (rows("ip=192.0.2.1", "user=5")["user_or_ip"], rows("ip=192.0.2.1")["user_or_ip"]) == ("0", "1")
    with pytest.raises(CommandError, match="there is no gate"):
        run("org=5")
    assert len(server.keys("*")) == 1


def test_what_is_known_only_with_a_request_is_left_out_and_said(module: Any, server: ValkeyServer) -> None:
    from django_vcache.admission import throttle

    changing = throttle(lambda request: "5/d", name="changing")(named("changing"))
    listed = method_decorator([throttle("5/d"), csrf_exempt], name="dispatch")(named("Listed", get=answer))
    outside = throttle("5/d")(method_decorator(throttle("5/d"), name="get")(named("Outside", get=answer)))
    wrong = throttle("often", name="wrong")(named("wrong"))
    views = [changing, listed.as_view(), outside.as_view(), wrong]
    module.urlpatterns += [path(str(number), view) for number, view in enumerate([*views, *views])]
    out, errors = run("user=5")
    assert out.splitlines()[0] == "views"
    assert len(out.splitlines()) == 2
    told = errors.splitlines()
    assert [line.split(": ")[:2] for line in told[-1:]] == [["views", "changing"]]
    for name in ("shop.Listed", "shop.Outside"):
        assert f"views: {name}: its limits by method_decorator have names only with a request" in told
    assert sum("often" in line for line in told) == 1
    # What was charged is known, whatever the rate is.
    changing(get(user=User(pk=5)))
    assert len(server.keys("*")) == 1
    assert run("user=5", "--reset", "changing")[0].startswith("reset views: changing\n")
    assert server.keys("*") == []


def test_views_of_one_name_are_one_row_for_each_limit(module: Any) -> None:
    from django_vcache.admission import throttle

    shared, other = throttle("10/d", name="shared"), throttle("30/d", name="shared")
    views = [shared(named("first")), shared(named("second")), other(named("third"))]
    module.urlpatterns += [path(str(number), view) for number, view in enumerate(views)]
    views[0](get(user=User(pk=5)))
    states = json.loads(run("user=5", "--json")[0])["gates"]["views"]
    assert sorted((state["limit"], state["remaining"]) for state in states) == [(10, 9), (30, 29)]
    assert json.loads(run("user=5", "--reset", "--json")[0])["reset"] == ["views: shared"]


def test_views_and_gates_are_shown_together_and_not_reset_together(module: Any) -> None:
    from django_vcache.admission import Gate, Quota, throttle

    module.gate = Gate(quotas=[Quota("events", 100, "day")], owner="org")
    module.gate.admit({"org": 5}, cost=30)
    view = throttle("10/d", name="search")(answer)
    view(get(user=User(pk=5)))
    module.urlpatterns += [path("", view)]
    with override_settings(VCACHE={"GATES": ["urls_of_a_shop.gate"]}):
        assert rows("user=5") == {"search": "9"}
        assert "events" not in run("user=5")[0], "the gate's owner is an org"
        assert re.search(r"events +quota", run("user=5", "org=5")[0])
        with pytest.raises(CommandError, match=r"--gate urls_of_a_shop.gate or --gate views"):
            run("user=5", "--reset")
        module.urlpatterns += [path("events", throttle("10/d", name="events")(answer))]
        clear_url_caches()
        with pytest.raises(CommandError, match=r"--gate urls_of_a_shop.gate or --gate views"):
            run("user=5", "--reset", "events")
        assert module.gate.peek({"org": 5})[0].used == 30
        assert "gate: events" not in run("user=5", "--reset", "--gate", "views")[0]
        assert rows("user=5") == {"search": "10", "events": "10"}
        assert module.gate.peek({"org": 5})[0].used == 30
        # A receipt is never of a view.
        with pytest.raises(CommandError, match=r"no gate takes this receipt: urls_of_a_shop\.gate: "):
            run("user=5", "--refund", "made up")
    with pytest.raises(CommandError, match="there is no gate"):
        run("user=5", "--refund", "made up")
    with pytest.raises(CommandError, match=r"no view.*user=5 or ip=192\.0\.2\.1"):
        run("org=5", "--gate", "views")
