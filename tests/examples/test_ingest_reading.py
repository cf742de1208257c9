"""`examples/ingest`: how events are understood, whatever is in them."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from random import Random
from types import ModuleType
from typing import Any

import pytest
from support.tracker import PROJECT


@pytest.fixture(scope="module", autouse=True)
def _path() -> Iterator[None]:
    sys.path.insert(0, str(PROJECT))
    yield
    sys.path.remove(str(PROJECT))


@pytest.fixture(scope="module")
def reading(_path: None) -> ModuleType:
    from tracker import reading

    return reading


def fault(kind: str = "ValueError", value: str = "3", function: str = "total", line: int = 7) -> dict[str, Any]:
    frames = [
        {"filename": "lib.py", "function": "call", "in_app": False},
        {"filename": "shop.py", "module": "shop", "function": function, "lineno": line, "in_app": True},
    ]
    return {"exception": {"values": [{"type": kind, "value": value, "stacktrace": {"frames": frames}}]}}


def test_an_event_has_a_title_and_a_culprit(reading: ModuleType) -> None:
    assert reading.title(fault()) == "ValueError: 3"
    assert reading.culprit(fault()) == "total in shop.py"
    assert reading.title({"logentry": {"message": "%s is slow", "formatted": "web is slow\nvery"}}) == "web is slow"
    assert reading.title({"message": "it broke"}) == "it broke"
    assert reading.title({}) == "(no message)"
    assert reading.culprit({"transaction": "/checkout/"}) == "/checkout/"


def test_the_same_fault_has_the_same_fingerprint(reading: ModuleType) -> None:
    same = reading.fingerprint(fault())
    assert reading.fingerprint(fault(value="4", line=9)) == same, "values and lines differ each time"
    assert reading.fingerprint(fault(kind="KeyError")) != same
    assert reading.fingerprint(fault(function="other")) != same
    template = {"logentry": {"message": "%s is slow", "formatted": "web-1 is slow"}}
    other = {"logentry": {"message": "%s is slow", "formatted": "web-2 is slow"}}
    assert reading.fingerprint(template) == reading.fingerprint(other)


def test_a_client_may_choose_the_fingerprint(reading: ModuleType) -> None:
    one, two = fault() | {"fingerprint": ["payment"]}, {"message": "x", "fingerprint": ["payment"]}
    assert reading.fingerprint(one) == reading.fingerprint(two)
    finer = fault() | {"fingerprint": ["{{ default }}", "shop-1"]}
    assert reading.fingerprint(finer) not in (reading.fingerprint(fault()), reading.fingerprint(one))
    assert reading.fingerprint(fault() | {"fingerprint": ["{{ default }}"]}) == reading.fingerprint(fault())


def test_a_trace_comes_innermost_first_with_its_lines(reading: ModuleType) -> None:
    data = fault()
    frame = data["exception"]["values"][0]["stacktrace"]["frames"][1]
    frame |= {"pre_context": ["a", "b"], "context_line": "c", "post_context": ["d"], "vars": {"x": [1]}}
    [exception] = reading.exceptions(data)
    first, second = exception.frames
    assert (first.function, first.in_app, second.in_app) == ("total", True, False)
    assert [(line.number, line.text) for line in first.lines] == [(5, "a"), (6, "b"), (7, "c"), (8, "d")]
    assert [line.is_current for line in first.lines] == [False, False, True, False]
    assert first.variables == [("x", "[1]")]


def test_what_happened_before_has_a_label_if_the_client_gives_one(reading: ModuleType) -> None:
    crumbs = [{"category": "ui", "type": "click"}, {"type": "click"}, {"message": "clicked"}, {"message": [1]}, None]
    expected = [("ui", ""), ("click", ""), ("", "clicked"), ("", "[1]"), ("", "")]
    assert reading.breadcrumbs({"breadcrumbs": crumbs}) == expected
    assert reading.breadcrumbs({"breadcrumbs": {"values": crumbs}}) == expected
    assert reading.breadcrumbs({}) == []


def test_what_no_database_takes_is_replaced(reading: ModuleType) -> None:
    parsed = reading.parse(b'{"a": "x\\u0000y\\ud800z", "b": 1e999, "c": [-1e999, 0.5, 3], "d": %s}' % (b"9" * 5000))
    assert parsed["a"] == "x\ufffdy\ufffdz"
    assert (parsed["b"], parsed["c"]) == ("1e999", ["-1e999", 0.5, 3])
    assert parsed["d"] == "9" * 5000
    json.dumps(parsed, allow_nan=False).encode()
    for payload in (b"", b"[]", b"{", b"\xff", b"3"):
        with pytest.raises(reading.Unreadable):
            reading.parse(payload)


NAMES = (
    *(
        "exception",
        "values",
        "stacktrace",
        "frames",
        "type",
        "value",
        "logentry",
        "message",
        "formatted",
        "level",
        "tags",
    ),
    *(
        "tags",
        "fingerprint",
        "lineno",
        "pre_context",
        "context_line",
        "vars",
        "transaction",
        "release",
        "in_app",
        "function",
    ),
    *("breadcrumbs", "category", "request", "method", "url"),
)
LEAVES = (None, True, False, 0, -7, 2**70, 0.5, "", "text", "\u0000", "\ud800", "{{ default }}", "fatal", "\n")


def tree(random: Random, depth: int = 5) -> Any:
    """JSON of the names that the protocol has, in no order that it has."""
    kind = random.randrange(3) if depth else 0
    if kind == 0:
        return random.choice(LEAVES)
    if kind == 1:
        return [tree(random, depth - 1) for _ in range(random.randrange(4))]
    return {random.choice(NAMES): tree(random, depth - 1) for _ in range(random.randrange(6))}


def test_nothing_in_an_event_is_an_error(reading: ModuleType) -> None:
    random = Random(1)
    for _ in range(300):
        data = {name: tree(random) for name in NAMES if random.random() < 0.6}
        parsed = reading.parse(json.dumps(data).encode())
        assert len(reading.title(parsed)) <= 200
        assert len(reading.culprit(parsed)) <= 200
        assert len(reading.fingerprint(parsed)) == 64
        assert reading.level(parsed) in reading.LEVELS
        for exception in reading.exceptions(parsed):
            assert isinstance(exception.type + exception.value, str)
        assert all(isinstance(text, str) for pair in reading.tags(parsed) for text in pair)
        assert all(isinstance(text, str) for pair in reading.breadcrumbs(parsed) for text in pair)
        assert isinstance(reading.message(parsed) + reading.asked(parsed), str)
        json.dumps(parsed, allow_nan=False, ensure_ascii=False).encode()
