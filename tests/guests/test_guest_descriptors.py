"""A guest in a process without a free file descriptor gets a ConnectionError too, on its own tokio runtime as well."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from support.caches import cache_setting
from support.descriptors import WALK, refused
from support.driver import LOOPS
from support.programs import run_program
from support.server import ValkeyServer

CALLS = """
import probe_guest, quota_guest

arguments = {
    "alias": "default",
    "atomic": True,
    "commands": [["PING"]],
    "milliseconds": 0,
    "project": 1,
    "projects": [1],
    "req": ("POST", "/", b"", [], b'{"say": "hello"}', "192.0.2.1", "http", 0, 100),
    "seconds": 0.01,
    "times": 2,
    "units": 5,
    "words": ["PING"],
}

# Those that fail because they are told to are left out, and those that are given what no guest of ours sends.
TOLD_TO = ("fails", "panics", "spawned_panic", "bomb", "packet", "raw_call")

def functions(guest):
    named = {name: getattr(guest, name) for name in dir(guest) if not name.startswith("_")}
    names = (name for name, each in named.items() if callable(each) and not inspect.isclass(each))
    return [name for name in names if not name.endswith(TOLD_TO)]

calls = [
    *surface(probe_guest, "probe", functions(probe_guest), **arguments),
    *surface(quota_guest, "quota", functions(quota_guest), **arguments),
]

def report_without_and_again():
    without = walk_without(calls, lambda: None)
    report([without, walk_again(calls, lambda: cache.execute("DEL", "k"))])
"""

BLOCKING = {"probe.fetch", "probe.pop", "probe.spawned", "probe.elsewhere", "quota.spend"}
AWAITED = {f"{owner}.a{name}" for owner, name in (name.split(".") for name in BLOCKING)}


@pytest.fixture(autouse=True)
def _spawning(programs_import: Callable[[str], None]) -> None:
    programs_import("spawns")


@pytest.mark.parametrize("loop", LOOPS)
def test_a_process_that_has_called_nothing_before(server: ValkeyServer, loop: str) -> None:
    source = f"{WALK}{CALLS}report_without_and_again()"
    without, again = run_program(source, {"default": cache_setting(server)}, loop)
    assert refused(without) > BLOCKING | AWAITED
    assert not refused(again)


@pytest.mark.parametrize("loop", LOOPS)
def test_a_forked_child(server: ValkeyServer, loop: str) -> None:
    source = """
probe_guest.connection_id()
pid = os.fork()
if not pid:
    report_without_and_again()
    os._exit(0)
assert os.waitpid(pid, 0)[1] == 0
probe_guest.connection_id()
"""
    without, again = run_program(WALK + CALLS + source, {"default": cache_setting(server)}, loop)
    assert refused(without) > BLOCKING | AWAITED
    assert not refused(again)
