"""What is no throttle, no rate, no scope or no cost: an error that names it, before anything is sent."""

from __future__ import annotations

import re
from typing import Any

import pytest
from support.server import ValkeyServer

pytestmark = pytest.mark.usefixtures("patient")


@pytest.mark.parametrize(
    ("rate", "error", "text"),
    [
        (lambda scope: "often", ValueError, "rate of the throttle 'org' returned 'often'.*not a rate"),
        (lambda scope: 5, TypeError, "rate of the throttle 'org' returned 5.*not int"),
    ],
)
def test_a_callable_that_answers_no_rate_is_named(ask: Any, rate: Any, error: Any, text: str) -> None:
    from django_vcache.admission import Throttle

    with pytest.raises(error) as caught:
        ask(Throttle("org", rate), "check", 1)
    assert re.search(text, str(caught.value).replace('"', "'"))


NO_NAME = "is not a name for a throttle: take 1 to 64 of the letters"
NO_RATE = "is not a rate: write <limit>/<period>"
TOO_LARGE = "are together too large to be counted exactly"


@pytest.mark.parametrize(
    ("arguments", "error", "text"),
    [
        (("", "1/s"), ValueError, f'"" {NO_NAME}'),
        (("a b", "1/s"), ValueError, f'"a b" {NO_NAME}'),
        (("a" * 65, "1/s"), ValueError, f'"a+" {NO_NAME}'),
        (("clé", "1/s"), ValueError, f'"clé" {NO_NAME}'),
        (("org", "often"), ValueError, f'"often" {NO_RATE}'),
        (("org", "1/fortnight"), ValueError, f'"1/fortnight" {NO_RATE}'),
        (("org", "-2/s"), ValueError, f'"-2/s" {NO_RATE}'),
        (("org", "1.5/s"), ValueError, f'"1.5/s" {NO_RATE}'),
        (("org", "1/0s"), ValueError, "the period of a rate is empty: give more than 0 s"),
        (("org", f"{2**62}/s"), ValueError, f"a limit of {2**62} in 1 s and a burst of {2**62} {TOO_LARGE}"),
        (("org", 5), TypeError, 'a rate is a str such as "100/m", not int'),
        (("org", None), TypeError, 'a rate is a str such as "100/m", not NoneType'),
        (("org", "1/s", 0), ValueError, "the burst of throttle 'org' is 0: nothing would ever pass"),
        (("org", "1/s", -1), ValueError, "burst is -1"),
        (("org", "1/s", 2**60), ValueError, f"a limit of 1 in 1 s and a burst of {2**60} {TOO_LARGE}"),
        (("org", "1/s", 1.5), TypeError, "burst must be an int, not float"),
        (("org", "1/s", None, ()), ValueError, "the key of 'org' names no entry of the scope"),
        (("org", "1/s", None, "a b"), ValueError, '"a b" is not a name for a scope\'s entry'),
        (("org", "1/s", None, 5), TypeError, "key must be a str or a sequence of strs, not int"),
        ((5, "1/s"), TypeError, r"\bint\b.*\bstr\b|\bstr\b.*\bint\b"),
    ],
    ids=lambda value: repr(value)[:60],
)
def test_what_is_no_throttle_is_an_error_when_it_is_made(arguments: tuple[Any, ...], error: Any, text: str) -> None:
    from django_vcache.admission import Throttle

    with pytest.raises(error, match=text):
        Throttle(*arguments)


@pytest.mark.parametrize(
    ("keyword", "value", "error", "text"),
    [
        ("shards", 0, ValueError, "shards"),
        ("shards", -1, ValueError, "shards"),
        ("shards", 10**9, ValueError, "shards"),
        ("shards", "16", TypeError, "shards must be an int, not str"),
        ("shards", True, TypeError, "shards must be an int, not bool"),
        ("outage", "maybe", ValueError, "maybe.*open.*closed.*local"),
        ("outage", None, TypeError, "outage must be a str"),
        ("deny_cache", 1, TypeError, "deny_cache must be True or False"),
        ("guard", 0.5, ValueError, "guard"),
        ("guard", float("nan"), ValueError, "guard"),
        ("guard", "2", TypeError, "guard must be a number"),
        ("processes", 0, ValueError, "processes"),
        ("deadline", 0, ValueError, "deadline is 0: give seconds above 0"),
        ("deadline", -1, ValueError, "deadline"),
        ("deadline", float("inf"), ValueError, "deadline"),
        ("deadline", "1", TypeError, "deadline must be a number"),
        ("prefix", "", ValueError, "prefix"),
        ("prefix", "a b", ValueError, "prefix"),
        ("using", 5, TypeError, "using must be a str"),
        ("dedupe_for", 5, TypeError, 'no keyword "dedupe_for"; it has using'),
        ("deadlin", 5, TypeError, 'no keyword "deadlin"'),
    ],
)
def test_a_keyword_that_makes_no_sense_is_named(keyword: str, value: Any, error: Any, text: str) -> None:
    from django_vcache.admission import Throttle

    with pytest.raises(error, match=text):
        Throttle("org", "1/s", **{keyword: value})


NO_SCOPE = r'a scope, or an int, str or UUID expected \(a mapping such as \{"org": 1\}\), not'
NO_ENTRY = "throttle 'org' is keyed by \"org\", but the scope"
NO_COST = r"give a whole number from 0 to 2\^53"


@pytest.mark.parametrize(
    ("scope", "cost", "error", "text"),
    [
        (None, 1, TypeError, f"{NO_SCOPE} NoneType"),
        (1.5, 1, TypeError, f"{NO_SCOPE} float"),
        (True, 1, TypeError, f"{NO_SCOPE} bool"),
        (b"1", 1, TypeError, f"{NO_SCOPE} bytes"),
        ([("org", 1)], 1, TypeError, f"{NO_SCOPE} list"),
        ({"org": None}, 1, TypeError, 'the scope\'s "org" must be an int, a str or a UUID, not NoneType'),
        ({"org": True}, 1, TypeError, 'the scope\'s "org" must be an int, a str or a UUID, not bool'),
        ({"org": 1.5}, 1, TypeError, 'the scope\'s "org" must be an int, a str or a UUID, not float'),
        ({5: 1, "org": 1}, 1, TypeError, "a scope's names are strs, not int"),
        ({}, 1, ValueError, f"{NO_ENTRY} is empty"),
        ({"project": 1}, 1, ValueError, f'{NO_ENTRY} has only "project"'),
        ("", 1, ValueError, 'the scope\'s "org" is empty'),
        ("x" * 513, 1, ValueError, r'the scope\'s "org" \("xxxx.*too long: it takes more than 512 bytes'),
        ("é" * 257, 1, ValueError, r'the scope\'s "org" \("éééé.*too long: it takes more than 512 bytes'),
        # A ValueError of Python's own, which names the character.
        ("\ud800", 1, ValueError, "ud800"),
        (1, -1, ValueError, f"the cost is -1: {NO_COST}"),
        (1, 2**62, ValueError, f"the cost is {2**62}: {NO_COST}"),
        (1, 2**64, ValueError, f"the cost is {2**64}: {NO_COST}"),
        (1, -(2**64), ValueError, f"the cost is -{2**64}: {NO_COST}"),
        (1, True, TypeError, "a cost is an int, not bool"),
        (1, 1.5, TypeError, "a cost is an int, not float"),
        (1, "1", TypeError, "a cost is an int, not str"),
        (1, None, TypeError, "a cost is an int, not NoneType"),
    ],
    ids=lambda value: ascii(value)[:60],
)
def test_what_cannot_be_charged_is_an_error_before_anything_is_sent(
    ask: Any, server: ValkeyServer, scope: Any, cost: Any, error: Any, text: str
) -> None:
    from django_vcache.admission import Throttle

    throttle = Throttle("org", "10/m")
    server.execute("CONFIG", "RESETSTAT")
    with pytest.raises(error, match=text):
        ask(throttle, "check", scope, cost)
    assert "evalsha" not in server.command_counts()
    assert server.keys() == []


def test_a_missing_entry_is_named(ask: Any) -> None:
    from django_vcache.admission import Throttle

    with pytest.raises(ValueError, match="org"):
        ask(Throttle("org", "1/m"), "check", {"project": 1})
    with pytest.raises(TypeError, match='scope\'s "org" must be an int, a str or a UUID, not NoneType'):
        ask(Throttle("org", "1/m"), "check", {"org": None})
