"""Which hooks of middleware run without a thread, and which share one hand-over: what was sent to lanes says so."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from django.core.handlers import asgi
from django.http import HttpRequest, HttpResponse
from django.test import override_settings
from django.urls import path
from django.utils.deprecation import MiddlewareMixin
from support.asgi import counted_calls, get
from support.asgi_middleware import DJANGO, MORE, cookie_of, events, note, ours, threads, urlpatterns
from support.driver import open_runner
from support.server import ValkeyServer

from django_vcache._lanes import lanes
from django_vcache.asgi import ASGIHandler
from django_vcache.exceptions import ConfigurationError

pytestmark = pytest.mark.usefixtures("middleware_site")


@pytest.fixture
def run() -> Iterator[Any]:
    """One loop is enough for these: what depends on the loop is tested with the requests."""
    with open_runner("asyncio") as runner:
        yield runner.run


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
