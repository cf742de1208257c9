"""A server that answers nothing for a while, and limits with the deadline that they have unless told otherwise: each
decides as in an outage instead of waiting, and by the server again when it goes on.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from django.test import override_settings
from support.caches import cache_setting
from support.server import ValkeyServer, wait_until

SCOPE = {"org": 1, "project": 2}


@pytest.fixture
def server(fresh_server: ValkeyServer) -> ValkeyServer:
    """In place of the session's server: this one may be paused."""
    return fresh_server


@pytest.fixture
def default_cache(server: ValkeyServer) -> Iterator[None]:
    """An alias whose own time-outs never end a call: only the deadline of the limit does."""
    setting = cache_setting(server, RESPONSE_TIMEOUT=3600.0, CONNECT_TIMEOUT=3600.0)
    with override_settings(CACHES={"default": setting}):
        yield


@contextmanager
def paused(server: ValkeyServer) -> Iterator[None]:
    server.pause()
    try:
        yield
    finally:
        server.resume()


def back(ask: Any, of: Any, method: str, *args: Any, **keywords: Any) -> Any:
    """Asks until the server decides: a slow machine is an outage as well. What was not answered may have been done, so
    that what is counted has an id."""

    def decided() -> Any:
        decision = ask(of, method, *args, **keywords)
        return decision if decision.source == "server" else None

    return wait_until(decided, interval=0.02, what="a decision by the server")


@pytest.mark.parametrize("policy", ["open", "closed"])
def test_what_is_not_answered_in_time_is_decided_by_the_outage_policy(
    ask: Any, server: ValkeyServer, policy: Any
) -> None:
    from django_vcache.admission import Gate, Quota, Throttle

    gate = Gate(
        [Throttle("project", "1000/d", outage=policy)], [Quota("events", 1000, "month", outage=policy)], owner="org"
    )
    calls: list[tuple[Any, str, Any, dict[str, str]]] = [
        (Throttle("org", "1000/d", outage=policy), "check", 1, {}),
        (Quota("exports", 1000, "month", outage=policy, key="org"), "consume", 1, {}),
        (gate, "admit", SCOPE, {}),
        (gate, "admit", SCOPE, {"dedupe": "e1"}),
    ]
    for of, method, scope, keywords in calls:
        assert back(ask, of, method, scope, **keywords)
    with paused(server):
        # None of them waits for the server: the first ones ask it, the last ones leave it alone.
        decisions = [ask(of, method, scope, **keywords) for of, method, scope, keywords in calls for _ in range(7)]
    admits = policy == "open"
    assert {(decision.allowed, decision.source, decision.status, decision.receipt) for decision in decisions} == {
        (admits, "outage", 200 if admits else 503, None)
    }
    if not admits:
        assert {decision.refused_by.kind for decision in decisions} == {"outage"}
    for of, method, scope, keywords in calls:
        assert of.metrics()["outages"] >= 7
        assert back(ask, of, method, scope, **keywords)


@pytest.mark.parametrize("dedupe", [None, "e1"])
def test_a_payload_that_is_not_known_to_be_stored_is_never_admitted(
    ask: Any, server: ValkeyServer, dedupe: str | None
) -> None:
    from django_vcache.admission import Gate, Quota, Stream, Throttle

    gate = Gate([Throttle("project", "1000/d")], [Quota("events", 1000, "month")], stream=Stream("events"), owner="org")
    stream = Stream("mails")
    assert back(ask, gate, "admit", SCOPE, payload=b"first", dedupe="e0")
    assert back(ask, stream, "add", b"first", SCOPE, "e0")
    with paused(server):
        decisions = [ask(gate, "admit", SCOPE, payload=b"x", dedupe=dedupe) for _ in range(7)]
        decisions += [ask(stream, "add", b"x", SCOPE, dedupe) for _ in range(7)]
    assert {(decision.allowed, decision.source, decision.status, decision.id) for decision in decisions} == {
        (False, "outage", 503, None)
    }
    assert {decision.refused_by.kind for decision in decisions} == {"outage"}
    assert {decision.response().status_code for decision in decisions} == {503}
    # Under an id it is one entry, whether the server wrote it in the end or not.
    assert back(ask, gate, "admit", SCOPE, payload=b"x", dedupe=dedupe).id
    assert back(ask, stream, "add", b"x", SCOPE, dedupe).id
    if dedupe:
        assert ask(gate.stream, "length") == ask(stream, "length") == 2
