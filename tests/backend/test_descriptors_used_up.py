"""A process without a free file descriptor gets a ConnectionError from whatever needs one, and never a panic. The same
objects work once there are descriptors again.
"""

from __future__ import annotations

from typing import Any

import pytest
from support.caches import cache_setting
from support.descriptors import WALK, refused
from support.driver import LOOPS
from support.guests import default_on
from support.programs import run_program
from support.server import ValkeyServer

OBJECTS = """
from django_vcache import ValkeyCache, admission

def objects():
    throttle = admission.Throttle("calls", "1000/s", key="user")
    quota = admission.Quota("units", 1000, "day", key="user")
    gate = admission.Gate(throttles=[throttle], quotas=[quota], stream=admission.Stream("admitted"), owner="org")
    return throttle, quota, admission.Stream("events"), gate

throttle, quota, stream, gate = objects()
"""

CALLS = """
import contextlib
import django_vcache

def another_cache():
    return ValkeyCache(_request["caches"]["default"]["LOCATION"], {"OPTIONS": {"CLIENT_NAME": "another"}}).get("k")

functions = [name for name in hotpaths.__all__ if not inspect.isclass(getattr(hotpaths, name))]
calls = [
    *surface(cache, "cache"),
    *surface(django_vcache.aliases["default"], "shared", ["get", "aget"]),
    *surface(hotpaths, "hotpaths", functions),
    *surface(throttle, "throttle"),
    *surface(quota, "quota", receipt=RECEIPTS["quota"]),
    *surface(stream, "stream"),
    *surface(gate, "gate", receipt=RECEIPTS["gate"]),
    Call("new objects", objects, False),
    Call("another cache", another_cache, False),
]

def before():
    with contextlib.suppress(exceptions.ConnectionError):
        cache.set("k", 1)

def report_without_and_again():
    without = walk_without(calls, before)
    report([without, walk_again(calls, before)])
"""


@pytest.fixture
def calls(server: ValkeyServer) -> str:
    """The source that finds all calls."""
    with default_on(server):
        # Receipts that the program's own objects take, which are made in the same way.
        made: dict[str, Any] = {}
        exec(OBJECTS, made)
        receipts = {name: str(made[name].consume({"user": 1}).receipt) for name in ["quota"]}
        receipts["gate"] = str(made["gate"].admit({"user": 1}).receipt)
    return f"{WALK}\nRECEIPTS = {receipts!r}\n{OBJECTS}{CALLS}"


BLOCKING = {"cache.get", "cache.set_many", "hotpaths.read", "throttle.peek", "quota.peek", "stream.length"}
AWAITED = {f"{owner}.a{name}" for owner, name in (name.split(".") for name in BLOCKING)}


@pytest.mark.parametrize("loop", LOOPS)
def test_a_process_that_has_called_nothing_before(server: ValkeyServer, calls: str, loop: str) -> None:
    source = calls + "report_without_and_again()"
    without, again = run_program(source, {"default": cache_setting(server)}, loop)
    assert refused(without) > BLOCKING | AWAITED
    assert not refused(again)


@pytest.mark.parametrize("loop", LOOPS)
def test_the_first_call_of_a_loop_in_a_connected_process(server: ValkeyServer, calls: str, loop: str) -> None:
    # Of a cluster, all nodes have some of these.
    source = calls + 'cache.set_many(dict.fromkeys("abcdefghijkl", 1))\nreport_without_and_again()'
    without, again = run_program(source, {"default": cache_setting(server)}, loop)
    assert refused(without) > AWAITED
    assert not refused(without) & BLOCKING, "they have their connection"
    assert not refused(again)


@pytest.mark.parametrize("loop", LOOPS)
def test_a_forked_child(server: ValkeyServer, calls: str, loop: str) -> None:
    source = """
cache.set("k", 1)
pid = os.fork()
if not pid:
    report_without_and_again()
    os._exit(0)
assert os.waitpid(pid, 0)[1] == 0
assert cache.get("k") == 1
"""
    without, again = run_program(calls + source, {"default": cache_setting(server)}, loop)
    assert refused(without) > BLOCKING | AWAITED
    assert not refused(again)


@pytest.mark.parametrize("loop", LOOPS)
def test_too_few_descriptors_are_no_other_error(server: ValkeyServer, loop: str) -> None:
    """A first call takes several, and fails wherever they run out; so does a loop's first."""
    source = """
def child(left):
    async def call():
        use_up()
        for _ in range(left):
            os.close(held.pop())
        blocking = await Call("get", cache.get, False, key="k").raised()
        awaited = await Call("aget", cache.aget, True, key="k").raised()
        free()
        report([left, blocking, awaited])

    run(call())

for left in range(13):
    pid = os.fork()
    if not pid:
        child(left)
        os._exit(0)
    assert os.waitpid(pid, 0)[1] == 0
"""
    reports = run_program(WALK + source, {"default": cache_setting(server)}, loop)
    told = {f"{name} with {left}": error for left, *errors in reports for name, error in zip("ab", errors, strict=True)}
    failed = refused(told)
    assert {"a with 0", "b with 0"} < failed
    assert not {"a with 12", "b with 12"} & failed


@pytest.mark.parametrize("loop", LOOPS)
def test_limits_on_a_loop_that_cannot_be_called_back_are_decided_by_their_outage_policy(
    server: ValkeyServer, loop: str
) -> None:
    source = """
throttles = {policy: admission.Throttle("calls", "1000/s", outage=policy) for policy in ("open", "closed", "raise")}
stream = admission.Stream("events")
gate = admission.Gate([admission.Throttle("org", "1000/s")], stream=stream, outage="closed")

async def decided():
    told = {}
    for policy, throttle in throttles.items():
        try:
            decision = await throttle.acheck(1)
            told[policy] = decision.allowed, decision.source, "descriptors are used up" in str(decision.outage)
        except exceptions.ConnectionError as error:
            told[policy] = "descriptors are used up" in str(error)
    decision = await gate.aadmit({"org": 1}, payload=b"x")
    told["gate"] = decision.allowed, decision.source
    return told

async def main():
    use_up()
    without = await decided()
    free()
    return [without, await decided()]

cache.set("k", 1)
report(run(main()))
"""
    caches = {"default": cache_setting(server)}
    without, again = run_program(f"{WALK}\nfrom django_vcache import admission\n{source}", caches, loop)
    assert without == {
        "open": [True, "outage", True],
        "closed": [False, "outage", True],
        "raise": True,
        "gate": [False, "outage"],
    }
    assert again == {
        "open": [True, "server", False],
        "closed": [True, "server", False],
        "raise": [True, "server", False],
        "gate": [True, "server"],
    }
