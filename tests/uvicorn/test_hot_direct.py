"""Hot paths that the protocol calls without their route: the answers are those that the route gives."""

from __future__ import annotations

import asyncio
import contextvars
import logging
import sys
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

import pytest
import uvicorn
from support.asgi import HANG
from support.hot import routes
from uvicorn.server import ServerState

from django_vcache.asgi import ASGIApplication, ASGIHandler
from django_vcache.exceptions import RequestError
from django_vcache.routing import hot
from django_vcache.routing._routes import Route
from django_vcache.uvicorn import HotProtocol
from django_vcache.uvicorn._site import start

JSON = (b"Content-Type", b"application/json")


class Client(asyncio.Transport):
    """The client's end of a connection, in memory."""

    def __init__(self) -> None:
        super().__init__({"peername": ("192.0.2.9", 4711), "sockname": ("127.0.0.1", 80)})
        self.written: list[bytes] = []
        self.answers: asyncio.Queue[bytes] = asyncio.Queue()
        self.is_closed = False

    def write(self, data: Any) -> None:
        self.written.append(bytes(data))
        self.answers.put_nowait(self.written[-1])

    def is_closing(self) -> bool:
        return self.is_closed

    def close(self) -> None:
        self.is_closed = True

    def pause_reading(self) -> None: ...

    def resume_reading(self) -> None: ...


class Connection:
    """A connection of a server, and what its hot path is asked for."""

    def __init__(self, **options: Any) -> None:
        class Unreached(ASGIHandler):
            async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
                raise AssertionError("the application was reached")

        config = uvicorn.Config(
            ASGIApplication(Unreached()), http=HotProtocol, log_config=None, access_log=False, **options
        )
        config.load()
        self.state = ServerState()
        self.protocol: Any = HotProtocol(config, self.state, {}, asyncio.get_running_loop())
        self.client = Client()
        self.protocol.connection_made(self.client)

    def send(self, method: str = "POST", host: str = "127.0.0.1", times: int = 1, **headers: str) -> None:
        lines = [f"{method} /path/7/?q=1 HTTP/1.1", f"Host: {host}", "Content-Length: 2"]
        lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
        self.protocol.data_received(("\r\n".join(lines) + "\r\n\r\nhi").encode() * times)

    async def answer(self) -> bytes:
        """The next answer, once it has been written."""
        async with asyncio.timeout(HANG):
            return await self.client.answers.get()

    async def ask(self, method: str = "POST", **headers: str) -> bytes:
        self.send(method, **headers)
        return await self.answer()


class Path:
    """A hot path as a compiled one looks to Python. It takes a step of the loop to answer, unless told to be quick."""

    def __init__(self) -> None:
        self.calls: list[tuple[Any, ...]] = []
        self.begun: asyncio.Queue[None] = asyncio.Queue()
        self.futures: list[asyncio.Future[Any]] = []
        self.result: Any = (200, [JSON], b"{}")
        self.is_quick = False
        self.is_held = False
        self.sees: Callable[[], None] = lambda: None

    def __call__(self, request: Any, number: int) -> asyncio.Future[Any]:
        if number != 7:
            raise OverflowError("a number that it does not take")
        self.calls.append(request)
        self.begun.put_nowait(None)
        self.sees()
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Any] = loop.create_future()
        self.futures.append(future)
        if self.is_quick:
            self.settle(future)
        elif not self.is_held:
            loop.call_soon(self.settle, future)
        return future

    def settle(self, future: asyncio.Future[Any]) -> None:
        if isinstance(self.result, BaseException):
            future.set_exception(self.result)
        else:
            status_headers_body = self.result
            if isinstance(status_headers_body, tuple):
                status, headers, body = status_headers_body
                status_headers_body = (status, list(headers), body)
            future.set_result(status_headers_body)


@pytest.fixture(autouse=True)
def _routes_of_the_site() -> None:
    """In place of the one for all these folder's tests: here the routes are those of Django's URLs."""


@pytest.fixture
def path(monkeypatch: pytest.MonkeyPatch) -> Path:
    """A hot path in a module, with its forms as the macros name them."""
    made = Path()
    module = ModuleType("compiled_for_tests")

    def apath(request: Any, number: int) -> Any:
        return made(request, number)

    apath.__module__ = module.__name__
    module.apath = apath  # type: ignore[attr-defined]
    module.__vcache_forms__ = [(None, "apath")]  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, module.__name__, module)
    return made


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The requests that routes were asked for."""
    asked: list[str] = []
    respond = Route.respond

    def noted(self: Route, head: Any, *args: Any) -> Any:
        asked.append(head.method)
        return respond(self, head, *args)

    monkeypatch.setattr(Route, "respond", noted)
    return asked


@pytest.fixture
def placed(path: Path) -> Iterator[None]:
    with placed_with():
        yield


def placed_with(settings: dict[str, Any] | None = None, **options: Any) -> Any:
    target = sys.modules["compiled_for_tests"].apath
    return routes(hot("path/<int:number>/", target, **options), **(settings or {}))


def test_the_route_is_asked_once_for_each_host(run: Any, path: Path, placed: None, asked: list[str]) -> None:
    async def main() -> None:
        connection = Connection()
        answers = [await connection.ask() for _ in range(3)]
        assert asked == ["POST"]
        assert answers[0] == answers[1] == answers[2]
        assert await Connection().ask() == answers[0]
        assert asked == ["POST"]
        await connection.ask(host="localhost")
        assert asked == ["POST"] * 2

    run(main())
    assert len(set(path.calls)) == 2, "the host is the one thing that differs"


ANSWERS: dict[str, Any] = {
    "plain": (200, [JSON], b"{}"),
    "no content": (204, [], b""),
    "a redirect": (302, [(b"Location", b"/elsewhere")], b""),
    "a header of the site's": (200, [(b"Referrer-Policy", b"unsafe-url"), (b"X-Own", b"1"), (b"x-own", b"2")], b"x"),
    "its own length": (200, [(b"Content-Length", b"3")], b"abc"),
    "close": (200, [(b"Connection", b"close")], b"bye"),
    "not found": (404, [], b"no"),
    "broken": (503, [JSON], b"[]"),
    "bytes": b"text",
    "a wrong length": (200, [(b"Content-Length", b"7")], b"abc"),
    "a broken header": (200, [(b"X", b"a\r\nb: c")], b""),
    "an unknown status": (299, [], b""),
    "no status": (0, [], b""),
    "no answer": {"a": "dict"},
    "nothing": None,
    "a refusal": RequestError("no vote", status=422),
    "an error": LookupError("on purpose"),
}


@pytest.mark.parametrize("is_quick", [False, True], ids=["later", "at once"])
@pytest.mark.parametrize("method", ["POST", "GET", "HEAD", "OPTIONS", "DELETE"])
@pytest.mark.parametrize("what", ANSWERS)
def test_answers_and_log_are_those_of_the_route(
    run: Any, path: Path, caplog: Any, method: str, what: str, is_quick: bool
) -> None:
    caplog.set_level(logging.WARNING)
    path.result, path.is_quick = ANSWERS[what], is_quick

    async def main() -> list[tuple[bytes, bool, list[str]]]:
        seen = []
        # A route that admits a new host, and then a hot path without it.
        for _ in range(2):
            connection = Connection()
            caplog.clear()
            answer = await connection.ask(method)
            told = [record.getMessage() for record in caplog.records]
            seen.append((answer, connection.client.is_closed, told))
            assert not connection.state.tasks
        return seen

    with placed_with(methods=["POST", "GET"], cors="*"):
        by_route, directly = run(main())
    assert by_route == directly
    if what == "plain" and method == "POST":
        assert directly[0].startswith(b"HTTP/1.1 200 OK\r\n")
        assert b"\r\naccess-control-allow-origin: *\r\n" in directly[0]
        assert directly[0].endswith(b"\r\ncontent-length: 2\r\n\r\n{}")


def test_a_route_with_more_to_do_is_asked(run: Any, path: Path, asked: list[str]) -> None:
    def passing(step: Any) -> Any:
        return step

    async def main() -> None:
        for _ in range(3):
            assert b"200 OK" in await Connection().ask()

    for options in ({"middleware": [passing]}, {"cors": "https://shop.example"}):
        asked.clear()
        with placed_with(**options):
            run(main())
        assert len(asked) == 3, options


def test_settings_are_followed(run: Any, path: Path, asked: list[str]) -> None:
    async def main(**headers: str) -> list[bytes]:
        return [await Connection(proxy_headers=False).ask(**headers) for _ in range(3)]

    with placed_with({"ALLOWED_HOSTS": ["shop.example"]}):
        assert all(b" 400 Bad Request" in each for each in run(main()))
    assert (path.calls, len(asked)) == ([], 3)
    asked.clear()
    with placed_with({"SECURE_SSL_REDIRECT": True}):
        assert all(b" 301 " in each for each in run(main()))
    assert (path.calls, len(asked)) == ([], 3)
    asked.clear()
    proxied = {"SECURE_SSL_REDIRECT": True, "SECURE_PROXY_SSL_HEADER": ("HTTP_X_FORWARDED_PROTO", "https")}
    with placed_with({**proxied, "SECURE_HSTS_SECONDS": 60, "VCACHE": {"TRUSTED_PROXIES": 2}}, limit=(10, 30)):
        answers = run(main(X_Forwarded_Proto="https"))
    assert all(b"\r\nstrict-transport-security: max-age=60\r\n" in each for each in answers)
    assert len(asked) == 1
    assert [call[6:] for call in path.calls] == [("https", 2, 30)] * 3
    asked.clear()
    with placed_with({"USE_X_FORWARDED_HOST": True}):
        run(main())
    assert len(asked) == 3


def test_a_proxy_that_is_not_told_of_is_warned_of_once(
    run: Any, path: Path, caplog: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("django_vcache.admission.views.address._warned", {})

    async def main() -> None:
        await Connection().ask()
        for _ in range(2):
            await Connection().ask(X_Real_IP="198.51.100.7")

    with placed_with({"VCACHE": {}}):
        run(main())
    warned = [record.getMessage() for record in caplog.records if "seems to be a proxy" in record.getMessage()]
    assert len(warned) == 1
    assert "X-Real-IP" in warned[0]


def test_the_address_that_a_trusted_proxy_names_is_the_hot_paths(run: Any, path: Path, placed: None) -> None:
    async def main() -> None:
        for _ in range(2):
            await Connection(forwarded_allow_ips="192.0.2.9").ask(X_Forwarded_For="198.51.100.7")

    run(main())
    assert [call[5] for call in path.calls] == ["198.51.100.7"] * 2


async def warmed(**options: Any) -> Connection:
    """A connection whose host is known."""
    connection = Connection(**options)
    await connection.ask()
    return connection


def test_a_client_that_leaves_cancels_the_hot_path(run: Any, path: Path, placed: None, asked: list[str]) -> None:
    async def main() -> None:
        connection = await warmed()
        path.is_held = True
        connection.send()
        assert connection.state.tasks == {path.futures[-1]}
        connection.client.close()
        connection.protocol.connection_lost(None)
        await asyncio.sleep(0)
        assert path.futures[-1].cancelled()
        await asyncio.sleep(0)
        assert not connection.state.tasks
        assert len(connection.client.written) == 1

    run(main())
    assert len(asked) == 1


def test_a_hot_path_that_is_cancelled_is_a_500(run: Any, path: Path, placed: None) -> None:
    async def main() -> None:
        connection = await warmed()
        path.is_held = True
        connection.send()
        path.futures[-1].cancel()
        assert (await connection.answer()).startswith(b"HTTP/1.1 500 ")
        assert connection.client.is_closed
        assert not connection.state.tasks

    run(main())


def test_a_stop_waits_for_the_answer(run: Any, path: Path, placed: None) -> None:
    async def main() -> None:
        connection = await warmed()
        path.is_held = True
        connection.send()
        connection.protocol.shutdown()
        assert not connection.client.is_closed
        path.settle(path.futures[-1])
        assert b"\r\nconnection: close\r\n" in await connection.answer()
        assert connection.client.is_closed
        assert not connection.state.tasks

    run(main())


def test_requests_of_a_connection_are_answered_in_order(run: Any, path: Path, placed: None) -> None:
    async def main() -> None:
        connection = await warmed()
        await path.begun.get()
        path.is_held = True
        connection.send(times=3)
        for number in range(3):
            # The next one begins when this one was answered.
            async with asyncio.timeout(HANG):
                await path.begun.get()
            path.result = (200, [], b"%d" % number)
            path.settle(path.futures[-1])
            assert (await connection.answer()).endswith(b"\r\n\r\n%d" % number)
        assert len(path.futures) == 4
        assert connection.state.total_requests == 4

    run(main())


def test_each_request_has_its_own_context(run: Any, path: Path, placed: None) -> None:
    variable: contextvars.ContextVar[int] = contextvars.ContextVar("variable", default=0)
    seen = []

    def sees() -> None:
        seen.append(variable.get())
        variable.set(1)

    async def main() -> None:
        connection = await warmed()
        path.sees = sees
        for _ in range(3):
            await connection.ask()
        assert variable.get() == 0

    run(main())
    assert seen == [0, 0, 0]


def test_a_number_that_the_hot_path_does_not_take_is_a_404(run: Any, path: Path, asked: list[str]) -> None:
    async def main() -> None:
        connection = await warmed()
        connection.protocol.data_received(b"GET /path/8/ HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
        assert (await connection.answer()).startswith(b"HTTP/1.1 404 ")

    with placed_with({"DEBUG": False}):
        run(main())
    assert len(asked) == 2
    assert len(path.calls) == 1


def test_an_error_before_the_loop_has_a_future_is_the_routes_to_tell(
    run: Any, path: Path, placed: None, caplog: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(request: Any) -> Any:
        if not path.calls:
            return start(request)
        raise OSError("no descriptor is left")

    monkeypatch.setattr("django_vcache.uvicorn._protocol.start", fails)

    async def main() -> None:
        connection = await warmed()
        answer = await connection.ask()
        assert answer.startswith(b"HTTP/1.1 500 ")
        # As after every 500 of a view, the connection stays.
        assert not connection.client.is_closed

    run(main())
    assert "no descriptor is left" in caplog.text
    assert len(path.calls) == 1
