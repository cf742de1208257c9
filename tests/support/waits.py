"""Waits for a change of a key, each in its own thread, by each of the forms that there are."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

from support.driver import LOOPS, open_runner
from support.server import ValkeyServer, wait_until

FORMS = ("blocking", *LOOPS)
# Tells a wait that nothing ends from one that is slow.
HANG = 20.0


class Waiting:
    """`cache.wait_changed(*args, **kwargs)` under way, or `await cache.await_changed(...)` on a loop by its name."""

    def __init__(self, form: str, cache: Any, *args: Any, **kwargs: Any) -> None:
        self._form = form
        self._call = (cache, args, kwargs)
        self._outcome: list[Any] = []
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    @property
    def is_over(self) -> bool:
        return bool(self._outcome)

    def result(self) -> Any:
        """What it came to; AssertionError if it does not end."""
        self._thread.join(HANG)
        assert self._outcome, "nothing ends the wait"
        if isinstance(self._outcome[0], BaseException):
            raise self._outcome[0]
        return self._outcome[0]

    def _run(self) -> None:
        cache, args, kwargs = self._call

        async def awaited() -> Any:
            return await cache.await_changed(*args, **kwargs)

        try:
            if self._form == "blocking":
                self._outcome.append(cache.wait_changed(*args, **kwargs))
            else:
                with open_runner(self._form) as runner:
                    self._outcome.append(runner.run(awaited()))
        except BaseException as error:
            self._outcome.append(error)


def watched(server: ValkeyServer) -> int:
    """How many pairs of a key and a client that watches it the server knows; a client that is gone counts until the key
    is changed."""
    return int(server.info("stats")["tracking_total_items"])


def until_watched(server: ValkeyServer, *waits: Waiting, count: int = 1) -> None:
    """Waits until as many keys are watched by a client each. None of the waits may be over."""

    def ready() -> bool:
        return watched(server) >= count or any(wait.is_over for wait in waits)

    wait_until(ready, timeout=HANG, what=f"{count} keys are watched")
    for wait in waits:
        assert not wait.is_over, f"it is over too early: {wait.result()}"


async def until_tasks_watch(server: ValkeyServer, *tasks: asyncio.Task[Any], count: int = 1) -> None:
    """The same for waits that are tasks of the loop this runs on."""
    async with asyncio.timeout(HANG):
        while watched(server) < count and not any(task.done() for task in tasks):  # noqa: ASYNC110 - the server is asked
            await asyncio.sleep(0.002)
    for task in tasks:
        assert not task.done(), f"it is over too early: {task.result()}"
