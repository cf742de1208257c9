"""What a decision tells: the rule that is closest to its limit, each rule by name, and all of it as a dict; also when
the server was not asked. Decisions are equal by what they say, and are pickled."""

from __future__ import annotations

import copy
import json
import pickle
from typing import Any

import pytest
from django.test import override_settings
from support.caches import cache_setting
from support.server import ValkeyServer

from django_vcache.admission import Decision, Gate, Quota, Stream, Throttle

pytestmark = pytest.mark.usefixtures("patient")

SCOPE = {"org": 1, "project": 42}


def make(**keywords: Any) -> Gate:
    from django_vcache import admission

    return admission.Gate(
        throttles=[admission.Throttle("org", "10/d"), admission.Throttle("project", "8/h")],
        quotas=[admission.Quota("events", 4, "day"), admission.Quota("seen", -1, "day")],
        owner="org",
        **keywords,
    )


def test_the_rule_that_is_closest_to_its_limit_is_the_decisions(ask: Any) -> None:
    gate = make()
    decision = ask(gate, "admit", SCOPE, cost=3)
    assert (decision.limit, decision.remaining) == (4, 1)
    assert 0 < decision.reset_after <= 86_400
    assert (decision.retry_after, decision.never) == (0.0, False)
    assert decision.rule("org").remaining == 7
    assert decision.rule("seen").used == 3
    assert decision.rule("seen").remaining is None
    with pytest.raises(KeyError, match='the decision has no rule "user", but "org", "project", "events", "seen"'):
        decision.rule("user")


def test_of_a_refusal_it_is_the_rule_that_refused(ask: Any) -> None:
    gate = make()
    assert ask(gate, "admit", SCOPE, cost=4)
    for _ in range(2):
        refused = ask(gate, "admit", SCOPE)
        assert refused.rule("events").remaining == refused.remaining == 0
        assert (refused.limit, refused.never) == (4, False)
        assert refused.retry_after > 0
        assert refused.rule("project").limit == 8
    assert refused.source == "deny_cache"
    assert refused.rule("project").remaining is None, "nobody asked"
    never = ask(gate, "admit", {"org": 2, "project": 1}, cost=5)
    assert (never.retry_after, never.never) == (None, True)


def test_without_a_limit_there_is_nothing_to_tell(ask: Any) -> None:
    from django_vcache import admission

    decision = ask(admission.Throttle("org", "-1/s"), "check", 1)
    assert (decision.limit, decision.remaining, decision.reset_after) == (None, None, None)
    entry = ask(admission.Stream("events"), "add", b"x")
    assert (entry.limit, entry.rules, entry.retry_after) == (None, (), 0.0)


@pytest.mark.parametrize("outage", ["open", "closed", "local"])
def test_in_an_outage_every_attribute_is_there(ask: Any, fresh_server: ValkeyServer, outage: Any) -> None:
    with override_settings(CACHES={"default": cache_setting(fresh_server)}):
        from django_vcache.backend import publish_alias

        publish_alias("default")
        fresh_server.kill()
        decision = ask(make(outage=outage), "admit", SCOPE)
    for name in (each for each in dir(Decision) if not each.startswith("_")):
        getattr(decision, name)
    assert decision.source == "outage"
    assert (decision.limit, decision.remaining, decision.reset_after) == (None, None, None)
    assert [(rule.name, rule.limit, rule.remaining) for rule in decision.rules] == [
        ("org", 10, None),
        ("project", 8, None),
        ("events", 4, None),
        ("seen", -1, None),
    ]
    assert decision.rule("org").window == 86_400
    assert decision.headers() == ({} if decision else {"Retry-After": "1"})
    assert json.loads(json.dumps(decision.as_dict()))["outage"]
    assert pickle.loads(pickle.dumps(decision)).outage == decision.outage


def test_as_a_dict_it_goes_into_json(ask: Any) -> None:
    gate = make(stream=Stream("events", deadline=None))
    told = ask(gate, "admit", SCOPE, payload=b"x", dedupe="a").as_dict()
    assert json.loads(json.dumps(told)) == told
    assert told["allowed"] is True
    assert told["refused_by"] is None
    assert [rule["name"] for rule in told["rules"]] == ["org", "project", "events", "seen"]
    assert told["rules"][0].keys() == {
        "name",
        "kind",
        "limit",
        "burst",
        "remaining",
        "used",
        "reset_after",
        "window",
    }
    public = {name for name in dir(Decision) if not name.startswith("_")}
    assert told.keys() == public - {"as_dict", "headers", "response", "rule", "sentry_headers"}
    refused = ask(gate, "admit", SCOPE, cost=9).as_dict()
    assert refused["refused_by"] == {"rule": "project", "kind": "throttle"}


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_it_is_pickled_and_copied(ask: Any, protocol: int) -> None:
    gate = make(stream=Stream("events", deadline=None))
    admitted = ask(gate, "admit", SCOPE, payload=b"x", cost=2, dedupe="a")
    for decision in (admitted, ask(gate, "admit", SCOPE, cost=3), ask(gate, "admit", SCOPE, cost=100)):
        for again in (pickle.loads(pickle.dumps(decision, protocol)), copy.deepcopy(decision)):
            assert type(again) is Decision
            assert again == decision
            assert again.as_dict() == decision.as_dict()
        for part in (*decision.rules, decision.refused_by):
            assert pickle.loads(pickle.dumps(part, protocol)) == part
    assert admitted != ask(gate, "admit", SCOPE, cost=3)
    refund = ask(gate, "refund", pickle.loads(pickle.dumps(admitted, protocol)).receipt)
    assert pickle.loads(pickle.dumps(refund, protocol)).used == refund.used == {"events": 0, "seen": 0}


def test_a_full_stream_is_a_503(ask: Any) -> None:
    from django_vcache import admission

    stream = admission.Stream("events", maxlen=1)
    assert ask(stream, "add", b"x")
    refused = ask(stream, "add", b"x")
    assert (refused.status, refused.refused_by.kind, refused.headers()) == (503, "stream", {"Retry-After": "1"})


def test_sentry_clients_are_told_what_they_read(ask: Any) -> None:
    from django_vcache import admission

    throttle = admission.Throttle("org", "1/m")
    assert ask(throttle, "check", 1).sentry_headers("error") == {}
    refused = ask(throttle, "check", 1)
    wait = refused.headers()["Retry-After"]
    assert refused.sentry_headers("error", "transaction") == {
        "X-Sentry-Rate-Limits": f"{wait}:error;transaction:organization:org",
        "Retry-After": wait,
    }
    assert refused.sentry_headers(scope="project")["X-Sentry-Rate-Limits"] == f"{wait}::project:org"
    assert ask(throttle, "check", 2, 5).sentry_headers() == {}, "it never passes, whenever the client comes back"


def test_uuids_stand_for_themselves(ask: Any, server: ValkeyServer) -> None:
    from uuid import UUID

    from django_vcache import admission

    id = UUID("12345678-1234-5678-1234-567812345678")
    throttle = admission.Throttle("org", "9/h")
    for scope in (id, str(id), {"org": id}):
        assert ask(throttle, "check", scope)
    assert ask(throttle, "peek", id).remaining == 6
    assert server.keys() == [f"vcache:2:{{v00}}:t:org:org={id}".encode()]
    quota = Quota("q", lambda scope: 2 if scope == {"org": id} else 0, "day", key="org", deadline=None)
    assert ask(quota, "consume", id)
    assert Throttle("t", "1/s").name == "t"
