"""Limits and rates that an async callable says: awaited with the call, and before the server is asked."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import warnings
import weakref
from typing import Any

import pytest
from support.server import ValkeyServer

WHO: contextvars.ContextVar[str] = contextvars.ContextVar("WHO", default="no one")


class Plans:
    """Limits that come out of a database, which takes a turn of the loop."""

    def __init__(self, answer: Any = 3) -> None:
        self.answer = answer
        self.asked: list[Any] = []

    async def __call__(self, scope: Any) -> Any:
        await asyncio.sleep(0)
        self.asked.append((dict(scope), WHO.get()))
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


@pytest.fixture(autouse=True)
def no_warnings() -> Any:
    """A coroutine that is dropped without being awaited fails the test."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield
        gc.collect()


def test_a_quota_and_a_throttle_ask_it(run: Any, default_alias: None) -> None:
    from django_vcache.admission import Quota, Throttle

    limits, rates = Plans(3), Plans("2/h")
    quota, throttle = Quota("events", limits, "month", key="org"), Throttle("org", rates)

    async def main() -> None:
        decision = await quota.aconsume({"org": 1}, 2)
        assert (decision.limit, decision.remaining) == (3, 1)
        assert not await quota.aconsume(1, 2)
        assert (await quota.apeek(1)).limit == 3
        assert (await quota.apeek(1, limit=10)).limit == 10
        assert [bool(await throttle.acheck(7)) for _ in range(3)] == [True, True, False]
        assert (await throttle.apeek({"org": 7})).limit == 2

    run(main())
    # A value comes as the scope that it stands for; a limit of the call is not asked for.
    assert [scope for scope, _ in limits.asked] == [{"org": 1}] * 3
    assert [scope for scope, _ in rates.asked] == [{"org": 7}] * 4


def test_a_gate_asks_for_each_rule_that_has_none_of_its_own(run: Any, default_alias: None) -> None:
    from django_vcache.admission import Gate, Quota, Stream, Throttle

    rates, limits = Plans("5/h"), Plans(2)
    gate = Gate(
        [Throttle("org", rates), Throttle("plain", "9/h", key="org"), Throttle("said", lambda scope: "8/h", key="org")],
        [Quota("events", limits, "day")],
        Stream("async-limits"),
        owner="org",
    )

    async def main() -> None:
        decision = await gate.aadmit({"org": 1}, payload=b"x")
        assert [rule.limit for rule in decision.rules] == [5, 9, 8, 2]
        assert decision.id
        decision = await gate.aadmit({"org": 1}, limits={"events": 4}, rates={"org": "6/h"})
        assert [rule.limit for rule in decision.rules] == [6, 9, 8, 4]
        assert len(rates.asked) == len(limits.asked) == 1
        assert [rule.limit for rule in await gate.apeek({"org": 1})] == [5, 9, 8, 2]
        first, second = await gate.aadmit_many([{"scope": {"org": 2}}, {"scope": {"org": 3}, "limits": {"events": 1}}])
        assert [rule.limit for rule in first.rules] == [5, 9, 8, 2]
        assert [rule.limit for rule in second.rules] == [5, 9, 8, 1]

    run(main())
    assert [scope["org"] for scope, _ in limits.asked] == [1, 1, 2]


def test_it_runs_in_the_callers_task_and_context(run: Any, default_alias: None) -> None:
    from django_vcache.admission import Quota

    limits = Plans()
    quota = Quota("events", limits, "day", key="org")

    async def main() -> None:
        WHO.set("ada")
        assert await quota.aconsume(1)
        async with asyncio.TaskGroup() as group:
            group.create_task(quota.aconsume(1))

    run(main())
    assert {who for _, who in limits.asked} == {"ada"}


def test_it_is_a_coroutine_wherever_one_is_expected(default_alias: None) -> None:
    from asgiref.sync import async_to_sync

    from django_vcache.admission import Quota

    quota = Quota("events", Plans(), "day", key="org")
    assert asyncio.run(quota.aconsume(1)).remaining == 2
    assert async_to_sync(quota.aconsume)(1).remaining == 1


def test_none_is_no_limit_and_a_wrong_answer_is_told(run: Any, default_alias: None) -> None:
    from django_vcache.admission import Quota, Throttle

    async def main() -> None:
        assert (await Quota("a", Plans(None), "day", key="org").aconsume(1, 10**6)).remaining is None
        assert await Throttle("org", Plans(None)).acheck(1, 10**6)
        with pytest.raises(TypeError, match="callable for the limit of the quota \"b\" returned '5'"):
            await Quota("b", Plans("5"), "day", key="org").aconsume(1)
        with pytest.raises(ValueError, match="callable for the rate of the throttle \"org\" returned 'much'"):
            await Throttle("org", Plans("much")).acheck(1)

    run(main())


def test_what_it_raises_is_raised_and_nothing_is_charged(run: Any, default_alias: None, server: ValkeyServer) -> None:
    from django_vcache.admission import Gate, Quota, Throttle

    failing = Plans(LookupError("the database is away"))
    # The second is never begun, and Python must not warn of it.
    gate = Gate([Throttle("org", failing)], [Quota("events", Plans(), "day")], owner="org")

    async def main() -> None:
        with pytest.raises(LookupError, match="database is away"):
            await gate.aadmit({"org": 1})

    run(main())
    assert server.keys() == []


def test_nothing_is_asked_before_it_is_awaited_and_dropping_it_warns_once(run: Any, default_alias: None) -> None:
    from django_vcache.admission import Quota

    limits = Plans()
    quota = Quota("events", limits, "day", key="org")

    async def main() -> None:
        call = quota.aconsume(1)
        with pytest.raises(TypeError, match="was not awaited"):
            bool(call)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            del call
            gc.collect()
        assert [str(each.message) for each in caught] == ["coroutine 'Quota.aconsume' was never awaited"]

    run(main())
    assert limits.asked == []


def test_a_cancelled_call_cancels_it_and_charges_nothing(run: Any, default_alias: None, server: ValkeyServer) -> None:
    from django_vcache.admission import Quota

    begun, ended = asyncio.Event(), []

    async def slow(scope: Any) -> int:
        begun.set()
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            ended.append("cancelled")
            raise
        return 1

    quota = Quota("events", slow, "day", key="org")

    async def main() -> None:
        task = asyncio.create_task(quota.aconsume(1))
        await begun.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    run(main())
    assert ended == ["cancelled"]
    assert server.keys() == []


def test_a_call_that_blocks_says_which_one_to_await(default_alias: None, server: ValkeyServer) -> None:
    from django_vcache.admission import Gate, Quota, Throttle

    quota, throttle = Quota("events", Plans(), "day", key="org"), Throttle("org", Plans())
    for call, method in (
        (lambda: quota.consume(1), "consume"),
        (lambda: quota.peek(1), "peek"),
        (lambda: throttle.check(1), "check"),
        (lambda: throttle.peek(1), "peek"),
    ):
        with pytest.raises(TypeError, match=rf"async callable, which {method}\(\) cannot await: call a{method}\(\)"):
            call()
    gate = Gate([throttle], [quota], owner="org")
    with pytest.raises(TypeError, match=r'the rate of the throttle "org" is an async .* call aadmit\(\)'):
        gate.admit({"org": 1})
    with pytest.raises(TypeError, match=r"call aadmit_many\(\)"):
        gate.admit_many([{"scope": {"org": 1}}])
    with pytest.raises(TypeError, match=r"call apeek\(\)"):
        gate.peek({"org": 1})
    assert server.keys() == []


@pytest.mark.parametrize("method", ["aconsume", "apeek"])
def test_a_call_that_is_dropped_while_an_exception_is_on_its_way_lets_it_pass(run: Any, method: str) -> None:
    from django_vcache.admission import Gate, Quota

    quota = Quota("events", Plans(), "day", key="org")
    gate = Gate([], [Quota("events", Plans(), "day")], owner="org")

    async def main() -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            for call in (lambda: getattr(quota, method)(1), lambda: gate.aadmit({"org": 1})):
                with pytest.raises(ZeroDivisionError):
                    print(call(), 1 / 0)
                with pytest.raises(TypeError, match="was not awaited"):
                    bool(call())
            gc.collect()

    run(main())


def test_a_scope_counts_as_it_was_when_the_call_was_made(run: Any, default_alias: None) -> None:
    from django_vcache.admission import Gate, Quota

    limits = Plans(5)
    quota = Quota("events", limits, "day", key="org")
    gate = Gate([], [Quota("gated", limits, "day")], owner="org")

    async def main() -> None:
        for call in (quota.aconsume, gate.aadmit):
            scope = {"org": 1}
            waiting = call(scope)
            scope["org"] = 2
            assert (await waiting).remaining == 4
        assert (await quota.apeek(1)).used == 1
        assert (await quota.apeek(2)).used == 0

    run(main())
    assert [scope["org"] for scope, _ in limits.asked[:2]] == [1, 1]


class Service:
    """What an application holds its limits in: the callable is a method, and calls are kept."""

    def __init__(self) -> None:
        from django_vcache.admission import Gate, Quota, Throttle

        self.throttle = Throttle("org", self.rate)
        self.quota = Quota("events", self.rate, "day", key="org")
        self.gate = Gate([Throttle("gated", self.rate, key="org")], owner="org")
        self.calls: list[Any] = []

    async def rate(self, scope: Any) -> Any:
        await asyncio.get_running_loop().create_future()


@pytest.mark.parametrize("call", ["throttle.acheck", "quota.aconsume", "gate.aadmit", "gate.aadmit_many"])
def test_a_call_that_is_part_of_a_cycle_is_collected(run: Any, default_alias: None, call: str) -> None:
    part, method = call.split(".")

    def dropped(*, begin: bool) -> list[weakref.ref[Any]]:
        service = Service()
        scope = {"org": 1}
        made = getattr(getattr(service, part), method)([{"scope": scope}] if "many" in method else scope)
        service.calls.append(made)
        if begin:
            # It waits for the callable, which waits for ever.
            made.send(None)
        return [weakref.ref(service), weakref.ref(made)]

    async def main() -> None:
        for begin in (False, True):
            # A warning that is recorded would hold the callable's coroutine, and so the cycle.
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                there = dropped(begin=begin)
                await asyncio.sleep(0)
                gc.collect()
                assert [each() for each in there] == [None, None]

    run(main())


class Awkward:
    """An awaitable whose close() fails."""

    def __await__(self) -> Any:
        yield from asyncio.sleep(0).__await__()
        return "5/m"

    def close(self) -> None:
        raise OSError("it does not close")


def test_an_awaitable_that_does_not_close_hides_no_error(run: Any, default_alias: None) -> None:
    from django_vcache.admission import Gate, Throttle

    failing = Plans(LookupError("the database is away"))
    gate = Gate([Throttle("a", failing, key="org"), Throttle("b", lambda scope: Awkward(), key="org")])
    told: list[Any] = []

    async def main() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda loop, context: told.append(context))
        with pytest.raises(LookupError, match="database is away"):
            await gate.aadmit({"org": 1})
        with pytest.raises(TypeError, match=r"async callable, which admit\(\) cannot await"):
            Gate([Throttle("b", lambda scope: Awkward(), key="org")]).admit({"org": 1})

    run(main())
    [context] = told
    assert "could not be closed" in context["message"]
    assert str(context["exception"]) == "it does not close"


class Meeting:
    """A callable whose calls wait for one another: they end only if all are under way at once."""

    def __init__(self, parties: int, fails: int | None = None) -> None:
        self.parties, self.fails = parties, fails
        self.begun = self.cancelled = 0
        self.all = asyncio.Event()

    async def __call__(self, scope: Any) -> str:
        self.begun += 1
        if self.begun == self.parties:
            self.all.set()
        try:
            await self.all.wait()
            if self.fails is None:
                return "5/m"
            if scope["org"] == self.fails:
                raise LookupError(f"no plan of {self.fails}")
            await asyncio.get_running_loop().create_future()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        raise AssertionError


def test_those_of_many_admissions_are_awaited_at_once(run: Any, default_alias: None) -> None:
    from django_vcache.admission import Gate, Throttle

    async def main() -> None:
        meeting = Meeting(20)
        gate = Gate([Throttle("org", meeting)])
        decisions = await gate.aadmit_many([{"scope": {"org": org}} for org in range(20)])
        assert [decision.rule("org").limit for decision in decisions] == [5] * 20

    run(main())


def test_one_that_fails_ends_those_of_the_other_admissions(run: Any, default_alias: None, server: ValkeyServer) -> None:
    from django_vcache.admission import Gate, Throttle

    async def main() -> None:
        meeting = Meeting(3, fails=1)
        gate = Gate([Throttle("org", meeting)])
        with pytest.raises(LookupError, match="no plan of 1"):
            await gate.aadmit_many([{"scope": {"org": org}} for org in range(3)])
        assert meeting.cancelled == 2
        # So does the caller's cancelling.
        meeting = Meeting(3, fails=7)
        gate = Gate([Throttle("org", meeting)])
        task = asyncio.create_task(gate.aadmit_many([{"scope": {"org": org}} for org in range(3)]))
        await meeting.all.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert meeting.cancelled == 3

    run(main())
    assert server.keys() == []


def test_a_task_that_a_callable_returned_goes_on(run: Any, default_alias: None) -> None:
    from django_vcache.admission import Gate, Throttle

    async def main() -> None:
        released = asyncio.Event()

        async def shared() -> str:
            await released.wait()
            return "5/m"

        async def failing(scope: Any) -> str:
            raise LookupError("no plan")

        task = asyncio.create_task(shared())
        gate = Gate([Throttle("org", lambda scope: failing(scope) if scope["org"] == 0 else task)])
        with pytest.raises(LookupError):
            await gate.aadmit_many([{"scope": {"org": org}} for org in (1, 0, 2)])
        released.set()
        assert await task == "5/m"

    run(main())
