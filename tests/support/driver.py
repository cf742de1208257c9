"""One set of test cases, two ways to call a cache. `AsyncDriven` looks like a synchronous cache
and answers every call by awaiting the method's async twin (get -> aget) on an event loop of its
own, so that a case written once proves both halves of the API on asyncio and on uvloop.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable
from typing import Any

from django.core.cache.backends.base import BaseCache

LOOPS = ("asyncio", "uvloop")

# The synchronous names of Django's contract that have an async twin.
TWINS = tuple(
    name.removeprefix("a")
    for name in vars(BaseCache)
    if name.startswith("a") and hasattr(BaseCache, name.removeprefix("a"))
)


def open_runner(name: str) -> asyncio.Runner:
    """A runner of a loop by its name in LOOPS; ImportError when uvloop is not installed."""
    if name == "uvloop":
        import uvloop

        return asyncio.Runner(loop_factory=uvloop.new_event_loop)
    return asyncio.Runner(loop_factory=asyncio.new_event_loop)


def begun(call: Any) -> asyncio.Future[Any]:
    """The loop's own future of a coroutine of ours, with the call under way and no task around it.

    >>> begun(throttle.acheck(1)).cancel()  # doctest: +SKIP
    """
    try:
        future: asyncio.Future[Any] = next(call.__await__())
    except StopIteration as done:
        # The answer was there at once.
        future = asyncio.get_running_loop().create_future()
        future.set_result(done.value)
        return future
    # As if nothing had begun to await it.
    future._asyncio_future_blocking = False
    return future


class AsyncDriven:
    """`cache`, with each call made through its async twin by `runner`.

    Attributes without a twin pass through, also when set or deleted: tests set `cache.key_func`.
    """

    def __init__(self, cache: Any, runner: asyncio.Runner) -> None:
        self.__dict__.update(_cache=cache, _runner=runner)

    def __getattr__(self, name: str) -> Any:
        cache = self.__dict__["_cache"]
        if not name.startswith("_") and callable(getattr(cache, f"a{name}", None)):
            return functools.partial(self._await, name)
        return getattr(cache, name)

    def __setattr__(self, name: str, value: object) -> None:
        setattr(self._cache, name, value)

    def __delattr__(self, name: str) -> None:
        delattr(self._cache, name)

    def __contains__(self, key: object) -> bool:
        return self._await("has_key", key)

    def _await(self, name: str, /, *args: Any, **kwargs: Any) -> Any:
        async def call() -> Any:
            # The twin is called where the loop runs: it may return a future instead of being
            # a coroutine function.
            return await getattr(self._cache, f"a{name}")(*args, **kwargs)

        return self._runner.run(call())


def _method(name: str) -> Callable[..., Any]:
    def method(self: AsyncDriven, *args: Any, **kwargs: Any) -> Any:
        return self._await(name, *args, **kwargs)

    method.__name__ = name
    return method


# Real methods, because Django's tests read `cache.get_many.__func__`.
for _name in TWINS:
    setattr(AsyncDriven, _name, _method(_name))
