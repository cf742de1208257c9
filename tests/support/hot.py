"""Hot routes for tests, and one way to ask each level at which they are answered: as a view under WSGI and ASGI, and
early inside ASGI."""

from __future__ import annotations

import asyncio
import io
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote
from wsgiref.util import setup_testing_defaults

from django.core.exceptions import PermissionDenied
from django.core.handlers.asgi import ASGIHandler as DjangosHandler
from django.core.handlers.wsgi import WSGIHandler
from django.http import Http404, HttpResponse, JsonResponse
from django.test import override_settings
from django.urls import URLPattern, clear_url_caches

from django_vcache.asgi import ASGIApplication, ASGIHandler
from django_vcache.exceptions import RequestError
from django_vcache.routing import Cors, Request, Response, hot
from support.asgi import HANG, Exchange

urlpatterns: list[Any] = []


@contextmanager
def routes(*patterns: Any, **settings: Any) -> Iterator[None]:
    """A site with these patterns."""
    urlpatterns[:] = patterns
    clear_url_caches()
    settings = {"ROOT_URLCONF": "support.hot", "MIDDLEWARE": [], **settings}
    with override_settings(**settings):
        try:
            yield
        finally:
            urlpatterns.clear()
            clear_url_caches()


@dataclass
class Asked:
    """A request."""

    path: str
    method: str = "GET"
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)


@dataclass
class Answer:
    """What a level answered. Names of headers are in lower case."""

    status: int
    headers: dict[str, str]
    body: bytes


def ask_wsgi(asked: Asked) -> Answer:
    """The view, under Django's WSGI handler."""
    path, _, query = asked.path.partition("?")
    environ: dict[str, Any] = {
        "REQUEST_METHOD": asked.method,
        "PATH_INFO": path.encode().decode("latin-1"),
        "QUERY_STRING": query,
        "wsgi.input": io.BytesIO(asked.body),
        "CONTENT_LENGTH": str(len(asked.body)),
        "REMOTE_ADDR": "192.0.2.9",
        "HTTP_HOST": "127.0.0.1",
    }
    for name, value in asked.headers.items():
        key = name.upper().replace("-", "_")
        environ[key if key in ("CONTENT_TYPE", "CONTENT_LENGTH") else f"HTTP_{key}"] = value
    setup_testing_defaults(environ)
    started: list[Any] = []
    response = WSGIHandler()(environ, lambda status, headers, exc_info=None: started.extend((status, headers)))
    try:
        body = b"".join(response)
    finally:
        response.close()
    if asked.method == "HEAD":
        # The server leaves it out.
        body = b""
    return Answer(int(started[0].split()[0]), _joined(started[1]), body)


async def ask_view(asked: Asked) -> Answer:
    """The view, under Django's ASGI handler."""
    return await ask_application(DjangosHandler(), asked)


async def ask_early(asked: Asked) -> Answer:
    """Our application, which answers before its handler."""

    class Unreached(ASGIHandler):
        async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
            raise AssertionError(f"{asked.path} reached Django's handler")

    return await ask_application(ASGIApplication(Unreached()), asked)


async def ask_application(app: Any, asked: Asked) -> Answer:
    headers = {"content-length": str(len(asked.body)), **{k.lower(): v for k, v in asked.headers.items()}}
    scope_headers = tuple((k.encode(), v.encode("latin-1")) for k, v in headers.items() if k != "host")

    async def with_client(scope: Any, receive: Any, send: Any) -> None:
        if "host" in headers:
            scope["headers"] = [(k, v) for k, v in scope["headers"] if k != b"host"]
            scope["headers"].insert(0, (b"host", headers["host"].encode("latin-1")))
        scope["client"] = ("192.0.2.9", 4711)
        scope["server"] = ("127.0.0.1", 80)
        await app(scope, receive, send)

    exchange = await Exchange(with_client, asked.path, asked.method, (asked.body,), scope_headers).run()
    sent = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in exchange.sent[0]["headers"]]
    body = b"" if asked.method == "HEAD" else exchange.content
    return Answer(exchange.status, _joined(sent), body)


class _Transport(asyncio.Transport):
    """A client's end of a connection, in memory."""

    def __init__(self) -> None:
        super().__init__({"peername": ("192.0.2.9", 4711), "sockname": ("127.0.0.1", 80)})
        self.written = b""
        self.has_answer = asyncio.Event()
        self._closing = False

    def write(self, data: Any) -> None:
        self.written += bytes(data)
        self.has_answer.set()

    def is_closing(self) -> bool:
        return self._closing

    def close(self) -> None:
        self._closing = True

    def pause_reading(self) -> None: ...

    def resume_reading(self) -> None: ...


async def ask_below(asked: Asked) -> Answer:
    """uvicorn's protocol with hot routes, which answers before ASGI."""
    from uvicorn import Config
    from uvicorn.server import ServerState

    from django_vcache.uvicorn import HotProtocol

    class Unreached(ASGIHandler):
        async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
            raise AssertionError(f"{asked.path} reached the application")

    options: dict[str, Any] = {"log_config": None, "access_log": False, "proxy_headers": False}
    config = Config(ASGIApplication(Unreached()), http=HotProtocol, **options)
    config.load()
    protocol: Any = HotProtocol(config, ServerState(), {}, asyncio.get_running_loop())
    transport = _Transport()
    protocol.connection_made(transport)
    headers = {"Host": "127.0.0.1", "Content-Length": str(len(asked.body)), **asked.headers}
    lines = [f"{asked.method} {quote(asked.path, safe='/?&=%')} HTTP/1.1", *(f"{k}: {v}" for k, v in headers.items())]
    protocol.data_received("\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + asked.body)
    async with asyncio.timeout(HANG):
        await transport.has_answer.wait()
    protocol.connection_lost(None)
    head, _, body = transport.written.partition(b"\r\n\r\n")
    status, *sent = head.decode("latin-1").split("\r\n")
    pairs = [(name, value.strip()) for name, _, value in (line.partition(":") for line in sent)]
    return Answer(int(status.split()[1]), _joined([pair for pair in pairs if pair[0] not in ("date", "server")]), body)


def _joined(pairs: list[tuple[str, str]]) -> dict[str, str]:
    found: dict[str, str] = {}
    for name, value in pairs:
        # Django 5.2 puts a space before a cookie under WSGI.
        name, value = name.lower(), value.strip()
        found[name] = f"{found[name]}\n{value}" if name in found else value
    return found


# Targets


async def echo(request: Request, **parameters: Any) -> JsonResponse:
    """Says what it was called with."""
    return JsonResponse(
        {
            "method": request.method,
            "path": request.path,
            "query": dict(request.query.lists()),
            "parameters": {name: repr(value) for name, value in parameters.items()},
            "body": request.body.decode("latin-1"),
            "client": request.client,
            "scheme": request.scheme,
            "agent": request.headers.get("User-Agent"),
            "several": request.headers.get("x-several"),
        }
    )


def blocking(request: Request, **parameters: Any) -> HttpResponse:
    """The same shape from a sync function."""
    response = HttpResponse(f"{request.method} {request.path} {sorted(parameters)}", content_type="text/plain")
    response.set_cookie("seen", "yes")
    response["X-Own"] = "1"
    return response


async def raw(request: Request) -> bytes:
    return request.body


async def made(request: Request, **parameters: Any) -> Response:
    return Response(201, [(b"Content-Type", b"text/plain"), (b"X-Own", b"2")], b"made")


async def missing(request: Request) -> None:
    raise Http404("no such thing")


async def forbidden(request: Request) -> None:
    raise PermissionDenied("not yours")


async def broken(request: Request) -> None:
    raise RuntimeError("broken on purpose")


async def wrong(request: Request) -> Any:
    return {"a": "dict"}


async def refuses(request: Request) -> Any:
    raise RequestError("a vote has a choice", status=422)


async def reads_json(request: Request) -> JsonResponse:
    return JsonResponse({"read": request.json()})


def sample_routes() -> list[URLPattern]:
    """Of each kind one."""
    return [
        hot("echo/", echo, name="echo", limit=1000),
        hot("echo/<int:number>/<str:text>/<slug:slug>/<uuid:id>/<path:rest>", echo, name="typed"),
        hot("post/", echo, methods=["POST"], limit=(50, 1000)),
        hot("get/", made, methods=["GET"]),
        hot("blocking/<int:n>/", blocking, kwargs={"more": 1}),
        hot("raw/", raw),
        hot("missing/", missing),
        hot("forbidden/", forbidden),
        hot("broken/", broken),
        hot("wrong/", wrong),
        hot("refuses/", refuses, cors="*"),
        hot("json/", reads_json, methods=["POST"], limit=10_000),
        hot("cors/", made, methods=["GET"], cors=Cors(["https://shop.example"], expose=["X-Own"], credentials=True)),
    ]


Ask = Callable[[Asked], Any]
