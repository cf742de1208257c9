"""Whether a loop goes on while calls of it wait."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator


class Ticker:
    """Counts the turns of the loop, one in 10 ms at the most."""

    def __init__(self) -> None:
        self.ticks = 0

    async def run(self) -> None:
        while True:
            self.ticks += 1
            await asyncio.sleep(0.01)


@contextlib.asynccontextmanager
async def ticking() -> AsyncIterator[Ticker]:
    """A ticker on the running loop, for as long as the block."""
    ticker = Ticker()
    task = asyncio.ensure_future(ticker.run())
    try:
        yield ticker
    finally:
        task.cancel()
