"""Middleware without a hand-over for each hook.

Django's ``MiddlewareMixin`` sends every ``process_request`` and ``process_response`` to the request's thread, and the
handler does so with ``process_view``. Here neighbours in ``MIDDLEWARE`` that are such classes make one stage. A stage
runs the hooks in Django's order. Those that need no thread run where they are (``_hooks.py`` knows which). The first
that needs one takes the rest of its phase along, so that there is one hand-over for all of them.

Django still builds the chain: its ``load_middleware()`` hands each link to ``adapt_method_mode()``, and that is where a
link is replaced. So what tools do to ``load_middleware()`` has its effect.
"""

from collections.abc import Awaitable, Callable
from typing import Any

from asgiref.sync import iscoroutinefunction, sync_to_async
from django.core.handlers.exception import response_for_exception
from django.utils.deprecation import MiddlewareMixin
from django.utils.module_loading import import_string

from django_vcache.admission.settings import current
from django_vcache.exceptions import ConfigurationError

from ._hooks import EVERYWHERE, Hooks, Inline, hooks_of

__all__ = ["load"]

_Stage = Callable[[Any], Awaitable[Any]]
# What a tool puts in their place later is called.
_DJANGOS_CALLS = (MiddlewareMixin.__call__, MiddlewareMixin.__acall__)


def load(handler: Any, load_middleware: Callable[[bool], None], is_async: bool) -> None:
    """Has Django load the middleware of a handler, and puts stages where its links would be.

    Args:
        handler: a ``BaseHandler``.
        load_middleware: Django's own, of this handler.
        is_async: whether the handler is. A sync one is loaded as Django does.
    """
    if not is_async or not current().inline:
        load_middleware(is_async)
        return
    links = _Links(handler.adapt_method_mode)
    handler.adapt_method_mode = links.adapt
    try:
        load_middleware(is_async)
    finally:
        del handler.adapt_method_mode
    # In one step, as Django does: other threads may be loading it as well.
    handler._view_middleware = links.view_phase(handler._view_middleware)


class _Links:
    """The links of one chain while it is built."""

    def __init__(self, adapt_method_mode: Callable[..., Any]) -> None:
        self._adapt = adapt_method_mode
        self._named = tuple(_named(path) for path in current().inline_middleware)
        self._members: dict[_Stage, list[Any]] = {}
        """The middleware of each stage, the outermost first."""
        self._views: dict[Any, Callable[..., Any]] = {}
        """The blocking ``process_view`` behind each that was adapted."""

    def adapt(
        self, is_async: bool, method: Any, method_is_async: bool | None = None, debug: bool = False, name: Any = None
    ) -> Any:
        """Stands for the handler's ``adapt_method_mode()``."""
        middleware: Any = getattr(method, "__wrapped__", None)
        if _hands_over(middleware):
            below = self._members.get(middleware.get_response, [])
            members = [middleware, *below]
            method = _stage([(member, self._hooks(member)) for member in members])
            self._members[method] = members
        adapted = self._adapt(is_async, method, method_is_async, debug, name)
        if is_async and getattr(method, "__name__", "") == "process_view" and adapted is not method:
            self._views[adapted] = method
        return adapted

    def view_phase(self, adapted: list[Any]) -> list[Any]:
        """The ``process_view`` methods of the chain; neighbours that block are one."""
        phase: list[Any] = []
        neighbours: list[tuple[Callable[..., Any], Inline]] = []
        for method in adapted:
            if (blocking := self._views.get(method)) is None:
                phase += _views(neighbours)
                phase.append(method)
                neighbours = []
            else:
                middleware = getattr(blocking, "__self__", None)
                neighbours.append((blocking, self._hooks(middleware).view))
        return phase + _views(neighbours)

    def _hooks(self, middleware: object) -> Hooks:
        return EVERYWHERE if type(middleware) in self._named else hooks_of(middleware)


def _named(path: str) -> type:
    """A class in ``VCACHE["INLINE_MIDDLEWARE"]``."""
    try:
        found = import_string(path)
    except ImportError as error:
        raise ConfigurationError(f"VCACHE['INLINE_MIDDLEWARE'] names {path!r}, which fails: {error}") from error
    if not (isinstance(found, type) and issubclass(found, MiddlewareMixin)):
        raise ConfigurationError(
            f"VCACHE['INLINE_MIDDLEWARE'] names {path!r}, which does not inherit from Django's MiddlewareMixin: only "
            "the hooks of such a class can run by themselves. Take it out of the list"
        )
    return found


def _hands_over(middleware: Any) -> bool:
    """Whether a middleware does no more than to send its hooks to the request's thread."""
    if not isinstance(middleware, MiddlewareMixin) or not getattr(middleware, "async_mode", False):
        return False
    kind = type(middleware)
    return (
        (kind.__call__, kind.__acall__) == _DJANGOS_CALLS
        and not iscoroutinefunction(getattr(middleware, "process_request", None))
        and not iscoroutinefunction(getattr(middleware, "process_response", None))
    )


def _stage(members: list[tuple[Any, Hooks]]) -> _Stage:
    """One link for neighbours in the chain, the outermost first.

    It does what their links would. A middleware that answers has its own ``process_response`` called, and those further
    out. One that raises has not, and those further out get the response to the exception.
    """
    last = len(members) - 1
    entries = [(m if hasattr(m, "process_request") else None, hooks.request) for m, hooks in members]
    exits = [(m if hasattr(m, "process_response") else None, hooks.response) for m, hooks in members]

    def enter(request: Any, number: int) -> tuple[int, Any, Exception | None]:
        """The rest of the phase, on the request's thread; the middleware that answered or failed."""
        try:
            for number in range(number, last + 1):  # noqa: B020  (the one that fails is told)
                middleware, _ = entries[number]
                if middleware is not None and (response := middleware.process_request(request)):
                    return number, response, None
        except Exception as error:
            return number, None, error
        return last, None, None

    def leave(request: Any, response: Any, number: int) -> tuple[int, Any, Exception | None]:
        try:
            for number in range(number, -1, -1):  # noqa: B020
                middleware, _ = exits[number]
                if middleware is not None:
                    response = middleware.process_response(request, response)
        except Exception as error:
            return number, None, error
        return 0, response, None

    async def stage(request: Any) -> Any:
        response = None
        number = 0
        try:
            while number <= last:
                middleware, inline = entries[number]
                if middleware is None:
                    number += 1
                elif inline is True or (inline and inline(middleware, request)):
                    if response := middleware.process_request(request):
                        break
                    number += 1
                else:
                    number, response, failure = await sync_to_async(enter)(request, number)
                    if failure is not None:
                        raise failure
                    break
            if not response:
                number = last
                response = await members[last][0].get_response(request)
        except Exception as error:
            response = await _response_to(request, error)
            number -= 1
        while number >= 0:
            middleware, inline = exits[number]
            if middleware is not None:
                try:
                    how = inline(middleware, request, response) if callable(inline) else inline
                    if how is True:
                        response = middleware.process_response(request, response)
                    elif how is False:
                        number, response, failure = await sync_to_async(leave)(request, response, number)
                        if failure is not None:
                            raise failure
                    else:
                        response = await how(middleware, request, response)
                except Exception as error:
                    response = await _response_to(request, error)
            number -= 1
        return response

    return stage


async def _response_to(request: Any, error: Exception) -> Any:
    """As each link of Django's does. It is called where the exception is handled: the page tells of it."""
    return await sync_to_async(response_for_exception, thread_sensitive=False)(request, error)


def _views(neighbours: list[tuple[Callable[..., Any], Inline]]) -> list[Callable[..., Awaitable[Any]]]:
    """One method for neighbours that block, or none if there are no neighbours."""
    if not neighbours:
        return []

    def rest(begin: int, *args: Any) -> Any:
        for method, _ in neighbours[begin:]:
            if response := method(*args):
                return response
        return None

    async def process_view(*args: Any) -> Any:
        for position, (method, inline) in enumerate(neighbours):
            if not (inline is True or (inline and inline(method.__self__, *args))):  # type: ignore[attr-defined]
                return await sync_to_async(rest)(position, *args)
            if response := method(*args):
                return response
        return None

    return [process_view]
