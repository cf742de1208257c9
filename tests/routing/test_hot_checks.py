"""The system checks and `vcache_routes`: which routes are answered where, and what they hide."""

from __future__ import annotations

import io
import json
from typing import Any

import pytest
from django.core.checks import run_checks
from django.core.management import CommandError, call_command
from django.http import HttpRequest, HttpResponse
from django.test import override_settings
from django.urls import include, path, re_path
from support.hot import made, routes

from django_vcache.routing import hot

pytestmark = pytest.mark.usefixtures("no_other_limits")


def view(request: HttpRequest, **parameters: Any) -> HttpResponse:
    raise AssertionError("not called")


def found() -> dict[str, str]:
    return {str(each.id): each.msg for each in run_checks() if str(each.id).startswith("vcache.")}


def command(*arguments: str) -> str:
    output = io.StringIO()
    call_command("vcache_routes", *arguments, stdout=output, no_color=True)
    return output.getvalue()


def test_a_good_route_has_nothing_to_say() -> None:
    with routes(path("a/<int:n>/", view), hot("a/b/", made), hot("<uuid:id>/<path:rest>", made)):
        assert found() == {}


def test_an_earlier_pattern_that_is_hidden_is_told() -> None:
    with routes(path("a/<str:s>/", view, name="all"), hot("a/<int:n>/", made)):
        messages = found()
    assert list(messages) == ["vcache.W005"]
    assert "'a/<int:n>/' wins over the pattern 'a/<str:s>/' [name='all']" in messages["vcache.W005"]
    assert "for /a/7/" in messages["vcache.W005"]


def test_a_route_that_is_not_early_is_told() -> None:
    with routes(re_path("^x/", include([hot("a/", made)]))):
        messages = found()
    assert list(messages) == ["vcache.W006"]
    assert "is answered as a view, not early, because it is under a regular expression" in messages["vcache.W006"]


def test_the_command_lists_each_route_with_its_level() -> None:
    with routes(
        hot("a/<int:n>/", made, methods=["GET", "POST"], name="a"),
        path("b/<str:s>/", view),
        hot("b/c/", made),
        re_path("^x/", include(([hot("a/", made, name="deep")], "shop"), namespace="shop")),
    ):
        told = json.loads(command("--json"))
        text = command()
    assert [each["route"] for each in told] == ["a/<int:n>/", "b/c/", "^x/a/"]
    assert [each["level"] for each in told] == ["early", "early", "view"]
    assert [each["methods"] for each in told] == ["GET,POST", "any", "any"]
    assert [each["name"] for each in told] == ["a", None, "shop:deep"]
    assert [each["instead_of"] for each in told] == [[], ["'b/<str:s>/' for /b/c/"], []]
    assert told[0]["target"] == "support.hot.made"
    assert "/a/<int:n>/\n    methods:         GET,POST\n" in text
    assert "why not earlier: it is under a regular expression" in text


def test_the_command_without_routes_says_how_to_make_one() -> None:
    with routes(path("a/", view)):
        assert "Place one with django_vcache.routing.hot()" in command()


def test_urls_that_cannot_be_imported_are_told() -> None:
    with (
        override_settings(ROOT_URLCONF="support.no_such_module"),
        pytest.raises(CommandError, match=r"the URLconf cannot be imported: .*no_such_module"),
    ):
        command()


def test_a_specific_pattern_before_a_hot_route_is_told() -> None:
    with routes(
        path("users/me/", view),
        path("users/<int:n>/edit/", view),
        hot("users/<str:name>/", made),
        hot("users/<path:rest>", made),
    ):
        assert "vcache.W005" in found()
        hidden = [each["instead_of"] for each in json.loads(command("--json"))]
    assert hidden == [["'users/me/' for /users/me/"], ["'users/<int:n>/edit/' for /users/7/edit/"]]


def test_an_earlier_hot_route_that_is_not_early_is_told() -> None:
    with routes(re_path("^x/", include([hot("<int:n>/", made)])), hot("x/<int:n>/", made)):
        messages = found()
    assert set(messages) == {"vcache.W005", "vcache.W006"}
    assert "for /x/7/" in messages["vcache.W005"]


def one(request: object, number: int) -> None:
    raise AssertionError("not called")


@pytest.mark.parametrize(
    ("pattern", "options", "text"),
    [
        ("a/", {}, "missing a required argument: 'number'"),
        ("a/<int:n>/", {}, "called as (request, n=...), and that fails"),
        ("a/<int:number>/", {"kwargs": {"more": 1}}, "got an unexpected keyword argument 'more'"),
    ],
)
def test_parameters_that_do_not_fit_are_told(pattern: str, options: dict[str, object], text: str) -> None:
    with routes(hot(pattern, one, **options)):  # type: ignore[arg-type]
        messages = found()
    assert list(messages) == ["vcache.E010"]
    assert "test_hot_checks.one(request" in messages["vcache.E010"]
    assert " is called as (request" in messages["vcache.E010"]
    assert text in messages["vcache.E010"]
    with routes(hot("a/<int:number>/", one), re_path("^b/(?P<number>[0-9]+)/", include([hot("c/", one)]))):
        assert "vcache.E010" not in found()


@pytest.mark.parametrize(
    ("middleware", "text"),
    [
        ("no.such.thing", "'no.such.thing' in middleware of hot() cannot be made: No module named 'no'"),
        (lambda: None, "cannot be made"),
        (lambda step: None, "must return a coroutine function of a request, not None"),
    ],
)
def test_middleware_that_cannot_be_made_is_told(middleware: object, text: str) -> None:
    with routes(hot("a/", made, middleware=[middleware])):  # type: ignore[list-item]
        messages = found()
    assert list(messages) == ["vcache.E010"]
    assert text in messages["vcache.E010"]
