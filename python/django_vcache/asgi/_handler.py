"""The handler: Django's, with another ``handle()`` and another way to load middleware.

All else is inherited. Tools that watch requests patch ``__call__``, ``create_request`` and ``get_response_async`` of
Django's classes, and go on working.
"""

import io
from collections.abc import Callable
from contextlib import closing, suppress
from typing import IO, Any

from asgiref.sync import SyncToAsync, sync_to_async
from django.conf import settings
from django.core import signals
from django.core.exceptions import RequestAborted
from django.core.handlers import asgi
from django.http import HttpResponseBase
from django.urls import set_script_prefix

from django_vcache._lanes import Lane, lanes
from django_vcache.admission.settings import current

from ._early import answered_early
from ._middleware import load
from ._receivers import after_request, django_receivers
from ._watching import watched

__all__ = ["ASGIHandler"]

_DJANGOS_READ_BODY = asgi.ASGIHandler.read_body


class ASGIHandler(asgi.ASGIHandler):
    """Django's ``ASGIHandler``, at a fraction of its cost.

    It behaves as Django's does; ``docs/topics/asgi.md`` lists what differs, and how to have it Django's way. The
    settings are ``LANES``, ``LANE_IDLE``, ``INLINE`` and ``INLINE_MIDDLEWARE`` in ``VCACHE``.

    ``get_asgi_application()`` makes one that answers lifespan events, too. Make it yourself, after ``django.setup()``,
    where an application of yours does that::

        application = ProtocolTypeRouter({"http": ASGIHandler(), "websocket": consumers})

    Raises:
        ConfigurationError: for a mistake in ``VCACHE``.
    """

    def load_middleware(self, is_async: bool = False) -> None:
        """As Django's, but for the hooks that need no thread, which get none, and those that do, which share one."""
        load(self, super().load_middleware, is_async)

    async def handle(self, scope: Any, receive: Any, send: Any) -> None:
        """Answers one request. ``__call__`` calls it, in the context of the request's thread."""
        # The application has looked already, but this handler may be called by another's.
        if await answered_early(scope, receive, send):
            return
        try:
            body = await _read_body(self, receive)
        except RequestAborted:
            return
        context: Any = SyncToAsync.thread_sensitive_context.get(None)
        threads = SyncToAsync.context_to_thread_executor
        lane = None
        # An executor that is there belongs to an application around this one, which goes on after it. There may be
        # no context: then asgiref has one thread for all.
        if context is not None and context not in threads and current().lanes:
            lane = threads[context] = lanes.lane()
        try:
            with closing(body):
                await _serve(self, lane, scope, body, receive, send)
        finally:
            if lane is not None:
                # asgiref then makes a thread for a task that outlives the request, as it does under Django's handler.
                if threads.get(context) is lane:
                    del threads[context]
                lane.end()


async def _read_body(handler: ASGIHandler, receive: Callable[[], Any]) -> IO[bytes]:
    """The body in memory, as long as it is smaller than what Django keeps there; else as Django reads it."""
    if type(handler).read_body is not _DJANGOS_READ_BODY:
        # A subclass or a tool does something about it.
        return await handler.read_body(receive)
    most = settings.FILE_UPLOAD_MAX_MEMORY_SIZE
    messages = []
    size = 0
    while True:
        message = await receive()
        messages.append(message)
        size += len(message.get("body", b""))
        if message["type"] == "http.disconnect" or size > most:
            break
        if not message.get("more_body", False):
            return io.BytesIO(b"".join(message.get("body", b"") for message in messages))
    earlier = iter(messages)

    async def replay() -> Any:
        for message in earlier:
            return message
        return await receive()

    return await handler.read_body(replay)


async def _serve(handler: ASGIHandler, lane: Lane | None, scope: Any, body: IO[bytes], receive: Any, send: Any) -> None:
    sender = handler.__class__
    set_script_prefix(asgi.get_script_prefix(scope))
    started = None if lane is None else django_receivers(signals.request_started)
    if lane is None or started is None:
        await signals.request_started.asend(sender=sender, scope=scope)
    else:
        # They are about the thread. If it takes one, they run there before all else.
        lane.first = started
    request: Any
    refusal: Any
    request, refusal = handler.create_request(scope, body)
    if request is None:
        body.close()
        await handler.send_response(refusal, send)
        await sync_to_async(refusal.close)()
        return
    response: Any = None

    async def respond() -> None:
        nonlocal response
        response = await handler.run_get_response(request)
        await handler.send_response(response, send)

    with suppress(RequestAborted):
        await watched(respond(), lambda: handler.listen_for_disconnect(receive))
    finished = None if lane is None or lane.is_used else django_receivers(signals.request_finished)
    if response is None:
        if finished is None:
            await signals.request_finished.asend(sender=sender)
        else:
            after_request(finished, sender)
    elif finished is None or not _closes_quickly(request, response):
        await sync_to_async(response.close)()
    else:
        # As `response.close()` does: whatever fails there is not the client's.
        with suppress(Exception):
            request.close()
        response._resource_closers.clear()
        response.closed = True
        after_request(finished, response._handler_class)


def _closes_quickly(request: Any, response: Any) -> bool:
    """Whether closing a response means to close its request, which has no files, and to send the signal."""
    return (
        type(response).close is HttpResponseBase.close
        and type(request).close is asgi.ASGIRequest.close
        and response._resource_closers == [request.close]
        and not getattr(request, "_files", None)
    )
