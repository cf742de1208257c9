"""A process under load: commands and loops that wait beside the gets, a loop that lags, and a reply of 32 MiB.

Each is a session, so that the same worker measures it: what goes on beside the load is its
``company``, and what is not CPU for each operation is among its ``figures``.
"""

from __future__ import annotations

import asyncio
import itertools
import random
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from types import SimpleNamespace
from typing import Any

import server
from admission import AsyncCheck, Rule, Surprise
from contestants import Ours
from sessions import OURS_BACKEND, Session, django_cache

START_TIMEOUT = 30.0
"""Seconds for all that waits to wait, and for the large value to be stored and read once."""

LARGE_KEY = "bench:large"
LARGE = 32 * 1024 * 1024
"""Bytes of the value that is read again and again."""

TICK = 0.001
"""Seconds from one thing that the loop has to do to the next."""

COMPUTING = (0.0005, 0.001)
"""Seconds that a request computes for, the least and the most."""

FIVE_A_MINUTE = Rule("lagging", "user", 5, "minute")


class OneOperation(Session):
    """A Django cache, and an operation that is made of its methods."""

    operation = ""

    def __init__(self, port: int, backend: str = OURS_BACKEND) -> None:
        self.port = port
        self.django = django_cache(backend, "redis", port)

    def request(self) -> AbstractAsyncContextManager[Any]:
        return self.django.request()

    async def asynchronous(self) -> Any:
        cache = await self.django.asynchronous()
        return SimpleNamespace(aset=cache.aset, **{self.operation: self.operate(cache)})

    def operate(self, cache: Any) -> Callable[..., Awaitable[object]]:
        raise NotImplementedError


class Beside(OneOperation):
    """Gets, while ``waiting`` commands wait on the same loop and ``loops`` other loops wait for one each."""

    operation = "abeside"

    def __init__(self, port: int, waiting: int = 0, loops: int = 0) -> None:
        super().__init__(port)
        self.waiting = [f"bench:never:task:{number}" for number in range(waiting)]
        self.loops = [f"bench:never:loop:{number}" for number in range(loops)]

    def operate(self, cache: Any) -> Callable[..., Awaitable[object]]:
        get: Callable[..., Awaitable[object]] = cache.aget
        return get

    async def wait(self, key: str) -> None:
        await (await self.django.asynchronous()).aexecute("BLPOP", key, 0)

    def run_loop(self, key: str) -> None:
        import uvloop

        uvloop.run(self.wait(key))

    @asynccontextmanager
    async def company(self) -> AsyncIterator[None]:
        tasks = [asyncio.create_task(self.wait(key)) for key in self.waiting]
        threads = [threading.Thread(target=self.run_loop, args=(key,), daemon=True) for key in self.loops]
        for thread in threads:
            thread.start()
        await until(self.all_wait)
        yield
        for key in (*self.waiting, *self.loops):
            server.command(self.port, ("SELECT", "1"), ("LPUSH", key, "end"))
        await asyncio.wait_for(asyncio.gather(*tasks), START_TIMEOUT)
        for thread in threads:
            thread.join(START_TIMEOUT)

    def all_wait(self) -> bool:
        blocked = int(server.information(self.port, "clients")["blocked_clients"])
        return blocked == len(self.waiting) + len(self.loops)

    def figures(self) -> dict[str, float]:
        if not self.all_wait():
            raise Surprise("what should wait beside the gets did not wait any more")
        return {}


async def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + START_TIMEOUT
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"what belongs beside the load was not there within {START_TIMEOUT:g} s")
        await asyncio.sleep(0.02)


class Lagging(Ours):
    """Requests that compute, and then ask a throttle of five a minute with its default settings.

    Each is somebody else's, so all are admitted; the figure says by whom. What no server decided in
    time is let through by the policy for outages.
    """

    def __init__(self, port: int) -> None:
        super().__init__(port)
        self.users = itertools.count()
        self.lengths = random.Random(300)
        self.sources: Counter[str] = Counter()

    async def aoperation(self, operation: str) -> AsyncCheck:
        check: AsyncCheck = self.once(self._default).acheck

        async def request(_user: int) -> object:
            compute(self.lengths.uniform(*COMPUTING))
            decision: Any = await check(next(self.users))
            self.sources[decision.source] += 1
            return decision

        return request

    def _default(self) -> Any:
        from django_vcache.admission import Throttle

        return Throttle(FIVE_A_MINUTE.name, FIVE_A_MINUTE.rate, key=FIVE_A_MINUTE.key)

    def finish(self, operation: str) -> None:
        """An outage is what is counted here."""

    def begin(self) -> None:
        self.sources.clear()

    def figures(self) -> dict[str, float]:
        return {"decisions": self.sources.total(), "by_server": self.sources["server"]}


def compute(seconds: float) -> None:
    """Keeps the loop's thread busy."""
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        pass


class Ticking(OneOperation):
    """A loop that has something to do every millisecond and gets a small value, while a thread gets one of 32 MiB."""

    operation = "areader"

    def __init__(self, port: int, backend: str = OURS_BACKEND, reads: bool = True) -> None:
        super().__init__(port, backend)
        self.reads = reads
        self.stop = threading.Event()
        self.due = 0.0
        self.late: list[float] = []
        self.read = 0
        self.failed: list[BaseException] = []

    def operate(self, cache: Any) -> Callable[..., Awaitable[object]]:
        async def get_and_pause(key: str) -> object:
            value: object = await cache.aget(key)
            await asyncio.sleep(TICK)
            return value

        return get_and_pause

    async def tick(self) -> None:
        self.due = time.perf_counter() + TICK
        while not self.stop.is_set():
            await asyncio.sleep(self.due - time.perf_counter())
            # NOTE: a loop that was held up is late for all that was due meanwhile, and not only for the first of it.
            while self.due <= (now := time.perf_counter()):
                self.late.append(now - self.due)
                self.due += TICK

    def read_again_and_again(self) -> None:
        try:
            cache = self.django.blocking()
            # Nothing that compression would make smaller.
            cache.set(LARGE_KEY, random.Random(LARGE).randbytes(LARGE))
            while not self.stop.is_set():
                if len(cache.get(LARGE_KEY)) != LARGE:
                    raise Surprise("the large value came back with another length")
                self.read += 1
        except BaseException as error:
            self.failed.append(error)

    @asynccontextmanager
    async def company(self) -> AsyncIterator[None]:
        reader = threading.Thread(target=self.read_again_and_again, daemon=True)
        if self.reads:
            reader.start()
            await until(lambda: bool(self.read or self.failed))
        ticking = asyncio.create_task(self.tick())
        yield
        self.stop.set()
        await ticking
        if self.reads:
            reader.join(START_TIMEOUT)

    def begin(self) -> None:
        self.late.clear()
        self.read = 0
        # The worker has just held the loop up itself.
        self.due = time.perf_counter() + TICK

    def figures(self) -> dict[str, float]:
        if self.failed:
            raise self.failed[0]
        if self.reads and not self.read:
            raise Surprise("the large value was not read once while the loop was watched")
        late = sorted(self.late)
        return {"worst_ms": 1000 * late[-1], "p99_ms": 1000 * late[len(late) * 99 // 100], "large_reads": self.read}
