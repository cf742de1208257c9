"""Load on a cache while something happens to its server: async tasks or threads that call in a loop
until told to stop, and an account of what each call came to. Only errors of the documented tree are
counted; any other ends the worker and fails the test.
"""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any


def failures() -> tuple[type[Exception], ...]:
    """What a call may come to while the server is gone."""
    from django_vcache import exceptions

    return (exceptions.ConnectionError, exceptions.TimeoutError)


def works_again(cache: Any) -> bool:
    """Whether the cache takes and gives values again."""
    try:
        cache.set("works-again", "yes")
        return cache.get("works-again") == "yes"
    except failures():
        return False


class Account:
    """What the calls came to: successes, and failures by class name."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.surprises: list[BaseException] = []
        self.stop = threading.Event()

    @property
    def successes(self) -> int:
        return self.counts["success"]

    def note(self, call: Callable[[int], Any], number: int) -> None:
        try:
            call(number)
        except failures() as error:
            self.counts[type(error).__name__] += 1
        else:
            self.counts["success"] += 1

    def check(self) -> None:
        if self.surprises:
            raise self.surprises[0]


@contextmanager
def threads_under_load(count: int, call: Callable[[int], Any]) -> Iterator[Account]:
    """`count` threads calling `call(0)`, `call(1)`, ... until the block is left."""
    account = Account()

    def body(offset: int) -> None:
        number = offset
        try:
            while not account.stop.is_set():
                account.note(call, number)
                number += count
        except BaseException as error:
            account.surprises.append(error)

    threads = [threading.Thread(target=body, args=(offset,)) for offset in range(count)]
    for thread in threads:
        thread.start()
    try:
        yield account
    finally:
        account.stop.set()
        for thread in threads:
            thread.join(30)
    assert not any(thread.is_alive() for thread in threads), "a thread hangs"
    account.check()


@contextmanager
def loop_under_load(runner: asyncio.Runner, count: int, call: Callable[[int], Any]) -> Iterator[Account]:
    """The same with `count` tasks awaiting `call(number)` on `runner`, which runs in a thread."""
    account = Account()

    async def body(offset: int) -> None:
        number = offset
        while not account.stop.is_set():
            try:
                await call(number)
            except failures() as error:
                account.counts[type(error).__name__] += 1
            else:
                account.counts["success"] += 1
            number += count
            # A failure is instant while the server is down: the loop's other work gets its turn.
            await asyncio.sleep(0)

    async def main() -> None:
        async with asyncio.TaskGroup() as group:
            for offset in range(count):
                group.create_task(body(offset))

    def run() -> None:
        try:
            with runner:
                runner.run(main())
        except BaseException as error:
            account.surprises.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield account
    finally:
        account.stop.set()
        thread.join(30)
    assert not thread.is_alive(), "the loop hangs"
    account.check()
