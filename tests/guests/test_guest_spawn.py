"""Hot paths that a guest runs on a tokio runtime of its own: they use the same connection, which that runtime then
drives by way of the table.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
from support.caches import cache_setting
from support.driver import LOOPS
from support.programs import Program, run_program
from support.server import ValkeyServer, wait_until


@pytest.fixture(autouse=True)
def _spawning(programs_import: Callable[[str], None]) -> None:
    programs_import("spawns")


SHARED = """
import probe_guest, quota_guest

async def ask():
    (told,) = await probe_guest.aspawned(["CLIENT", "ID"], 1)
    return {told, f"int({await quota_guest.aconnection_id()})", f"int({await probe_guest.aconnection_id()})"}

ids = run(ask())
ids.update(probe_guest.spawned(["CLIENT", "ID"], 3))
ids.add(f"int({cache.execute('CLIENT', 'ID')})")
report(sorted(ids))
wait_for_word()
"""


@pytest.mark.parametrize("loop", LOOPS)
def test_they_share_the_connection(fresh_server: ValkeyServer, loop: str) -> None:
    with Program(SHARED, {"default": cache_setting(fresh_server)}, loop) as program:
        ids = program.report()
        assert ids == [f"int({client['id']})" for client in fresh_server.clients()]
        program.tell()
        program.end()


ALONE = """
import probe_guest

async def main():
    await probe_guest.aconnection_id()
    future = begun(probe_guest.aspawned(["INCR", "n"], 50))
    report("the loop's thread waits")
    wait_for_word()
    return (await future)[-1]

report(run(main()))
"""


@pytest.mark.parametrize("loop", LOOPS)
def test_the_body_goes_on_while_the_loops_thread_does_not(fresh_server: ValkeyServer, loop: str) -> None:
    with Program(ALONE, {"default": cache_setting(fresh_server)}, loop) as program:
        program.report()
        wait_until(lambda: fresh_server.execute("GET", "n") == b"50")
        program.tell()
        assert program.report() == "int(50)"
        program.end()


LOAD = """
import probe_guest, quota_guest

def text(name):
    return f"bulk-string('\\"{name}\\"')"

def thread(number):
    for turn in range(20):
        assert probe_guest.spawned(["ECHO", f"t{number}.{turn}"], 3) == [text(f"t{number}.{turn}")] * 3
        assert probe_guest.reply(["ECHO", f"u{number}.{turn}"]) == text(f"u{number}.{turn}")
        assert quota_guest.left([number]) == [0]

async def task(number):
    for turn in range(5):
        results = await asyncio.gather(
            probe_guest.aspawned(["ECHO", f"a{number}.{turn}"], 3),
            probe_guest.areply(["ECHO", f"b{number}.{turn}"]),
            quota_guest.aspend(number),
            cache.aexecute("ECHO", "c"),
            probe_guest.aspawned_panic(),
            probe_guest.aspawned(["NOPE"], 1),
            return_exceptions=True,
        )
        assert results[:4] == [[text(f"a{number}.{turn}")] * 3, text(f"b{number}.{turn}"), None, b"c"], results
        assert isinstance(results[4], exceptions.HotPathPanic), results
        assert isinstance(results[5], exceptions.ResponseError), results

async def main():
    threads = asyncio.to_thread(in_threads, 6, thread)
    await asyncio.gather(threads, *(task(number) for number in range(30)))

run(main())
before = fds(), threads()
for _ in range(3):
    run(main())
report([before, (fds(), threads())])
"""


@pytest.mark.parametrize("loop", LOOPS)
def test_everybody_gets_their_own_replies(fresh_server: ValkeyServer, loop: str) -> None:
    before, after = run_program(LOAD, {"default": cache_setting(fresh_server)}, loop)
    assert after[0] <= before[0] + 4
    assert after[1] <= before[1] + 2
    assert int(fresh_server.info("stats")["total_connections_received"]) == 2


CANCELLED = """
import probe_guest

async def main():
    own = await probe_guest.aconnection_id()
    report("ready")
    wait_for_word()
    def call():
        return probe_guest.aspawned(["INCR", "n"], 1000)

    futures = [begun(call()) for _ in range(20)]
    futures += [asyncio.ensure_future(asyncio.wait_for(call(), 0.01)) for _ in range(20)]
    await asyncio.sleep(0.01)
    for future in futures[:20]:
        future.cancel()
    results = await asyncio.gather(*futures, return_exceptions=True)
    assert {type(result) for result in results} == {asyncio.CancelledError, TimeoutError}, results
    report("cancelled")
    wait_for_word()
    assert await probe_guest.aspawned(["ECHO", "x"], 2) == ["bulk-string('\\"x\\"')"] * 2
    report([await probe_guest.aconnection_id() == own, int(await cache.aexecute("GET", "n") or 0)])

run(main())
"""


@pytest.mark.parametrize("loop", LOOPS)
def test_a_cancelled_body_is_given_up(fresh_server: ValkeyServer, loop: str) -> None:
    with Program(CANCELLED, {"default": cache_setting(fresh_server, RESPONSE_TIMEOUT=60.0)}, loop) as program:
        assert program.report() == "ready"
        fresh_server.pause()
        program.tell()
        assert program.report() == "cancelled"
        fresh_server.resume()
        program.tell()
        same, counted = program.report()
        assert same
        # Each was in its first step.
        assert counted <= 40
        program.end()


FORKED = """
import warnings
warnings.simplefilter("ignore", DeprecationWarning)
import probe_guest

async def ask(times):
    return (await probe_guest.aspawned(["CLIENT", "ID"], times))[-1]

def child():
    asyncio._set_running_loop(None)
    told = {run(ask(20)), *probe_guest.spawned(["CLIENT", "ID"], 20), f"int({cache.execute('CLIENT', 'ID')})"}
    assert len(told) == 1, told
    report(told.pop())
    os._exit(0)

async def main():
    own = await ask(1)
    for _ in range(3):
        pending = [begun(probe_guest.aspawned(["CLIENT", "ID"], 100)) for _ in range(10)]
        await asyncio.sleep(0)
        pid = os.fork()
        if pid == 0:
            child()
        assert set(sum(await asyncio.gather(*pending), [])) == {own}
        assert (await asyncio.to_thread(os.waitpid, pid, 0))[1] == 0
    assert await ask(10) == own
    report(own)

run(main())
"""


@pytest.mark.parametrize("loop", LOOPS)
def test_a_forked_child_has_a_runtime_and_a_connection_of_its_own(fresh_server: ValkeyServer, loop: str) -> None:
    ids = run_program(FORKED, {"default": cache_setting(fresh_server)}, loop)
    assert len(ids) == 4
    assert len(set(ids)) == 4


RESTARTED = """
import probe_guest

async def ask():
    while True:
        try:
            return await probe_guest.aspawned(["PING"], 5)
        except exceptions.ConnectionError:
            await asyncio.sleep(0.01)

run(ask())
report("ready")
wait_for_word()
run(ask())
report(probe_guest.spawned(["PING"], 1))
"""


@pytest.mark.parametrize("loop", LOOPS)
def test_after_a_restart_of_the_server(fresh_server: ValkeyServer, loop: str) -> None:
    with Program(RESTARTED, {"default": cache_setting(fresh_server)}, loop) as program:
        assert program.report() == "ready"
        fresh_server.restart()
        program.tell()
        assert program.report() == ['simple-string("PONG")']
        program.end()


ENDS = """
import probe_guest

async def main():
    return [begun(probe_guest.aspawned(["GET", "k"], 10)) for _ in range(20)]

probe_guest.spawned(["PING"], 1)
report("ready")
wait_for_word()
kept = run(main())
"""


@pytest.mark.parametrize("loop", LOOPS)
def test_the_interpreter_ends_cleanly_with_bodies_on_their_way(fresh_server: ValkeyServer, loop: str) -> None:
    for silent in (True, False):
        with Program(ENDS, {"default": cache_setting(fresh_server)}, loop) as program:
            assert program.report() == "ready"
            if silent:
                fresh_server.pause()
            program.tell()
            outcome = program.exit_code()
        if silent:
            fresh_server.resume()
        assert outcome == (0, "")
