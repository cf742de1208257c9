"""The application for ``asgi.py``: the handler, and around it what Django's has no answer for.

A server begins and ends with lifespan events, to which ``ASGIHandler.__call__`` raises. It stays as Django has it,
because tools patch it, so the events are answered one step before it. Connections that Django does not know, such as
websockets, go on to another application if there is one.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

import django

from django_vcache._lanes import lanes
from django_vcache._warming import awarm_up
from django_vcache.admission.settings import current

from ._early import answered_early, prepare
from ._handler import ASGIHandler

__all__ = ["ASGIApplication", "get_asgi_application"]

logger = logging.getLogger("django_vcache")

_Message = MutableMapping[str, Any]


def get_asgi_application(others: Callable[[Any, Any, Any], Awaitable[None]] | None = None) -> "ASGIApplication":
    """Sets Django up, and makes the application that an ASGI server runs. In place of Django's function of this name.

    >>> application = get_asgi_application()  # doctest: +SKIP
    >>> application = get_asgi_application(others=websockets)  # doctest: +SKIP

    Args:
        others: an ASGI application for the connections that are not HTTP. It gets the lifespan events as well.

    Returns:
        The application. Its ``handler`` is the :class:`ASGIHandler`.

    Raises:
        ConfigurationError: for a mistake in ``VCACHE``.
    """
    django.setup(set_prefix=False)
    return ASGIApplication(ASGIHandler(), others)


class ASGIApplication:
    """An :class:`ASGIHandler` with an answer to lifespan events, and with another application for what is not HTTP.

    As the server starts it connects and loads the scripts of limits, as :func:`django_vcache.awarm_up` does, unless
    ``VCACHE["WARM_UP"]`` is False. A project without a cache of ours has nothing to connect to. As the server ends it
    waits for the calls that still run on lanes, and ends their threads.

    Args:
        handler: for HTTP.
        others: for all else. Without one, Django's handler refuses such a connection with a ``ValueError``.
    """

    def __init__(self, handler: ASGIHandler, others: Callable[[Any, Any, Any], Awaitable[None]] | None = None) -> None:
        self.handler = handler
        self.others = others

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        kind = scope["type"]
        if kind == "lifespan":
            await self._lifespan(scope, receive, send)
        elif kind == "http":
            if not await answered_early(scope, receive, send):
                await self.handler(scope, receive, send)
        elif self.others is None:
            # It refuses with the words of Django's.
            await self.handler(scope, receive, send)
        else:
            await self.others(scope, receive, send)

    async def _lifespan(self, scope: Any, receive: Any, send: Any) -> None:
        other = None if self.others is None else _Lifespan(self.others, scope)
        try:
            while True:
                event = (await receive())["type"]
                answer = None
                if event == "lifespan.startup":
                    prepare()
                    if current().warm_up:
                        await awarm_up()
                if other is not None:
                    answer = await other.tell(event)
                if event == "lifespan.shutdown":
                    await asyncio.to_thread(lanes.drain)
                await send(answer or {"type": f"{event}.complete"})
                if event == "lifespan.shutdown":
                    return
        finally:
            if other is not None:
                # Not awaited: after the last answer a server may cancel what still runs.
                other.stop()


class _Lifespan:
    """The lifespan of an application that runs within another's. It has a task and a queue to itself, because it may
    answer, fail, or not know of lifespans at all."""

    def __init__(self, application: Callable[[Any, Any, Any], Awaitable[None]], scope: Any) -> None:
        self._events: asyncio.Queue[_Message] = asyncio.Queue()
        self._answers: asyncio.Queue[_Message] = asyncio.Queue()
        self._task = asyncio.ensure_future(self._run(application, scope))

    async def _run(self, application: Callable[[Any, Any, Any], Awaitable[None]], scope: Any) -> None:
        try:
            await application(scope, self._events.get, self._answers.put)
        except Exception as error:
            # This is also how an application says that it has no lifespan.
            logger.info("the application for other connections left its lifespan: %r", error)

    async def tell(self, event: str) -> _Message | None:
        """Its answer to an event; None if it has none any more."""
        self._events.put_nowait({"type": event})
        answer = asyncio.ensure_future(self._answers.get())
        try:
            await asyncio.wait((answer, self._task), return_when=asyncio.FIRST_COMPLETED)
            if answer.done():
                return answer.result()
            # It may have answered and returned in one step.
            return None if self._answers.empty() else self._answers.get_nowait()
        finally:
            answer.cancel()

    def stop(self) -> None:
        """Ends it, if it has not returned."""
        self._task.cancel()
