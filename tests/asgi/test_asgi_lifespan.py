"""What a server asks before the first request and after the last one, and connections that are not HTTP."""

from __future__ import annotations

import asyncio
import inspect
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.test import override_settings
from support.asgi import HANG, get, until
from support.caches import cache_setting
from support.server import ValkeyServer, wait_until

from django_vcache._lanes import lanes
from django_vcache.asgi import ASGIApplication, ASGIHandler, get_asgi_application

urlpatterns: list[Any] = []


@pytest.fixture(autouse=True)
def _site() -> Iterator[None]:
    with override_settings(ROOT_URLCONF=__name__, MIDDLEWARE=[]):
        yield


async def lifespan(app: Any, between: Callable[[], Any] = lambda: None) -> list[str]:
    """A whole lifespan; what the application answered."""
    answers: list[str] = []
    up = asyncio.Event()
    events = iter(["lifespan.startup", "lifespan.shutdown"])

    async def receive() -> Any:
        event = next(events)
        if event == "lifespan.shutdown":
            await up.wait()
            between()
        return {"type": event}

    async def send(message: Any) -> None:
        answers.append(message["type"])
        up.set()

    await asyncio.wait_for(app({"type": "lifespan", "asgi": {"version": "3.0"}, "state": {}}, receive, send), HANG)
    return answers


COMPLETE = ["lifespan.startup.complete", "lifespan.shutdown.complete"]


def test_it_is_answered_without_any_cache_of_ours(run: Any) -> None:
    assert run(lifespan(get_asgi_application())) == COMPLETE


def connected(server: ValkeyServer) -> bool:
    return b"lib-name=vcache" in bytes(server.execute("CLIENT", "LIST"))  # type: ignore[arg-type]


@pytest.mark.parametrize("warm", [True, False])
def test_the_start_connects_unless_it_is_not_to(run: Any, fresh_server: ValkeyServer, warm: bool) -> None:
    seen = []
    with override_settings(CACHES={"default": cache_setting(fresh_server)}, VCACHE={"WARM_UP": warm}):
        assert run(lifespan(get_asgi_application(), lambda: seen.append(connected(fresh_server)))) == COMPLETE
    assert seen == [warm]


def test_a_server_that_is_away_does_not_keep_it_from_starting(run: Any, fresh_server: ValkeyServer) -> None:
    fresh_server.kill()
    with override_settings(CACHES={"default": cache_setting(fresh_server)}):
        assert run(lifespan(get_asgi_application())) == COMPLETE


def test_the_end_waits_for_calls_and_ends_the_threads(run: Any) -> None:
    go = threading.Event()
    lane = lanes.lane()
    call = lane.submit(go.wait)

    def soon() -> None:
        threading.Thread(target=lambda: (wait_until(lambda: lanes.state["threads"] == 0), go.set())).start()

    assert run(lifespan(get_asgi_application(), soon)) == COMPLETE
    assert call.done()
    lane.end()


def test_another_application_has_its_lifespan_too(run: Any) -> None:
    seen = []

    async def other(scope: Any, receive: Any, send: Any) -> None:
        scope["state"]["other"] = "here"
        for _ in range(2):
            event = (await receive())["type"]
            seen.append(event)
            await send({"type": f"{event}.complete"})

    assert run(lifespan(get_asgi_application(other))) == COMPLETE
    assert seen == ["lifespan.startup", "lifespan.shutdown"]


def test_another_application_may_fail_to_start(run: Any) -> None:
    async def other(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "lifespan.startup.failed", "message": "no"})

    assert run(lifespan(get_asgi_application(other))) == ["lifespan.startup.failed", "lifespan.shutdown.complete"]


@pytest.mark.parametrize("error", [ValueError("no lifespan"), AssertionError()])
def test_another_application_may_know_of_no_lifespan(run: Any, error: Exception) -> None:
    async def other(scope: Any, receive: Any, send: Any) -> None:
        raise error

    assert run(lifespan(get_asgi_application(other))) == COMPLETE


def test_another_application_that_hangs_is_cancelled_with_the_lifespan(run: Any) -> None:
    began = []
    cancelled = []

    async def other(scope: Any, receive: Any, send: Any) -> None:
        began.append(await receive())
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.append(True)
            raise

    async def scenario() -> None:
        task = asyncio.create_task(lifespan(get_asgi_application(other)))
        await until(lambda: began)
        assert not task.done()  # it waits for the other's answer
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await until(lambda: cancelled)

    run(scenario())
    assert cancelled == [True]


def test_what_is_not_http_goes_to_the_other_application(run: Any) -> None:
    kinds = []

    async def other(scope: Any, receive: Any, send: Any) -> None:
        kinds.append(scope["type"])

    app = get_asgi_application(other)
    run(app({"type": "websocket"}, None, None))
    assert run(get(app, "/absent")).status == 404
    assert kinds == ["websocket"]


def test_without_another_application_django_refuses_it(run: Any) -> None:
    with pytest.raises(ValueError, match="websocket"):
        run(get_asgi_application()({"type": "websocket"}, None, None))


def test_the_application_tells_its_handler() -> None:
    app = get_asgi_application()
    assert isinstance(app, ASGIApplication)
    assert type(app.handler) is ASGIHandler
    assert inspect.iscoroutinefunction(app.__call__)


def test_the_start_makes_the_table_of_hot_routes(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[bool] = []
    monkeypatch.setattr("django_vcache.asgi._early.site", lambda: made.append(True))
    events = iter(["lifespan.startup", "lifespan.shutdown"])

    async def receive() -> dict[str, str]:
        return {"type": next(events)}

    async def send(message: Any) -> None: ...

    run(ASGIApplication(ASGIHandler())({"type": "lifespan"}, receive, send))
    assert made == [True]
