"""Middleware under our handler does what it does under Django's: each stack answers the same requests under both, and
what its hooks saw is compared. Which hooks run without a thread is said by what was sent to lanes."""

from __future__ import annotations

import asyncio
import re
import threading
from collections.abc import Iterator
from typing import Any

import django
import pytest
from django.contrib import messages
from django.core.handlers import asgi
from django.http import Http404, HttpRequest, HttpResponse
from django.middleware.common import CommonMiddleware
from django.middleware.csrf import get_token
from django.template.response import SimpleTemplateResponse
from django.test import override_settings
from django.urls import path
from django.utils.deprecation import MiddlewareMixin
from django.views.decorators.csrf import csrf_exempt
from support.asgi import Exchange, counted_calls, get
from support.caches import cache_setting
from support.driver import open_runner
from support.server import ValkeyServer

from django_vcache.asgi import ASGIHandler
from django_vcache.asgi._lanes import lanes
from django_vcache.exceptions import ConfigurationError

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


@pytest.fixture
def run() -> Iterator[Any]:
    """One loop is enough for these: what depends on the loop is tested with the requests."""
    with open_runner("asyncio") as runner:
        yield runner.run


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
        from asgiref.sync import markcoroutinefunction

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
        from django.core.exceptions import MiddlewareNotUsed

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


@pytest.fixture(autouse=True)
def _site(server: ValkeyServer) -> Iterator[None]:
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


def answer(handler: type, run: Any, where: str, **given: Any) -> tuple[Any, ...]:
    """What a request comes to: the response, and what the hooks noted."""
    events.clear()
    threads.clear()
    exchange: Exchange = run(get(handler(), where, **given))
    headers = exchange.answer_headers
    return exchange.status, exchange.content, headers, list(events)


STACKS = {
    "one": ours("One"),
    "three": ours("One", "Two", "Three"),
    "gaps": ours("OnlyRequest", "One", "OnlyResponse", "Two", "OnlyRequest"),
    "function between": ours("One", "function", "Two"),
    "function within": ours("One", "Two", "function"),
    "function around": ours("function", "One", "Two"),
    "async between": ours("One", "AsyncOnly", "Two", "Three"),
    "unused between": ours("One", "Unused", "Two"),
    "own call between": ours("One", "OwnCall", "Two"),
    "Django's between": [*ours("One"), *DJANGO, *ours("Two", "Three")],
    "among Django's": [*DJANGO[:2], *ours("One"), *DJANGO[2:5], *ours("Subclass", "Three"), *DJANGO[5:], *MORE],
}
WISHES = [
    "",
    *(f"two={wish}-{hook}" for wish in ("answer", "fail", "404") for hook in ("request", "view", "response")),
    "one=fail-response&two=fail-request",
    "one=answer-request",
    "one=fail-request",
    "three=answer-exception",
    "three=fail-exception",
    "three=fail-response&two=answer-response",
]


@pytest.mark.parametrize("stack", STACKS)
@pytest.mark.parametrize("inline", [(), ours("One", "Two", "Three"), ours("Two")], ids=["none", "all", "two"])
def test_a_stack_behaves_as_under_djangos_handler(run: Any, stack: str, inline: tuple[str, ...]) -> None:
    with override_settings(MIDDLEWARE=STACKS[stack], VCACHE={"INLINE_MIDDLEWARE": list(inline)}):
        for view in ("page", "blocking", "fails", "rendered", "absent"):
            for wish in WISHES:
                where = f"/{view}/?{wish}"
                assert answer(ASGIHandler, run, where) == answer(asgi.ASGIHandler, run, where), where


def scrubbed(result: tuple[Any, ...]) -> tuple[Any, ...]:
    """Without what is another each time."""
    status, content, headers, noted = result
    cookie = re.sub(r"(sessionid|csrftoken|messages)=[^;]+|expires=[^;]+", r"\1", headers.get("Set-Cookie", ""))
    headers = headers | {"Set-Cookie": cookie, "ETag": "any" if "ETag" in headers else "none"}
    content = re.sub(rb'nonce="[^"]+"|^\w{64}$', b"any", content)
    return status, content, headers, noted


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"SESSION_SAVE_EVERY_REQUEST": True},
        {"SESSION_ENGINE": "django.contrib.sessions.backends.signed_cookies"},
        {"SESSION_ENGINE": "django.contrib.sessions.backends.file"},
        {"CSRF_USE_SESSIONS": True},
        {"MESSAGE_STORAGE": "django.contrib.messages.storage.cookie.CookieStorage"},
        {"MESSAGE_STORAGE": "django.contrib.messages.storage.session.SessionStorage"},
        {"SECURE_SSL_REDIRECT": True, "SECURE_HSTS_SECONDS": 60},
        {"VCACHE": {"INLINE": False}},
        {"VCACHE": {"LANES": 0}},
    ],
    ids=str,
)
def test_djangos_middleware_behaves_as_under_djangos_handler(run: Any, settings: dict[str, Any], tmp_path: Any) -> None:
    visitors: list[Any] = [{}, {b"cookie": b"sessionid=gone"}, {b"accept-language": b"de"}, {}]
    with override_settings(MIDDLEWARE=[*DJANGO, *MORE], SESSION_FILE_PATH=str(tmp_path), **settings):
        told = {handler: [visit(handler, run, dict(each)) for each in visitors] for handler in HANDLERS}
    for visitor, ours_, djangos in zip(visitors, *told.values(), strict=True):
        assert ours_ == djangos, visitor


HANDLERS = (ASGIHandler, asgi.ASGIHandler)


def visit(handler: type, run: Any, headers: dict[bytes, bytes]) -> list[Any]:
    """What a client is told that keeps its cookies."""
    told = []
    for where, method in [
        ("/page/", "GET"),
        ("/page", "GET"),
        ("/absent", "GET"),
        ("/reads/", "GET"),
        ("/visits/", "GET"),
        ("/visits/", "GET"),
        ("/says/", "GET"),
        ("/page/", "GET"),
        ("/hears/", "GET"),
        ("/token/", "GET"),
        ("/post/", "POST"),
        ("/exempt/", "POST"),
        ("/fails-after-write/", "GET"),
        ("/fails/", "GET"),
        ("/flushes/", "GET"),
        ("/reads/", "GET"),
    ]:
        exchange: Exchange = run(get(handler(), where, method=method, headers=tuple(headers.items())))
        if given := exchange.answer_headers.get("Set-Cookie"):
            kept = dict(part.split(b"=", 1) for part in headers.get(b"cookie", b"").split(b"; ") if part)
            name, _, value = given.partition(";")[0].partition("=")
            kept[name.encode()] = value.encode()
            headers[b"cookie"] = b"; ".join(b"=".join(item) for item in kept.items())
        told.append((where, *scrubbed((exchange.status, exchange.content, exchange.answer_headers, []))))
    return told


def cookie_of(exchange: Exchange) -> tuple[tuple[bytes, bytes], ...]:
    return ((b"cookie", exchange.answer_headers["Set-Cookie"].partition(";")[0].encode()),)


# What needs no thread


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    with counted_calls(monkeypatch) as calls:
        yield calls


def test_startprojects_middleware_needs_no_thread(run: Any, calls: list[str]) -> None:
    with override_settings(MIDDLEWARE=[*DJANGO, *MORE]):
        for where in ("/page/", "/page", "/reads/"):
            run(get(ASGIHandler(), where))
        run(get(ASGIHandler(), "/exempt/", method="POST"))
    assert calls == []
    assert lanes.state["threads"] == 0


def test_the_switch_turns_it_off(run: Any, calls: list[str]) -> None:
    with override_settings(MIDDLEWARE=DJANGO, VCACHE={"INLINE": False}):
        run(get(ASGIHandler(), "/page/"))
    assert calls.count("process_request") >= 6
    assert calls.count("process_response") >= 5


def test_sessions_in_our_cache_are_saved_on_the_loop(run: Any, calls: list[str], server: ValkeyServer) -> None:
    with override_settings(MIDDLEWARE=DJANGO):
        first = run(get(ASGIHandler(), "/visits/"))
        second = run(get(ASGIHandler(), "/visits/", headers=cookie_of(first)))
        assert (first.content, second.content) == (b"1", b"2")
        assert len(server.keys()) == 1
        gone = run(get(ASGIHandler(), "/flushes/", headers=cookie_of(first)))
        assert server.keys() == []
    assert calls == []
    assert "Max-Age=0" in gone.answer_headers["Set-Cookie"]


def test_a_session_that_was_deleted_meanwhile_is_a_400(run: Any, calls: list[str], server: ValkeyServer) -> None:
    async def deletes(request: Any) -> HttpResponse:
        await request.session.aset("visits", 7)
        server.execute("FLUSHALL")
        return HttpResponse("lost")

    urlpatterns.append(path("deletes/", deletes))
    try:
        with override_settings(MIDDLEWARE=DJANGO):
            first = run(get(ASGIHandler(), "/visits/"))
            for handler in (asgi.ASGIHandler, ASGIHandler):
                first = run(get(ASGIHandler(), "/visits/"))
                assert run(get(handler(), "/deletes/", headers=cookie_of(first))).status == 400
    finally:
        del urlpatterns[-1]


def test_sessions_in_files_are_saved_on_the_thread(run: Any, calls: list[str], tmp_path: Any) -> None:
    with override_settings(
        MIDDLEWARE=DJANGO,
        SESSION_ENGINE="django.contrib.sessions.backends.file",
        SESSION_FILE_PATH=str(tmp_path),
    ):
        assert run(get(ASGIHandler(), "/visits/")).content == b"1"
    # The save, and with it what lies further out; then the end of the request. The view had its own calls.
    assert calls.count("leave") == 1
    assert calls[-1] == "close"


def test_messages_are_kept_without_a_thread_in_cookies(run: Any, calls: list[str]) -> None:
    with override_settings(MIDDLEWARE=DJANGO, MESSAGE_STORAGE="django.contrib.messages.storage.cookie.CookieStorage"):
        said = run(get(ASGIHandler(), "/says/"))
        assert run(get(ASGIHandler(), "/hears/", headers=cookie_of(said))).content == b"hello"
    assert calls == []


def test_a_form_is_checked_on_the_thread(run: Any, calls: list[str]) -> None:
    with override_settings(MIDDLEWARE=DJANGO):
        assert run(get(ASGIHandler(), "/post/", method="POST")).status == 403
        given = run(get(ASGIHandler(), "/token/"))
        body = b"csrfmiddlewaretoken=" + given.content
        headers = (*cookie_of(given), (b"content-type", b"application/x-www-form-urlencoded"))
        calls.clear()
        assert run(get(ASGIHandler(), "/post/", method="POST", body=(body,), headers=headers)).status == 200
    assert calls == ["rest", "close"]


def test_neighbours_share_one_hand_over_in_each_phase(run: Any, calls: list[str]) -> None:
    with override_settings(MIDDLEWARE=ours("One", "Two", "Three")):
        run(get(ASGIHandler(), "/page/"))
    assert calls == ["enter", "rest", "leave", "close"]
    assert [event for event in events if event != ("view",)] == [
        *((name, hook) for hook in ("request", "view") for name in ("one", "two", "three")),
        *((name, "response") for name in ("three", "two", "one")),
    ]
    assert len(set(threads)) == 2


def test_a_subclass_of_djangos_gets_its_thread(run: Any, calls: list[str]) -> None:
    with override_settings(MIDDLEWARE=ours("Subclass")):
        run(get(ASGIHandler(), "/page/"))
    assert calls == ["enter", "leave", "close"]
    assert threading.get_ident() != threads[0]


def test_named_middleware_runs_on_the_loop(run: Any, calls: list[str]) -> None:
    with override_settings(MIDDLEWARE=ours("One", "Two"), VCACHE={"INLINE_MIDDLEWARE": ours("One", "Two")}):
        run(get(ASGIHandler(), "/page/"))
    assert calls == []
    assert set(threads) == {threading.get_ident()}


@pytest.mark.parametrize(
    ("name", "says"), [("function", "does not inherit"), ("Absent", "fails"), ("AsyncOnly", "does not inherit")]
)
def test_what_cannot_run_on_the_loop_is_refused_by_name(name: str, says: str) -> None:
    with (
        override_settings(MIDDLEWARE=[], VCACHE={"INLINE_MIDDLEWARE": ours(name)}),
        pytest.raises(ConfigurationError, match=f"INLINE_MIDDLEWARE.*{name}.*{says}"),
    ):
        ASGIHandler()


def test_a_sync_handler_is_loaded_as_djangos(run: Any) -> None:
    handler = ASGIHandler()
    with override_settings(MIDDLEWARE=ours("One", "Two")):
        handler.load_middleware()
        request = asgi.ASGIRequest({"type": "http", "method": "GET", "path": "/page/", "headers": []}, None)
        assert handler.get_response(request).content == b"page"


def test_what_a_tool_puts_in_the_mixins_place_is_called(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    original = MiddlewareMixin.__acall__

    async def traced(self: Any, request: HttpRequest) -> Any:
        note("traced", type(self).__name__)
        return await original(self, request)

    monkeypatch.setattr(MiddlewareMixin, "__acall__", traced)
    with override_settings(MIDDLEWARE=ours("One", "Two")):
        assert run(get(ASGIHandler(), "/page/")).content == b"page"
    assert [name for kind, name in (event for event in events if len(event) == 2) if kind == "traced"] == ["One", "Two"]


def test_requests_at_once_do_not_mix(run: Any) -> None:
    async def many(handler: Any) -> list[bytes]:
        wishes = ["", "two=answer-request", "one=answer-request", "two=answer-view"] * 10
        return [
            exchange.content for exchange in await asyncio.gather(*(get(handler, f"/page/?{wish}") for wish in wishes))
        ]

    with override_settings(MIDDLEWARE=ours("One", "Two", "Three")):
        assert (
            run(many(ASGIHandler()))
            == [
                b"page",
                b"two answers in request",
                b"one answers in request",
                b"two answers in view",
            ]
            * 10
        )
