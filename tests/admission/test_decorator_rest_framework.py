"""`@throttle` on REST framework's views: a limit by user charges the user whom the view's authentication finds where it
can be known, and is refused where it cannot."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.contrib.auth.models import AnonymousUser, User
from django.core.checks import run_checks
from django.http import HttpResponse
from django.test import RequestFactory, override_settings
from django.utils.decorators import method_decorator
from django.views.decorators.csrf import csrf_exempt
from support.caches import cache_setting
from support.server import ValkeyServer

pytest.importorskip("rest_framework")

from rest_framework.authentication import BaseAuthentication, SessionAuthentication
from rest_framework.decorators import api_view, authentication_classes
from rest_framework.exceptions import AuthenticationFailed
from rest_framework.permissions import IsAuthenticated
from rest_framework.response import Response
from rest_framework.views import APIView
from rest_framework.viewsets import ViewSet

pytestmark = pytest.mark.usefixtures("default_alias", "patient")


class Tokens(BaseAuthentication):
    """Users by a token that is good for one time."""

    used: list[str] = []  # noqa: RUF012

    def authenticate(self, request: Any) -> Any:
        token = request.headers.get("authorization")
        if token is None:
            return None
        if token in self.used or not token[0].isdigit():
            raise AuthenticationFailed("this token is not good")
        self.used.append(token)
        return User(pk=int(token.split("-")[0]), username=token), token

    def authenticate_header(self, request: Any) -> str:
        return "Token"


@pytest.fixture(autouse=True)
def tokens() -> Iterator[Callable[[int], str]]:
    """New tokens of a user, each good for one time."""
    Tokens.used = []
    made: list[int] = []

    def token(user: int) -> str:
        made.append(user)
        return f"{user}-{len(made)}"

    yield token
    Tokens.used = []


def ask(view: Any, token: str | None = None, peer: str = "192.0.2.1", session: Any = None) -> Any:
    headers = {} if token is None else {"authorization": token}
    request = RequestFactory().get("/", headers=headers, REMOTE_ADDR=peer)
    request.user = session or AnonymousUser()
    return view(request)


class Page(APIView):
    authentication_classes = (Tokens,)

    def get(self, request: Any) -> Response:
        return Response(str(request.user.pk))


def on_the_class(limit: Any) -> Any:
    return limit(type("Limited", (Page,), {})).as_view()


def on_dispatch(limit: Any) -> Any:
    class Limited(Page):
        @limit
        def dispatch(self, request: Any, *args: Any, **kwargs: Any) -> Any:
            return super().dispatch(request, *args, **kwargs)

    return Limited.as_view()


def by_method_decorator(limit: Any) -> Any:
    return method_decorator(limit, name="dispatch")(type("Limited", (Page,), {})).as_view()


def by_method_decorator_in_a_list(limit: Any) -> Any:
    return method_decorator([csrf_exempt, limit], name="dispatch")(type("Limited", (Page,), {})).as_view()


def on_a_method(limit: Any) -> Any:
    class Limited(Page):
        @limit
        def get(self, request: Any) -> Response:
            return Response(str(request.user.pk))

    return Limited.as_view()


def on_a_method_by_method_decorator(limit: Any) -> Any:
    return method_decorator(limit, name="get")(type("Limited", (Page,), {})).as_view()


def below_api_view(limit: Any) -> Any:
    @api_view(["GET"])
    @authentication_classes([Tokens])
    @limit
    def limited(request: Any) -> Response:
        return Response(str(request.user.pk))

    return limited


def on_a_viewset(limit: Any) -> Any:
    class Limited(ViewSet):
        authentication_classes = (Tokens,)

        def list(self, request: Any) -> Response:
            return Response(f"{request.user.pk}" if self.action == "list" else "no action")

    return limit(Limited).as_view({"get": "list"})


places = pytest.mark.parametrize(
    "place",
    [
        on_the_class,
        on_dispatch,
        by_method_decorator,
        by_method_decorator_in_a_list,
        on_a_method,
        on_a_method_by_method_decorator,
        below_api_view,
        on_a_viewset,
    ],
    ids=lambda place: place.__name__,
)
keys = pytest.mark.parametrize("key", ["user", "user_or_ip"])


@places
@keys
def test_a_user_with_a_token_is_charged_and_not_the_address(place: Any, key: str, tokens: Any, server: Any) -> None:
    from django_vcache.admission import throttle

    view = place(throttle("2/h", key=key, name="api"))
    # The same address, and a token that is good once: the view is given what the limit has found.
    found = [ask(view, tokens(user)) for user in (5, 5, 5, 7)]
    assert [answer.status_code for answer in found] == [200, 200, 429, 200]
    assert (found[0].data, found[3].data) == ("5", "7")
    assert sorted(server.keys("*")) == [b"vcache:2:{v00}:t:api:api=user-5", b"vcache:2:{v00}:t:api:api=user-7"]


@places
def test_a_stack_of_limits_authenticates_once(place: Any, tokens: Any) -> None:
    from django_vcache.admission import throttle

    hour, day = throttle("2/h", name="hour"), throttle("5/d", name="day", cost=2)
    view = place(lambda each: hour(csrf_exempt(day(each)) if not isinstance(each, type) else day(each)))
    assert [ask(view, tokens(5)).status_code for _ in range(3)] == [200, 200, 429]


@places
@keys
def test_wrong_credentials_are_answered_by_the_view_and_charged_to_the_address(
    place: Any, key: str, server: ValkeyServer
) -> None:
    from django_vcache.admission import throttle

    view = place(throttle("2/h", key=key, name="api"))
    answer = ask(view, "wrong")
    assert (answer.status_code, answer.headers["WWW-Authenticate"]) == (401, "Token")
    assert "not good" in str(answer.data)
    if place not in (on_a_method, on_a_method_by_method_decorator, below_api_view):
        assert server.keys("*") == [
            f"vcache:2:{{v00}}:t:api:api={'anonymous' if key == 'user' else 'ip-192.0.2.1'}".encode()
        ]
        assert [ask(view, "wrong").status_code for _ in range(2)] == [401, 429]


@places
def test_without_a_token_it_is_the_address(place: Any) -> None:
    from django_vcache.admission import throttle

    view = place(throttle("1/h"))
    assert [ask(view).status_code for _ in range(2)] == [200, 429]
    assert ask(view, peer="192.0.2.9").status_code == 200


def test_a_dispatch_of_the_projects_may_hand_on_another_request(tokens: Any) -> None:
    from django_vcache.admission import throttle

    class Other(Page):
        def dispatch(self, request: Any, *args: Any, **kwargs: Any) -> Any:
            other = RequestFactory().get("/", headers={"authorization": tokens(9)})
            return super().dispatch(other, *args, **kwargs)

    assert ask(throttle("1/h")(Other).as_view(), tokens(5)).data == "9"


def test_a_limit_by_address_does_not_authenticate(tokens: Any) -> None:
    from django_vcache.admission import throttle

    view = throttle("1/h", key="ip")(type("Limited", (Page,), {})).as_view()
    assert ask(view, tokens(5)).status_code == 200
    assert ask(view, tokens(6)).status_code == 429
    assert len(Tokens.used) == 1


def above_as_view(limit: Any, classes: Any) -> Any:
    return limit(type("Page", (Page,), {"authentication_classes": classes}).as_view())


def above_as_view_with_arguments(limit: Any, classes: Any) -> Any:
    return limit(Page.as_view(authentication_classes=classes))


def above_api_view(limit: Any, classes: Any) -> Any:
    @limit
    @csrf_exempt
    @api_view(["GET"])
    @authentication_classes(classes)
    def limited(request: Any) -> Response:
        return Response("seen")

    return limited


def above_a_viewset(limit: Any, classes: Any) -> Any:
    class Pages(ViewSet):
        authentication_classes = classes

        def list(self, request: Any) -> Response:
            return Response("seen")

    return limit(Pages.as_view({"get": "list"}))


above = pytest.mark.parametrize(
    "place",
    [above_as_view, above_as_view_with_arguments, above_api_view, above_a_viewset],
    ids=lambda place: place.__name__,
)


def checked(server: ValkeyServer) -> list[str]:
    with override_settings(CACHES={"default": cache_setting(server)}):
        return [message.msg for message in run_checks(tags=["vcache"]) if message.id == "vcache.E006"]


@pytest.fixture
def no_other_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    import weakref

    from django_vcache.admission.views import limit

    monkeypatch.setattr(limit, "_all", weakref.WeakSet())


@above
@keys
def test_where_the_user_is_found_inside_it_is_refused(
    place: Any, key: str, server: ValkeyServer, tokens: Any, no_other_limits: None
) -> None:
    from django_vcache.admission import throttle
    from django_vcache.exceptions import ConfigurationError

    view = place(throttle("1/h", key=key), [Tokens])
    [text] = checked(server)
    assert "test_decorator_rest_framework.py:" in text
    for words in (f"its key is '{key}'", "users with a token", "below @api_view", "key='ip'"):
        assert words in text
    # Also without the check, and whatever else stands around it.
    for each in (view, throttle("9/h", key="ip")(view)):
        with pytest.raises(ConfigurationError, match="users with a token"):
            ask(each, tokens(5))
    assert server.keys("*") == []


@above
def test_above_authentication_everything_else_can_be_charged(place: Any, server: ValkeyServer, tokens: Any) -> None:
    from django_vcache.admission import throttle

    for number, key in enumerate(["ip", "header:authorization", lambda request: "all"]):
        view = place(throttle("1/h", key=key, name=f"above-{number}"), [Tokens])
        assert ask(view, tokens(5)).status_code == 200
    # A session's user is known before.
    for classes in ([SessionAuthentication], []):
        session = User(pk=len(classes) + 1)
        view = place(throttle("1/h", name="session"), classes)
        assert [ask(view, session=session).status_code for _ in range(2)] == [200, 429]


def test_authenticators_that_only_the_view_knows_are_refused(server: ValkeyServer, no_other_limits: None) -> None:
    from django_vcache.admission import throttle

    class Own(APIView):
        authentication_classes = ()

        def get_authenticators(self) -> Any:
            return [Tokens()]

    view = throttle("1/h")(Own.as_view())
    assert len(checked(server)) == 1
    assert view


def test_a_refusal_inside_is_a_response_of_the_view(tokens: Any) -> None:
    from django_vcache.admission import decisions_of, throttle

    seen: list[Any] = []

    class Limited(Page):
        permission_classes = (IsAuthenticated,)

        @throttle("1/h", block=False)
        def get(self, request: Any) -> Response:
            seen.extend(decisions_of(request))
            return Response("seen")

    assert [ask(Limited.as_view(), tokens(5)).status_code for _ in range(2)] == [200, 200]
    assert [bool(decision) for decision in seen] == [True, False]


def test_fields_of_what_rest_framework_parses_are_keys() -> None:
    from django_vcache.admission import throttle

    class Login(APIView):
        authentication_classes = ()

        @throttle("1/h", key="post:username")
        def post(self, request: Any) -> HttpResponse:
            return HttpResponse("seen")

    def post(name: str) -> int:
        request = RequestFactory().post("/", {"username": name}, content_type="application/json")
        return int(Login.as_view()(request).status_code)

    assert [post("anna"), post("Anna "), post("berta")] == [200, 429, 200]
