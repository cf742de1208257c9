"""What a hot route calls: a hot path in Rust, or a Python function. Each has a form to await and one that blocks."""

import inspect
import re
import sys
import types
from collections.abc import Callable, Coroutine, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from asgiref.sync import SyncToAsync, ThreadSensitiveContext, async_to_sync, sync_to_async
from django.core.cache import close_caches
from django.db import close_old_connections, reset_queries
from django.http import Http404

from django_vcache._lanes import Lane, lanes
from django_vcache.admission.settings import current
from django_vcache.exceptions import ConfigurationError

from ._request import Request

__all__ = ["HotPathTarget", "Target", "target_of"]


class Target:
    """A Python function, sync or async, of the request and the parameters of its URL."""

    kind = "a Python function"

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function = function
        self.is_async = inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(
            getattr(function, "__call__", None)  # noqa: B004
        )
        self.name = f"{getattr(function, '__module__', '?')}.{getattr(function, '__qualname__', repr(function))}"

    def call(self, request: Request, parameters: dict[str, Any]) -> Any:
        """Calls it and blocks, where there is no event loop."""
        if self.is_async:
            return async_to_sync(self.function)(request, **parameters)
        return self.function(request, **parameters)

    async def acall(self, request: Request, parameters: dict[str, Any], *, as_view: bool = False) -> Any:
        """Calls it. Blocking code, the database's for one, runs on a thread that is kept for this request.

        Args:
            request: the request.
            parameters: those of the URL.
            as_view: a handler of Django's calls it, and looks after the request's thread.
        """
        if as_view:
            return await self._run(request, parameters)
        if not current().lanes:
            async with ThreadSensitiveContext():
                return await self._run(request, parameters)
        with _lane() as lane:
            try:
                return await self._run(request, parameters)
            finally:
                # As Django's receivers of `request_finished` do.
                if lane.is_used:
                    await sync_to_async(close_old_connections)()
                close_caches()

    def _run(self, request: Request, parameters: dict[str, Any]) -> Coroutine[Any, Any, Any]:
        if self.is_async:
            return self._rendered(self.function(request, **parameters))
        return sync_to_async(self._render_after)(request, parameters)

    async def _rendered(self, made: Coroutine[Any, Any, Any]) -> Any:
        result = await made
        if getattr(result, "is_rendered", True):
            return result
        # A template may do anything, so it has a thread, as under Django's handler.
        return await sync_to_async(result.render)()

    def _render_after(self, request: Request, parameters: dict[str, Any]) -> Any:
        result = self.function(request, **parameters)
        return result if getattr(result, "is_rendered", True) else result.render()

    def problem(self, names: Iterable[str]) -> str | None:
        """Why it cannot be a target, as far as that can be known before it is called.

        Args:
            names: those of its arguments beside the request.
        """
        return self._misfit(self.function, names)

    def _misfit(self, function: Callable[..., Any], names: Iterable[str]) -> str | None:
        """Whether a function cannot be called with a request and the arguments of the route."""
        try:
            signature = inspect.signature(function)
        except (ValueError, TypeError):
            return None
        names = list(names)
        try:
            signature.bind(None, **dict.fromkeys(names))
        except TypeError as error:
            given = ", ".join(["request", *(f"{name}=..." for name in names)])
            return f"{self.name}{signature} is called as ({given}), and that fails: {error}"
        return None


@contextmanager
def _lane() -> Iterator[Lane]:
    """A lane, on which the blocking code runs that is called here."""
    threads: Any = SyncToAsync.context_to_thread_executor
    variable: Any = SyncToAsync.thread_sensitive_context
    # What asgiref knows the thread by. It is not entered: then asgiref would make a thread to end this one.
    context = ThreadSensitiveContext()
    threads[context] = lane = lanes.lane()
    lane.first = (reset_queries, close_old_connections)
    token = variable.set(context)
    try:
        yield lane
    finally:
        variable.reset(token)
        # A task that outlives the request gets a thread of asgiref's, as under Django's handler.
        if threads.get(context) is lane:
            del threads[context]
        lane.end()


class HotPathTarget(Target):
    """A function of ``#[hotpath]`` that takes a ``Request``."""

    kind = "a hot path"

    def __init__(self, blocking: Callable[..., Any] | None, awaitable: Callable[..., Any] | None, name: str) -> None:
        self.blocking = blocking
        self.awaitable = awaitable
        self.is_async = True
        self.name = name
        self.function = awaitable or blocking or _nothing

    def call(self, request: Any, parameters: dict[str, Any]) -> Any:
        """Calls it and blocks, with the GIL released."""
        if self.blocking is None:
            return async_to_sync(self.acall)(request, parameters)
        try:
            return self.blocking(request, **parameters)
        except OverflowError as error:
            raise _too_large(error) from None

    async def acall(self, request: Any, parameters: dict[str, Any], *, as_view: bool = False) -> Any:
        """Calls it. Its future is polled on the loop's thread."""
        if self.awaitable is None:
            assert self.blocking is not None
            return await sync_to_async(self.blocking, thread_sensitive=False)(request, **parameters)
        try:
            # What is wrong with an argument is raised here, before anything runs.
            coroutine = self.awaitable(request, **parameters)
        except OverflowError as error:
            raise _too_large(error) from None
        return await coroutine

    def problem(self, names: Iterable[str]) -> str | None:
        """Whether its first parameter is a ``Request``, by the stub that its module carries, and the others fit."""
        stub = getattr(_module_of(self.function), "__vcache_stub__", None)
        if stub is None:
            return None
        own = (self.awaitable or self.blocking or _nothing).__name__
        found = re.search(rf"^(?:async )?def {re.escape(own)}\(([^)]*)", stub(), re.MULTILINE)
        if found is None or re.match(r"\w+: ([\w.]+\.)?Request\b", found[1]):
            return self._misfit(self.function, names)
        return (
            f"{self.name} takes ({found[1]}), and a hot route calls it with the request first: give it a "
            "`vcache::http::Request` as its first parameter behind the connection"
        )


def _nothing() -> None:
    """Stands for a form that a hot path does not have."""


def _too_large(error: OverflowError) -> Http404:
    # No object has such a number, and it is not the server's fault that it was asked for.
    return Http404(f"a number in the URL is larger than the hot path takes: {error}")


def target_of(target: Any) -> Target:
    """What ``hot()`` was given, with its forms.

    Raises:
        ConfigurationError: it cannot be called.
    """
    if isinstance(target, type) or not callable(target):
        hint = ": import it" if isinstance(target, str) else ""
        raise ConfigurationError(
            f"the target of hot() must be a hot path or a Python function of the request, not {target!r}{hint}"
        )
    if hasattr(target, "_vcache_around"):
        raise ConfigurationError(
            f"the target of hot() is {target.__qualname__}(), which the decorator @throttle is around: that is for "
            "views of Django's requests. Ask the limit in the function instead: "
            "`decision = await limit.acheck(request.client)`"
        )
    module = _module_of(target)
    forms: list[tuple[Any, Any]] = getattr(module, "__vcache_forms__", [])
    name = getattr(target, "__name__", "")
    for blocking, awaitable in forms:
        if name in (blocking, awaitable):
            return HotPathTarget(
                blocking and getattr(module, blocking),
                awaitable and getattr(module, awaitable),
                f"{getattr(target, '__module__', '?')}.{blocking or awaitable}",
            )
    return Target(target)


def _module_of(target: Any) -> types.ModuleType | None:
    """The extension module of a compiled function."""
    target = inspect.unwrap(target)
    owner = getattr(target, "__self__", None)
    if isinstance(target, types.BuiltinFunctionType) and isinstance(owner, types.ModuleType):
        return owner
    return sys.modules.get(getattr(target, "__module__", "") or "")
