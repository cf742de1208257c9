"""Commands ask before they destroy something, unless they get ``--noinput``."""

from __future__ import annotations

import builtins
import sys
from collections.abc import Iterator
from io import StringIO
from types import ModuleType
from typing import Any

import pytest
from django.core.management import CommandError, call_command, get_commands
from django.test import override_settings
from support.caches import cache_setting
from support.server import ValkeyServer
from support.streams import GROUP, Shards, add, dead, depth, make

events = Shards("events", 2)
NAMED = ("events", "--shards", "2", "--prefix", "test")


@pytest.fixture(autouse=True)
def gate(server: ValkeyServer, patient: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A gate that has charged, and a stream with two dead letters and a group that has read nothing."""
    from django_vcache.admission import Gate, Throttle

    shop: Any = ModuleType("shop")
    shop.gate = Gate([Throttle("org", "10/d"), Throttle("project", "100/d")])
    monkeypatch.setitem(sys.modules, "shop", shop)
    with override_settings(
        CACHES={"default": cache_setting(server)}, INSTALLED_APPS=["django_vcache"], VCACHE={"GATES": ["shop.gate"]}
    ):
        get_commands.cache_clear()
        assert shop.gate.admit({"org": 7, "project": 42})
        add(server, events, 1, 2)
        consumer = make(events)
        for batch in consumer:
            batch.reject()
            if len(dead(server, events)) == 2:
                consumer.stop()
        for key in events.keys:
            server.execute("XGROUP", "CREATE", key, "audit", "0")
        add(server, events, 3, 4, 5)
        yield shop.gate
    get_commands.cache_clear()


class Terminal:
    """What is typed, and what is shown."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.answer: str | type[BaseException] | None = None
        self.out, self.errors = StringIO(), StringIO()
        monkeypatch.setattr(builtins, "input", self._input)

    def _input(self, prompt: str = "") -> str:
        answer = self.answer
        assert answer is not None, "nothing is to be asked"
        if isinstance(answer, str):
            return answer
        raise answer

    def run(self, *words: str, answer: str | type[BaseException] | None) -> None:
        self.answer = answer
        call_command(*words, stdout=self.out, stderr=self.errors, no_color=True)


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    return Terminal(monkeypatch)


DESTRUCTIVE = {
    "drop all": (
        ("vcache_stream", *NAMED, "--drop", "all"),
        "This deletes all dead letters of stream events (cache alias default), 2 of them, for good.",
    ),
    "drop": (
        ("vcache_stream", *NAMED, "--drop", "0/1-1", "0/1-2", "0/1-3"),
        "This deletes dead letters of stream events (cache alias default), 3 of them, for good.",
    ),
    "requeue all": (
        ("vcache_stream", *NAMED, "--requeue", "all"),
        "This moves all dead letters of stream events (cache alias default) back, 2 of them, and its groups "
        f"(audit, {GROUP}) get each of them again.",
    ),
    "trim": (
        ("vcache_stream", *NAMED, "--trim"),
        "This deletes the entries of stream events (cache alias default) that all groups have acknowledged, also those "
        "that delete=False has kept.",
    ),
    "delete group": (
        ("vcache_stream", *NAMED, "--delete-group", "audit"),
        "This deletes the group audit of stream events (cache alias default). It has 0 entries pending, and 3 still to "
        "read.",
    ),
    "delete group and trim": (
        ("vcache_stream", *NAMED, "--delete-group", GROUP, "--trim"),
        f"This deletes the group {GROUP} of stream events (cache alias default), and the entries that all other groups "
        "have acknowledged, also those that delete=False has kept. It has 0 entries pending, and 3 still to read.",
    ),
    "reset": (
        ("vcache_limits", "org=7", "project=42", "--reset"),
        "This forgets what org=7 project=42 was charged by shop.gate: org, project.",
    ),
    "reset a rule": (
        ("vcache_limits", "org=7", "project=42", "--reset", "org", "--json"),
        "This forgets what org=7 project=42 was charged by shop.gate: org.",
    ),
}


def stored(server: ValkeyServer) -> Any:
    keys = sorted(server.keys())
    return [(key, server.execute("DUMP", key)) for key in keys]


@pytest.mark.parametrize("answer", ["no", "", "y", EOFError, KeyboardInterrupt], ids=str)
@pytest.mark.parametrize("what", DESTRUCTIVE)
def test_without_a_yes_nothing_is_changed(server: ValkeyServer, terminal: Terminal, what: str, answer: Any) -> None:
    words, question = DESTRUCTIVE[what]
    before = stored(server)
    with pytest.raises(CommandError, match="nothing was changed") as caught:
        terminal.run(*words, answer=answer)
    assert stored(server) == before
    assert terminal.errors.getvalue().startswith(question)
    assert terminal.errors.getvalue().endswith("\nType 'yes' to continue, or 'no' to cancel: ")
    # A program may read it.
    assert terminal.out.getvalue() == ""
    if answer is EOFError:
        assert "Add --noinput to go ahead" in str(caught.value)


@pytest.mark.parametrize("how", ["yes", "--noinput", "--no-input"])
@pytest.mark.parametrize("what", [what for what in DESTRUCTIVE if what != "drop"])
def test_with_a_yes_or_noinput_it_is_done(server: ValkeyServer, terminal: Terminal, what: str, how: str) -> None:
    words, _ = DESTRUCTIVE[what]
    if what == "trim":
        # Something to trim.
        server.execute("XREADGROUP", "GROUP", "audit", "reader", "STREAMS", events.keys[0], ">")
        (id, _), *_ = server.execute("XRANGE", events.keys[0], "-", "+")
        for group in ("audit", GROUP):
            server.execute("XREADGROUP", "GROUP", group, "reader", "STREAMS", events.keys[0], ">")
            server.execute("XACK", events.keys[0], group, id)
    before = stored(server)
    if how == "yes":
        terminal.run(*words, answer="yes")
    else:
        terminal.run(*words, how, answer=None)
        assert terminal.errors.getvalue() == ""
    assert stored(server) != before
    assert terminal.out.getvalue() != ""


def test_what_destroys_nothing_is_not_asked_about(server: ValkeyServer, terminal: Terminal, gate: Any) -> None:
    letter = server.execute("XRANGE", events.dead_keys[0], "-", "+")[0][0].decode()
    for words in (
        ("vcache_stream", *NAMED),
        ("vcache_stream", *NAMED, "--dead"),
        ("vcache_stream", *NAMED, "--requeue", f"0/{letter}"),
        ("vcache_stream", *NAMED, "--create-group", "more"),
        ("vcache_limits", "org=7", "project=42"),
    ):
        terminal.run(*words, answer=None)
    assert len(dead(server, events)) == 1
    assert depth(server, events) == 4


def test_a_mistake_is_told_before_anything_is_asked(terminal: Terminal) -> None:
    with pytest.raises(CommandError, match="has no group 'none'"):
        terminal.run("vcache_stream", *NAMED, "--delete-group", "none", answer=None)
    with pytest.raises(CommandError, match="no rule is called 'none'"):
        terminal.run("vcache_limits", "org=7", "--reset", "none", answer=None)
    with pytest.raises(CommandError, match="takes ids, or 'all' alone"):
        terminal.run("vcache_stream", *NAMED, "--drop", "all", "1-1", answer=None)
