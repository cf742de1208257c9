"""The interpreter's end: daemon threads that are in the middle of calls do not disturb it, and the thread that ends it
may still call.
"""

from __future__ import annotations

import pytest
from support.caches import cache_setting
from support.driver import LOOPS
from support.exits import assert_ends_cleanly
from support.programs import Program
from support.server import ValkeyServer

# What Rust calls in Python may be long.
IN_PYTHON = """
def key_function(key, prefix, version):
    return ":".join([prefix, str(version), *(str(part) for part in range(300)), key])[-200:]

cache.key_func = key_function
"""

MANY_GETS = """
async def gets():
    await asyncio.gather(*(cache.aget(f"k{number}") for number in range(20)))

busy_loops(10, gets)
"""

BLOCKING = """
class Slow:
    def __reduce__(self):
        return make, (sum(range(300)),)

def make(_):
    return Slow() if sum(range(300)) else None

def work():
    cache.set("k", Slow())
    cache.get("k")

busy(10, work)
"""

LIMITS = """
from django_vcache.admission import Quota

# A busy machine is no outage.
quota = Quota("calls", lambda scope: sum(range(300)) + 10**9, "day", key="user", deadline=None)
busy(5, lambda: quota.consume("1"))

async def consume():
    await asyncio.gather(*(quota.aconsume("1") for _ in range(20)))

busy_loops(5, consume)
"""


@pytest.mark.parametrize("loop", LOOPS)
def test_ten_busy_loops_in_daemon_threads(server: ValkeyServer, loop: str) -> None:
    assert_ends_cleanly(MANY_GETS, server, loop)


@pytest.mark.parametrize("loop", LOOPS)
def test_ten_busy_loops_whose_calls_run_python_inside(server: ValkeyServer, loop: str) -> None:
    assert_ends_cleanly(IN_PYTHON + MANY_GETS, server, loop)


def test_ten_busy_blocking_daemon_threads(server: ValkeyServer) -> None:
    assert_ends_cleanly(IN_PYTHON + BLOCKING, server)


@pytest.mark.parametrize("loop", LOOPS)
def test_busy_admission_in_daemon_threads(server: ValkeyServer, loop: str) -> None:
    assert_ends_cleanly(LIMITS, server, loop)


WAITING = """
for _ in range(3):
    threading.Thread(target=lambda: cache.execute("BLPOP", "queue", 0), daemon=True).start()

async def pop():
    await asyncio.gather(*(cache.aexecute("BLPOP", "queue", 0) for _ in range(3)))

threading.Thread(target=lambda: run(pop()), daemon=True).start()
# Two runs are on this server at once.
while cache.execute("CLIENT", "LIST").count(b"cmd=blpop") < 6:
    time.sleep(0.005)
"""


# The program asks CLIENT LIST, which a node of a cluster answers for itself only.
@pytest.mark.one_server
@pytest.mark.parametrize("loop", LOOPS)
def test_daemon_threads_that_wait_without_end(server: ValkeyServer, loop: str) -> None:
    assert_ends_cleanly(WAITING, server, loop)


AT_EXIT = """
import atexit

async def awaited():
    return await cache.aget("k")

def last():
    # The daemon threads work on meanwhile.
    assert [cache.get("k"), run(awaited())] == ["v", "v"]

atexit.register(last)
cache.set("k", "v")
busy(3, lambda: cache.get("k"))
"""


@pytest.mark.parametrize("loop", LOOPS)
def test_calls_from_an_exit_handler_beside_busy_threads(server: ValkeyServer, loop: str) -> None:
    assert_ends_cleanly(AT_EXIT, server, loop)


# What a finalizer needs lies in the object itself: module by module everything else becomes None.
LAST = """
import builtins

class Last:
    def __init__(self, calls):
        self.calls, self.exception, self.write = calls, Exception, os.write

    def __del__(self):
        for call in self.calls:
            try:
                call()
            except self.exception:
                self.write(1, b"an exception\\n")
            else:
                self.write(1, b"an answer\\n")
        self.write(1, b"the end\\n")

wrong, right = cache.execute, cache.get
calls = [lambda: wrong("LPUSH", "k", 1), lambda: wrong("SUBSCRIBE", "k"), lambda: right("k")]
"""

# Exceptions, and what reading a value needs, are imported when they are first wanted.
USE = """
for call in calls:
    try:
        call()
    except Exception:
        pass
"""

PLACES = {
    "a global": "last = Last(calls)",
    "builtins": "builtins.last = Last(calls)",
    "sys": "sys.last = Last(calls)",
}


@pytest.mark.parametrize("place", PLACES.values(), ids=PLACES.keys())
@pytest.mark.parametrize("before", ["", USE], ids=["never used", "used"])
def test_a_finalizer_gets_answers_and_exceptions(server: ValkeyServer, before: str, place: str) -> None:
    server.execute("SET", "k", "text")
    with Program(LAST + before + place, {"default": cache_setting(server)}) as program:
        code, printed = program.exit_code()
    *refusals, answer, end = printed.splitlines()
    assert (code, refusals, end) == (0, ["an exception"] * 2, "the end")
    assert answer == "an answer" or not before
