"""Watches for the client's leaving, but only while there is something to wait for.

A view that never suspends is over before the client's leaving could be noticed. So the coroutine of a request runs in
the handler's own task and context, and the task that listens is made when it suspends first.
"""

import asyncio
from collections.abc import Callable, Coroutine, Generator
from typing import Any

__all__ = ["watched"]


async def watched(work: Coroutine[Any, Any, None], listen: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Runs ``work``, and cancels it when ``listen`` raises.

    Args:
        work: a coroutine that has not begun.
        listen: makes the coroutine that listens. It is called when ``work`` suspends first, and cancelled when ``work``
            is over.

    Raises:
        BaseException: what ``work`` raised, or else what ``listen`` did.
        asyncio.CancelledError: this task was cancelled from outside.
    """
    listener = _Listener(listen)
    try:
        await _Steps(work, listener.start)
    except asyncio.CancelledError:
        if not listener.takes_back():
            await listener.end()
            raise
        # It was the listener's wish, whose error is raised below.
    except GeneratorExit:
        # Nothing can be awaited here.
        listener.stop()
        raise
    except BaseException:
        listener.takes_back()
        await listener.end()
        raise
    else:
        listener.takes_back()
    await listener.end()
    if listener.error is not None:
        raise listener.error


class _Steps:
    """A coroutine to await, which says so when it suspends first."""

    def __init__(self, work: Coroutine[Any, Any, None], suspends: Callable[[], None]) -> None:
        self._work = work
        self._suspends = suspends

    def __await__(self) -> Generator[Any, None, None]:
        work = self._work
        try:
            step = work.send(None)
            self._suspends()
            while True:
                try:
                    yield step
                except BaseException as error:
                    step = work.throw(error)
                else:
                    step = work.send(None)
        except StopIteration:
            return


class _Listener:
    """The task that listens, and its wish to have the request cancelled."""

    def __init__(self, listen: Callable[[], Coroutine[Any, Any, None]]) -> None:
        self.error: BaseException | None = None
        """What listening came to, before the work was over."""
        self._listen = listen
        self._task: asyncio.Task[None] | None = None
        self._request: asyncio.Task[Any] | None = None
        self._cancelled_before = 0
        self._is_over = False

    def start(self) -> None:
        self._request = asyncio.current_task()
        assert self._request is not None
        self._cancelled_before = self._request.cancelling()
        self._task = asyncio.create_task(self._listen())
        self._task.add_done_callback(self._heard)

    def _heard(self, task: asyncio.Task[None]) -> None:
        if task.cancelled():
            return
        error = task.exception()
        if error is not None and not self._is_over:
            self.error = error
            assert self._request is not None
            self._request.cancel()

    def takes_back(self) -> bool:
        """The work is over. Whether it was cancelled by this listener, and by nothing else."""
        self._is_over = True
        if self.error is None or self._request is None:
            return False
        return self._request.uncancel() <= self._cancelled_before

    def stop(self) -> None:
        self._is_over = True
        if self._task is not None:
            self._task.cancel()

    async def end(self) -> None:
        """Has the task end before the request does: the server would not expect it to receive any more."""
        self.stop()
        if self._task is not None and not self._task.done():
            # Waits, and lets an error of the task be.
            await asyncio.wait((self._task,))
