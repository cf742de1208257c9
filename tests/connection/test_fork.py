"""Fork, in every pattern that servers use: a child has a connection of its own, reads only its own
replies, and neither its work nor its end disturbs the parent. Each case is a program of its own.
"""

from __future__ import annotations

import os
import signal
import textwrap
import threading

import pytest
from support import forks
from support.caches import cache_setting
from support.driver import LOOPS
from support.programs import Program, run_program
from support.server import ValkeyServer, wait_until

HELPERS = (
    forks.HELPERS
    + """
TURNS = 100

def own_id():
    return cache.execute("CLIENT", "ID")

def check(name, turns):
    for turn in range(turns):
        cache.set(f"{name}", f"{name} {turn}")
        got = cache.get(f"{name}")
        assert got == f"{name} {turn}", (name, turn, got)

async def acheck(name, turns):
    for turn in range(turns):
        await cache.aset(f"{name}", f"{name} {turn}")
        got = await cache.aget(f"{name}")
        assert got == f"{name} {turn}", (name, turn, got)
"""
)

UNDER_LOAD = """
cache.set("warm", 1)
own = own_id()

def child():
    assert cache.get("warm") == 1
    report(own_id())
    check(f"child {os.getpid()}", 200)
    run(acheck(f"child {os.getpid()} alone", 50))
    run(acrowd(f"child {os.getpid()}", 20, 10))
    in_threads(4, lambda number: check(f"child {os.getpid()} {number}", 30))

codes = under_load(lambda: [join(fork(child)) for _ in range(10)])
check("parent", 100)
report([own, own_id(), codes])
"""


@pytest.mark.parametrize("loop", LOOPS)
def test_children_forked_under_load_use_connections_of_their_own(fresh_server: ValkeyServer, loop: str) -> None:
    *children, (before, after, codes) = run_program(
        HELPERS + UNDER_LOAD, {"default": cache_setting(fresh_server)}, loop
    )
    assert codes == [0] * 10
    assert before == after, "the parent's connection was disturbed"
    assert len({before, *children}) == 11
    assert int(fresh_server.info("stats")["total_connections_received"]) == 12


BOTH_AT_ONCE = """
cache.set("warm", 1)
run(acheck("parent", 5))
own = own_id()

def child():
    check("child", 3000)
    run(acrowd("child", 20, 100))

pid = fork(child)
check("parent", 3000)
run(acrowd("parent", 20, 100))
assert join(pid) == 0
assert own_id() == own
report("done")
"""


# In a cluster any node may be asked for CLIENT ID.
@pytest.mark.one_server
@pytest.mark.parametrize("loop", LOOPS)
def test_parent_and_child_at_once_never_read_each_others_replies(server: ValkeyServer, loop: str) -> None:
    assert run_program(HELPERS + BOTH_AT_ONCE, {"default": cache_setting(server)}, loop) == "done"


INSIDE_A_LOOP = """
def child():
    run(acrowd("child", 10, 20))
    check("child", 50)
    report(own_id())
    wait_for_word()

async def main():
    await cache.aset("k", "parent")
    pending = [asyncio.ensure_future(cache.aget("k")) for _ in range(50)]
    # Now some are written and the rest are waiting for the end of the iteration.
    await asyncio.sleep(0)
    pid = fork(child)
    assert await asyncio.gather(*pending) == ["parent"] * 50
    await acrowd("parent", 10, 20)
    report(await cache.aexecute("CLIENT", "ID"))
    before = time.process_time()
    assert await cache.aexecute("BLPOP", "queue", 0) == [b"queue", b"element"]
    report(time.process_time() - before)
    assert await asyncio.to_thread(join, pid) == 0
    await acrowd("parent", 10, 20)

run(main())
"""


@pytest.mark.parametrize("loop", LOOPS)
def test_a_fork_in_the_middle_of_a_loop_iteration_leaves_the_calls_to_the_parent(
    fresh_server: ValkeyServer, loop: str
) -> None:
    with Program(HELPERS + INSIDE_A_LOOP, {"default": cache_setting(fresh_server)}, loop) as program:
        ids = {program.report(), program.report()}
        wait_until(lambda: "blpop" in {client["cmd"] for client in fresh_server.clients()})
        # The parent's, the child's, and the parent's for BLPOP.
        clients = fresh_server.clients()
        assert len(clients) == 3, clients
        assert {str(each) for each in ids} < {client["id"] for client in clients}
        # Were the child's socket in the parent's poller, the parent would burn a CPU now.
        threading.Event().wait(1.0)
        fresh_server.execute("RPUSH", "queue", "element")
        assert program.report() < 0.5
        program.tell()
        program.end()


PRE_FORK = """
cache.set("warm", 1)
hotpaths.allow("budget", limit=10, period=60)
master = own_id()

def worker():
    assert own_id() != master
    report(own_id())
    check(f"worker {os.getpid()}", 200)
    run(acrowd(f"worker {os.getpid()}", 10, 20))
    in_threads(4, lambda number: check(f"worker {os.getpid()} {number}", 50))
    hotpaths.enqueue("stream", b"x")
    async def hot():
        return await hotpaths.aenqueue("stream", b"x")
    run(hot())
    wait_for_word()

workers = [fork(worker) for _ in range(3)]
report(master)
assert [join(pid) for pid in workers] == [0, 0, 0]
# gunicorn's master starts a new worker when one dies.
report("replacing")
assert join(fork(worker)) == 0
assert own_id() == master
report(cache.execute("XLEN", "stream"))
"""


@pytest.mark.parametrize("loop", LOOPS)
def test_workers_forked_from_a_connected_master_work(fresh_server: ValkeyServer, loop: str) -> None:
    with Program(HELPERS + PRE_FORK, {"default": cache_setting(fresh_server)}, loop) as program:
        ids = {program.report() for _ in range(4)}
        assert len(ids) == 4
        wait_until(lambda: fresh_server.execute("XLEN", "stream") == 6, timeout=30)
        assert {int(client["id"]) for client in fresh_server.clients()} == ids
        for _ in range(3):
            program.tell("x" * 64)
        assert program.report() == "replacing"
        assert program.report() not in ids
        program.tell()
        assert program.report() == 8
        program.end()


@pytest.mark.parametrize("loop", LOOPS)
def test_a_grandchild_has_a_connection_of_its_own(server: ValkeyServer, loop: str) -> None:
    ids = run_program(HELPERS + forks.GRANDCHILD, {"default": cache_setting(server)}, loop)
    assert len(ids) == 3
    assert len(set(ids)) == 3


def test_the_end_of_a_child_does_not_close_the_parents_connection(fresh_server: ValkeyServer) -> None:
    clients = run_program(HELPERS + forks.UNUSED_IN_THE_CHILD, {"default": cache_setting(fresh_server)})
    # The program's and the test's own.
    assert clients == 2
    assert int(fresh_server.info("stats")["total_connections_received"]) == 2


# In a cluster any node may be asked for CLIENT ID.
@pytest.mark.one_server
@pytest.mark.parametrize("loop", LOOPS)
def test_multiprocessing_with_fork_works(server: ValkeyServer, loop: str) -> None:
    assert 1 <= run_program(HELPERS + forks.MULTIPROCESSING, {"default": cache_setting(server)}, loop) <= 3


WHILE_CONNECTING = """
report("up")
wait_for_word()
waiting = threading.Thread(target=lambda: report(["parent", cache.get("k", "miss")]))
waiting.start()
time.sleep(0.1)
pid = fork(lambda: report(["child", cache.get("k", "miss")]))
report("forked")
waiting.join()
assert join(pid) == 0
"""


def test_a_fork_while_the_parent_connects_leaves_both_able_to(fresh_server: ValkeyServer) -> None:
    setting = cache_setting(fresh_server, CONNECT_TIMEOUT=20.0, RESPONSE_TIMEOUT=20.0)
    with Program(HELPERS + WHILE_CONNECTING, {"default": setting}) as program:
        assert program.report() == "up"
        fresh_server.pause()
        program.tell()
        assert program.report() == "forked"
        fresh_server.resume()
        assert sorted([program.report(), program.report()]) == [["child", "miss"], ["parent", "miss"]]
        program.end()


def test_a_child_keeps_no_copy_of_the_parents_socket(fresh_server: ValkeyServer) -> None:
    """Otherwise the server would not notice when the parent is gone."""
    source = """
        cache.set("warm", 1)
        pid = fork(wait_for_word)
        report(pid)
        os.kill(os.getpid(), signal.SIGKILL)
    """
    with Program(HELPERS + textwrap.dedent(source), {"default": cache_setting(fresh_server)}) as program:
        program.report()
        wait_until(lambda: fresh_server.clients() == [])


def test_a_child_keeps_no_copy_of_many_sockets(fresh_server: ValkeyServer) -> None:
    """As a process has them whose aliases are clusters of many nodes."""
    source = """
        for alias in caches:
            caches[alias].set("warm", 1)
        connections = cache.execute("CLIENT", "LIST").count(b"name=many ")
        fork(wait_for_word)
        report(connections)
        os.kill(os.getpid(), signal.SIGKILL)
    """
    # Each has a connection, because their settings differ.
    settings = {
        f"number {n}": cache_setting(fresh_server, CLIENT_NAME="many", RESPONSE_TIMEOUT=30.0 + n) for n in range(200)
    }
    with Program(HELPERS + textwrap.dedent(source), {"default": settings["number 0"], **settings}) as program:
        assert program.report() == 200
        wait_until(lambda: fresh_server.clients() == [])


IN_A_HANDLER = """
short = caches["short"]
pids = []

def child():
    begun = time.monotonic()
    try:
        value = short.get("k")
    except exceptions.VcacheError as error:
        value = type(error).__name__
    report(["child", value, time.monotonic() - begun])

signal.signal(signal.SIGUSR1, lambda *_: pids.append(fork(child)))
for each in (cache, short):
    each.set("k", "v")
if parked:
    # Another thread reads for both.
    threading.Thread(target=cache.execute, args=("BLPOP", "other", 0), daemon=True).start()
    while b"cmd=blpop" not in cache.execute("CLIENT", "LIST"):
        time.sleep(0.005)
report("ready")
wait_for_word()
report("waits")
report(["parent", str(cache.execute("BLPOP", "queue", 0)) if pops else cache.get("k")])
report([join(pid) for pid in pids])
os._exit(0)
"""


@pytest.mark.parametrize("pops", [False, True], ids=["a get on a paused server", "a pop"])
@pytest.mark.parametrize("parked", [False, True], ids=["as the reader", "parked"])
def test_a_child_forked_in_a_signal_handler_ends_its_call_and_the_parent_goes_on(
    fresh_server: ValkeyServer, parked: bool, pops: bool
) -> None:
    """The handler runs, and forks, while the main thread waits for a reply: what the child calls in there is answered,
    or over at its own deadline, and the parent's call is not disturbed."""
    setting = {
        "default": cache_setting(fresh_server, RESPONSE_TIMEOUT=60.0),
        "short": cache_setting(fresh_server, RESPONSE_TIMEOUT=1.0, CONNECT_TIMEOUT=1.0),
    }
    source = HELPERS + f"parked, pops = {parked}, {pops}\n" + IN_A_HANDLER
    with Program(source, setting) as program:
        assert program.report() == "ready"
        if not pops:
            fresh_server.pause()
        program.tell()
        assert program.report() == "waits"
        threading.Event().wait(0.2)
        os.kill(program.pid, signal.SIGUSR1)
        name, value, took = program.report(timeout=20)
        assert name == "child"
        if pops:
            assert value == "v"
            fresh_server.execute("RPUSH", "queue", "x")
        else:
            assert value in ("TimeoutError", "ConnectionError")
            assert took < 5.0
            fresh_server.resume()
        assert program.report() == ["parent", "[b'queue', b'x']" if pops else "v"]
        assert program.report() == [0]
        program.end()


BACK_FROM_A_HANDLER = """
children = []
parent = os.getpid()
signal.signal(signal.SIGUSR1, lambda *_: children.append(os.fork()))
cache.set("k", "v")
report("ready")
wait_for_word()
report("waits")
try:
    value = str(cache.execute("BLPOP", "queue", 0)) if pops else cache.get("k")
except exceptions.VcacheError as error:
    value = type(error).__name__
if os.getpid() == parent:
    report(["parent", value])
    report(join(children[0]))
else:
    report(["child", value])
    wait_for_word()
    # An attempt to connect that failed meanwhile is remembered for a moment.
    for _ in range(100):
        try:
            check("child", 10)
        except exceptions.ConnectionError:
            time.sleep(0.05)
        else:
            os._exit(0)
    os._exit(1)
"""


@pytest.mark.parametrize("pops", [False, True], ids=["a get on a paused server", "a pop"])
def test_a_call_that_a_child_inherits_does_not_hang_there(fresh_server: ValkeyServer, pops: bool) -> None:
    """The handler forked, and returned in the child as well, into the midst of a call that is the parent's. Its reply
    will never come there: the child is told so, at the deadline of the call at the latest. One without a deadline, as
    that of a pop that waits for ever, ends all the same."""
    limit = 2.0
    setting = cache_setting(fresh_server, RESPONSE_TIMEOUT=limit)
    with Program(HELPERS + f"pops = {pops}\n" + BACK_FROM_A_HANDLER, {"default": setting}) as program:
        assert program.report() == "ready"
        if not pops:
            fresh_server.pause()
        program.tell()
        assert program.report() == "waits"
        threading.Event().wait(0.2)
        os.kill(program.pid, signal.SIGUSR1)
        reports = dict(program.report(timeout=limit + 10) for _ in range(1 if pops else 2))
        assert reports["child"] in ("ConnectionError", "TimeoutError")
        if pops:
            fresh_server.execute("RPUSH", "queue", "x")
            assert program.report() == ["parent", "[b'queue', b'x']"]
        else:
            assert reports["parent"] == "TimeoutError"
            fresh_server.resume()
        program.tell()
        assert program.report() == 0
        program.end()
