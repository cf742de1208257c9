"""How a consumer ends: told by `stop()`, or by a signal, in the middle of its work or while it waits."""

from __future__ import annotations

import os
import signal
import threading
from typing import Any

import pytest
from django.test import override_settings
from support.caches import cache_setting
from support.driver import LOOPS, open_runner
from support.server import ValkeyServer, wait_until
from support.streams import (
    FORMS,
    Form,
    Helper,
    Shards,
    add,
    consumers,
    depth,
    drain,
    make,
    numbers,
    pending,
    program,
    wait_until_it_waits,
)


def test_stop_ends_a_consumer_that_waits_and_leaves_no_trace_of_it(form: Form, fresh_server: ValkeyServer) -> None:
    stream = Shards(count=3)
    with override_settings(CACHES={"default": cache_setting(fresh_server)}):
        for _ in range(3):
            consumer = make(stream, batch=5)

            def stop(consumer: Any = consumer) -> None:
                wait_until(lambda: [client for client in fresh_server.clients() if "b" in client["flags"]])
                consumer.stop()

            stopping = threading.Thread(target=stop)
            stopping.start()
            form.consume(consumer, None)  # type: ignore[arg-type]
            stopping.join()
            assert consumer.stopped
            assert consumers(fresh_server, stream) == set()
            # The shared one, and one that is kept for the next blocking command.
            assert len(fresh_server.clients()) == 2


def test_a_consumer_that_was_stopped_stays_so(form: Form, server: ValkeyServer, single: Shards) -> None:
    add(server, single, 1)
    consumer = make(single)
    consumer.stop()
    form.consume(consumer, None)  # type: ignore[arg-type]
    assert depth(server, single) == 1
    assert pending(server, single) == []


def test_stop_in_the_middle_of_a_batch_ends_after_it(form: Form, server: ValkeyServer, stream: Shards) -> None:
    add(server, stream, *range(64))
    consumer = make(stream, batch=16)
    seen: list[int] = []

    async def work(batch: Any) -> None:
        assert not consumer.stopped
        consumer.stop()
        seen.extend(numbers(batch))

    form.consume(consumer, work)
    assert len(seen) == 16
    assert depth(server, stream) == 48
    assert pending(server, stream) == []


# No command waits for several shards of a cluster.
@pytest.mark.parametrize(
    "any_stream",
    [1, pytest.param(16, marks=pytest.mark.one_server)],
    ids=["1 shard", "16 shards"],
    indirect=True,
)
def test_an_entry_that_comes_between_the_stop_and_the_end_of_the_wait_is_worked_on(
    form: Form, server: ValkeyServer, any_stream: Shards, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server has given it to the consumer, who ends after it."""
    from django_vcache.admission.consume import reading

    monkeypatch.setattr(reading, "WAIT", 60.0)
    consumer = make(any_stream)
    seen: list[int] = []

    async def work(batch: Any) -> None:
        seen.extend(numbers(batch))

    def stop_and_add() -> None:
        wait_until(lambda: [client for client in server.clients() if "b" in client["flags"]])
        consumer.stop()
        add(server, any_stream, 1, shard=any_stream.count - 1)
        # It is not read any more.
        wait_until(lambda: not depth(server, any_stream))
        add(server, any_stream, 2, shard=0)

    helper = Helper(stop_and_add)
    helper.start()
    form.consume(consumer, work)
    helper.join()
    assert seen == [1]
    assert pending(server, any_stream) == []
    assert depth(server, any_stream) == 1


# No command waits for several shards of a cluster.
@pytest.mark.one_server
@pytest.mark.parametrize("kind", FORMS)
def test_an_entry_that_comes_after_the_signal_to_a_consumer_that_waits_is_worked_on(
    server: ValkeyServer, stream: Shards, kind: str
) -> None:
    source = """
from django_vcache.admission.consume import reading

reading.WAIT = reading._SEARCH = 600.0
consumers = []

class Consumer(Consumer):
    def __init__(self, *args, **options):
        super().__init__(*args, **options)
        consumers.append(self)

def tell():
    while not (consumers and consumers[0].stopped):
        time.sleep(0.005)
    report("stopped")

threading.Thread(target=tell, daemon=True).start()
seen = []
consume(lambda batch: seen.extend(int(entry.payload) for entry in batch), reclaim_after=3600.0)
report(seen)
"""
    with program(kind, 4, source, server) as told:
        wait_until(lambda: [client for client in server.clients() if "b" in client["flags"]])
        os.kill(told.pid, signal.SIGTERM)
        assert told.report() == "stopped"
        add(server, stream, 1, shard=3)
        assert told.report() == [1]
        told.end()
    assert depth(server, stream) == 0
    assert pending(server, stream) == []


def test_the_handlers_of_signals_are_as_before_when_it_ends(form: Form, server: ValkeyServer, single: Shards) -> None:
    def mine(*_: object) -> None: ...

    before = signal.signal(signal.SIGTERM, mine)
    try:
        add(server, single, 1)
        consumer = make(single)

        async def work(batch: Any) -> None:
            assert signal.getsignal(signal.SIGTERM) is not mine
            consumer.stop()

        form.consume(consumer, work)
        assert signal.getsignal(signal.SIGTERM) is mine
        add(server, single, 1)
        other = make(single, signals=())

        async def unwatched(batch: Any) -> None:
            assert signal.getsignal(signal.SIGTERM) is mine
            other.stop()

        form.consume(other, unwatched)
    finally:
        signal.signal(signal.SIGTERM, before)


@pytest.mark.parametrize("loop", LOOPS)
def test_a_loop_that_is_closed_in_the_middle_ends_the_iteration(
    server: ValkeyServer, single: Shards, loop: str
) -> None:
    """Without `shutdown_asyncgens`, which nobody has to call."""
    add(server, single, *range(3))
    consumer = make(single)
    before = signal.getsignal(signal.SIGTERM)

    async def begin() -> Any:
        batches = aiter(consumer)
        await anext(batches)
        return batches

    closing = open_runner(loop).get_loop()
    batches = closing.run_until_complete(begin())
    assert signal.getsignal(signal.SIGTERM) is not before
    closing.close()
    # Nobody waits any more for what is told to stop.
    consumer.stop()
    del batches
    assert signal.getsignal(signal.SIGTERM) is before
    assert len(pending(server, single)) == 3
    assert numbers(drain(Form(None), single, 3, reclaim_after=0.1)) == [0, 1, 2]


def test_a_consumer_on_another_thread_leaves_signals_alone(server: ValkeyServer, single: Shards) -> None:
    before = signal.getsignal(signal.SIGTERM)
    during = []
    add(server, single, 1)
    consumer = make(single)

    def blocking() -> None:
        for _ in consumer:
            during.append(signal.getsignal(signal.SIGTERM))
            consumer.stop()

    thread = threading.Thread(target=blocking)
    thread.start()
    thread.join()
    assert during == [before]


def test_one_consumer_is_for_one_loop_at_a_time(form: Form, server: ValkeyServer, single: Shards) -> None:
    add(server, single, 1)
    consumer = make(single)

    async def work(batch: Any) -> None:
        with pytest.raises(RuntimeError, match="is being iterated over"):
            next(iter(consumer))
        consumer.stop()

    form.consume(consumer, work)
    assert depth(server, single) == 0


TOLD_TO_STOP = """
def mine(*_):
    report("mine")

signal.signal(signal.SIGTERM, mine)
ids = []

def work(batch):
    ids.extend(entry.id for entry in batch)
    report("working")
    wait_for_word()
    report("worked")
    # A second signal: the handler from before is back.
    os.kill(os.getpid(), signal.SIGTERM)

consume(work, batch=20, max_wait=MAX_WAIT)
assert signal.getsignal(signal.SIGTERM) is mine
report(ids)
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=["SIGTERM", "SIGINT"])
@pytest.mark.parametrize("kind", FORMS)
def test_a_signal_in_the_middle_of_a_batch_ends_after_it(
    server: ValkeyServer, stream: Shards, kind: str, number: int
) -> None:
    ids = add(server, stream, *range(50))
    with program(kind, 4, "MAX_WAIT = 0.02\n" + TOLD_TO_STOP, server) as told:
        assert told.report() == "working"
        os.kill(told.pid, number)
        # On a loop, the handler from before is called at once as well.
        if kind != "sync" and number == signal.SIGTERM:
            assert told.report() == "mine"
        # It works on, and would have for as long as it takes.
        assert len(pending(server, stream)) == 20
        told.tell()
        assert told.report() == "worked"
        assert told.report() == "mine"
        done = told.report()
        told.end()
    assert len(done) == 20
    assert set(done) < set(ids)
    assert depth(server, stream) == 30
    assert pending(server, stream) == []
    assert consumers(server, stream) == set()


@pytest.mark.parametrize("kind", FORMS)
@pytest.mark.parametrize("waiting", ["for the first entry", "for the batch to fill"])
def test_a_signal_to_a_consumer_that_waits_ends_it(
    server: ValkeyServer, stream: Shards, kind: str, waiting: str
) -> None:
    """With what it was given in hand, it works on that first."""
    count = 0 if waiting == "for the first entry" else 3
    add(server, stream, *range(count))
    source = "report('up')\nreport(consume(lambda batch: None, max_wait=3600.0, reclaim_after=7200.0).metrics())"
    with program(kind, 4, source, server) as told:
        assert told.report() == "up"
        if count:
            wait_until(lambda: len(pending(server, stream)) == count)
        else:
            wait_until_it_waits(server, stream)
        os.kill(told.pid, signal.SIGTERM)
        metrics = told.report()
        told.end()
    assert metrics["delivered"] == metrics["acknowledged"] == count
    assert depth(server, stream) == 0
    assert consumers(server, stream) == set()


def test_handlers_that_hand_on_to_ours_keep_what_was_there_before(server: ValkeyServer, stream: Shards) -> None:
    """As error trackers do: they set theirs at any time, and call the one that they found, for ever."""
    source = """
def found(*_):
    report("found")

def chained(name):
    before = signal.getsignal(signal.SIGTERM)

    def handler(number, frame):
        report(name)
        before(number, frame)

    signal.signal(signal.SIGTERM, handler)

def work(batch):
    chained(batch[0].payload.decode())
    os.kill(os.getpid(), signal.SIGTERM)

signal.signal(signal.SIGTERM, found)
for _ in range(2):
    consume(work, batch=1)
    report("ended")
os.kill(os.getpid(), signal.SIGTERM)
report("over")
"""
    add(server, stream, "one", "two", shard=0)
    with program("sync", 4, source, server) as told:
        # The second consumer's handler goes before the first's, and both are in the chain.
        expected = ["one", "ended", "two", "ended", "two", "one", "found", "over"]
        assert [told.report() for _ in expected] == expected
        told.end()


def test_a_default_that_ours_came_before_still_ends_the_process(server: ValkeyServer, stream: Shards) -> None:
    source = """
def work(batch):
    before = signal.getsignal(signal.SIGTERM)
    signal.signal(signal.SIGTERM, lambda *told: before(*told))
    os.kill(os.getpid(), signal.SIGTERM)

consume(work)
report("ended")
os.kill(os.getpid(), signal.SIGTERM)
"""
    add(server, stream, 1)
    with program("sync", 4, source, server) as told:
        assert told.report() == "ended"
        assert told.exit_code() == (-signal.SIGTERM, "")


def test_one_signal_stops_all_consumers_of_a_process(server: ValkeyServer, stream: Shards) -> None:
    source = """
async def consume_in_a_task(group):
    async for batch in Consumer(Shards(count=4), group):
        pass

async def main():
    before = signal.getsignal(signal.SIGTERM)
    short = Consumer(Shards(count=4), "short")
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(consume_in_a_task("one"))
        tasks.create_task(consume_in_a_task("two"))
        # One that ends earlier leaves the others' handlers alone.
        async for batch in short:
            short.stop()
        report("up")
    assert signal.getsignal(signal.SIGTERM) is before

run(main())
"""
    add(server, stream, 1)
    with program("asyncio", 4, source, server) as told:
        assert told.report() == "up"
        os.kill(told.pid, signal.SIGTERM)
        told.end()


@pytest.mark.parametrize("kind", LOOPS)
def test_a_handler_of_the_loop_is_as_before_when_it_ends(server: ValkeyServer, stream: Shards, kind: str) -> None:
    source = """
async def main():
    mine = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, mine.set)
    consumer = Consumer(Shards(count=4), "billing", max_wait=0.0)
    async for batch in consumer:
        consumer.stop()
    report("ended")
    await mine.wait()
    report("mine")

run(main())
"""
    add(server, stream, 1)
    with program(kind, 4, source, server) as told:
        assert told.report() == "ended"
        os.kill(told.pid, signal.SIGTERM)
        assert told.report() == "mine"
        told.end()


def test_a_signal_to_a_child_forked_by_the_work_is_the_childs(server: ValkeyServer, stream: Shards) -> None:
    source = """
import warnings
warnings.simplefilter("ignore", DeprecationWarning)

def work(batch):
    child = os.fork()
    if child == 0:
        report("child")
        time.sleep(60)
        os._exit(0)
    os.kill(child, int(wait_for_word()))
    report(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
    wait_for_word()

consume(work)
"""
    add(server, stream, 1)
    with program("sync", 4, source, server) as told:
        assert told.report() == "child"
        told.tell(str(int(signal.SIGTERM)))
        assert told.report() == -signal.SIGTERM
        os.kill(told.pid, signal.SIGTERM)
        told.tell()
        told.end()
    assert depth(server, stream) == 0
