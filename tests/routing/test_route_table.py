"""The table of hot routes finds what Django's resolver finds."""

from __future__ import annotations

import uuid
from typing import Any

import pytest
from django.http import HttpRequest
from django.urls import Resolver404, get_resolver, include, path
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.hot import made, routes

from django_vcache._vcache import RouteTable
from django_vcache.routing import hot
from django_vcache.routing._row import Row
from django_vcache.routing._site import site

CONVERTERS = ("int", "str", "slug", "uuid")
TEXTS = ("a", "b", "v1", "1", "a{b}", "x.json")
PARTS = (
    *TEXTS,
    "7",
    "007",
    "99999999999999999999999",
    "é",
    "a-b_c",
    "A",
    " ",
    "0190a3f0-7c1e-7aaa-8bbb-0123456789ab",
    "",
)

segment = st.one_of(
    st.sampled_from(TEXTS),
    st.sampled_from(CONVERTERS).map(lambda kind: f"<{kind}:NAME>"),
    st.sampled_from(CONVERTERS).map(lambda kind: f"a<{kind}:NAME>.x"),
)


@st.composite
def a_route(draw: Any) -> str:
    parts = draw(st.lists(segment, max_size=3))
    if draw(st.booleans()):
        parts.append("")
    elif draw(st.booleans()):
        parts.append("<path:NAME>")
    return "/".join(part.replace("NAME", f"p{at}") for at, part in enumerate(parts))


def a_path(draw: Any, patterns: list[str]) -> str:
    """Often one that fits."""
    chosen = draw(st.sampled_from(patterns))
    parts = []
    for part in chosen.split("/"):
        if "<" in part and draw(st.integers(0, 5)):
            before, _, rest = part.partition("<")
            parts.append(before + draw(st.sampled_from(PARTS)) + rest.partition(">")[2])
        else:
            parts.append(part if draw(st.integers(0, 9)) else draw(st.sampled_from(PARTS)))
    return "/" + "/".join(parts)


@given(st.data())
@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_it_finds_what_django_finds(data: Any) -> None:
    patterns = data.draw(st.lists(a_route(), min_size=1, max_size=8, unique=True))
    with routes(*(hot(each, made, name=str(at)) for at, each in enumerate(patterns))):
        for _ in range(4):
            asked = a_path(data.draw, patterns)
            found = site().find(asked)
            try:
                match = get_resolver().resolve(asked)
            except Resolver404:
                assert found is None, asked
                continue
            numbers = [value for value in match.kwargs.values() if isinstance(value, int)]
            if any(number > 2**64 - 1 for number in numbers):
                # It stays with Django's handler.
                assert found is None
                continue
            assert found is not None, (patterns, asked)
            assert found[0] is match.func.route, (patterns, asked)
            assert found[1] == match.kwargs


def test_a_uuid_is_an_object_for_python_and_text_for_rust() -> None:
    text = "0190a3f0-7c1e-7aaa-8bbb-0123456789ab"
    for with_objects, expected in ((True, uuid.UUID(text)), (False, text)):
        table = RouteTable([Row([("uuid", "id")], "the route", with_objects=with_objects)])
        assert table.find(f"/{text}") == ("the route", {"id": expected})


def test_arguments_of_include_and_of_the_route_are_passed() -> None:
    below = [hot("b/<int:n>/", made, kwargs={"own": 1}, name="b")]
    with routes(path("a/<slug:s>/", include((below, "app"), namespace="app"), {"outer": 2})):
        found = site().find("/a/x/b/7/")
    assert found is not None
    assert found[1] == {"s": "x", "n": 7, "own": 1, "outer": 2}


def view(request: HttpRequest, **parameters: Any) -> None:
    raise AssertionError("not called")


def test_a_hot_route_wins_over_an_earlier_pattern() -> None:
    with routes(path("a/<str:s>/", view), hot("a/b/", made)):
        assert site().find("/a/b/") is not None
        assert site().find("/a/c/") is None


def test_a_table_refuses_what_it_cannot_hold() -> None:
    with pytest.raises(ValueError, match="two parameters"):
        RouteTable([Row([("int", "a"), "-", ("int", "b")], None)])
    with pytest.raises(ValueError, match="no path converter 'float'"):
        RouteTable([Row([("float", "a")], None)])
    assert RouteTable.problem(["a/", ("int", "n"), "/"]) is None


def test_the_table_is_made_anew_when_the_urls_change() -> None:
    with routes(hot("one/", made)):
        assert len(site()) == 1
    with routes(hot("one/", made), hot("two/", made)):
        assert len(site()) == 2
    with routes():
        assert len(site()) == 0
