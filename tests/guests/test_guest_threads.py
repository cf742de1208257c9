"""Threads that wait in guests: many at once, and signals while they do."""

from __future__ import annotations

import os
import signal
import threading
from types import ModuleType
from typing import Any

import pytest
from support.caches import cache_setting
from support.load import threads_under_load
from support.programs import Program
from support.server import ValkeyServer, wait_until


def blocked(server: ValkeyServer) -> list[dict[str, str]]:
    return [client for client in server.clients() if client["cmd"] == "blpop"]


def test_sixteen_threads_on_one_connection(
    fresh_server: ValkeyServer, fresh_cache: Any, probe: ModuleType, quota: ModuleType
) -> None:
    wrong: list[Any] = []

    def call(number: int) -> None:
        quota.grant(number, 10)
        fresh_cache.execute("SET", f"k{number}", number)
        got = [quota.spend(number, 3), probe.fetch(f"k{number}"), fresh_cache.execute("GET", f"k{number}")]
        if got != [7, str(number).encode(), str(number).encode()]:
            wrong.append((number, got))

    with threads_under_load(16, call) as account:
        wait_until(lambda: account.successes > 1000, timeout=60)
    assert wrong == []
    assert set(account.counts) == {"success"}
    assert len(fresh_server.clients()) == 1


def test_threads_wait_for_the_server_beside_threads_that_do_not(
    fresh_server: ValkeyServer, fresh_cache: Any, probe: ModuleType, quota: ModuleType
) -> None:
    popped: list[Any] = []
    waiting = [
        threading.Thread(target=lambda number=number: popped.append(probe.pop(f"queue {number}", 0)))
        for number in range(4)
    ]
    for thread in waiting:
        thread.start()
    wait_until(lambda: len(blocked(fresh_server)) == 4)
    for number in range(100):
        quota.grant(number, 1)
        assert quota.spend(number) == 0
    for number in range(4):
        fresh_cache.execute("RPUSH", f"queue {number}", "x")
    for thread in waiting:
        thread.join(30)
    assert sorted(popped) == [(f"queue {number}", "x") for number in range(4)]


INTERRUPTED = """
import probe_guest, quota_guest

def strike():
    wait_for_word()
    # It ends no sleep of the main thread's, as one does not that comes a moment before the sleep.
    signal.pthread_kill(threading.get_ident(), signal.SIGINT)

threading.Thread(target=strike, daemon=True).start()
probe_guest.fetch("warm")
if {others}:
    # The main thread is not the one that polls: another one waits already.
    threading.Thread(target=probe_guest.pop, args=("other", 0), daemon=True).start()
    while b"cmd=blpop" not in cache.execute("CLIENT", "LIST"):
        time.sleep(0.005)
report("waiting")
try:
    probe_guest.pop("queue", 0)
except KeyboardInterrupt:
    report("interrupted")
report([quota_guest.left([1]), probe_guest.fetch("warm")])
os._exit(0)
"""


@pytest.mark.parametrize("unheard", [False, True], ids=["heard", "unheard"])
@pytest.mark.parametrize("others", [False, True], ids=["as the reader", "parked"])
def test_ctrl_c_ends_a_blocking_wait(fresh_server: ValkeyServer, others: bool, unheard: bool) -> None:
    source = INTERRUPTED.replace("{others}", str(others))
    with Program(source, {"default": cache_setting(fresh_server)}) as program:
        assert program.report() == "waiting"
        wait_until(lambda: len(blocked(fresh_server)) == 1 + others)
        if unheard:
            program.tell()
        else:
            os.kill(program.pid, signal.SIGINT)
        assert program.report() == "interrupted"
        assert program.report() == [[0], None]
        wait_until(lambda: len(fresh_server.clients()) == 0)
        assert fresh_server.execute("RPUSH", "queue", "x") == 1
        assert fresh_server.execute("LLEN", "queue") == 1


SILENT = """
import probe_guest

class Stop(Exception):
    pass

def stop(*_):
    raise Stop

signal.signal(signal.SIGINT, stop)
own = probe_guest.connection_id()
report("ready")
wait_for_word()
for _ in range(3):
    try:
        report("calling")
        probe_guest.fetch("k")
        report("answered")
    except Stop:
        report("stopped")
wait_for_word()
report(probe_guest.connection_id() == own)
"""


def test_a_handler_that_raises_ends_a_call_on_a_silent_server(fresh_server: ValkeyServer) -> None:
    with Program(SILENT, {"default": cache_setting(fresh_server, RESPONSE_TIMEOUT=60.0)}) as program:
        assert program.report() == "ready"
        fresh_server.pause()
        program.tell()
        for _ in range(3):
            assert program.report() == "calling"
            # Nothing tells from outside whether the call has begun; either way it is stopped.
            os.kill(program.pid, signal.SIGINT)
            assert program.report() == "stopped"
        fresh_server.resume()
        program.tell()
        assert program.report() is True
        program.end()


HANDLER = """
import probe_guest, quota_guest
seen = []

def handler(number, frame):
    quota_guest.grant(1, 5)
    seen.append([quota_guest.spend(1), probe_guest.reply(["ECHO", "x"]), cache.execute("ECHO", "y").decode()])
    cache.execute("SET", "handled", 1)

signal.signal(signal.SIGUSR1, handler)
report("ready")
popped = probe_guest.pop("queue", 0)
report([seen, popped])
"""


def test_a_signal_handler_may_call_guests_while_a_guest_waits(fresh_server: ValkeyServer) -> None:
    with Program(HANDLER, {"default": cache_setting(fresh_server, RESPONSE_TIMEOUT=60.0)}) as program:
        assert program.report() == "ready"
        wait_until(lambda: blocked(fresh_server))
        os.kill(program.pid, signal.SIGUSR1)
        wait_until(lambda: fresh_server.execute("EXISTS", "handled") == 1)
        fresh_server.execute("RPUSH", "queue", "event")
        assert program.report() == [[[4, "bulk-string('\"x\"')", "y"]], ["queue", "event"]]
        program.end()
