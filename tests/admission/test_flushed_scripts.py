"""A server that has forgotten the scripts (SCRIPT FLUSH, a restart, a failover): each call loads what it needs, and
charges what it would have charged.
"""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from support.server import ValkeyServer

pytestmark = pytest.mark.usefixtures("patient")

SCOPE = {"org": 1, "project": 2}
# More than is asked for however long the flushing takes.
LIMIT = 1_000_000


def make() -> Any:
    """A gate from which no unit flows off during a test: one does in 864 seconds."""
    from django_vcache.admission import Gate, Quota, Stream, Throttle

    throttle = Throttle("project", "100/d", burst=LIMIT)
    return Gate([throttle], [Quota("events", LIMIT, "month")], Stream("events"), owner="org")


def test_every_call_loads_its_script_again(ask: Any, server: ValkeyServer) -> None:
    from django_vcache.admission import Quota, Stream, Throttle

    throttle, quota, gate = Throttle("org", "1000/d"), Quota("exports", 1000, "month", key="org"), make()
    stream = Stream("mails", maxlen=100)

    def flushed(of: Any, method: str, *args: Any, **keywords: Any) -> Any:
        server.execute("SCRIPT", "FLUSH")
        server.execute("CONFIG", "RESETSTAT")
        answer = ask(of, method, *args, **keywords)
        # The script was missing, or this would not have been the way there.
        assert server.command_counts()["eval"] == 1
        return answer

    # Twice, so that nothing depends on what was never loaded before.
    for turn in (1, 2):
        assert flushed(throttle, "check", 1, 3).source == "server"
        assert flushed(throttle, "peek", 1).remaining == 1000 - 3 * turn
        receipt = flushed(quota, "consume", 1, 5).receipt
        assert flushed(quota, "peek", 1).used == 3 * (turn - 1) + 5
        # What is given back is of another size than what stays.
        assert flushed(quota, "refund", receipt).used == {"exports": 3 * (turn - 1)}
        assert not flushed(quota, "refund", receipt)
        assert flushed(quota, "consume", 1, 3)
        admitted = flushed(gate, "admit", SCOPE, payload=b"x", cost=2, dedupe=f"e{turn}")
        assert (admitted.source, admitted.duplicate) == ("server", False)
        again = flushed(gate, "admit", SCOPE, payload=b"x", cost=2, dedupe=f"e{turn}")
        assert (again.duplicate, again.id) == (True, admitted.id)
        charged = flushed(gate, "admit", SCOPE, cost=7)
        assert [rule.remaining for rule in flushed(gate, "peek", SCOPE)] == [LIMIT - 9 * turn, LIMIT - 2 * turn - 7]
        assert flushed(gate, "refund", charged.receipt).used == {"events": 2 * turn}
        assert flushed(stream, "add", b"x", SCOPE, f"e{turn}").id
        assert flushed(stream, "add", b"x", SCOPE, f"e{turn}").duplicate
        assert None not in flushed(stream, "add_many", [b"a", b"b", b"c"])
    assert ask(gate.stream, "length") == 2
    assert ask(stream, "length") == 8


@pytest.mark.usefixtures("default_alias")
def test_of_many_calls_to_a_server_without_scripts_few_bring_the_text(run: Any, server: ValkeyServer) -> None:
    """The text has some 12 KB: a thousand times that is more than a server reads in the time that a decision has."""
    from django_vcache.admission import Throttle

    # A unit flows off in 86 seconds.
    throttle = Throttle("org", "1000/d")

    async def main() -> list[Any]:
        return await asyncio.gather(*(throttle.acheck(number % 10) for number in range(500)))

    assert throttle.check(11)
    for _ in range(3):
        server.execute("SCRIPT", "FLUSH")
        server.execute("CONFIG", "RESETSTAT")
        decisions = run(main())
        assert {decision.source for decision in decisions} == {"server"}
        assert 1 <= server.command_counts()["eval"] <= 5
    assert throttle.peek(1).remaining == 1000 - 3 * 50


def test_calls_under_way_are_charged_once_when_the_scripts_are_flushed_among_them(
    run: Any, default_alias: None, server: ValkeyServer
) -> None:
    gate = make()

    async def admit(number: int) -> Any:
        return await gate.aadmit(SCOPE, payload=f"event {number}", dedupe=f"e{number % 80}" if number % 2 else None)

    async def flush() -> None:
        for _ in range(10):
            await asyncio.to_thread(server.execute, "SCRIPT", "FLUSH")

    async def main() -> list[Any]:
        decisions: list[Any] = []
        flushing = asyncio.ensure_future(flush())
        flushed = False
        # The last hundred come after the last flush.
        while not flushed:
            flushed = flushing.done()
            begin = len(decisions)
            decisions += await asyncio.gather(*(admit(begin + number) for number in range(100)))
        await flushing
        return decisions

    assert gate.admit({"org": 2, "project": 3})
    server.execute("CONFIG", "RESETSTAT")
    decisions = run(main())
    assert server.command_counts()["eval"] >= 1
    assert {decision.source for decision in decisions} == {"server"}
    new = [decision for decision in decisions if not decision.duplicate]
    # Half of them have an id, one of forty.
    assert len(new) == len(decisions) // 2 + 40
    assert len({decision.id for decision in new}) == len(new)
    [throttle, quota] = gate.peek(SCOPE)
    assert (throttle.remaining, quota.used, gate.stream.length()) == (LIMIT - len(new), len(new), len(new))
