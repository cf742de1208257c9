"""allow(): a throttle of LIMIT units per PERIOD seconds, decided on the server. What it admits and what
it refuses, what it answers, and what it leaves in the database.
"""

from __future__ import annotations

import asyncio
import math
import pickle
import threading
from typing import Any

import pytest
from support.server import ValkeyServer, wait_until


def stored(server: ValkeyServer, key: str = "k") -> tuple[Any, Any]:
    """What stands under the key, and until when."""
    return server.execute("GET", key), server.execute("PEXPIRETIME", key)


def answer(decision: Any) -> tuple[bool, int, float | None]:
    return decision.allowed, decision.remaining, decision.retry_after


@pytest.mark.parametrize(("limit", "period"), [(1, 60), (3, 60), (7, 60), (10, 3600), (100, 3600), (1000, 86_400)])
def test_exactly_the_limit_is_allowed_and_remaining_counts_down(hot: Any, limit: int, period: int) -> None:
    for left in reversed(range(limit)):
        decision = hot.allow("k", limit, period)
        assert decision.allowed
        assert decision.remaining == left
        assert decision.retry_after == 0.0
    refused = hot.allow("k", limit, period)
    assert not refused.allowed
    assert refused.remaining == 0
    assert 0 < refused.retry_after <= period


def test_tasks_and_threads_together_get_exactly_the_limit(run: Any, default_alias: None) -> None:
    from django_vcache import hotpaths

    allowed: list[bool] = []

    def thread() -> None:
        for _ in range(100):
            allowed.append(bool(hotpaths.allow("k", limit=777, period=3600)))

    async def task() -> None:
        for _ in range(5):
            allowed.append(bool(await hotpaths.aallow("k", limit=777, period=3600)))

    async def main() -> None:
        threads = [threading.Thread(target=thread) for _ in range(6)]
        for each in threads:
            each.start()
        await asyncio.gather(*(task() for _ in range(200)))
        await asyncio.to_thread(lambda: [each.join() for each in threads])

    run(main())
    assert len(allowed) == 1600
    # An hour's budget grows by one unit in 4.6 seconds, which this may just take on a slow machine.
    assert 777 <= sum(allowed) <= 779


def test_a_refused_call_changes_nothing(hot: Any, server: ValkeyServer) -> None:
    for _ in range(5):
        hot.allow("k", 5, 3600)
    before = stored(server)
    assert before[0] is not None
    for cost in (1, 3, 5, 6, 100):
        assert not hot.allow("k", 5, 3600, cost)
    assert stored(server) == before


def test_a_cost_of_zero_asks_and_writes_nothing(hot: Any, server: ValkeyServer) -> None:
    decision = hot.allow("k", 5, 3600, 0)
    assert answer(decision) == (True, 5, 0.0)
    assert server.keys() == []
    hot.allow("k", 5, 3600, 2)
    before = stored(server)
    assert answer(hot.allow("k", 5, 3600, cost=0)) == (True, 3, 0.0)
    assert stored(server) == before


def test_a_cost_above_the_limit_is_never_allowed(hot: Any, server: ValkeyServer) -> None:
    assert answer(hot.allow("k", 5, 3600, 6)) == (False, 5, None)
    assert server.keys() == []
    hot.allow("k", 5, 3600)
    before = stored(server)
    assert answer(hot.allow("k", 5, 3600, 6)) == (False, 4, None)
    assert stored(server) == before


def test_a_limit_of_zero_refuses_everything(hot: Any, server: ValkeyServer) -> None:
    assert answer(hot.allow("k", 0, 60)) == (False, 0, None)
    assert answer(hot.allow("k", limit=0, period=60, cost=10)) == (False, 0, None)
    assert server.keys() == []


@pytest.mark.parametrize("cost", [1, 2, 3, 5, 10])
def test_a_cost_takes_that_many_units(hot: Any, cost: int) -> None:
    for spent in range(cost, 11, cost):
        assert answer(hot.allow("k", 10, 3600, cost)) == (True, 10 - spent, 0.0)
    assert not hot.allow("k", 10, 3600, cost)


def test_after_retry_after_the_same_cost_is_allowed(hot: Any) -> None:
    assert hot.allow("k", 2, 0.4, 2)
    refused = hot.allow("k", 2, 0.4, 2)
    assert not refused
    assert 0 < refused.retry_after <= 0.4
    threading.Event().wait(refused.retry_after + 0.005)
    assert hot.allow("k", 2, 0.4, 2)


def test_the_state_expires_with_the_debt(hot: Any, server: ValkeyServer) -> None:
    hot.allow("k", 10, 3600)
    left = server.execute("PTTL", "k")
    assert 0 < left <= 360_100
    for _ in range(9):
        hot.allow("k", 10, 3600)
    assert 360_100 < server.execute("PTTL", "k") <= 3_600_100
    hot.allow("short", 1, 0.05)
    wait_until(lambda: server.execute("EXISTS", "short") == 0)
    assert hot.allow("short", 1, 0.05)


def test_keys_do_not_share_a_budget(hot: Any) -> None:
    assert hot.allow("a", 1, 3600)
    assert not hot.allow("a", 1, 3600)
    assert hot.allow("b", 1, 3600)


def test_it_answers_with_the_decision_of_admission(hot: Any) -> None:
    from django_vcache.admission import Decision

    decision = hot.allow("k", 4, 3600)
    assert type(decision) is Decision
    assert bool(decision) is True
    assert (decision.limit, decision.remaining, decision.retry_after, decision.never) == (4, 3, 0.0, False)
    assert 899 < decision.reset_after <= 900
    assert (decision.source, decision.status, decision.refused_by) == ("server", 200, None)
    rule = decision.rule("allow")
    assert (rule.kind, rule.limit, rule.burst, rule.window) == ("throttle", 4, 4, 3600.0)
    assert decision.headers()["RateLimit-Policy"] == '"allow";q=4;w=3600'
    assert pickle.loads(pickle.dumps(decision)) == decision


def test_a_refusal_says_what_refused_and_is_a_response(hot: Any) -> None:
    assert hot.allow("k", 2, 3600, 2)
    refused = hot.allow("k", 2, 3600)
    assert bool(refused) is False
    assert str(refused.refused_by) == "throttle 'allow'"
    assert math.ceil(refused.retry_after) <= 1800
    response = refused.response()
    assert response.status_code == 429
    assert 0 < int(response.headers["Retry-After"]) <= 1800
    # The key is the program's secret.
    assert '"k"' not in str(response.headers) + response.content.decode()
    never = hot.allow("k", 0, 3600)
    assert (never.never, never.source, never.limit) == (True, "settings", 0)


@pytest.mark.parametrize(
    ("args", "text"),
    [
        (("", 1, 60), "key"),
        (("k", -1, 60), "negative"),
        (("k", 1, 60, -1), "negative"),
        (("k", 1, 0), "period"),
        (("k", 1, -5), "period"),
        (("k", 1, math.nan), "period"),
        (("k", 1, math.inf), "period"),
        (("k", 2**62, 60), "unit a microsecond|large"),
        (("k", 2**63 - 1, 60), "unit a microsecond|large"),
        (("k", 10**6, 1e12), "large"),
        (("k", 5, 60, 2**62), "large"),
        (("k", 5, 1e300), "large"),
    ],
    ids=str,
)
def test_numbers_that_make_no_sense_are_a_value_error_unsent(
    hot: Any, server: ValkeyServer, args: tuple[Any, ...], text: str
) -> None:
    hot.allow("warm", 1, 60)
    server.execute("CONFIG", "RESETSTAT")
    with pytest.raises(ValueError, match=text):
        hot.allow(*args)
    assert server.command_counts() == {}


@pytest.mark.parametrize("number", [2**63, 2**70, -(2**70)])
def test_numbers_beyond_64_bits_are_an_error_unsent(hot: Any, server: ValkeyServer, number: int) -> None:
    with pytest.raises((ValueError, OverflowError)):
        hot.allow("k", number, 60)
    assert server.keys() == []


@pytest.mark.parametrize("args", [("k", "1", 60), ("k", 1.5, 60), (5, 1, 60), ("k", 1, "60"), (None, 1, 60)], ids=str)
def test_arguments_of_the_wrong_type_are_a_type_error(hot: Any, args: tuple[Any, ...]) -> None:
    with pytest.raises(TypeError):
        hot.allow(*args)


def test_a_forgotten_script_is_loaded_again(hot: Any, server: ValkeyServer) -> None:
    for left in (4, 3, 2):
        server.execute("SCRIPT", "FLUSH")
        assert answer(hot.allow("k", 5, 3600)) == (True, left, 0.0)


def test_scripts_forgotten_under_load_charge_every_call_once(run: Any, default_alias: None, server: Any) -> None:
    from django_vcache import hotpaths

    async def main() -> list[Any]:
        calls = [asyncio.ensure_future(hotpaths.aallow("k", 200, 3600)) for _ in range(100)]
        server.execute("SCRIPT", "FLUSH")
        calls += [asyncio.ensure_future(hotpaths.aallow("k", 200, 3600)) for _ in range(100)]
        await asyncio.sleep(0)
        server.execute("SCRIPT", "FLUSH")
        return await asyncio.gather(*calls)

    assert all(run(main()))
    assert not hotpaths.allow("k", 200, 3600)


def test_a_key_of_another_type_is_the_servers_error(hot: Any, server: ValkeyServer) -> None:
    from django_vcache.exceptions import ResponseError

    server.execute("RPUSH", "k", "x")
    with pytest.raises(ResponseError, match="WRONGTYPE") as caught:
        hot.allow("k", 5, 60)
    assert caught.value.code == "WRONGTYPE"
    assert server.execute("TYPE", "k") == "list"


@pytest.mark.parametrize("limit", [3, 7, 999_983])
def test_the_whole_budget_at_once_is_the_limit(hot: Any, limit: int) -> None:
    """Rounding in single steps must not eat into it, also where the limit does not divide the period."""
    assert answer(hot.allow("k", limit, 3600, limit - 1)) == (True, 1, 0.0)
    assert hot.allow("k", limit, 3600, 1)
