"""Programs that end while their threads are in the middle of calls. What goes wrong then does not go wrong each time,
so each is run many times: VCACHE_TEST_EXITS says how often.
"""

from __future__ import annotations

import os
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

from support.caches import cache_setting
from support.programs import Program
from support.server import ValkeyServer

RUNS = int(os.environ.get("VCACHE_TEST_EXITS", "8"))

# `busy(count, call)` has so many daemon threads call without end, and returns when all have begun; `busy_loops` is the
# same for a coroutine function, with a loop in each thread. The threads take the GIL from each other at every chance,
# so that the end finds them in the middle of something.
_PREAMBLE = """
sys.setswitchinterval(1e-6)

def busy(count, call):
    begun = threading.Semaphore(0)

    def body():
        call()
        begun.release()
        while True:
            call()

    for _ in range(count):
        threading.Thread(target=body, daemon=True).start()
    for _ in range(count):
        begun.acquire()

def busy_loops(count, call):
    begun = threading.Semaphore(0)

    async def main():
        await call()
        begun.release()
        while True:
            await call()

    for _ in range(count):
        threading.Thread(target=lambda: run(main()), daemon=True).start()
    for _ in range(count):
        begun.acquire()
"""


def assert_ends_cleanly(source: str, server: ValkeyServer, loop: str = "asyncio") -> None:
    """Every run exits with 0 and prints nothing."""
    caches = {"default": cache_setting(server)}

    def once(_: int) -> tuple[int, str]:
        with Program(_PREAMBLE + source, caches, loop) as program:
            return program.exit_code()

    with ThreadPoolExecutor(2) as pool:
        ends = Counter(pool.map(once, range(RUNS)))
    assert ends == {(0, ""): RUNS}, ends
