"""Signal handlers run while a blocking call waits, and may use the cache themselves. Ctrl-C ends a call soon, whatever
other threads do. Only the main thread gets signals, so no other one wakes to look for them.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable

import pytest
from support.caches import cache_setting
from support.programs import Program
from support.server import ValkeyServer, wait_until


def blocked(server: ValkeyServer) -> int:
    """How many clients a blocking command keeps waiting."""
    return len([client for client in server.clients() if client["cmd"] == "blpop" and "b" in client["flags"]])


def test_a_signal_handler_may_call_the_cache_while_a_call_waits(fresh_server: ValkeyServer) -> None:
    """The call inside is answered at once, and the call outside is not robbed of its reply."""
    source = """
        seen = []

        def handler(number, frame):
            cache.set("from the handler".replace(" ", "-"), "x")
            seen.append(cache.get("from-the-handler"))

        signal.signal(signal.SIGUSR1, handler)
        cache.get("warm")
        report(os.getpid())
        answer = cache.execute("BLPOP", "queue", 0)
        report([seen, str(answer)])
    """
    with Program(source, {"default": cache_setting(fresh_server, RESPONSE_TIMEOUT=60.0)}, "asyncio") as program:
        pid = program.report()
        wait_until(lambda: any(client["cmd"] == "blpop" for client in fresh_server.clients()))
        os.kill(pid, signal.SIGUSR1)
        # With a deadline of a minute, a handler that waits for it would not be done in five seconds.
        wait_until(lambda: fresh_server.execute("EXISTS", ":1:from-the-handler") == 1)
        fresh_server.execute("RPUSH", "queue", "event")
        assert program.report() == [["x"], "[b'queue', b'event']"]


# The documentation says 200 ms; the rest is patience with a busy machine.
SOON = 1.0
TURNS = 10

BESIDE = {
    "alone": "",
    "behind a reader": """
threading.Thread(target=cache.execute, args=("BLPOP", "other", 0), daemon=True).start()
""",
    "beside busy threads": """
def work(number):
    while True:
        assert cache.get("warm") == 1

for number in range(8):
    threading.Thread(target=work, args=(number,), daemon=True).start()
""",
}

INTERRUPTED = """
report("ready")
for _ in range(int(wait_for_word())):
    report("calls")
    try:
        wait()
    except KeyboardInterrupt:
        report(time.monotonic())
report("alive" if cache.get("warm") == 1 else "dead")
os._exit(0)
"""


def interrupt(program: Program, is_waiting: Callable[[], object]) -> list[float]:
    """Ctrl-C, again and again at another moment; how long after it each call was over."""
    took = []
    program.tell(str(TURNS))
    for turn in range(TURNS):
        assert program.report() == "calls"
        wait_until(is_waiting, timeout=20)
        # A thread that looks from time to time is struck in each part of its period.
        threading.Event().wait(0.023 * turn)
        begun = time.monotonic()
        os.kill(program.pid, signal.SIGINT)
        took.append(program.report(timeout=20) - begun)
    # Seen with `pytest -rP`.
    print(f"Ctrl-C took {max(took) * 1000:.0f} ms at most")
    return took


@pytest.mark.parametrize("beside", BESIDE)
def test_ctrl_c_ends_a_wait_soon(fresh_server: ValkeyServer, beside: str) -> None:
    source = 'cache.set("warm", 1)\n' + BESIDE[beside] + 'wait = lambda: cache.execute("BLPOP", "queue", 0)\n'
    others = 1 if beside == "behind a reader" else 0
    with Program(source + INTERRUPTED, {"default": cache_setting(fresh_server)}) as program:
        assert program.report() == "ready"
        wait_until(lambda: blocked(fresh_server) == others)
        took = interrupt(program, lambda: blocked(fresh_server) == others + 1)
        assert program.report() == "alive"
    assert max(took) < SOON, took
    # What was interrupted takes no element.
    wait_until(lambda: blocked(fresh_server) == 0)
    assert fresh_server.execute("RPUSH", "queue", "x") == 1
    assert fresh_server.execute("LLEN", "queue") == 1


@pytest.mark.parametrize("beside", ["alone", "behind a reader"])
def test_ctrl_c_ends_a_call_on_a_silent_server_soon(fresh_server: ValkeyServer, beside: str) -> None:
    source = 'cache.set("warm", 1)\n' + BESIDE[beside] + 'wait = lambda: cache.get("warm")\n'
    others = 1 if beside == "behind a reader" else 0
    setting = cache_setting(fresh_server, RESPONSE_TIMEOUT=60.0)
    with Program(source + INTERRUPTED, {"default": setting}) as program:
        assert program.report() == "ready"
        wait_until(lambda: blocked(fresh_server) == others)
        fresh_server.pause()
        try:
            took = interrupt(program, lambda: asleep(program.pid))
        finally:
            fresh_server.resume()
        assert program.report() == "alive"
    assert max(took) < SOON, took


def asleep(pid: int) -> bool:
    """Whether the main thread of a process sleeps, as one does that waits."""
    with open(f"/proc/{pid}/task/{pid}/stat") as stat:
        return stat.read().rpartition(")")[2].split()[0] == "S"


WAKES = """
cache.get("warm")

def pop(number):
    cache.execute("BLPOP", f"queue {number}", 0)

tasks = set(os.listdir("/proc/self/task"))
for number in range(3):
    threading.Thread(target=pop, args=(number,), daemon=True).start()
while cache.execute("CLIENT", "LIST").count(b"cmd=blpop") < 3:
    time.sleep(0.005)
waiting = sorted(set(os.listdir("/proc/self/task")) - tasks)

def wakes():
    counts = []
    for task in waiting:
        try:
            with open(f"/proc/self/task/{task}/status") as status:
                [line] = [line for line in status if line.startswith("voluntary_ctxt_switches")]
            counts.append(int(line.split()[1]))
        except FileNotFoundError:
            # One that had connected, and is over.
            counts.append(0)
    return counts

# What they do about having connected is over by then.
time.sleep(0.5)
before = wakes()
time.sleep(1.6)
report([after - before for before, after in zip(before, wakes())])
os._exit(0)
"""


def test_threads_that_wait_do_not_wake_to_look_for_signals(fresh_server: ValkeyServer) -> None:
    """Only the main thread gets any. Three other threads wait, one of them as the reader, and nothing happens."""
    with Program(WAKES, {"default": cache_setting(fresh_server)}) as program:
        woken = program.report()
    assert len(woken) >= 3
    # Looking every 200 ms would be eight each.
    assert max(woken) <= 4, woken
