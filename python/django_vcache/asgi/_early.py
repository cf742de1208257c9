"""Hot routes inside ASGI: answered before Django's handler is entered.

A Python coroutine, because it costs what a compiled one would: the server's own hand-overs are the larger part.
"""

import functools
from collections.abc import Callable
from contextlib import suppress
from io import BytesIO
from typing import Any

from django.conf import settings
from django.core.exceptions import RequestAborted
from django.core.handlers.asgi import ASGIRequest, get_script_prefix
from django.core.signals import setting_changed
from django.urls import set_script_prefix

from django_vcache.exceptions import RequestError
from django_vcache.routing._head import ScopeHead
from django_vcache.routing._response import Response
from django_vcache.routing._routes import Route
from django_vcache.routing._site import site

from ._watching import watched

__all__ = ["answered_early", "prepare"]

_DRAINED = 1 << 20
"""Bytes that are read and dropped of a body that is too large: a client that has not sent all of it may otherwise see a
reset, and not the answer."""


def prepare() -> None:
    """Makes the table of hot routes before the first request asks for it."""
    with suppress(Exception):
        # URLs that cannot be imported are for Django's handler to tell.
        site()


async def answered_early(scope: Any, receive: Callable[[], Any], send: Callable[[Any], Any]) -> bool:
    """Answers a request that is for a hot route; False if it is for Django's handler."""
    try:
        routes = site()
    except Exception:
        # The URLconf cannot be imported. Django says so, with its page of the error.
        return False
    if not len(routes):
        return False
    path = scope["path"]
    if scope.get("root_path") or _has_script_name():
        path = ASGIRequest(scope, BytesIO()).path_info
        # For `reverse()`, as Django's handler does.
        set_script_prefix(get_script_prefix(scope))
    found = routes.find(path)
    if found is None:
        return False
    route, parameters = found
    head = ScopeHead(scope, path)
    try:
        body = await _body(head, route, receive)
    except RequestAborted:
        return True
    except RequestError as error:
        response = route.refused(head, error)
        if scope.get("http_version", "1.1") in ("1.0", "1.1"):
            response.set("Connection", "close")
        await _send(response, send)
        await _drain(receive)
        return True

    async def respond() -> None:
        await _send(await route.respond(head, body, parameters), send)

    async def listen() -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        raise RequestAborted

    with suppress(RequestAborted):
        await watched(respond(), listen)
    return True


@functools.cache
def _has_script_name() -> bool:
    return bool(settings.FORCE_SCRIPT_NAME)


setting_changed.connect(lambda **kwargs: _has_script_name.cache_clear(), weak=False)


async def _body(head: ScopeHead, route: Route, receive: Callable[[], Any]) -> bytes:
    most = route.limits[0]
    length = head.get(b"content-length")
    # What cannot be read as a number, the server has refused.
    if length is not None and length.isdigit() and int(length) > most:
        raise route.too_large(int(length))
    message = await receive()
    if message["type"] == "http.disconnect":
        raise RequestAborted
    body: bytes = message.get("body", b"")
    if message.get("more_body"):
        chunks, size = [body], len(body)
        while message.get("more_body") and size <= most:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise RequestAborted
            chunks.append(message.get("body", b""))
            size += len(chunks[-1])
        body = b"".join(chunks)
    if len(body) > most:
        raise route.too_large(None)
    return body


async def _drain(receive: Callable[[], Any]) -> None:
    left = _DRAINED
    while left > 0:
        message = await receive()
        left -= len(message.get("body", b""))
        if message["type"] == "http.disconnect" or not message.get("more_body"):
            return


async def _send(response: Response, send: Callable[[Any], Any]) -> None:
    headers = [(name.lower(), value) for name, value in response.headers]
    await send({"type": "http.response.start", "status": response.status, "headers": headers})
    await send({"type": "http.response.body", "body": response.body})
