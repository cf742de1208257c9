"""What is no throttle, no rate, no scope or no cost: an error that names it, before anything is sent."""

from __future__ import annotations

import re
from typing import Any

import pytest
from support.server import ValkeyServer

pytestmark = pytest.mark.usefixtures("patient")


async def arate(scope: Any) -> str:
    return "1/h"


@pytest.mark.parametrize(
    ("rate", "error", "text"),
    [
        (lambda scope: "often", ValueError, "rate of the throttle 'org' returned 'often'.*not a rate"),
        (lambda scope: 5, TypeError, "rate of the throttle 'org' returned 5.*not int"),
        (arate, TypeError, "rate of the throttle 'org' is an async callable"),
    ],
)
def test_a_callable_that_answers_no_rate_is_named(ask: Any, rate: Any, error: Any, text: str) -> None:
    from django_vcache.admission import Throttle

    with pytest.raises(error) as caught:
        ask(Throttle("org", rate), "check", 1)
    assert re.search(text, str(caught.value).replace('"', "'"))


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (("", "1/s"), ValueError),
        (("a b", "1/s"), ValueError),
        (("a" * 65, "1/s"), ValueError),
        (("clé", "1/s"), ValueError),
        (("org", "often"), ValueError),
        (("org", "1/fortnight"), ValueError),
        (("org", "-2/s"), ValueError),
        (("org", "1.5/s"), ValueError),
        (("org", "1/0s"), ValueError),
        (("org", f"{2**62}/s"), ValueError),
        (("org", 5), TypeError),
        (("org", None), TypeError),
        (("org", "1/s", 0), ValueError),
        (("org", "1/s", -1), ValueError),
        (("org", "1/s", 2**60), ValueError),
        (("org", "1/s", 1.5), TypeError),
        (("org", "1/s", None, ()), ValueError),
        (("org", "1/s", None, "a b"), ValueError),
        (("org", "1/s", None, 5), TypeError),
        ((5, "1/s"), TypeError),
    ],
    ids=str,
)
def test_what_is_no_throttle_is_an_error_when_it_is_made(arguments: tuple[Any, ...], error: Any) -> None:
    from django_vcache.admission import Throttle

    with pytest.raises(error):
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


@pytest.mark.parametrize(
    ("scope", "cost", "error"),
    [
        (None, 1, TypeError),
        (1.5, 1, TypeError),
        (True, 1, TypeError),
        (b"1", 1, TypeError),
        ([("org", 1)], 1, TypeError),
        ({"org": None}, 1, TypeError),
        ({"org": True}, 1, TypeError),
        ({"org": 1.5}, 1, TypeError),
        ({5: 1, "org": 1}, 1, TypeError),
        ({}, 1, ValueError),
        ({"project": 1}, 1, ValueError),
        ("", 1, ValueError),
        ("x" * 513, 1, ValueError),
        ("é" * 257, 1, ValueError),
        ("\ud800", 1, ValueError),
        (1, -1, ValueError),
        (1, 2**62, ValueError),
        (1, 2**64, ValueError),
        (1, -(2**64), ValueError),
        (1, True, TypeError),
        (1, 1.5, TypeError),
        (1, "1", TypeError),
        (1, None, TypeError),
    ],
    ids=repr,
)
def test_what_cannot_be_charged_is_an_error_before_anything_is_sent(
    ask: Any, server: ValkeyServer, scope: Any, cost: Any, error: Any
) -> None:
    from django_vcache.admission import Throttle

    throttle = Throttle("org", "10/m")
    server.execute("CONFIG", "RESETSTAT")
    with pytest.raises(error):
        ask(throttle, "check", scope, cost)
    assert "evalsha" not in server.command_counts()
    assert server.keys() == []


def test_a_missing_entry_is_named(ask: Any) -> None:
    from django_vcache.admission import Throttle

    with pytest.raises(ValueError, match="org"):
        ask(Throttle("org", "1/m"), "check", {"project": 1})
    with pytest.raises(TypeError, match='scope\'s "org" must be an int or a str, not NoneType'):
        ask(Throttle("org", "1/m"), "check", {"org": None})
