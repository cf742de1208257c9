"""Middleware for the tests of the ASGI handler, and views. They note in `events` what they do, in `threads` where."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import django
import pytest
from asgiref.sync import markcoroutinefunction
from django.contrib import messages
from django.core.exceptions import MiddlewareNotUsed
from django.http import Http404, HttpRequest, HttpResponse
from django.middleware.common import CommonMiddleware
from django.middleware.csrf import get_token
from django.template.response import SimpleTemplateResponse
from django.test import override_settings
from django.urls import path
from django.utils.deprecation import MiddlewareMixin
from django.views.decorators.csrf import csrf_exempt

from support.asgi import Exchange
from support.caches import cache_setting
from support.server import ValkeyServer

DJANGO = [
    "django.middleware.security.SecurityMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]
MORE = [
    "django.middleware.http.ConditionalGetMiddleware",
    "django.middleware.locale.LocaleMiddleware",
]
if django.VERSION >= (6,):
    MORE.append("django.middleware.csp.ContentSecurityPolicyMiddleware")

events: list[Any] = []
threads: list[int] = []


def note(*event: Any) -> None:
    events.append(event)
    threads.append(threading.get_ident())


class Noting(MiddlewareMixin):
    """Its hooks note that they ran, and answer or fail as the request's query says: `?two=answer-request`."""

    name = ""

    def _hook(self, hook: str, request: HttpRequest) -> HttpResponse | None:
        note(self.name, hook)
        wish = request.GET.get(self.name)
        if wish == f"answer-{hook}":
            return HttpResponse(f"{self.name} answers in {hook}")
        if wish == f"fail-{hook}":
            raise ValueError(f"{self.name} fails in {hook}")
        if wish == f"404-{hook}":
            raise Http404(self.name)
        return None

    def process_request(self, request: HttpRequest) -> HttpResponse | None:
        return self._hook("request", request)

    def process_view(self, request: HttpRequest, callback: Any, args: Any, kwargs: Any) -> HttpResponse | None:
        return self._hook("view", request)

    def process_response(self, request: HttpRequest, response: Any) -> Any:
        answer = self._hook("response", request) or response
        answer.headers["X-Seen"] = answer.headers.get("X-Seen", "") + self.name[0]
        return answer


class One(Noting):
    name = "one"


class Two(Noting):
    name = "two"


class Three(Noting):
    name = "three"

    def process_exception(self, request: HttpRequest, exception: Exception) -> HttpResponse | None:
        return self._hook("exception", request)

    def process_template_response(self, request: HttpRequest, response: Any) -> Any:
        note(self.name, "template")
        return response


class OnlyRequest(MiddlewareMixin):
    def process_request(self, request: HttpRequest) -> None:
        note("only request")


class OnlyResponse(MiddlewareMixin):
    def process_response(self, request: HttpRequest, response: Any) -> Any:
        note("only response")
        return response


class Subclass(CommonMiddleware):
    """What it does beyond its base is not known."""

    def process_request(self, request: HttpRequest) -> Any:
        note("subclass")
        return super().process_request(request)


class OwnCall(MiddlewareMixin):
    """Has a way to be called that is not the mixin's."""

    def __call__(self, request: HttpRequest) -> Any:
        note("own call")
        return super().__call__(request)


def function(get_response: Any) -> Any:
    """A blocking middleware."""

    def middleware(request: HttpRequest) -> Any:
        note("function", "in")
        response = get_response(request)
        note("function", "out")
        return response

    return middleware


class AsyncOnly:
    sync_capable = False
    async_capable = True

    def __init__(self, get_response: Any) -> None:
        self.get_response = get_response
        markcoroutinefunction(self)

    async def __call__(self, request: HttpRequest) -> Any:
        note("async only", "in")
        response = await self.get_response(request)
        note("async only", "out")
        return response

    async def process_view(self, request: HttpRequest, callback: Any, args: Any, kwargs: Any) -> None:
        note("async only", "view")


class Unused(MiddlewareMixin):
    def __init__(self, get_response: Any) -> None:
        raise MiddlewareNotUsed


async def page(request: HttpRequest) -> HttpResponse:
    note("view")
    return HttpResponse("page")


def blocking(request: HttpRequest) -> HttpResponse:
    note("view")
    return HttpResponse("page")


async def fails(request: HttpRequest) -> HttpResponse:
    note("view")
    raise ValueError("the view fails")


async def rendered(request: HttpRequest) -> SimpleTemplateResponse:
    class Response(SimpleTemplateResponse):
        @property
        def rendered_content(self) -> str:
            note("rendered")
            return "rendered"

    return Response("no template")


async def visits(request: Any) -> HttpResponse:
    count = await request.session.aget("visits", 0) + 1
    await request.session.aset("visits", count)
    return HttpResponse(str(count))


async def reads_session(request: Any) -> HttpResponse:
    return HttpResponse(str(await request.session.aget("visits", 0)))


async def flushes(request: Any) -> HttpResponse:
    await request.session.aflush()
    return HttpResponse("flushed")


async def fails_after_write(request: Any) -> HttpResponse:
    await request.session.aset("visits", 100)
    return HttpResponse("no", status=500)


async def token(request: HttpRequest) -> HttpResponse:
    return HttpResponse(get_token(request))


async def says(request: HttpRequest) -> HttpResponse:
    messages.info(request, "hello")
    return HttpResponse("said")


async def hears(request: HttpRequest) -> HttpResponse:
    return HttpResponse("".join(str(message) for message in messages.get_messages(request)))


urlpatterns = [
    path("page/", page),
    path("blocking/", blocking),
    path("fails/", fails),
    path("rendered/", rendered),
    path("visits/", visits),
    path("reads/", reads_session),
    path("flushes/", flushes),
    path("fails-after-write/", fails_after_write),
    path("token/", token),
    path("post/", page),
    path("exempt/", csrf_exempt(page)),
    path("says/", says),
    path("hears/", hears),
]


def ours(*names: str) -> list[str]:
    return [f"{__name__}.{name}" for name in names]


@pytest.fixture
def middleware_site(server: ValkeyServer) -> Iterator[None]:
    events.clear()
    threads.clear()
    with override_settings(
        ROOT_URLCONF=__name__,
        CACHES={"default": cache_setting(server)},
        SESSION_ENGINE="django.contrib.sessions.backends.cache",
        TEMPLATES=[{"BACKEND": "django.template.backends.django.DjangoTemplates"}],
        ADMINS=[],
    ):
        yield


def cookie_of(exchange: Exchange) -> tuple[tuple[bytes, bytes], ...]:
    return ((b"cookie", exchange.answer_headers["Set-Cookie"].partition(";")[0].encode()),)
