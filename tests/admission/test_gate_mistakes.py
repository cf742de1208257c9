"""What is no gate and no stream, and what neither can decide on or write: an error that names it, before anything is
sent."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from django.test import override_settings
from support.server import ValkeyServer

pytestmark = pytest.mark.usefixtures("patient")

SCOPE = {"org": 1, "project": 42}


@pytest.fixture
def settings_of_policies() -> Iterator[None]:
    with override_settings(VCACHE={"POLICIES": {"usual": {"deny_cache": True}}}):
        yield


@pytest.mark.parametrize(
    ("keywords", "error", "text"),
    [
        ({}, ValueError, "gate"),
        ({"throttles": []}, ValueError, "gate"),
        ({"throttles": 5}, TypeError, "iterable"),
        ({"throttles": ["org"]}, TypeError, "throttles must hold a Throttle each, not .*str"),
        ({"quotas": [None]}, TypeError, "quotas must hold a Quota each"),
        ({"stream": "events"}, TypeError, "Stream"),
        ({"shards": 0}, ValueError, "shards"),
        ({"nonsense": 1}, TypeError, 'no keyword "nonsense"'),
    ],
    ids=str,
)
def test_what_is_no_gate_is_an_error_when_it_is_made(keywords: Any, error: Any, text: str) -> None:
    from django_vcache.admission import Gate

    with pytest.raises(error, match=text):
        Gate(**keywords)


def test_two_rules_of_one_name_and_parts_on_several_aliases_are_errors() -> None:
    from django_vcache.admission import Gate, Quota, Throttle

    with pytest.raises(ValueError, match=r"org"):
        Gate([Throttle("org", "1/s"), Throttle("org", "1/m")])
    with pytest.raises(ValueError, match=r"org"):
        Gate([Throttle("org", "1/s")], [Quota("org", 1, "day")], owner="org")
    parts = ([Throttle("org", "1/s", using="a")], [Quota("events", 1, "day", using="b", key="org")])
    with pytest.raises(ValueError, match=r'"a" and "b".*using='):
        Gate(*parts, owner="org")
    assert Gate(*parts, using="c", owner="org").using == "c"
    assert Gate([Throttle("org", "1/s", using="a")]).using == "a"


NO_SCOPE = r'a scope expected \(a mapping such as \{"org": 1\}\), not'
NO_COST = r"give a whole number from 0 to 2\^53"
NO_PAYLOAD = "bytes, bytearray, memoryview or str expected, not int"


@pytest.mark.parametrize(
    ("scope", "keywords", "error", "text"),
    [
        (1, {}, TypeError, f"{NO_SCOPE} int"),
        ("org", {}, TypeError, f"{NO_SCOPE} str"),
        (None, {}, TypeError, f"{NO_SCOPE} NoneType"),
        ({}, {}, ValueError, 'keyed by "org", but the scope is empty'),
        ({"org": 1}, {}, ValueError, 'throttle \'project\' is keyed by "project", but the scope has only "org"'),
        (
            {"org": 1, "project": None},
            {},
            TypeError,
            'the scope\'s "project" must be an int, a str or a UUID, not NoneType',
        ),
        ({"org": 1, "project": "x" * 600}, {}, ValueError, 'the scope\'s "project" .*xxxx.* more than 512 bytes'),
        ({"org": 1, "project": 2, "payload": 3}, {"payload": b"x"}, ValueError, 'the scope has an entry "payload"'),
        (SCOPE, {"payload": 5}, TypeError, NO_PAYLOAD),
        (SCOPE, {"payload": b"x" * 1_048_577}, ValueError, "the payload has 1048577 bytes: at most 1048576 are taken"),
        (SCOPE, {"cost": -1}, ValueError, f"the cost is -1: {NO_COST}"),
        (SCOPE, {"cost": 2**62}, ValueError, f"the cost is {2**62}: {NO_COST}"),
        (SCOPE, {"cost": 1.5}, TypeError, "a cost is an int, not float"),
        (SCOPE, {"dedupe": ""}, ValueError, "the dedupe id is empty"),
        (SCOPE, {"dedupe": "x" * 600}, ValueError, "the dedupe id .*xxxx.* more than 512 bytes"),
        (SCOPE, {"dedupe": 5}, TypeError, r"\bint\b.*\bstr\b|\bstr\b.*\bint\b"),
        (SCOPE, {"limits": {"nothing": 5}}, ValueError, "there is no rule 'nothing' whose limit could be changed"),
        (SCOPE, {"limits": {"events": "5"}}, TypeError, "a limit is an int, not str"),
        (SCOPE, {"limits": {5: 5}}, TypeError, r"\bint\b.*\bstr\b|\bstr\b.*\bint\b"),
        (SCOPE, {"limits": [("events", 5)]}, TypeError, r"\blist\b"),
        (SCOPE, {"rates": {"nothing": "1/s"}}, ValueError, "there is no rule 'nothing' whose"),
        (SCOPE, {"rates": {"org": "often"}}, ValueError, '"often" is not a rate'),
        (SCOPE, {"rates": {"org": 5}}, TypeError, 'a rate is a str such as "100/m", not int'),
        (SCOPE, {"rates": {"events": "1/s"}}, ValueError, "quota 'events' has a limit and no rate"),
    ],
    ids=lambda value: repr(value)[:60],
)
def test_what_cannot_be_decided_is_an_error_before_anything_is_sent(
    ask: Any, server: ValkeyServer, scope: Any, keywords: Any, error: Any, text: str
) -> None:
    from django_vcache.admission import Gate, Quota, Stream, Throttle

    gate = Gate(
        throttles=[Throttle("org", "1000/d"), Throttle("project", "5/h", burst=3)],
        quotas=[Quota("events", 10, "month")],
        stream=Stream("events", maxlen=1000),
        owner="org",
    )
    server.execute("CONFIG", "RESETSTAT")
    with pytest.raises(error, match=text):
        ask(gate, "admit", scope, **keywords)
    assert "evalsha" not in server.command_counts()
    assert server.keys() == []


def test_a_payload_without_a_stream_is_an_error(ask: Any) -> None:
    from django_vcache.admission import Gate, Throttle

    with pytest.raises(ValueError, match=r"stream"):
        ask(Gate([Throttle("org", "1/s")]), "admit", SCOPE, payload=b"x")


@pytest.mark.parametrize(
    ("arguments", "keywords", "error", "text"),
    [
        (("",), {}, ValueError, '"" is not a name for a stream: take 1 to 64 of the letters'),
        (("a b",), {}, ValueError, '"a b" is not a name for a stream'),
        (("events", 0), {}, ValueError, "maxlen is 0: give 1 or more, or None"),
        (("events", -1), {}, ValueError, "maxlen is -1"),
        (("events", None, "drop"), {}, ValueError, 'full is "drop": it is "refuse" or "trim"'),
        (("events",), {"max_payload": -1}, ValueError, "max_payload is -1"),
        (("events",), {"dedupe_for": 0}, ValueError, "dedupe_for is 0: give seconds above 0"),
        (("events",), {"outage": "shrug"}, ValueError, '"shrug" is not an outage policy'),
        (("events",), {"guard": 2.0}, TypeError, 'no keyword "guard"; it has using'),
    ],
    ids=str,
)
def test_what_is_no_stream_is_an_error_when_it_is_made(arguments: Any, keywords: Any, error: Any, text: str) -> None:
    from django_vcache.admission import Stream

    with pytest.raises(error, match=text):
        Stream(*arguments, **keywords)


@pytest.mark.parametrize(
    ("method", "arguments", "error", "text"),
    [
        ("add", (5,), TypeError, NO_PAYLOAD),
        ("add", (b"x", 5), TypeError, f"{NO_SCOPE} int"),
        ("add", (b"x", {"payload": 1}), ValueError, 'the scope has an entry "payload"'),
        ("add", (b"x" * 11,), ValueError, "the payload has 11 bytes: at most 10 are taken"),
        ("add_many", (5,), TypeError, r"\bint\b.* iterable"),
        ("add_many", ([b"x", 5],), TypeError, NO_PAYLOAD),
        ("add_many", ([b"x", b"x" * 11],), ValueError, "the payload has 11 bytes: at most 10 are taken"),
    ],
    ids=repr,
)
def test_what_cannot_be_written_is_an_error_before_anything_is_sent(
    ask: Any, server: ValkeyServer, method: str, arguments: Any, error: Any, text: str
) -> None:
    from django_vcache.admission import Stream

    with pytest.raises(error, match=text):
        ask(Stream("events", max_payload=10), method, *arguments)
    assert server.keys() == []


def test_a_dict_that_changes_while_it_is_read_is_no_panic(ask: Any) -> None:
    """Looking at a value may run code of the project's, or let another thread run."""
    from uuid import UUID

    from django_vcache.admission import Gate, Throttle

    gate = Gate([Throttle("org", "5/d")], owner="org")
    scope: dict[str, Any] = {}

    class Growing(UUID):
        def __str__(self) -> str:
            scope[f"more{len(scope)}"] = 1
            return super().__str__()

    scope["org"] = Growing(int=1)
    assert ask(gate, "admit", scope).rule("org").remaining == 4
    assert len(scope) > 1
    assert ask(gate, "admit_many", [{"scope": scope}])[0].rule("org").remaining == 3


@pytest.mark.parametrize(
    ("part", "gate", "name"),
    [
        ({"deny_cache": True}, {"deny_cache": False}, "deny_cache"),
        ({"prefix": "vcache"}, {"prefix": "shop"}, "prefix"),
        ({"breaker": True}, {"breaker": False}, "breaker"),
        ({"guard": None}, {"guard": 2.0}, "guard"),
    ],
    ids=lambda value: str(value),
)
def test_a_part_that_says_the_usual_is_told_where_the_gate_says_otherwise(part: Any, gate: Any, name: str) -> None:
    from django_vcache.admission import Gate, Throttle

    with pytest.raises(ValueError, match=rf"throttle 'org' has settings that its gate would ignore \({name}\)"):
        Gate([Throttle("org", "1/s", **part)], **gate)
    assert Gate([Throttle("org", "1/s", **part)])
    assert Gate([Throttle("org", "1/s")], **gate)
    assert Gate([Throttle("org", "1/s", **gate)], **gate)


def test_a_policy_of_a_part_counts_as_said(settings_of_policies: None) -> None:
    from django_vcache.admission import Gate, Stream, Throttle

    with pytest.raises(ValueError, match=r"throttle 'org' has settings that its gate would ignore \(deny_cache\)"):
        Gate([Throttle("org", "1/s", policy="usual")], deny_cache=False)
    assert Gate([Throttle("org", "1/s", policy="usual")])
    with pytest.raises(ValueError, match=r"stream 'events' has settings .* \(max_payload\)"):
        Gate(stream=Stream("events", max_payload=1_048_576), max_payload=5)
