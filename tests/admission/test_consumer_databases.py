"""Django's database connections around each batch: lost and old ones are closed, on the thread that has them."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import django.db
import pytest
from asgiref.sync import sync_to_async
from django.conf import settings
from django.db import transaction
from django.db.utils import ConnectionHandler
from support.driver import LOOPS, open_runner
from support.server import ValkeyServer
from support.streams import PATIENCE, Form, Shards, add, dead, depth, make, numbers


class Database:
    """A database, and what is done to its connection where a form of the consumer has it."""

    def __init__(self, connections: ConnectionHandler, form: Form | None) -> None:
        self._connections = connections
        self._form = form

    @property
    def here(self) -> Any:
        return self._connections["default"]

    async def do(self, work: Callable[[Any], Any]) -> Any:
        """Gives the connection to a function, on the thread where queries run."""
        if self._form is None or self._form.is_blocking:
            return work(self.here)
        return await sync_to_async(lambda: work(self.here))()

    async def query(self) -> None:
        await self.do(lambda connection: connection.cursor().execute("SELECT 1"))

    async def lose(self) -> None:
        """The server hangs up."""
        await self.do(lambda connection: connection.connection.close())

    def at_rest(self, work: Callable[[Any], Any]) -> Any:
        """The same outside of the consumer."""
        if self._form is None or self._form.is_blocking:
            return work(self.here)
        return self._form.run(self.do(work))


@pytest.fixture
def max_age() -> int | None:
    """CONN_MAX_AGE."""
    return None


@pytest.fixture
def connections(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, max_age: int | None) -> Iterator[ConnectionHandler]:
    from django_vcache.admission.consume import databases

    configured = {
        "default": {"ENGINE": "support.fragile", "NAME": str(tmp_path / "database"), "CONN_MAX_AGE": max_age},
    }
    connections = ConnectionHandler(configured)
    for module in (databases, transaction):
        monkeypatch.setattr(module, "connections", connections)
    monkeypatch.setattr(settings, "DATABASES", configured)
    yield connections
    connections.close_all()


@pytest.fixture
def database(connections: ConnectionHandler, form: Form) -> Iterator[Database]:
    database = Database(connections, form)
    yield database
    database.at_rest(lambda connection: connection.close())


@pytest.mark.parametrize("how", ["handler", "block"])
def test_a_lost_connection_costs_the_batch_in_hand_and_no_other(
    form: Form, server: ValkeyServer, single: Shards, database: Database, how: str, quick_pauses: None
) -> None:
    add(server, single, *range(6))
    consumer = make(single, batch=1, max_deliveries=2, reclaim_after=0.05)
    done: list[int] = []
    failed = []

    async def handler(batch: Any) -> None:
        try:
            await database.query()
        except django.db.ProgrammingError:
            failed.append(numbers(batch))
            if len(failed) == 10:
                consumer.stop()
            raise
        done.extend(numbers(batch))
        if len(done) == 1:
            await database.lose()
        if len(done) == 6:
            consumer.stop()

    if how == "handler":
        form.handle(consumer, handler)
    else:
        form.consume(consumer, _in_blocks(form, handler))
    assert failed == [[1]]
    assert sorted(done) == list(range(6))
    assert dead(server, single) == []
    assert depth(server, single) == 0


def _in_blocks(form: Form, handler: Any) -> Any:
    async def work(batch: Any) -> None:
        try:
            if form.is_blocking:
                with batch:
                    await handler(batch)
            else:
                async with batch:
                    await handler(batch)
        except django.db.ProgrammingError:
            pass

    return work


@pytest.mark.parametrize("max_age", [0])
@pytest.mark.parametrize("fails", [False, True], ids=["done", "failed"])
def test_a_connection_without_an_age_ends_with_each_batch(
    form: Form, server: ValkeyServer, single: Shards, database: Database, quick_pauses: None, fails: bool
) -> None:
    add(server, single, *range(3))
    consumer = make(single, batch=1)
    opened = []

    async def handler(batch: Any) -> None:
        assert await database.do(lambda connection: connection.connection) is None
        await database.query()
        opened.append(await database.do(lambda connection: connection.connection))
        if len(opened) == 3:
            consumer.stop()
        if fails:
            raise ArithmeticError

    form.handle(consumer, handler)
    assert len({id(each) for each in opened}) == 3
    assert database.at_rest(lambda connection: connection.connection) is None


def test_a_connection_that_may_grow_old_stays(
    form: Form, server: ValkeyServer, single: Shards, database: Database
) -> None:
    add(server, single, *range(3))
    consumer = make(single, batch=1)
    opened = []

    async def handler(batch: Any) -> None:
        await database.query()
        opened.append(await database.do(lambda connection: connection.connection))
        if len(opened) == 3:
            consumer.stop()

    form.handle(consumer, handler)
    assert len({id(each) for each in opened}) == 1


@pytest.mark.parametrize("max_age", [0])
def test_a_transaction_around_the_loop_goes_on(
    server: ValkeyServer, single: Shards, connections: ConnectionHandler
) -> None:
    add(server, single, *range(3))
    consumer = make(single, batch=1)
    connection = connections["default"]
    opened = []
    with transaction.Atomic("default", savepoint=True, durable=False):
        for _ in consumer:
            connection.cursor().execute("SELECT 1")
            opened.append(connection.connection)
            if len(opened) == 3:
                consumer.stop()
        assert connection.in_atomic_block
    assert len({id(each) for each in opened}) == 1


@pytest.mark.parametrize("max_age", [0])
def test_a_connection_that_cannot_be_closed_is_logged_and_fails_nothing(
    form: Form, server: ValkeyServer, single: Shards, database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    add(server, single, *range(2))
    consumer = make(single, batch=1)
    done: list[int] = []

    async def handler(batch: Any) -> None:
        await database.query()
        await database.do(lambda connection: setattr(connection, "fails_to_close", True))
        done.extend(numbers(batch))
        if len(done) == 2:
            consumer.stop()

    form.handle(consumer, handler)
    assert done == [0, 1]
    assert depth(server, single) == 0
    assert "the database connection 'default' could not be closed" in caplog.text
    assert "cannot say goodbye" in caplog.text
    database.at_rest(lambda connection: setattr(connection, "fails_to_close", False))


@pytest.mark.parametrize("loop", LOOPS)
def test_what_is_cancelled_before_it_is_handed_out_was_not_delivered(
    server: ValkeyServer, single: Shards, connections: ConnectionHandler, loop: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The thread that has the connections is busy, so that the batch in hand waits."""
    from django_vcache.admission.consume import databases

    add(server, single, *range(3))
    consumer = make(single, reclaim_after=3600.0)
    go_on, seen = threading.Event(), []

    async def main() -> None:
        asked = asyncio.Event()
        refresh = databases.arefresh

        async def noted() -> None:
            asked.set()
            await refresh()

        monkeypatch.setattr(databases, "arefresh", noted)
        occupied = asyncio.ensure_future(sync_to_async(go_on.wait)(PATIENCE))
        cancelled = asyncio.ensure_future(anext(aiter(consumer)))
        await asked.wait()
        cancelled.cancel()
        go_on.set()
        await occupied
        with pytest.raises(asyncio.CancelledError):
            await cancelled
        async for batch in consumer:
            seen.extend(batch)
            consumer.stop()

    with open_runner(loop) as runner:
        runner.run(main())
    assert numbers(seen) == [0, 1, 2]
    assert {entry.deliveries for entry in seen} == {1}


@pytest.mark.parametrize("loop", LOOPS)
def test_without_a_database_no_thread_is_asked(
    server: ValkeyServer, single: Shards, loop: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from django_vcache.admission.consume import databases

    def unwanted(*args: Any, **options: Any) -> Any:
        raise AssertionError("a thread was asked")

    monkeypatch.setattr(databases, "sync_to_async", unwanted)
    add(server, single, 1)
    consumer = make(single)

    async def handler(batch: Any) -> None:
        consumer.stop()

    with open_runner(loop) as runner:
        runner.run(consumer.arun(handler))
    assert depth(server, single) == 0
