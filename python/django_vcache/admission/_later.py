"""Limits that async callables say. Rust asks :func:`after` to await them before a limit is asked."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

__all__ = ["after"]


async def after(awaitables: list[Awaitable[Any]], ask: Callable[..., Awaitable[Any]], at_once: bool) -> Any:
    """Awaits what callables returned, and then what ``ask`` makes of the results.

    Those of one admission are awaited one after another, in the caller's task. Those of many are awaited ``at_once``,
    each in a task, so that many admissions take no longer than one. What is not awaited because another raised, or
    because the caller was cancelled, never begins. A task or future that a callable returned goes on.
    """
    answers = await (_gathered(awaitables) if at_once and len(awaitables) > 1 else _in_turn(awaitables))
    return await ask(*answers)


async def _in_turn(awaitables: list[Awaitable[Any]]) -> list[Any]:
    waiting = iter(awaitables)
    try:
        return [await each for each in waiting]
    finally:
        for each in waiting:
            _close(each)


async def _gathered(awaitables: list[Awaitable[Any]]) -> list[Any]:
    waiting = iter(awaitables)
    tasks: list[asyncio.Future[Any]] = []
    ours: list[asyncio.Future[Any]] = []
    try:
        for each in waiting:
            task: asyncio.Future[Any] = asyncio.ensure_future(each)
            tasks.append(task)
            if task is not each:
                ours.append(task)
        return await asyncio.gather(*tasks)
    except BaseException:
        for task in ours:
            task.cancel()
        # What they raise now is about a call that has ended.
        await asyncio.gather(*ours, return_exceptions=True)
        raise
    finally:
        for each in waiting:
            _close(each)


def _close(awaitable: Awaitable[Any]) -> None:
    """Ends what never began, without Python's warning."""
    close = getattr(awaitable, "close", None)
    if close is None:
        return
    try:
        close()
    # It must not take the place of what the callable raised.
    except Exception as error:
        context = {"message": "An awaitable that a limit's callable returned could not be closed.", "exception": error}
        asyncio.get_running_loop().call_exception_handler(context)
