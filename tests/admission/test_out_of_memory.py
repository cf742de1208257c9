"""A server that is out of memory: an outage, which the policies decide on, and nothing is written."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from support.server import ValkeyServer

pytestmark = pytest.mark.usefixtures("patient")

SCOPE = {"org": 1, "project": 2}


@pytest.fixture
def server(fresh_server: ValkeyServer) -> ValkeyServer:
    """In place of the session's server: this one may be configured."""
    return fresh_server


@pytest.fixture
def state_of(server: ValkeyServer) -> Iterator[Callable[[], dict[bytes, Any]]]:
    """All keys, byte for byte, of a server that is out of memory but while they are read: DUMP needs memory itself."""

    def state() -> dict[bytes, Any]:
        server.execute("CONFIG", "SET", "maxmemory", 0)
        try:
            return {key: server.execute("DUMP", key) for key in server.keys("*")}
        finally:
            server.execute("CONFIG", "SET", "maxmemory", 1)

    yield state
    server.execute("CONFIG", "SET", "maxmemory", 0)


@pytest.mark.parametrize("policy", ["open", "closed", "local"])
@pytest.mark.parametrize("loaded", [True, False], ids=["script known", "script unknown"])
def test_the_outage_policy_decides_and_nothing_is_charged(
    ask: Any, server: ValkeyServer, state_of: Callable[[], dict[bytes, Any]], policy: Any, loaded: bool
) -> None:
    from django_vcache.admission import Gate, Quota, Throttle

    throttle = Throttle("org", "1000/d", outage=policy)
    quota = Quota("exports", 1000, "month", outage=policy, key="org")
    gate = Gate(
        [Throttle("project", "1000/d", outage=policy)], [Quota("events", 1000, "month", outage=policy)], owner="org"
    )
    calls = [(throttle, "check", 1), (quota, "consume", 1), (gate, "admit", SCOPE)]
    for of, method, scope in calls:
        assert ask(of, method, scope).source == "server"
    if not loaded:
        server.execute("SCRIPT", "FLUSH")
    before = state_of()
    decisions = [ask(of, method, scope) for of, method, scope in calls for _ in range(3)]
    admits = policy != "closed"
    assert {(decision.allowed, decision.source, decision.status, decision.receipt) for decision in decisions} == {
        (admits, "outage", 200 if admits else 503, None)
    }
    assert state_of() == before
    # What writes nothing is answered by the server, as ever.
    assert ask(quota, "peek", 1).used == 1
    assert [rule.remaining for rule in ask(gate, "peek", SCOPE)] == [999, 999]


@pytest.mark.parametrize("dedupe", [None, "e1"])
def test_a_payload_is_never_admitted(
    ask: Any, server: ValkeyServer, state_of: Callable[[], dict[bytes, Any]], dedupe: str | None
) -> None:
    from django_vcache.admission import Gate, Quota, Stream, Throttle
    from django_vcache.exceptions import VcacheError

    # No breaker: the server is asked each time, and answers at once when it has memory.
    keywords: Any = {"breaker": False}
    gate = Gate(
        [Throttle("org", "1000/d")], [Quota("events", 1000, "month")], Stream("events"), **keywords, owner="org"
    )
    stream = Stream("mails", **keywords)
    assert ask(gate, "admit", SCOPE, payload=b"first")
    assert ask(stream, "add", b"first", SCOPE)
    receipt = ask(gate, "admit", SCOPE).receipt
    before = state_of()
    decisions = [ask(gate, "admit", SCOPE, payload=b"x", dedupe=dedupe) for _ in range(3)]
    decisions += [ask(stream, "add", b"x", SCOPE, dedupe) for _ in range(3)]
    assert {(decision.allowed, decision.source, decision.status, decision.id) for decision in decisions} == {
        (False, "outage", 503, None)
    }
    assert {decision.response().status_code for decision in decisions} == {503}
    for of, method, argument in ((stream, "add_many", [b"x", b"y"]), (gate, "refund", receipt)):
        with pytest.raises(VcacheError, match="OOM"):
            ask(of, method, argument)
    assert state_of() == before
    server.execute("CONFIG", "SET", "maxmemory", 0)
    assert ask(gate, "admit", SCOPE, payload=b"x", dedupe=dedupe).id
    assert ask(stream, "add", b"x", SCOPE, dedupe).id
    assert ask(gate, "refund", receipt)
    assert [rule.used for rule in ask(gate, "peek", SCOPE)][1] == 2
    assert ask(gate.stream, "length") == ask(stream, "length") == 2
