"""``manage.py vcache_consume``: handlers of both kinds, the stream by name, path or settings, a clean stop, and what it
says when it cannot."""

from __future__ import annotations

import functools
import os
import signal
import sys
import threading
from collections.abc import Iterator
from io import StringIO
from types import ModuleType
from typing import Any

import pytest
from django.core.management import CommandError, call_command, get_commands
from django.test import override_settings
from support.caches import cache_setting
from support.server import ValkeyServer
from support.streams import GROUP, PATIENCE, Shards, add, consumers, dead, depth, pending, program

events = Shards("events", 3)


class Work:
    """Handlers that count to `enough` entries and then have the command stopped, as a signal does."""

    def __init__(self) -> None:
        self.seen: list[int] = []
        self.enough = 5
        self.fails = 0
        self.consumers: list[Any] = []

    def save(self, batch: Any) -> None:
        if self.fails:
            self.fails -= 1
            raise ArithmeticError("cannot save")
        self.seen += [int(entry.payload) for entry in batch]
        if len(self.seen) >= self.enough:
            os.kill(os.getpid(), signal.SIGTERM)

    async def asave(self, batch: Any) -> None:
        self.save(batch)

    async def __call__(self, batch: Any) -> None:
        self.save(batch)


@pytest.fixture
def work() -> Work:
    return Work()


@pytest.fixture(autouse=True)
def project(server: ValkeyServer, work: Work, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    from django_vcache.admission import Gate, Stream, Throttle

    shop: Any = ModuleType("shop")
    shop.events = Stream("events", shards=3, prefix="test")
    throttle = Throttle("org", "10/m")
    shop.gate = Gate([Throttle("org", "10/m")], stream=Stream("orders"), shards=2, prefix="test", owner="org")
    shop.gate_without = Gate([throttle])
    shop.save, shop.asave, shop.work = work.save, work.asave, work
    shop.partial = functools.partial(work.asave)
    shop.number = 1
    shop.Handler = Work
    shop.two = lambda batch, more: None
    shop.none = lambda: None
    shop.returns_coroutine = lambda batch: work.asave(batch)
    monkeypatch.setitem(sys.modules, "shop", shop)
    with override_settings(
        CACHES={"default": cache_setting(server)},
        INSTALLED_APPS=["django_vcache"],
        VCACHE={"STREAMS": ["shop.events"]},
    ):
        get_commands.cache_clear()
        yield shop
    get_commands.cache_clear()


def consume(*arguments: str, **options: Any) -> str:
    out = StringIO()
    call_command("vcache_consume", *arguments, "--group", GROUP, stdout=out, no_color=True, **options)
    return out.getvalue()


@pytest.mark.parametrize("handler", ["save", "asave", "work", "partial"])
def test_a_handler_gets_all_entries_until_the_command_is_told_to_stop(
    server: ValkeyServer, work: Work, handler: str
) -> None:
    add(server, events, *range(5))
    before = signal.getsignal(signal.SIGTERM)
    first, last = consume(f"shop.{handler}", "--max-wait", "0.02").splitlines()
    assert signal.getsignal(signal.SIGTERM) is before
    assert sorted(work.seen) == [0, 1, 2, 3, 4]
    assert first.startswith(f"Consuming events (3 shards, cache alias default) in group {GROUP} as ")
    assert f": shop.{handler} gets up to 500 entries at a time." in first
    assert last == "Stopped: 5 acknowledged, 0 delivered again, 0 moved to the dead letters."
    assert depth(server, events) == 0
    assert consumers(server, events) == set()


def test_the_stream_is_named_by_its_path_by_its_gate_or_by_its_name(server: ValkeyServer, work: Work) -> None:
    orders, other = Shards("orders", 2), Shards("other", 2)
    for stream, arguments in (
        (orders, ["--stream", "shop.gate"]),
        (events, ["--stream", "shop.events"]),
        (events, ["--stream", "events"]),
        (other, ["--stream", "other", "--shards", "2", "--prefix", "test"]),
    ):
        add(server, stream, *range(5))
        work.seen.clear()
        assert consume("shop.save", "--max-wait", "0.02", *arguments).startswith(f"Consuming {stream.name} (")
        assert sorted(work.seen) == [0, 1, 2, 3, 4]
        assert depth(server, stream) == 0


def test_a_stream_that_is_not_there_is_warned_of(server: ValkeyServer, work: Work) -> None:
    typo = Shards("typo", 1)

    class Errors(StringIO):
        def write(self, text: str) -> int:
            # The work on them ends the command.
            add(server, typo, *range(5))
            return super().write(text)

    arguments = ("--stream", "typo", "--prefix", "test", "--max-wait", "0.02")
    consume("shop.save", *arguments, stderr=(errors := Errors()))
    assert errors.getvalue().startswith("Nothing was ever written to test:2:{v00}:s:typo. That is right before")
    add(server, typo, *range(5))
    consume("shop.save", *arguments, stderr=(errors := Errors()))
    assert errors.getvalue() == ""


def test_options_are_the_consumers(server: ValkeyServer, work: Work) -> None:
    add(server, events, *range(6), shard=0)
    work.enough = 2
    printed = consume("shop.save", "--batch", "2", "--max-wait", "0", "--name", "worker-1", "--keep", verbosity=0)
    assert printed == ""
    assert work.seen == [0, 1]
    # Acknowledged, and left in the stream.
    assert depth(server, events) == 6
    assert pending(server, events) == []


def test_what_fails_is_delivered_again_and_at_last_a_dead_letter(server: ValkeyServer, work: Work) -> None:
    add(server, events, 1, shard=0)
    work.fails, work.enough = 1, 1
    options = ("--max-wait", "0", "--reclaim-after", "0.05")
    assert "1 acknowledged, 1 delivered again, 0 moved" in consume("shop.save", *options, "--max-deliveries", "none")
    add(server, events, 2, shard=0)
    work.fails = 1
    thread = threading.Thread(target=_add_when_dead, args=(server,))
    thread.start()
    assert "1 moved to the dead letters" in consume("shop.save", *options, "--max-deliveries", "1")
    thread.join()


def _add_when_dead(server: ValkeyServer) -> None:
    from support.server import wait_until

    wait_until(lambda: dead(server, events))
    add(server, events, 3, shard=0)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nothing"], "the handler 'nothing' cannot be imported: ImportError: nothing doesn't look like a module path"),
        (["no.such"], "the handler 'no.such' cannot be imported: ModuleNotFoundError: No module named 'no'"),
        (["shop.missing"], "the handler 'shop.missing' cannot be imported: ImportError: "),
        (["shop.number"], "the handler 'shop.number' is no function, but int"),
        (["shop.Handler"], "the handler 'shop.Handler' is a class: name a function that takes a batch, or an instance"),
        (
            ["shop.two"],
            "cannot take the batch as its one argument: missing a required argument: 'more'",
        ),
        (["shop.none"], "cannot take the batch as its one argument: too many positional arguments"),
        (["shop.save", "--stream", "shop.gate_without"], "the gate 'shop.gate_without' has no stream"),
        (["shop.save", "--stream", "a b"], '"a b" is not a name for a stream'),
        (["shop.save", "--shards", "2"], "--shards goes with the name of a stream"),
        (["shop.save", "--batch", "0"], "batch must be a whole number of at least 1, not 0"),
        (["shop.save", "--batch", "1000000"], "batch must be at most 100000, not 1000000"),
        (["shop.save", "--max-wait", "1e300"], "max_wait must be at most 31622400 seconds, which is a year"),
        (["shop.save", "--max-wait", "60"], "max_wait is half of reclaim_after at the most"),
        (["shop.save", "--max-deliveries", "some"], "'some' is neither a whole number nor 'none'"),
        (["shop.save", "--max-deliveries", "0"], "max_deliveries must be a whole number of at least 1, not 0"),
        (["shop.save", "--stream", "x", "--using", "elsewhere"], "'elsewhere'"),
    ],
    ids=str,
)
def test_what_makes_no_sense_is_an_error_that_says_why(arguments: list[str], message: str) -> None:
    with pytest.raises(CommandError) as caught:
        consume(*arguments)
    assert message in str(caught.value)


def test_which_stream_is_not_guessed() -> None:
    with override_settings(VCACHE={}), pytest.raises(CommandError, match="no stream is given"):
        consume("shop.save")
    with (
        override_settings(VCACHE={"STREAMS": ["shop.events"], "GATES": ["shop.gate"]}),
        pytest.raises(CommandError, match=r"several streams could be meant: events .*, orders .* with --stream"),
    ):
        consume("shop.save")


def test_a_group_is_required() -> None:
    with pytest.raises(CommandError, match="--group"):
        call_command("vcache_consume", "shop.save")
    with pytest.raises(CommandError, match="group must be a text"):
        call_command("vcache_consume", "shop.save", "--group", "")


def test_a_coroutine_that_a_plain_function_returns_is_an_error_and_nothing_is_lost(server: ValkeyServer) -> None:
    add(server, events, 1)
    with pytest.raises(CommandError, match="which run\\(\\) does not await: nothing is acknowledged"):
        consume("shop.returns_coroutine", "--max-wait", "0.02")
    assert depth(server, events) == 1


def test_an_error_of_the_server_is_one_of_the_command(server: ValkeyServer) -> None:
    server.execute("SET", events.keys[1], "a string")
    with pytest.raises(CommandError, match="WRONGTYPE"):
        consume("shop.save")


SOURCE = """
import sys, types
from django.core.management import call_command

def save(batch):
    report("working")
    wait_for_word()

async def asave(batch):
    save(batch)

shop = types.ModuleType("shop")
shop.handler = save if FORM == "sync" else asave
sys.modules["shop"] = shop
from django_vcache.management.commands import vcache_consume

words = ["shop.handler", "--group", "billing", "--stream", "events", "--shards", "4", "--prefix", "test"]
try:
    call_command(vcache_consume.Command(), *words, "--max-wait", "0.02", verbosity=0)
except vcache_consume.CommandError as error:
    report([str(error), error.returncode])
else:
    report("stopped")
"""


@pytest.mark.parametrize("kind", ["sync", "asyncio"])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=["SIGTERM", "SIGINT"])
def test_a_signal_ends_it_after_the_batch_in_hand(
    server: ValkeyServer, stream: Shards, kind: str, number: signal.Signals
) -> None:
    add(server, stream, *range(3))
    with program(kind, 4, SOURCE, server) as told:
        assert told.report(PATIENCE) == "working"
        os.kill(told.pid, number)
        told.tell()
        assert told.report() == "stopped"
        told.end()
    assert depth(server, stream) == 0


@pytest.mark.parametrize("kind", ["sync", "asyncio"])
def test_a_second_interrupt_leaves_the_batch_to_be_delivered_again(
    server: ValkeyServer, stream: Shards, kind: str
) -> None:
    source = SOURCE.replace(
        "    wait_for_word()\n", "    os.kill(os.getpid(), signal.SIGINT)\n" * 2 + "    time.sleep(60)\n"
    )
    if kind != "sync":
        # `asyncio.run` cancels what awaits.
        source = source.replace("    time.sleep(60)\n", "").replace(
            "    save(batch)\n", "    save(batch)\n    await asyncio.sleep(60)\n"
        )
    add(server, stream, *range(3))
    with program(kind, 4, source, server) as told:
        assert told.report() == "working"
        assert told.report() == ["interrupted: the batch in hand will be delivered again", 130]
        told.end()
    assert depth(server, stream) == 3
    assert len(pending(server, stream)) == 3
