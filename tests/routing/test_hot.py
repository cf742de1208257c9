"""`hot()`: an ordinary URL pattern, and what it refuses."""

from __future__ import annotations

import re
from typing import Any

import pytest
from django.test import Client, override_settings
from django.urls import NoReverseMatch, URLPattern, include, path, re_path, register_converter, reverse
from django.urls.converters import StringConverter
from django.utils.functional import lazystr
from support.hot import Asked, ask_early, ask_view, blocking, echo, made, routes

from django_vcache.admission import throttle
from django_vcache.exceptions import ConfigurationError
from django_vcache.routing import Cors, Request, Response, hot
from django_vcache.routing._levels import listed
from django_vcache.routing._site import site


@throttle("2/m", key="ip")
async def throttled(request: Any) -> None:
    raise AssertionError("not called")


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"target": 3}, "must be a hot path or a Python function of the request, not 3"),
    ({"target": Response}, "must be a hot path or a Python function"),
    ({"methods": "POST"}, "methods of hot() is a list, such as ['POST']"),
    ({"methods": ["post"]}, "'post' in methods of hot() is not a method: write it as 'POST'"),
    ({"methods": []}, "methods of hot() is empty"),
    ({"limit": -1}, "limit of hot() is a number of bytes, or a pair (on the wire, decoded), not -1"),
    ({"limit": True}, "not True"),
    ({"limit": (1, 2, 3)}, "not (1, 2, 3)"),
    ({"limit": "1MB"}, "not '1MB'"),
    ({"cors": "shop.example"}, "'shop.example' cannot be an origin of Cors"),
    ({"cors": ["https://shop.example/"]}, "'https://shop.example/' cannot be an origin of Cors"),
    ({"cors": ["https://*.shop.example"]}, "'https://*.shop.example' cannot be an origin of Cors"),
    ({"cors": ["https://sh\u00f6p.example"]}, "cannot be an origin of Cors"),
    ({"cors": True}, "origins of Cors are '*' or a list of origins, not True"),
    ({"cors": []}, "origins of Cors are empty"),
    ({"target": "shop.views.store"}, "not 'shop.views.store': import it"),
    ({"target": throttled}, "the target of hot() is throttled(), which the decorator @throttle is around"),
    ({"middleware": "shop.middleware.log"}, "middleware of hot() is a list, such as [access_log]"),
    ({"middleware": ["log"]}, "'log' in middleware of hot() is no factory, nor the dotted path of one"),
    ({"middleware": [None]}, "None in middleware of hot() is no factory"),
]


@pytest.mark.parametrize(("given", "message"), REFUSED, ids=lambda value: str(value)[:30])
def test_a_mistake_is_told_when_the_route_is_made(given: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=re.escape(message)):
        hot("a/", **{"target": made, **given})


def test_cors_with_credentials_needs_names() -> None:
    with pytest.raises(ConfigurationError, match="needs the origins by name"):
        Cors("*", credentials=True)
    with pytest.raises(ConfigurationError, match="'a b' in headers of Cors is not the name of a header"):
        Cors(headers=["a b"])
    with pytest.raises(ConfigurationError, match="max_age of Cors is a number of seconds, not 'x'"):
        Cors(max_age="x")  # type: ignore[arg-type]


def test_it_is_an_ordinary_pattern() -> None:
    pattern = hot("a/<int:n>/", made, name="a", kwargs={"more": 1})
    assert isinstance(pattern, URLPattern)
    assert pattern.name == "a"
    with routes(path("api/", include(([pattern], "shop"), namespace="shop"))):
        assert reverse("shop:a", kwargs={"n": 5, "more": 1}) == "/api/a/5/"
        with pytest.raises(NoReverseMatch):
            reverse("a", kwargs={"n": 5})


def test_the_test_client_reaches_it() -> None:
    with routes(hot("echo/<int:n>/", echo), hot("blocking/<int:n>/", blocking), ALLOWED_HOSTS=["testserver"]):
        answer = Client(enforce_csrf_checks=True).post("/echo/7/", b"body", content_type="text/plain")
        assert answer.status_code == 200
        assert answer.json()["parameters"] == {"n": "7"}
        assert answer.json()["body"] == "body"
        response = Client().get("/blocking/7/")
        assert response.content == b"GET /blocking/7/ ['n']"
        assert response.cookies["seen"].value == "yes"


def test_the_async_test_client_reaches_it(run: Any) -> None:
    from django.test import AsyncClient

    async def ask() -> Any:
        return await AsyncClient().post("/echo/", b"x", content_type="text/plain")

    with routes(hot("echo/", echo)):
        assert run(ask()).json()["method"] == "POST"


def test_a_path_without_its_slash_is_redirected(run: Any) -> None:
    with routes(hot("echo/", echo), MIDDLEWARE=["django.middleware.common.CommonMiddleware"], APPEND_SLASH=True):
        assert site().find("/echo") is None
        answer = run(ask_view(Asked("/echo?q=1")))
        assert (answer.status, answer.headers["location"]) == (301, "/echo/?q=1")


class Four(StringConverter):
    regex = "[0-9]{4}"


register_converter(Four, "four-for-hot-tests")


def i18n() -> Any:
    from django.conf.urls.i18n import i18n_patterns

    return i18n_patterns(hot("a/", made))[0]


LATER = [
    (lambda: re_path("^x/", include([hot("a/", made)])), "regular expression"),
    (i18n, "i18n_patterns"),
    (lambda: hot("<four-for-hot-tests:year>/", made), "'year' has a converter of yours (Four)"),
    (lambda: hot("<int:a>-<int:b>/", made), "two parameters stand between the same two slashes"),
    (lambda: path("<path:p>/", include([hot("a/", made)])), "path converter"),
    (lambda: path("<str:s>", include([hot("a/", made)])), "ends with a parameter"),
    (lambda: path("<int:n>/", include([hot("<int:n>/", made)])), "'n' is given twice"),
    (lambda: hot("a/<int:n>/", made, kwargs={"n": 1}), "'n' is given twice"),
]


@pytest.mark.parametrize(("pattern", "reason"), LATER, ids=[reason[:30] for _, reason in LATER])
def test_what_cannot_be_early_stays_a_view_and_says_why(pattern: Any, reason: str) -> None:
    with routes(pattern()):
        assert len(site()) == 0
        [each] = listed()
        assert reason in str(each.placed.reason)


def test_a_translated_route_stays_a_view() -> None:
    with routes(hot(lazystr("a/"), made)):  # type: ignore[arg-type]
        assert "translated" in str(listed()[0].placed.reason)


def test_a_view_follows_changed_settings(run: Any) -> None:
    with routes(re_path("^x/", include([hot("a/", made)])), ALLOWED_HOSTS=["one.example"]):
        asked = Asked("/x/a/", headers={"Host": "one.example"})
        assert run(ask_view(asked)).status == 201
        with override_settings(ALLOWED_HOSTS=["two.example"]):
            assert run(ask_view(asked)).status == 400


def test_a_later_route_answers_as_a_view(run: Any) -> None:
    with routes(re_path("^x/", include([hot("a/", made)]))):
        assert run(ask_view(Asked("/x/a/"))).status == 201


class Callable:
    """An object that is called, as a class with settings would be."""

    async def __call__(self, request: Request) -> bytes:
        return b"called"


def test_an_object_can_be_the_target(run: Any) -> None:
    with routes(hot("a/", Callable())):
        assert run(ask_early(Asked("/a/"))).body == b"called"
