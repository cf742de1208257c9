"""The threads that run the blocking code of requests: who gets one, for how long, and what becomes of it."""

from __future__ import annotations

import asyncio
import gc
import logging
import threading
import weakref
from concurrent.futures import Future
from typing import Any

import pytest
from django.test import override_settings
from support.asgi import HANG
from support.programs import run_program
from support.server import wait_until

from django_vcache._lanes import Lane, Lanes, lanes

NO_CACHE = {"default": {"BACKEND": "django.core.cache.backends.dummy.DummyCache"}}


@pytest.fixture
def gate() -> Any:
    """`gate.wait` blocks a thread until the test sets it."""
    gate = threading.Event()
    yield gate
    gate.set()


def ident(lane: Lane) -> int:
    return int(lane.submit(threading.get_ident).result(HANG))


def few(count: int, **more: Any) -> Any:
    return override_settings(VCACHE={"LANES": count, **more})


def test_all_calls_of_a_lane_run_on_one_thread_which_is_kept() -> None:
    lane = lanes.lane()
    assert not lane.is_used
    first = ident(lane)
    assert lane.is_used
    assert ident(lane) == first != threading.get_ident()
    lane.end()
    wait_until(lambda: lanes.state["idle"] == 1)
    other = lanes.lane()
    assert ident(other) == first
    other.end()


def test_two_lanes_run_at_once() -> None:
    meet = threading.Barrier(2, timeout=HANG)
    both = [lanes.lane() for _ in range(2)]
    for future in [lane.submit(meet.wait) for lane in both]:
        future.result(HANG)
    for lane in both:
        lane.end()
    assert lanes.state["threads"] == 2


def test_further_lanes_wait_in_their_order(gate: Any, caplog: pytest.LogCaptureFixture) -> None:
    with few(1), caplog.at_level(logging.WARNING, "django_vcache"):
        pool = Lanes()
        first, *others = [pool.lane() for _ in range(3)]
        first.submit(gate.wait)
        order: list[int] = []
        waiting = [lane.submit(order.append, number) for number, lane in enumerate(others)]
        assert pool.state == {"threads": 1, "idle": 0, "waiting": 2}
        gate.set()
        assert not waiting[0].done()  # the first has the thread until it ends, not until its call does
        first.end()
        waiting[0].result(HANG)
        others[0].end()
        waiting[1].result(HANG)
        others[1].end()
        assert order == [0, 1]
        pool.drain()
    assert [record.getMessage().partition(",")[0] for record in caplog.records] == ["all 1 lanes are taken"]


def test_a_lane_that_ends_while_its_call_runs_gives_the_thread_back_afterwards(gate: Any) -> None:
    with few(1):
        lane, other = lanes.lane(), lanes.lane()
        lane.submit(gate.wait)
        lane.end()
        behind = other.submit(threading.get_ident)
        assert lanes.state == {"threads": 1, "idle": 0, "waiting": 1}
        gate.set()
        behind.result(HANG)
        other.end()
        wait_until(lambda: lanes.state["idle"] == 1)


def test_a_cancelled_wait_costs_no_thread(gate: Any) -> None:
    with few(1):
        first, gone, last = lanes.lane(), lanes.lane(), lanes.lane()
        first.submit(gate.wait)
        assert gone.submit(pytest.fail).cancel()
        last_call = last.submit(threading.get_ident)
        gone.end()
        assert lanes.state["waiting"] == 1
        first.end()
        gate.set()
        last_call.result(HANG)
        last.end()


def test_a_call_cancelled_after_the_lane_has_ended_is_left_out(gate: Any) -> None:
    with few(1):
        first, gone = lanes.lane(), lanes.lane()
        first.submit(gate.wait)
        call = gone.submit(pytest.fail)
        gone.end()
        assert lanes.state["waiting"] == 1  # a task that outlives its request may want it
        assert call.cancel()
        gate.set()
        first.end()
        wait_until(lambda: lanes.state == {"threads": 1, "idle": 1, "waiting": 0})


def test_a_call_that_comes_after_the_end_is_run_and_its_thread_given_back() -> None:
    lane = lanes.lane()
    lane.end()
    assert ident(lane) != threading.get_ident()
    wait_until(lambda: lanes.state["idle"] == 1)


def test_what_comes_first_runs_on_the_thread_before_the_first_call() -> None:
    lane = lanes.lane()
    seen: list[Any] = []
    lane.first = (lambda: seen.append(threading.get_ident()),)
    thread = ident(lane)
    ident(lane)
    assert seen == [thread]
    lane.end()


def test_what_a_call_raises_is_its_own(gate: Any) -> None:
    def exits() -> None:
        raise SystemExit(3)

    lane = lanes.lane()
    failed = lane.submit(exits)
    with pytest.raises(SystemExit):
        failed.result(HANG)
    assert ident(lane)
    lane.end()


def test_nothing_of_a_call_is_kept_by_an_idle_thread() -> None:
    class Given:
        pass

    def fails(given: Given) -> None:
        raise ValueError(given)

    given = Given()
    gone = weakref.ref(given)
    lane = lanes.lane()
    call: Future[Any] | None = lane.submit(fails, given)
    assert call is not None
    assert isinstance(call.exception(HANG), ValueError)
    lane.end()
    wait_until(lambda: lanes.state["idle"] == 1)
    gc.collect()  # the exception and its traceback are a circle of this test's
    gc.disable()
    try:
        del given, call, lane
        gc.collect()
        assert gone() is None
    finally:
        gc.enable()


def test_an_idle_thread_ends_by_itself_and_closes_its_connections(monkeypatch: pytest.MonkeyPatch) -> None:
    closed: list[int] = []
    monkeypatch.setattr(
        "django_vcache._lanes.connections.close_all", lambda: closed.append(threading.get_ident()), raising=True
    )
    with few(4, LANE_IDLE=0.05):
        lane = lanes.lane()
        thread = ident(lane)
        lane.end()
        wait_until(lambda: lanes.state["threads"] == 0 and closed == [thread])


def test_a_thread_that_has_a_lane_does_not_expire(gate: Any) -> None:
    with few(4, LANE_IDLE=0.01):
        lane, watch = lanes.lane(), lanes.lane()
        thread = ident(lane)
        # Another one has expired meanwhile.
        ident(watch)
        watch.end()
        wait_until(lambda: lanes.state["threads"] == 1)
        assert ident(lane) == thread
        lane.end()


def test_drain_waits_for_calls_and_the_pool_goes_on(gate: Any) -> None:
    lane = lanes.lane()
    call = lane.submit(gate.wait)
    lane.end()
    draining = threading.Thread(target=lanes.drain)
    draining.start()
    wait_until(lambda: lanes.state["threads"] == 0)
    assert draining.is_alive()
    gate.set()
    draining.join(HANG)
    assert not draining.is_alive()
    assert call.done()
    other = lanes.lane()
    assert ident(other)
    other.end()


def test_drain_does_not_wait_for_requests() -> None:
    lane = lanes.lane()
    thread = lane.submit(threading.current_thread).result(HANG)
    lanes.drain()
    assert not thread.is_alive()
    assert lane.submit(threading.current_thread).result(HANG) is not thread
    lane.end()


def test_drain_gives_threads_to_those_that_wait(gate: Any) -> None:
    with few(1):
        lane, late = lanes.lane(), lanes.lane()
        lane.submit(gate.wait)
        waiting = late.submit(threading.get_ident)
        draining = threading.Thread(target=lanes.drain)
        draining.start()
        waiting.result(HANG)
        gate.set()
        draining.join(HANG)
        lane.end()
        late.end()


def test_fewer_lanes_from_now_on(gate: Any) -> None:
    many = [lanes.lane() for _ in range(3)]
    for lane in many:
        ident(lane)
    with few(1):
        late = lanes.lane()
        waiting = late.submit(threading.get_ident)
        for lane in many:
            lane.end()
        waiting.result(HANG)
        late.end()
        wait_until(lambda: lanes.state == {"threads": 1, "idle": 1, "waiting": 0})


def test_two_loops_in_two_threads_share_the_lanes() -> None:
    async def calls() -> set[int]:
        loop = asyncio.get_running_loop()
        seen = set()
        for _ in range(50):
            lane = lanes.lane()
            seen.add(await loop.run_in_executor(lane, threading.get_ident))
            lane.end()
        return seen

    with few(2):
        results: list[set[int]] = []
        threads = [threading.Thread(target=lambda: results.append(asyncio.run(calls()))) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(HANG)
        assert len(results) == 2
        assert lanes.state["threads"] <= 2


def test_a_loop_that_is_closed_before_the_answer_costs_no_thread(gate: Any) -> None:
    lane = lanes.lane()

    async def begins() -> None:
        asyncio.get_running_loop().run_in_executor(lane, gate.wait)

    asyncio.run(begins())
    lane.end()
    gate.set()
    wait_until(lambda: lanes.state["idle"] == 1)


def test_a_forked_child_has_lanes_of_its_own() -> None:
    assert run_program(
        """
        from django_vcache._lanes import lanes

        held = lanes.lane()
        parent = held.submit(threading.get_ident).result(20)
        taken = threading.Event()
        busy = lanes.lane()
        busy.submit(taken.wait)
        pid = os.fork()
        if not pid:
            child = lanes.lane()
            answer = child.submit(lambda: "child").result(20)
            # Also one of the parent's: its thread is not there any more.
            answer += held.submit(lambda: " again").result(20)
            child.end()
            lanes.drain()
            os._exit(0 if (answer, lanes.state["threads"]) == ("child again", 0) else 1)
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        same = held.submit(threading.get_ident).result(20) == parent
        taken.set()
        report([code, same])
        """,
        NO_CACHE,
    ) == [0, True]


def test_the_interpreter_ends_at_once_but_not_in_the_middle_of_a_call() -> None:
    assert (
        run_program(
            """
        from django_vcache._lanes import lanes

        idle = lanes.lane()
        idle.submit(int).result(20)
        idle.end()
        busy = lanes.lane()
        begun = threading.Event()

        def call():
            begun.set()
            time.sleep(0.2)
            report("whole")

        busy.submit(call)
        begun.wait()
        """,
            NO_CACHE,
        )
        == "whole"
    )
