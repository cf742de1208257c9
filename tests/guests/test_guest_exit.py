"""The interpreter's end with calls of guests pending: the process exits with 0 and says nothing."""

from __future__ import annotations

import pytest
from support.caches import cache_setting
from support.driver import LOOPS
from support.exits import assert_ends_cleanly
from support.programs import Program
from support.server import ValkeyServer, wait_until

PENDING = """
async def main():
    kept = [await start() for _ in range(50)]
    await asyncio.sleep(0)
    return kept

async def start():
    calls = probe_guest.afetch("k"), quota_guest.aspend(1), probe_guest.apop("queue", 0), probe_guest.aecho(payload)
    return [begun(call) for call in calls]
"""

ENDS = {
    "the loop is closed": "kept = run(main())",
    "the loop is left open": """
loop = open_runner(_request["loop"]).get_loop()
kept = loop.run_until_complete(main())
""",
    "inside the loop": """
async def leave():
    kept = await main()
    sys.exit(0)
try:
    run(leave())
except SystemExit:
    raise
""",
    "in cycles": """
class Cycle:
    pass
cycle = Cycle()
cycle.self = cycle
cycle.kept = run(main())
del cycle
gc.disable()
""",
    "on a loop of another thread": """
def body():
    loop = open_runner(_request["loop"]).get_loop()
    asyncio.set_event_loop(loop)
    future = loop.create_task(main())
    future.add_done_callback(lambda _: started.set())
    loop.run_forever()

started = threading.Event()
threading.Thread(target=body, daemon=True).start()
started.wait()
""",
}


@pytest.mark.parametrize("end", ENDS.values(), ids=ENDS.keys())
@pytest.mark.parametrize("loop", LOOPS)
def test_calls_that_a_silent_server_has_not_answered(fresh_server: ValkeyServer, loop: str, end: str) -> None:
    source = f"""
import probe_guest, quota_guest
payload = os.urandom(1000)
probe_guest.connection_id()
report("ready")
wait_for_word()
{PENDING}
{end}
"""
    with Program(source, {"default": cache_setting(fresh_server, RESPONSE_TIMEOUT=60.0)}, loop) as program:
        assert program.report() == "ready"
        fresh_server.pause()
        program.tell()
        code, printed = program.exit_code()
    fresh_server.resume()
    assert (code, printed) == (0, "")


THREADS = """
import probe_guest, quota_guest

def wait():
    probe_guest.pop("queue", 0)

def work():
    while True:
        quota_guest.left([1, 2, 3])
        probe_guest.fetch("k")

probe_guest.connection_id()
for target in [wait, work] * 3:
    threading.Thread(target=target, daemon=True).start()
while cache.execute("CLIENT", "LIST").count(b"cmd=blpop") < 3:
    time.sleep(0.005)
"""


LOOPING = """
import probe_guest, quota_guest

async def work():
    await asyncio.gather(*(probe_guest.afetch("k") for _ in range(20)), quota_guest.aleft([1, 2, 3]))

async def pop():
    await probe_guest.apop("queue", 0)

threading.Thread(target=lambda: run(pop()), daemon=True).start()
busy(5, lambda: quota_guest.left([1, 2, 3]))
busy_loops(5, work)
"""


@pytest.mark.parametrize("loop", LOOPS)
def test_busy_daemon_threads(server: ValkeyServer, loop: str) -> None:
    assert_ends_cleanly(LOOPING, server, loop)


def test_daemon_threads_in_blocking_calls(fresh_server: ValkeyServer) -> None:
    for _ in range(3):
        with Program(THREADS, {"default": cache_setting(fresh_server)}) as program:
            assert program.exit_code() == (0, "")
        wait_until(lambda: fresh_server.clients() == [])


AT_EXIT = """
import atexit
import probe_guest, quota_guest

class Last:
    def __del__(self):
        assert probe_guest.fetch("k") == b"v"

async def awaited():
    return await probe_guest.afetch("k")

def last():
    assert run(awaited()) == b"v"
    assert quota_guest.left([1]) == [0]

atexit.register(last)
cache.execute("SET", "k", "v")
sys.last = Last()
"""


@pytest.mark.parametrize("loop", LOOPS)
def test_calls_while_the_interpreter_ends(fresh_server: ValkeyServer, loop: str) -> None:
    with Program(AT_EXIT, {"default": cache_setting(fresh_server)}, loop) as program:
        assert program.exit_code() == (0, "")


def test_a_guest_that_was_imported_and_never_used(server: ValkeyServer) -> None:
    with Program("import probe_guest, quota_guest", {"default": cache_setting(server)}) as program:
        assert program.exit_code() == (0, "")
