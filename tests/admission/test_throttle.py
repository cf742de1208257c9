"""`Throttle` as Python has it: both forms of every call, what goes in and what comes out, callables, and what becomes
of a call when its task is cancelled, the server is gone, or the process forks."""

from __future__ import annotations

import asyncio
import gc
import sys
import threading
import weakref
from typing import Any

import pytest
from django.test import override_settings
from support.caches import cache_setting
from support.driver import LOOPS
from support.programs import run_program
from support.server import ValkeyServer

pytestmark = pytest.mark.usefixtures("patient")


def state_of(server: ValkeyServer) -> dict[bytes, Any]:
    """Every key, byte for byte."""
    return {key: server.execute("DUMP", key) for key in server.keys("*")}


def test_the_limit_is_let_through_and_counted_down(ask: Any) -> None:
    from django_vcache.admission import Throttle

    throttle = Throttle("org", "3/h")
    for left in (2, 1, 0):
        decision = ask(throttle, "check", {"org": 1})
        assert decision
        assert (decision.allowed, decision.source, decision.status) == (True, "server", 200)
        assert (decision.refused_by, decision.retry_after, decision.id, decision.receipt) == (None, 0.0, None, None)
        assert decision.duplicate is False
        [rule] = decision.rules
        assert (rule.name, rule.kind, rule.limit, rule.burst, rule.remaining) == ("org", "throttle", 3, 3, left)
        assert (rule.used, rule.window) == (0, 3600.0)
        assert 0 < rule.reset_after <= 3600
    refused = ask(throttle, "check", {"org": 1})
    assert not refused
    assert (refused.allowed, refused.status) == (False, 429)
    assert (refused.refused_by.rule, refused.refused_by.kind) == ("org", "throttle")
    assert str(refused.refused_by) == "throttle 'org'"
    assert 0 < refused.retry_after <= 1200


def test_a_value_stands_for_the_scope_of_that_entry(ask: Any, server: ValkeyServer) -> None:
    from django_vcache.admission import Throttle

    throttle = Throttle("org", "9/h")
    for scope in (7, "7", {"org": 7}, {"org": "7"}, {"other": 1, "org": 7}):
        assert ask(throttle, "check", scope)
    assert ask(throttle, "peek", 7).remaining == 4
    assert server.keys() == [b"vcache:2:{v00}:t:org:org=7"]


def test_a_mapping_that_is_no_dict_is_a_scope_too(ask: Any) -> None:
    from collections import OrderedDict, UserDict
    from types import MappingProxyType

    from django_vcache.admission import Throttle

    throttle = Throttle("org", "9/h")
    for scope in (OrderedDict(org=7), UserDict(org=7), MappingProxyType({"org": 7})):
        ask(throttle, "check", scope)
    assert ask(throttle, "peek", 7).remaining == 6


def test_a_key_may_be_of_other_and_of_several_entries(ask: Any, server: ValkeyServer) -> None:
    from django_vcache.admission import Throttle

    ask(Throttle("burst", "9/h", key="org"), "check", {"org": 1, "project": 2})
    ask(Throttle("both", "9/h", key=("org", "project")), "check", {"project": 2, "org": 1})
    assert server.keys() == [b"vcache:2:{v00}:t:both:org=1:project=2", b"vcache:2:{v00}:t:burst:org=1"]


def test_odd_values_are_keys_of_their_own(ask: Any, server: ValkeyServer) -> None:
    from django_vcache.admission import Throttle

    throttle = Throttle("org", "1/h")
    values = ["a:b", "a b", "{a}", "%41", "é", "a\n", "A", "🔑", "-1", "0", 2**70]
    assert all(ask(throttle, "check", value) for value in values)
    assert len(server.keys()) == len(values)
    assert not any(ask(throttle, "check", value) for value in values)


def test_peek_and_reset(ask: Any, server: ValkeyServer) -> None:
    from django_vcache.admission import Throttle

    throttle = Throttle("org", "10/h", burst=4)
    assert ask(throttle, "peek", 1).remaining == 4
    assert server.keys() == []
    ask(throttle, "check", 1, 3)
    before = state_of(server)
    state = ask(throttle, "peek", 1)
    assert (state.remaining, state.burst, state.limit) == (1, 4, 10)
    assert 0 < state.reset_after <= 1080
    assert state_of(server) == before
    assert ask(throttle, "reset", 1) is True
    assert ask(throttle, "reset", 1) is False
    assert ask(throttle, "check", 1, 4)


def test_a_refusal_changes_nothing(ask: Any, server: ValkeyServer) -> None:
    from django_vcache.admission import Throttle

    throttle = Throttle("org", "5/h", deny_cache=False)
    ask(throttle, "check", 1, 4)
    before = state_of(server)
    for cost in (2, 5, 6, 1000):
        assert not ask(throttle, "check", 1, cost)
    assert ask(throttle, "check", 1, cost=0)
    assert state_of(server) == before


def test_a_cost_above_the_burst_is_never_allowed(ask: Any) -> None:
    from django_vcache.admission import Throttle

    refused = ask(Throttle("org", "5/h"), "check", 1, 6)
    assert not refused
    assert refused.retry_after is None
    assert "Retry-After" not in refused.headers()


def test_limits_of_zero_and_minus_one(ask: Any, server: ValkeyServer) -> None:
    from django_vcache.admission import Throttle

    server.execute("CONFIG", "RESETSTAT")
    closed = ask(Throttle("org", "0/m"), "check", 1)
    assert not closed
    assert (closed.retry_after, closed.source) == (None, "settings")
    unlimited = Throttle("free", "-1/m")
    assert all(ask(unlimited, "check", 1, 1_000_000) for _ in range(3))
    assert ask(unlimited, "check", 1).rules[0].remaining is None
    assert "evalsha" not in server.command_counts()


def test_a_rate_may_be_a_callable_of_the_scope(ask: Any) -> None:
    from django_vcache.admission import Throttle

    asked: list[Any] = []

    def rate(scope: Any) -> str | None:
        asked.append(scope)
        return {"free": "1/h", "paid": "2/h", "own": None}[scope["plan"]]

    throttle = Throttle("plan", rate)
    assert [bool(ask(throttle, "check", {"plan": "free", "org": 1})) for _ in range(2)] == [True, False]
    assert [bool(ask(throttle, "check", "paid")) for _ in range(3)] == [True, True, False]
    assert all(ask(throttle, "check", "own") for _ in range(3))
    assert asked[0] == {"plan": "free", "org": 1}
    assert asked[2] == {"plan": "paid"}
    assert ask(throttle, "peek", "paid").limit == 2


def test_the_callable_gets_the_entry_that_a_bare_value_stands_for(ask: Any) -> None:
    from django_vcache.admission import Throttle

    seen: list[Any] = []

    def rate(scope: Any) -> str:
        seen.append(scope)
        return "1/h"

    assert ask(Throttle("burst", rate, key="org", deadline=None), "check", 5).allowed
    assert seen == [{"org": 5}]
    with pytest.raises(ValueError, match='keyed by "org" and "user": give a scope'):
        ask(Throttle("burst", rate, key=("org", "user")), "check", 5)
    assert len(seen) == 1


def test_the_callable_runs_on_the_callers_thread_before_anything_is_sent(ask: Any, server: ValkeyServer) -> None:
    from django_vcache.admission import Throttle

    threads: list[int] = []

    def rate(scope: Any) -> str:
        threads.append(threading.get_ident())
        raise LookupError("no such customer")

    with pytest.raises(LookupError, match="no such customer"):
        ask(Throttle("org", rate), "check", 1)
    assert threads == [threading.get_ident()]
    assert server.keys() == []


def test_a_call_may_have_a_rate_of_its_own(ask: Any) -> None:
    from django_vcache.admission import Throttle

    throttle = Throttle("org", "1/h")
    assert ask(throttle, "check", 1)
    assert not ask(throttle, "check", 1)
    assert ask(throttle, "check", 1, rate="10/h")
    assert ask(throttle, "peek", 1, rate="10/h").limit == 10


def test_hundreds_are_awaited_together(run: Any, default_alias: None) -> None:
    from django_vcache.admission import Throttle

    throttle = Throttle("org", "1000/d")

    async def main() -> None:
        async with asyncio.timeout(10):
            decisions = await asyncio.gather(*(throttle.acheck(1) for _ in range(300)))
        assert sorted(decision.rules[0].remaining for decision in decisions) == list(range(700, 1000))
        assert await asyncio.wait_for(asyncio.shield(throttle.apeek(1)), 10)

    run(main())


def test_a_cancelled_check_disturbs_no_other(run: Any, default_alias: None) -> None:
    from django_vcache.admission import Throttle

    throttle = Throttle("org", "1000/d")

    async def main() -> None:
        for turn in range(30):
            tasks = [asyncio.ensure_future(throttle.acheck(turn)) for _ in range(50)]
            for _ in range(turn % 4):
                await asyncio.sleep(0)
            for task in tasks[::2]:
                task.cancel()
            results = await asyncio.gather(*tasks, return_exceptions=True)
            assert all(result for result in results if not isinstance(result, asyncio.CancelledError))
            left = (await throttle.apeek(turn)).remaining
            assert left is not None
            assert 1000 - 50 <= left <= 1000 - 25

    run(main())


def test_tasks_and_threads_together_get_exactly_the_limit(run: Any, default_alias: None) -> None:
    from django_vcache.admission import Throttle

    throttle = Throttle("org", "300/d")
    allowed: list[bool] = []

    def thread() -> None:
        allowed.extend(bool(throttle.check(1)) for _ in range(100))

    async def task() -> None:
        for _ in range(5):
            allowed.append(bool(await throttle.acheck(1)))

    async def main() -> None:
        threads = [threading.Thread(target=thread) for _ in range(4)]
        for each in threads:
            each.start()
        await asyncio.gather(*(task() for _ in range(100)))
        await asyncio.to_thread(lambda: [each.join() for each in threads])

    run(main())
    assert (len(allowed), sum(allowed)) == (900, 300)


def test_a_throttle_may_be_subclassed(ask: Any) -> None:
    from django_vcache.admission import Throttle

    class PerDay(Throttle):
        def __new__(cls, name: str, limit: int) -> PerDay:
            return super().__new__(cls, name, f"{limit}/d")  # type: ignore[return-value]

    throttle = PerDay("org", 2)
    assert isinstance(throttle, Throttle)
    assert [bool(ask(throttle, "check", 1)) for _ in range(3)] == [True, True, False]


def test_metrics_count_what_happened(ask: Any) -> None:
    from django_vcache.admission import Throttle

    throttle = Throttle("org", "2/d")
    for _ in range(5):
        ask(throttle, "check", 1)
    metrics = throttle.metrics()
    assert (metrics["admitted"], metrics["refused"] + metrics["deny_cache"]) == (2, 3)
    assert metrics["deny_cache"] >= 1
    assert {"guard", "outages", "outage_open", "outage_closed", "outage_local", "breaker_opened"} <= metrics.keys()


def test_reprs_say_what_it_is(ask: Any) -> None:
    from django_vcache.admission import Throttle

    throttle = Throttle("org", "1/d", deny_cache=False)
    assert repr(throttle) == "<Throttle 'org' 1/d>"
    assert repr(Throttle("org", lambda scope: "1/d")) == "<Throttle 'org'>"
    assert repr(ask(throttle, "check", 1)) == "<Decision allowed by the server>"
    refused = ask(throttle, "check", 1)
    assert repr(refused).startswith("<Decision refused by throttle 'org' for 86")
    assert repr(ask(throttle, "check", 1, 2)) == "<Decision refused by throttle 'org' for ever>"
    assert repr(refused.refused_by) == "<Refusal by throttle 'org'>"
    assert repr(ask(throttle, "peek", 1)) == "<RuleState throttle 'org': 0 of 1 left>"


def test_the_alias_is_that_of_using(ask: Any, server: ValkeyServer) -> None:
    from django_vcache.admission import Throttle
    from django_vcache.backend import publish_alias
    from django_vcache.exceptions import ConfigurationError

    locmem = {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"}
    caches = {"default": locmem, "foreign": locmem, "counts": cache_setting(server, DB=3)}
    with override_settings(CACHES=caches):
        publish_alias("counts")
        throttle = Throttle("org", "1/d", using="counts")
        assert throttle.using == "counts"
        ask(throttle, "check", 1)
        assert server.info("keyspace")["db3"].startswith("keys=1")
        with pytest.raises(ConfigurationError, match="'nowhere'"):
            ask(Throttle("org", "1/d", using="nowhere"), "check", 1)
        with pytest.raises(ConfigurationError, match="LocMemCache"):
            ask(Throttle("org", "1/d", using="foreign"), "check", 1)


DEAD = """
from django_vcache.admission import Throttle

def tell(decision):
    refused = decision.refused_by and [decision.refused_by.rule, decision.refused_by.kind]
    return [decision.allowed, decision.source, decision.status, refused]

async def main():
    throttles = [Throttle("org", "5/m", outage=policy) for policy in ("open", "closed", "local")]
    found = [tell(await throttle.acheck(1)) for throttle in throttles]
    assert found == [tell(throttle.check(1)) for throttle in throttles]
    report(found)
    for call in (Throttle("org", "5/m", outage="raise").check, throttles[0].peek, throttles[0].reset):
        try:
            call(1)
        except exceptions.VcacheError as error:
            report(isinstance(error, (ConnectionError, TimeoutError)))

run(main())
"""


@pytest.mark.parametrize("loop", LOOPS)
def test_a_dead_server_is_the_outage_policys(loop: str) -> None:
    with ValkeyServer() as gone:
        setting = cache_setting(gone)
    found, *raised = run_program(DEAD, {"default": setting}, loop)
    assert found == [
        [True, "outage", 200, None],
        [False, "outage", 503, ["org", "outage"]],
        [True, "outage", 200, None],
    ]
    assert raised == [True, True, True]


def test_what_a_local_share_refuses_tells_when_to_come_again() -> None:
    with ValkeyServer() as gone:
        setting = cache_setting(gone)
    found = run_program(
        """
from django_vcache.admission import Throttle
throttle = Throttle("org", "10/d", outage="local", processes=1)
decisions = [throttle.check(1) for _ in range(11)]
report([decision.allowed for decision in decisions])
report(decisions[-1].headers(legacy=True))
""",
        {"default": setting},
    )
    assert found[0] == [True] * 10 + [False]
    headers = dict(found[1])
    wait = int(headers["Retry-After"])
    # A tenth of a day.
    assert 8600 < wait <= 8640
    assert headers["RateLimit"] == f'"org";r=0;t={wait}'
    assert headers["X-RateLimit-Reset"] == str(wait)


FORK = """
import warnings
# Forking with threads is what is tested here.
warnings.simplefilter("ignore", DeprecationWarning)
from django_vcache.admission import Throttle

throttle = Throttle("org", "1000/d", deadline=None)
assert throttle.check(1)

async def many():
    return all(await asyncio.gather(*(throttle.acheck(1) for _ in range(50))))

assert run(many())
children = []
for _ in range(3):
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            asyncio._set_running_loop(None)
            assert all(throttle.check(1) for _ in range(50))
            assert run(many())
            code = 0
        finally:
            os._exit(code)
    children.append(pid)
assert all(throttle.check(1) for _ in range(50))
assert [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in children] == [0, 0, 0]
assert run(many())
report(throttle.peek(1).remaining)
"""


@pytest.mark.parametrize("loop", LOOPS)
def test_forked_children_count_on_the_same_budget(fresh_server: ValkeyServer, loop: str) -> None:
    assert run_program(FORK, {"default": cache_setting(fresh_server)}, loop) == 1000 - 1 - 50 - 300 - 50 - 50


def test_calls_leave_nothing_behind(run: Any, default_alias: None) -> None:
    from django_vcache.admission import Throttle

    throttle = Throttle("org", "1000000/h")

    async def many() -> None:
        for _ in range(20):
            await asyncio.gather(*(throttle.acheck({"org": number}) for number in range(50)))

    def blocks() -> int:
        gc.collect()
        return sys.getallocatedblocks()

    # Of 4,000 calls, an object left behind by each would be seen.
    for _ in range(2):
        run(many())
    before = blocks()
    for _ in range(4):
        run(many())
    assert blocks() - before < 1_000


def test_a_limit_that_a_callable_holds_is_collected() -> None:
    from django_vcache.admission import Gate, Quota, Throttle

    class Limits:
        def __init__(self) -> None:
            self.throttle = Throttle("org", self.rate)
            self.gate = Gate(throttles=[self.throttle], quotas=[Quota("events", self.limit, "month")], owner="org")

        def rate(self, scope: Any) -> str:
            return "1/s"

        def limit(self, scope: Any) -> int:
            return 1

    gone = weakref.ref(Limits())
    gc.collect()
    assert gone() is None
