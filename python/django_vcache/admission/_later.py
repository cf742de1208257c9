"""Limits that async callables say. Rust asks :func:`after` to await them before a limit is asked."""

from collections.abc import Awaitable, Callable
from typing import Any

__all__ = ["after"]


async def after(awaitables: list[Awaitable[Any]], ask: Callable[..., Awaitable[Any]]) -> Any:
    """Awaits what callables returned, one after another, and then what ``ask`` makes of the results."""
    waiting = iter(awaitables)
    try:
        answers = [await each for each in waiting]
    finally:
        # One of them raised, or the task was cancelled: the others never begin.
        for each in waiting:
            close = getattr(each, "close", None)
            if close is not None:
                close()
    return await ask(*answers)
