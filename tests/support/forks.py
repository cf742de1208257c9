"""Programs that fork, for a connection that Python uses and for one that guests share.

`HELPERS` stands at the head of such a program. It, and the programs here, expect

- `own_id()`: the server's number of this process's connection;
- `check(name, turns)` and `await acheck(name, turns)`: use the connection, and see that each reply is its own;
- `TURNS`: how many are enough for a test.
"""

from __future__ import annotations

HELPERS = """
import warnings
# Forking with threads is what is tested here.
warnings.simplefilter("ignore", DeprecationWarning)

async def acrowd(name, tasks, turns):
    await asyncio.gather(*(acheck(f"{name} {task}", turns) for task in range(tasks)))

def fork(body):
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        # A fork inside a running loop leaves the child believing that it runs.
        asyncio._set_running_loop(None)
        body()
        code = 0
    except BaseException:
        import traceback
        traceback.print_exc()
    finally:
        os._exit(code)

def join(pid):
    # So that a child that hangs is found: the test's patience kills the group.
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

def under_load(body):
    stop, failures = threading.Event(), []

    def load(number):
        try:
            while not stop.is_set():
                check(f"parent {number}", 5)
        except BaseException as error:
            failures.append(repr(error))

    loaders = [threading.Thread(target=load, args=(number,)) for number in range(4)]
    for each in loaders:
        each.start()
    result = body()
    stop.set()
    for each in loaders:
        each.join()
    assert not failures, failures
    return result
"""

GRANDCHILD = """
ids_seen = [own_id()]

def grandchild():
    check("grandchild", 2 * TURNS)
    run(acheck("grandchild", TURNS))
    report(own_id())

def child():
    check("child", 2 * TURNS)
    report(own_id())
    assert join(fork(grandchild)) == 0
    check("child", 2 * TURNS)

assert join(fork(child)) == 0
check("parent", 2 * TURNS)
report(own_id())
assert ids_seen == [own_id()]
"""
"""Reports three numbers of connections."""

UNUSED_IN_THE_CHILD = """
own = own_id()
for _ in range(5):
    assert join(fork(lambda: None)) == 0
    assert join(fork(gc.collect)) == 0
# The other end: not os._exit, but the interpreter's whole shutdown.
pid = os.fork()
if pid == 0:
    sys.exit(0)
assert join(pid) == 0
assert own_id() == own
check("parent", TURNS)
report(len(cache.execute("CLIENT", "LIST").splitlines()))
"""
"""Reports how many connections the server has."""

MULTIPROCESSING = """
import multiprocessing
from concurrent.futures import ProcessPoolExecutor

def work(number):
    check(f"process {os.getpid()}", TURNS)
    run(acheck(f"process {os.getpid()}", TURNS // 2))
    return own_id()

own = own_id()
context = multiprocessing.get_context("fork")
with ProcessPoolExecutor(3, mp_context=context) as pool:
    ids_seen = set(pool.map(work, range(12)))
check("parent", TURNS)
assert own_id() == own
assert own not in ids_seen
report(len(ids_seen))
"""
"""Reports how many connections its three workers had."""
