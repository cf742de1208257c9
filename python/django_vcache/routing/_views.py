"""A hot route as a view: for WSGI, other ASGI handlers, the test client, and for what cannot be in the table."""

import asyncio
import inspect
from typing import Any, Protocol

from asgiref.sync import markcoroutinefunction
from django.http import HttpRequest, HttpResponseBase
from django.http.request import RawPostDataException, UnreadablePostError

from django_vcache.exceptions import RequestError

from ._head import Head, ViewHead
from ._response import Response

__all__ = ["HotView"]


class _Everything(frozenset[str]):
    """All database aliases: Django looks among them whether it may open a transaction around the view."""

    def __contains__(self, alias: object) -> bool:
        return True


class _Answers(Protocol):
    """The part of a route that a view needs."""

    target: Any

    @property
    def limits(self) -> tuple[int, int]: ...

    async def respond(self, head: Head, body: bytes, parameters: dict[str, Any]) -> Response: ...

    def respond_blocking(self, head: Head, body: bytes, parameters: dict[str, Any]) -> Response: ...

    def refused(self, head: Head, error: RequestError) -> Response: ...

    def too_large(self, length: int | None) -> RequestError: ...


class _Mark:
    """What says whether a view is to be awaited.

    This one is, where an event loop runs: on its thread it must not block, and elsewhere there is nothing to await it.
    """

    def __init__(self, name: str, mark: object) -> None:
        self._name = name
        self._mark = mark

    def __get__(self, view: Any, owner: type | None = None) -> object:
        if view is None or not _has_loop():
            raise AttributeError(self._name)
        return self._mark


def _has_loop() -> bool:
    return asyncio._get_running_loop() is not None


class HotView:
    """The view of a hot route.

    Args:
        route: what answers.
    """

    csrf_exempt = True
    _non_atomic_requests = _Everything()

    def __init__(self, route: _Answers) -> None:
        self.route = route
        function = inspect.unwrap(route.target.function)
        self.__name__ = getattr(function, "__name__", type(function).__name__)
        self.__qualname__ = getattr(function, "__qualname__", self.__name__)
        self.__module__ = getattr(function, "__module__", None) or __name__
        self.__doc__ = getattr(function, "__doc__", None)

    def __repr__(self) -> str:
        return f"<hot route to {self.route.target.name}>"

    def __call__(self, request: HttpRequest, **parameters: Any) -> Any:
        if _has_loop():
            return self._acall(request, parameters)
        head = ViewHead(request)
        try:
            body = _body(request, self.route)
        except RequestError as error:
            return self.route.refused(head, error).as_django()
        return self.route.respond_blocking(head, body, parameters).as_django()

    async def _acall(self, request: HttpRequest, parameters: dict[str, Any]) -> HttpResponseBase:
        head = ViewHead(request)
        try:
            # ASGI requests have their body already, in memory or in a file.
            body = _body(request, self.route)
        except RequestError as error:
            return self.route.refused(head, error).as_django()
        return (await self.route.respond(head, body, parameters)).as_django()


def _body(request: HttpRequest, route: _Answers) -> bytes:
    """The body, within the route's limit."""
    most = route.limits[0]
    length = request.META.get("CONTENT_LENGTH") or "0"
    if length.isascii() and length.isdigit() and int(length) > most:
        raise route.too_large(int(length))
    if hasattr(request, "_body"):
        body = request._body
    elif request._read_started:  # type: ignore[attr-defined]
        raise RawPostDataException(
            "the body was read before the hot route could read it, by a middleware that asks for request.POST of a "
            "multipart form, or for request.read(). Early, hot routes have no middleware: leave this path out there"
        )
    else:
        try:
            body = request.read(most + 1)
        except UnreadablePostError as error:
            raise RequestError(f"the body could not be read: {error}", status=400) from None
        # For what looks at the request afterwards.
        request._body = body
    if len(body) > most:
        raise route.too_large(None)
    return bytes(body)


def _marks() -> dict[str, object]:
    """What this version of Python marks a coroutine function with."""

    def marked() -> None: ...

    markcoroutinefunction(marked)
    return vars(marked)


for _name, _mark in _marks().items():
    setattr(HotView, _name, _Mark(_name, _mark))
