"""Fork with guests: in a child they and the wheel share a new connection, and nothing there disturbs the parent,
whatever was in flight. Each case is a program of its own.
"""

from __future__ import annotations

import pytest
from support import forks
from support.caches import cache_setting
from support.driver import LOOPS
from support.programs import Program, run_program
from support.server import ValkeyServer, wait_until

HELPERS = (
    forks.HELPERS
    + """
import probe_guest, quota_guest

TURNS = 20

def ids():
    async def awaited():
        return [await probe_guest.aconnection_id(), await quota_guest.aconnection_id()]
    return {cache.execute("CLIENT", "ID"), probe_guest.connection_id(), quota_guest.connection_id(), *run(awaited())}

def own_id():
    (own,) = ids()
    return own

def check(name, turns):
    project = hash(name) % 2**60
    for turn in range(turns):
        cache.execute("SET", name, f"{name} {turn}")
        quota_guest.grant(project, turn + 1)
        got = [probe_guest.fetch(name), quota_guest.spend(project), probe_guest.reply(["ECHO", name])]
        assert got == [f"{name} {turn}".encode(), turn, f"bulk-string('\\"{name}\\"')"], (name, turn, got)

async def acheck(name, turns):
    project = hash(name) % 2**60
    for turn in range(turns):
        await cache.aexecute("SET", name, f"{name} {turn}")
        await quota_guest.agrant(project, turn + 1)
        got = await asyncio.gather(
            probe_guest.afetch(name), quota_guest.aspend(project), probe_guest.areply(["ECHO", name])
        )
        assert got == [f"{name} {turn}".encode(), turn, f"bulk-string('\\"{name}\\"')"], (name, turn, got)
"""
)

UNDER_LOAD = """
own = own_id()
# What a guest makes on first use (quota_guest's script) is made before the fork, or a child could wait for it for ever.
check("parent", 1)

def child():
    report(own_id())
    check(f"child {os.getpid()}", 100)
    run(acrowd(f"child {os.getpid()}", 10, 10))
    in_threads(4, lambda number: check(f"child {os.getpid()} {number}", 20))

codes = under_load(lambda: [join(fork(child)) for _ in range(6)])
check("parent", 50)
report([own, own_id(), codes])
"""


@pytest.mark.parametrize("loop", LOOPS)
def test_children_forked_under_load_share_one_new_connection_each(fresh_server: ValkeyServer, loop: str) -> None:
    *children, (before, after, codes) = run_program(
        HELPERS + UNDER_LOAD, {"default": cache_setting(fresh_server)}, loop
    )
    assert codes == [0] * 6
    assert before == after, "the parent's connection was disturbed"
    assert len({before, *children}) == 7
    # The parent's, the six of its children, and the test's.
    assert int(fresh_server.info("stats")["total_connections_received"]) == 8


IN_FLIGHT = """
def child():
    global pending
    own = own_id()
    # What the parent waits for is nothing to the child, alive or dropped.
    run(acrowd("child", 5, 10))
    pending.clear()
    gc.collect()
    run(acrowd("child", 5, 10))
    check("child", 20)
    assert own_id() == own
    report(own)
    wait_for_word()

async def main():
    global pending
    await cache.aexecute("SET", "k", "parent")
    own = await probe_guest.aconnection_id()
    report(own)
    # Not sent, sent, a script between its steps, and one that the server sits on.
    await cache.aexecute("SCRIPT", "FLUSH")
    pending = [asyncio.ensure_future(probe_guest.apop("queue", 0))]
    pending += [asyncio.ensure_future(probe_guest.afetch("k")) for _ in range(50)]
    pending += [asyncio.ensure_future(quota_guest.aspend(number)) for number in range(50)]
    await asyncio.sleep(0)
    pending += [asyncio.ensure_future(probe_guest.afetch("k")) for _ in range(50)]
    pid = fork(child)
    results = await asyncio.gather(*pending[1:])
    assert results == [b"parent"] * 50 + [None] * 50 + [b"parent"] * 50
    await acrowd("parent", 10, 10)
    assert await quota_guest.aconnection_id() == own
    report("parent")
    assert await pending[0] == ("queue", "element")
    assert await asyncio.to_thread(join, pid) == 0
    await acrowd("parent", 10, 10)

run(main())
"""


@pytest.mark.parametrize("loop", LOOPS)
def test_calls_in_flight_at_the_fork_stay_the_parents(fresh_server: ValkeyServer, loop: str) -> None:
    with Program(HELPERS + IN_FLIGHT, {"default": cache_setting(fresh_server)}, loop) as program:
        own = program.report()
        reports = [program.report(), program.report()]
        reports.remove("parent")
        assert reports[0] != own
        # The parent's two and the child's one.
        wait_until(lambda: len(fresh_server.clients()) == 3)
        fresh_server.execute("RPUSH", "queue", "element")
        program.tell()
        program.end()


BLOCKING = """
own = own_id()
waiting = threading.Thread(target=lambda: report(probe_guest.pop("queue", 0)))
waiting.start()
while b"cmd=blpop" not in cache.execute("CLIENT", "LIST"):
    time.sleep(0.005)

def child():
    assert own_id() != own
    check("child", 20)
    report("child")

assert join(fork(child)) == 0
check("parent", 20)
assert own_id() == own
wait_for_word()
waiting.join()
"""


def test_a_thread_that_waits_in_a_guest_at_the_fork_goes_on(fresh_server: ValkeyServer) -> None:
    with Program(HELPERS + BLOCKING, {"default": cache_setting(fresh_server)}) as program:
        assert program.report() == "child"
        program.tell()
        fresh_server.execute("RPUSH", "queue", "x")
        assert program.report() == ["queue", "x"]
        program.end()


@pytest.mark.parametrize("loop", LOOPS)
def test_a_grandchild_has_a_connection_of_its_own(server: ValkeyServer, loop: str) -> None:
    ids = run_program(HELPERS + forks.GRANDCHILD, {"default": cache_setting(server)}, loop)
    assert len(ids) == 3
    assert len(set(ids)) == 3


@pytest.mark.parametrize("loop", LOOPS)
def test_multiprocessing_with_fork_works(server: ValkeyServer, loop: str) -> None:
    assert 1 <= run_program(HELPERS + forks.MULTIPROCESSING, {"default": cache_setting(server)}, loop) <= 3


FIRST_IN_THE_CHILD = """
import warnings
own = cache.execute("CLIENT", "ID")
pid = os.fork()
if pid == 0:
    import probe_guest, quota_guest
    report([probe_guest.connection_id(), quota_guest.connection_id(), cache.execute("CLIENT", "ID")])
    # Not os._exit: the interpreter's whole shutdown.
    sys.exit(0)
assert os.waitpid(pid, 0)[1] == 0
import quota_guest
assert quota_guest.connection_id() == own
report(own)
"""


def test_a_guest_imported_in_the_child_only(server: ValkeyServer) -> None:
    childs, own = run_program(FIRST_IN_THE_CHILD, {"default": cache_setting(server)})
    assert len(set(childs)) == 1
    assert own not in childs


def test_the_end_of_a_child_does_not_close_the_parents_connection(fresh_server: ValkeyServer) -> None:
    # The program's and the test's own.
    assert run_program(HELPERS + forks.UNUSED_IN_THE_CHILD, {"default": cache_setting(fresh_server)}) == 2
    assert int(fresh_server.info("stats")["total_connections_received"]) == 2
