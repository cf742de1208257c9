"""Links on which nothing happens for long: the system looks after them, and when one was dropped on the way without a
word, the first call after it does not wait for its time-out.
"""

from __future__ import annotations

import os
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import Any

import pytest
from support.caches import cache_setting, make_cache
from support.driver import LOOPS
from support.programs import Program
from support.proxy import Proxy
from support.server import ValkeyServer

FORMS = ("blocking", *LOOPS)
# A caller that finds its link dropped may lose so many seconds, with patience for a busy machine.
WELL_UNDER = 1.5
IDLE = 11.0

DROPPED = """
from django_vcache.admission import Throttle

forms = ("blocking", "asyncio", "uvloop")
runners = {form: open_runner(form) for form in forms[1:]}
throttles = {form: Throttle("org", "100/d", using=f"throttle-{form}") for form in forms}

def call(form, of, method, *args):
    if form == "blocking":
        return getattr(of, method)(*args)
    async def awaited():
        return await getattr(of, f"a{method}")(*args)
    return runners[form].run(awaited())

def get(form):
    return call(form, caches[f"get-{form}"], "get", "k")

def increment(form):
    return call(form, caches[f"increment-{form}"], "execute", "INCR", form)

def decide(form):
    return call(form, throttles[form], "check", 1).source

calls = (get, increment, decide)
for each in calls:
    for form in forms:
        each(form)
report("idle")
wait_for_word()
for each in calls[:2]:
    for form in forms:
        begun = time.monotonic()
        try:
            value = each(form)
        except exceptions.VcacheError as error:
            value = repr(error)
        report([value, time.monotonic() - begun])
for form in forms:
    begun = time.monotonic()
    sources = [decide(form)]
    while sources[-1] != "server" and len(sources) < 3:
        time.sleep(0.4)
        sources.append(decide(form))
    report([sources, time.monotonic() - begun])
"""


def test_a_link_dropped_without_a_word_costs_its_first_caller_little(fresh_server: ValkeyServer) -> None:
    """As by a firewall or a cloud's load balancer that forgets what is idle. What may not be executed twice is not.

    A throttle waits for a decision no longer than its own deadline of 100 ms. So its first decision may be one without
    the server; the one after it is the server's."""
    fresh_server.execute("SET", ":1:k", "7")
    with Proxy(fresh_server) as proxy:
        caches: dict[str, Any] = {"default": cache_setting(fresh_server)}
        for name in ("get", "increment", "throttle"):
            for form in FORMS:
                # Each has a link of its own.
                setting = cache_setting(fresh_server, CLIENT_NAME=f"{name}-{form}")
                caches[f"{name}-{form}"] = {**setting, "LOCATION": proxy.url}
        with Program(DROPPED, caches) as program:
            assert program.report() == "idle"
            proxy.forget()
            threading.Event().wait(IDLE)
            program.tell()
            gets = [program.report() for _ in FORMS]
            increments = [program.report() for _ in FORMS]
            decisions = [program.report() for _ in FORMS]
            program.end()
    assert [value for value, _ in gets] == [7] * 3, gets
    assert [value for value, _ in increments] == [2] * 3, increments
    assert [fresh_server.execute("GET", form) for form in FORMS] == [b"2"] * 3
    assert max(took for _, took in gets + increments) < WELL_UNDER, (gets, increments)
    assert all(sources[-1] == "server" for sources, _ in decisions), decisions
    assert max(took for _, took in decisions) < WELL_UNDER, decisions


@contextmanager
def links_to(port: int) -> Iterator[list[socket.socket]]:
    """This process's sockets that are connected to a port, as copies."""
    found = []
    with ExitStack() as stack:
        for name in os.listdir("/proc/self/fd"):
            with suppress(OSError):
                copy = os.dup(int(name))
                stack.callback(os.close, copy)
                # It raises for what is not a socket, and for one that is not connected.
                link = socket.fromfd(copy, socket.AF_INET, socket.SOCK_STREAM)
                stack.callback(link.close)
                if link.getpeername()[1:2] == (port,):
                    found.append(link)
        yield found


@pytest.mark.skipif(sys.platform != "linux", reason="the sockets are found by /proc")
def test_the_system_looks_after_idle_links(fresh_server: ValkeyServer) -> None:
    """The shared one and that of a blocking command, which may be idle for as long as it likes."""
    cache = make_cache(fresh_server.tcp_url, RESPONSE_TIMEOUT=5.0, CONNECT_TIMEOUT=2.0)
    cache.execute("RPUSH", "queue", "x")
    assert cache.execute("BLPOP", "queue", 1) == [b"queue", b"x"]
    with links_to(fresh_server.port) as links:
        assert len(links) == 2
        for link in links:
            assert link.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
            assert link.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == 30
            assert link.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL) == 5
            assert link.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT) == 3
            # In milliseconds, by our own time-outs: what was sent and is not confirmed for so long is lost.
            assert 1_000 <= link.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) <= 60_000
            assert link.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) == 1
