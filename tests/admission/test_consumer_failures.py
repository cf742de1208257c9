"""Which failures count against entries: those of an entry while others succeed, and none while everything fails."""

from __future__ import annotations

from typing import Any

import pytest
from support.server import ValkeyServer
from support.streams import GROUP, Form, Shards, add, dead, depth, make, numbers, pending

pytestmark = pytest.mark.usefixtures("quick_pauses")


@pytest.fixture
def ends_at_a_dead_letter(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Tells a consumer to stop when it moves an entry to the dead letters, for which the test does not wait."""
    from django_vcache import reports

    def watch(consumer: Any) -> None:
        monkeypatch.setattr(reports, "buried", lambda *_: consumer.stop())

    return watch


def entry(number: int, deliveries: int = 1) -> Any:
    from django_vcache.admission.consumer import Entry

    return Entry(f"{number}-0", b"", {}, deliveries, 0)


@pytest.mark.parametrize("works_first", [False, True], ids=["from the start", "after a while"])
def test_a_handler_that_always_fails_sends_nothing_to_the_dead_letters(
    form: Form,
    server: ValkeyServer,
    stream: Shards,
    works_first: bool,
    caplog: pytest.LogCaptureFixture,
    ends_at_a_dead_letter: Any,
) -> None:
    """As a database that is down makes it."""
    add(server, stream, *range(40))
    consumer = make(stream, batch=10, max_deliveries=3, reclaim_after=0.05)
    ends_at_a_dead_letter(consumer)
    done: set[int] = set()
    failures: dict[int, int] = {}

    async def handler(batch: Any) -> None:
        if works_first and not done:
            done.update(numbers(batch))
            return
        # Each would be dead several times.
        if len(failures) < 40 - len(done) or min(failures.values()) < 6:
            for number in numbers(batch):
                failures[number] = failures.get(number, 0) + 1
            raise ConnectionError("the database is down")
        done.update(numbers(batch))
        if len(done) == 40:
            consumer.stop()

    # Those that are done do not come again, and the others have all failed before the handler works again.
    form.handle(consumer, handler)
    assert done == set(range(40))
    assert dead(server, stream) == []
    assert depth(server, stream) == 0
    assert "This is not counted against the entries" in caplog.text


def test_blocks_that_always_fail_send_nothing_to_the_dead_letters(
    form: Form, server: ValkeyServer, single: Shards, ends_at_a_dead_letter: Any
) -> None:
    add(server, single, *range(3))
    consumer = make(single, batch=3, max_deliveries=2, reclaim_after=0.05)
    ends_at_a_dead_letter(consumer)
    tries: list[int] = []

    def fail() -> None:
        raise ArithmeticError

    async def work(batch: Any) -> None:
        tries.extend(numbers(batch))
        if len(tries) < 30:
            with pytest.raises(ArithmeticError):
                await form.within(batch, fail)
        elif depth(server, single) == len(batch):
            consumer.stop()

    form.consume(consumer, work)
    assert dead(server, single) == []
    assert depth(server, single) == 0


def test_an_entry_that_fails_alone_is_not_counted_until_another_succeeds(
    form: Form, server: ValkeyServer, single: Shards, ends_at_a_dead_letter: Any
) -> None:
    add(server, single, "bad")
    consumer = make(single, max_deliveries=3, reclaim_after=0.05)
    ends_at_a_dead_letter(consumer)
    counts: list[int] = []

    async def handler(batch: Any) -> None:
        if batch[0].payload == b"bad":
            counts.append(batch[0].deliveries)
            if len(counts) == 40:
                consumer.stop()
            if len(counts) >= 10:
                # It is delivered before the other one comes again.
                add(server, single, "good")
            raise ArithmeticError("not this one")

    form.handle(consumer, handler)
    # It was worked on, so it is never taken for a first delivery again.
    assert counts[:10] == [1, *[2] * 9]
    assert counts[-1] == 3
    assert [letter["dead:reason"] for letter in dead(server, single)] == ["ArithmeticError: not this one"]


def test_entries_that_fail_one_after_the_other_die_while_others_succeed(
    form: Form, server: ValkeyServer, single: Shards
) -> None:
    bad = [f"bad {number}" for number in range(6)]
    add(server, single, *bad)
    consumer = make(single, batch=1, max_deliveries=3, reclaim_after=0.05)
    tries: list[bytes] = []

    async def handler(batch: Any) -> None:
        if batch[0].payload.startswith(b"bad"):
            tries.append(batch[0].payload)
            if len(tries) == 100:
                consumer.stop()
            if len(tries) % 6 == 0:
                add(server, single, "good")
            raise ArithmeticError
        if len(dead(server, single)) == 6:
            consumer.stop()
        else:
            add(server, single, "good")

    form.handle(consumer, handler)
    assert sorted(letter["payload"] for letter in dead(server, single)) == bad
    # The first failure of each was not yet followed by a success, and the floor of 1 counts it all the same.
    assert max(tries.count(name.encode()) for name in bad) <= 5


def test_what_a_handler_acknowledges_before_it_fails_shows_that_it_works(
    form: Form, server: ValkeyServer, single: Shards
) -> None:
    add(server, single, *range(4))
    consumer = make(single, batch=4, max_deliveries=4, reclaim_after=0.05)
    tries = []

    async def handler(batch: Any) -> None:
        tries.append((len(batch), batch[-1].deliveries))
        if len(tries) == 4:
            consumer.stop()
        await form.say(batch, "ack", batch[: len(batch) // 2])
        raise ArithmeticError

    form.handle(consumer, handler)
    # Of two at the second delivery one was done, so that it counted; alone at the third, it did not.
    assert tries == [(4, 1), (2, 2), (1, 3), (1, 3)]


def test_an_error_that_leaves_a_block_and_the_handler_is_one_failure(
    form: Form, server: ValkeyServer, single: Shards
) -> None:
    add(server, single, "good", "bad")
    consumer = make(single, batch=1, max_deliveries=3, reclaim_after=0.05)
    counts = []

    def fail() -> None:
        raise ArithmeticError

    async def handler(batch: Any) -> None:
        if batch[0].payload == b"bad":
            counts.append(batch[0].deliveries)
            # It is delivered before the other one comes again.
            add(server, single, "good")
            if len(counts) == 3:
                consumer.stop()
            await form.within(batch, fail)

    form.handle(consumer, handler)
    # Each counted: a second one would have been excused, and taken back the first.
    assert counts == [1, 2, 3]
    assert len(dead(server, single)) == 1


def test_one_delivery_is_one_though_everything_fails(form: Form, server: ValkeyServer, single: Shards) -> None:
    add(server, single, *range(4))
    consumer = make(single, batch=2, max_deliveries=1)
    tries: list[int] = []

    async def handler(batch: Any) -> None:
        tries.extend(numbers(batch))
        if len(tries) == 4:
            consumer.stop()
        raise ArithmeticError

    form.handle(consumer, handler)
    assert tries == [0, 1, 2, 3]
    assert len(dead(server, single)) == 4
    assert pending(server, single) == []


@pytest.mark.parametrize("most", [70, 10_000, 10**30])
def test_an_entry_may_be_delivered_any_number_of_times(
    form: Form, server: ValkeyServer, single: Shards, most: int
) -> None:
    add(server, single, *range(4))
    consumer = make(single, batch=4, max_deliveries=most, reclaim_after=0.01)
    deliveries: list[int] = []

    async def handler(batch: Any) -> None:
        deliveries.append(batch[0].deliveries)
        if len(deliveries) == 1:
            # As if others had had it.
            server.execute("XCLAIM", single.keys[0], GROUP, "other", 0, batch[0].id, "RETRYCOUNT", 68, "JUSTID")
            await form.say(batch, "ack", batch[1:])
        else:
            consumer.stop()

    form.handle(consumer, handler)
    assert deliveries == [1, 69]
    assert dead(server, single) == []
    assert depth(server, single) == 0


def test_a_success_makes_the_next_failures_count() -> None:
    from django_vcache.admission.consume.verdicts import Verdicts

    verdicts = Verdicts()
    first, second, third = entry(1), entry(2), entry(3)
    # Nothing has ever succeeded.
    assert verdicts.failed([first], partly=False) == [first]
    assert verdicts.failed([first, second], partly=False) == [first, second]
    verdicts.succeeded([third])
    assert verdicts.failed([first], partly=False) == []
    # A second in a row, of entries that have not failed since, and then once more.
    assert verdicts.failed([second], partly=False) == []
    assert verdicts.failed([second, third], partly=False) == [second, third]
    assert verdicts.failed([third], partly=True) == [third]
    assert verdicts.failing == 3


def test_no_more_than_some_entries_are_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    from django_vcache.admission.consume.verdicts import Verdicts

    monkeypatch.setattr("django_vcache.admission.consume.verdicts._REMEMBERED", 3)
    verdicts = Verdicts()
    entries = [entry(number) for number in range(5)]
    verdicts.failed(entries, partly=False)
    assert [key for key, _ in verdicts._failed] == [0, 0, 0]
    assert len(verdicts._failed) == 3
    verdicts.succeeded([])
    verdicts.failed([entry(9)], partly=False)
    # The oldest is judged as the others that are new here: after a failure it is excused.
    assert verdicts.failed(entries[:1], partly=False) == entries[:1]
    assert verdicts.failed(entries[4:], partly=False) == []
