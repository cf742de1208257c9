"""What a consumer of a stream does when things break: processes killed and forked, servers killed, frozen and emptied,
tasks cancelled. No entry is lost, and what is acknowledged stays so.
"""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from django.test import override_settings
from support.caches import cache_setting
from support.resp import Control, ServerError
from support.server import ValkeyServer, wait_until
from support.streams import (
    FORMS,
    GROUP,
    Form,
    Shards,
    add,
    consumers,
    dead,
    depth,
    drain,
    make,
    numbers,
    pending,
    program,
    wait_until_it_waits,
)

HANGS = """
def work(batch):
    report([entry.id for entry in batch])
    wait_for_word()

consume(work, batch=20)
"""


@pytest.mark.parametrize("kind", FORMS)
def test_what_a_killed_consumer_held_is_taken_over(server: ValkeyServer, stream: Shards, kind: str) -> None:
    add(server, stream, *range(50))
    with program(kind, 4, HANGS, server) as victim:
        held = victim.report()
        os.kill(victim.pid, signal.SIGKILL)
        victim.exit_code()
    assert len(held) == 20
    assert len(pending(server, stream)) == 20
    seen = drain(Form(None), stream, 50, batch=20, reclaim_after=0.1)
    assert sorted(numbers(seen)) == list(range(50))
    assert {entry.id for entry in seen if entry.deliveries == 2} == set(held)
    assert depth(server, stream) == 0


def test_what_is_worked_on_is_not_taken_over(server: ValkeyServer, stream: Shards) -> None:
    add(server, stream, *range(20))
    with program("sync", 4, HANGS, server) as busy:
        held = busy.report()
        late = add(server, stream, *range(20, 40))
        assert {entry.id for entry in drain(Form(None), stream, 20, reclaim_after=60.0)} == set(late)
        assert {row[0].decode() for row in pending(server, stream)} == set(held)


FORKED_IN_THE_BODY = """
import warnings
warnings.simplefilter("ignore", DeprecationWarning)

consumer = Consumer(Shards(count=4), "billing", batch=10, max_wait=0.02)
parent = os.getpid()
turns = 0
for batch in consumer:
    turns += 1
    if turns == 1:
        assert os.getpid() == parent
        own = [consumer.name, sorted(entry.id for entry in batch)]
        child = os.fork()
        if child:
            assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
            report(["parent", *own])
            wait_for_word()
            consumer.stop()
    else:
        assert os.getpid() != parent
        report(["child", consumer.name, sorted(entry.id for entry in batch)])
        os._exit(0)
report("done")
"""


def test_a_forked_child_is_a_consumer_of_its_own(server: ValkeyServer, stream: Shards) -> None:
    """It goes on with its parent's loop, and leaves its parent's batch to its parent."""
    ids = add(server, stream, *range(20))
    with program("sync", 4, FORKED_IN_THE_BODY, server) as forked:
        who, child, of_child = forked.report()
        assert who == "child"
        who, parent, of_parent = forked.report()
        assert who == "parent"
        assert child != parent
        # Two shards may have the same id.
        holders = sorted((row[0].decode(), row[1].decode()) for row in pending(server, stream))
        assert holders == sorted([*((id, child) for id in of_child), *((id, parent) for id in of_parent)])
        assert sorted(of_child + of_parent) == sorted(ids)
        forked.tell()
        assert forked.report() == "done"
        forked.end()
    assert {row[1].decode() for row in pending(server, stream)} == {child}


FORKED_WITH_A_BATCH = """
import warnings
warnings.simplefilter("ignore", DeprecationWarning)

def work(batch):
    child = os.fork()
    if child == 0:
        told = []
        for settle in (batch.ack, batch.reject):
            try:
                settle()
            except RuntimeError as error:
                told.append(str(error))
        with batch:
            pass
        try:
            with batch:
                raise OSError("cannot save")
        except OSError:
            report(told)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    report([os.getpid(), len(batch.pending)])
    wait_for_word()

consume(work, max_deliveries=1)
"""


def test_a_forked_child_cannot_settle_its_parents_batch(server: ValkeyServer, single: Shards) -> None:
    add(server, single, *range(3))
    with program("sync", 1, FORKED_WITH_A_BATCH, server) as forked:
        told = forked.report()
        parent, left = forked.report()
        expected = f"<Batch of 3 entries, 3 open> was given to process {parent}: a forked child cannot settle it"
        assert (told, left) == ([expected] * 2, 3)
        assert len(pending(server, single)) == 3
        assert dead(server, single) == []
        os.kill(forked.pid, signal.SIGTERM)
        forked.tell()
        forked.end()
    assert depth(server, single) == 0
    assert dead(server, single) == []


@pytest.fixture
def durable_server() -> Iterator[ValkeyServer]:
    with ValkeyServer(appendonly="yes", appendfsync="always") as server:
        yield server


def test_no_entry_is_lost_when_the_server_is_killed_again_and_again(form: Form, durable_server: ValkeyServer) -> None:
    """Writers, a consumer, and a server that dies under them: every entry that was answered is worked on, and by its id
    once; nothing is acknowledged that was not worked on."""
    server, stream = durable_server, Shards(count=3)
    answered: set[tuple[int, str]] = set()
    seen: list[tuple[int, str]] = []
    first_time: list[tuple[int, str]] = []
    over = threading.Event()

    def write(number: int) -> None:
        control = None
        while not over.is_set():
            try:
                control = control or Control(server.socket_path)
                for shard, key in enumerate(stream.keys):
                    answered.add((shard, control.execute("XADD", key, "*", "payload", number).decode()))
            except (OSError, ServerError):
                if control is not None:
                    control.close()
                control = None
                over.wait(0.01)
        if control is not None:
            control.close()

    limits = {"RESPONSE_TIMEOUT": 2.0, "CONNECT_TIMEOUT": 2.0}
    with override_settings(CACHES={"default": cache_setting(server, **limits)}):
        consumer = make(stream, batch=50, reclaim_after=5.0)

        async def work(batch: Any) -> None:
            seen.extend((entry.shard, entry.id) for entry in batch)
            first_time.extend((entry.shard, entry.id) for entry in batch if entry.deliveries == 1)

        writers = [threading.Thread(target=write, args=(number,)) for number in range(2)]
        # NOTE: the server dies with the thread that started it, so this thread is the one that does.
        consuming = threading.Thread(target=form.consume, args=(consumer, work))
        for thread in (*writers, consuming):
            thread.start()
        try:
            for _ in range(3):
                before = len(seen)
                wait_until(lambda before=before: len(seen) > before + 200, timeout=60)
                server.kill()
                server.restart()
            before = len(seen)
            wait_until(lambda: len(seen) > before + 200, timeout=60)
            over.set()
            for writer in writers:
                writer.join()
            wait_until(lambda: answered <= set(seen), timeout=60, what="all that was answered is worked on")
        finally:
            over.set()
            consumer.stop()
            for thread in (*writers, consuming):
                thread.join()
    assert len(answered) > 800
    assert answered <= set(seen)
    # What comes a second time says so.
    assert len(first_time) == len(set(first_time))
    assert depth(server, stream) == 0
    assert pending(server, stream) == []
    assert consumer.metrics()["outages"] > 0
    assert dead(server, stream) == []


@pytest.mark.parametrize("how", ["FLUSHALL", "DEL", "XGROUP DESTROY"])
@pytest.mark.parametrize("when", ["waiting", "working"])
def test_a_group_that_was_deleted_is_created_again(
    form: Form, server: ValkeyServer, stream: Shards, how: str, when: str
) -> None:
    add(server, stream, *range(4))
    consumer = make(stream)
    seen: list[int] = []

    def destroy() -> None:
        if how == "FLUSHALL":
            server.execute("FLUSHALL")
        else:
            server.execute(*(("DEL", *stream.keys) if how == "DEL" else (*how.split(), stream.keys[2], GROUP)))

    def later() -> None:
        if when == "waiting":
            wait_until(lambda: not pending(server, stream))
            wait_until_it_waits(server, stream)
            destroy()
        add(server, stream, *range(100, 104))

    threads = [threading.Thread(target=later)]

    async def work(batch: Any) -> None:
        seen.extend(numbers(batch))
        if when == "working" and len(seen) == 4:
            destroy()
        if len(seen) == 4:
            threads[0].start()
        if len([number for number in seen if number >= 100]) == 4:
            consumer.stop()

    form.consume(consumer, work)
    threads[0].join()
    assert set(seen) == {0, 1, 2, 3, 100, 101, 102, 103}
    assert depth(server, stream) == 0


def test_a_frozen_server_delays_and_loses_nothing(form: Form, fresh_server: ValkeyServer) -> None:
    stream = Shards(count=4)
    add(fresh_server, stream, *range(40))
    setting = cache_setting(fresh_server, RESPONSE_TIMEOUT=0.2, CONNECT_TIMEOUT=0.2)
    consumer = make(stream, batch=10)
    seen: set[int] = set()

    def thaw() -> None:
        wait_until(lambda: consumer.metrics()["outages"] > 2)
        fresh_server.resume()

    threads = [threading.Thread(target=thaw)]

    async def work(batch: Any) -> None:
        seen.update(numbers(batch))
        if threads[0].ident is None:
            fresh_server.pause()
            threads[0].start()
        if len(seen) == 40:
            consumer.stop()

    with override_settings(CACHES={"default": setting}):
        form.consume(consumer, work)
    threads[0].join()
    assert seen == set(range(40))
    assert depth(fresh_server, stream) == 0
    assert pending(fresh_server, stream) == []


def test_stop_is_heard_while_the_server_is_away(form: Form, fresh_server: ValkeyServer) -> None:
    stream = Shards()
    consumer = make(stream)

    def stop() -> None:
        wait_until(lambda: consumer.metrics()["outages"] > 2)
        consumer.stop()

    stopping = threading.Thread(target=stop)
    with override_settings(CACHES={"default": cache_setting(fresh_server)}):
        fresh_server.kill()
        stopping.start()
        form.consume(consumer, None)  # type: ignore[arg-type]
    stopping.join()


def test_a_stopped_consumer_that_cannot_acknowledge_says_so(
    form: Form, fresh_server: ValkeyServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    from django_vcache.admission.consume import group
    from django_vcache.exceptions import ConnectionError

    monkeypatch.setattr(group, "GRACE", 0.2)
    stream = Shards()
    add(fresh_server, stream, 1)
    consumer = make(stream)

    async def work(batch: Any) -> None:
        fresh_server.kill()
        consumer.stop()

    with override_settings(CACHES={"default": cache_setting(fresh_server)}), pytest.raises(ConnectionError):
        form.consume(consumer, work)


@pytest.mark.parametrize("where", ["waiting for an entry", "waiting for the batch to fill", "working"])
def test_a_cancelled_task_leaves_its_entries_pending_and_the_connection_healthy(
    run: Any, server: ValkeyServer, stream: Shards, where: str
) -> None:
    from django.core.cache import cache

    count = 0 if where == "waiting for an entry" else 6
    add(server, stream, *range(count))
    consumer = make(stream, name="one", batch=6 if where == "working" else 60, max_wait=3600.0, reclaim_after=7200.0)
    before = signal.getsignal(signal.SIGTERM)

    async def main() -> None:
        working = asyncio.Event()

        async def loop() -> None:
            async for _ in consumer:
                working.set()
                await asyncio.Event().wait()

        task = asyncio.ensure_future(loop())
        if where == "working":
            await working.wait()
        elif count:
            await asyncio.to_thread(wait_until, lambda: len(pending(server, stream)) == count)
        else:
            await asyncio.to_thread(wait_until_it_waits, server, stream)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await cache.aget("k", "healthy") == "healthy"
        assert len(pending(server, stream)) == count

        late = add(server, stream, *range(count, 10))
        await asyncio.to_thread(wait_until, lambda: not any("b" in each["flags"] for each in server.clients()))
        # Another one of the same name goes on where it was, and cannot know what was handed out; so might any other,
        # after `reclaim_after`.
        deliveries: list[int] = []
        again = make(stream, name="one", reclaim_after=60.0)
        async for batch in again:
            deliveries += (entry.deliveries for entry in batch)
            if len(deliveries) == 10:
                again.stop()
        assert deliveries == [2] * count + [1] * len(late)
        assert depth(server, stream) == 0

    run(main())
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_cancelled_handler_is_no_failure_of_the_entries(run: Any, server: ValkeyServer, stream: Shards) -> None:
    add(server, stream, 1)
    consumer = make(stream, max_deliveries=2)

    async def main() -> None:
        working = asyncio.Event()

        async def handler(batch: Any) -> None:
            working.set()
            await asyncio.Event().wait()

        task = asyncio.ensure_future(consumer.arun(handler))
        await working.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    run(main())
    assert len(pending(server, stream)) == 1
    # Whoever takes it over works on it; were it counted as failed twice, it would be a dead letter.
    again = make(stream, max_deliveries=2, max_wait=0.005, reclaim_after=0.01)
    for batch in again:
        assert [entry.deliveries for entry in batch] == [2]
        again.stop()
    assert dead(server, stream) == pending(server, stream) == []


def test_names_of_consumers_that_are_gone_are_cleared_away(
    form: Form, server: ValkeyServer, stream: Shards, monkeypatch: pytest.MonkeyPatch
) -> None:
    from django_vcache.admission.consume import reading

    for key in stream.keys:
        server.execute("XGROUP", "CREATE", key, GROUP, "0", "MKSTREAM")
        server.execute("XGROUP", "CREATECONSUMER", key, GROUP, "idle")
        server.execute("XADD", key, "*", "payload", "held")
        server.execute("XREADGROUP", "GROUP", GROUP, "holds", "STREAMS", key, ">")
    monkeypatch.setattr(reading, "FORGET_AFTER", 0.0)
    wait_until(lambda: min(idle(server, key) for key in stream.keys) > 50)
    add(server, stream, 1)
    # Ten times as long as entries may lie around has not passed.
    drain(form, stream, 1, reclaim_after=60.0)
    assert consumers(server, stream) == {"holds", "idle"}
    add(server, stream, 1)
    drain(form, stream, 5, reclaim_after=0.005)
    assert consumers(server, stream) == set()


def idle(server: ValkeyServer, key: str) -> int:
    """Milliseconds since the consumer that was heard of last was."""
    told = server.execute("XINFO", "CONSUMERS", key, GROUP)
    return min(dict(zip(each[::2], each[1::2], strict=True))[b"idle"] for each in told)
