"""Persistent database connections under ASGI: they live on with the lane's thread, are checked, and are no more than
there are lanes. Each test is a process with its own database."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from support.postgres import Postgres
from support.programs import run_program

NO_CACHE = {"default": {"BACKEND": "django.core.cache.backends.dummy.DummyCache"}}

SITE = """
from asgiref.sync import sync_to_async
from django.db import connection, connections
from django.http import HttpResponse
from django.urls import path

settings.DATABASES = {databases!r}
settings.VCACHE = {vcache!r}
settings.ROOT_URLCONF = "__main__"
settings.MIDDLEWARE = []
settings.ALLOWED_HOSTS = ["*"]
settings.LOGGING_CONFIG = None
connections.__dict__.pop("settings", None)
connections._settings = None

from django_vcache.asgi import ASGIHandler
from django_vcache.routing import hot
from django_vcache._lanes import lanes
from support.asgi import get, until

opened = []  # keeps them, so that no two have the same address


def query():
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1")
    if connection.connection not in opened:
        opened.append(connection.connection)
    return opened.index(connection.connection)


def blocking(request):
    return HttpResponse(str(query()))


async def awaited(request):
    first = await sync_to_async(query)()
    assert await sync_to_async(query)() == first
    return HttpResponse(str(first))


urlpatterns = [
    path("blocking", blocking),
    path("awaited", awaited),
    hot("hot", blocking),
    hot("hot-awaited", awaited),
]
app = ASGIHandler()


async def ask(where="/blocking"):
    exchange = await get(app, where)
    return exchange.content.decode() if exchange.status == 200 else exchange.status
"""


@pytest.fixture(scope="module")
def postgres() -> Iterator[Postgres]:
    with closing(Postgres()) as server:
        server.execute("SELECT 1")
        yield server


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> dict[str, Any]:
    if request.param == "sqlite":
        return {"ENGINE": "django.db.backends.sqlite3", "NAME": str(tmp_path / "db.sqlite3")}
    postgres: Postgres = request.getfixturevalue("postgres")
    return postgres.setting()


def site(source: str, database: dict[str, Any], vcache: dict[str, Any] | None = None, **options: Any) -> Any:
    head = SITE.format(databases={"default": {**database, **options}}, vcache=vcache or {})
    return run_program(head + source, NO_CACHE)


def test_a_connection_is_kept_between_requests(database: dict[str, Any]) -> None:
    source = """
async def scenario():
    return [await ask(where) for where in ("/blocking", "/awaited", "/hot", "/hot-awaited") * 2]

report(run(scenario()))
"""
    assert site(source, database, CONN_MAX_AGE=600) == ["0"] * 8


def test_a_connection_is_closed_after_each_request_unless_it_is_to_be_kept(database: dict[str, Any]) -> None:
    source = """
async def scenario():
    return [await ask(where) for where in ("/blocking", "/awaited", "/hot", "/hot-awaited")]

report(run(scenario()))
"""
    assert site(source, database, CONN_MAX_AGE=0) == ["0", "1", "2", "3"]


def test_a_connection_that_is_too_old_is_closed_before_the_first_query(database: dict[str, Any]) -> None:
    source = """
def ages():
    connection.close_at = 0

async def scenario():
    first = await ask()
    lane = lanes.lane()
    await asyncio.wrap_future(lane.submit(ages))
    lane.end()
    await until(lambda: lanes.state["idle"] == 1)
    return [first, await ask()]

report(run(scenario()))
"""
    assert site(source, database, CONN_MAX_AGE=600) == ["0", "1"]


def test_there_are_no_more_connections_than_lanes(database: dict[str, Any]) -> None:
    source = """
async def scenario():
    answers = await asyncio.gather(*(ask(where) for where in ("/blocking", "/awaited") * 20))
    return [sorted(set(answers)), len(opened) <= 2]

report(run(scenario()))
"""
    answers, few = site(source, database, {"LANES": 2}, CONN_MAX_AGE=600)
    assert set(answers) <= {"0", "1"}
    assert few


def test_a_thread_that_expires_closes_its_connection(database: dict[str, Any]) -> None:
    source = """
from django.db.backends.base.base import BaseDatabaseWrapper

closed = []
close = BaseDatabaseWrapper.close
BaseDatabaseWrapper.close = lambda self: (close(self), closed.append(self.connection))

async def scenario():
    await ask()
    await until(lambda: closed)
    return closed

report(run(scenario()))
"""
    assert site(source, database, {"LANE_IDLE": 0.05}, CONN_MAX_AGE=600) == [None]


BROKEN = """
import psycopg

async def scenario():
    answers = [await ask()]
    with psycopg.connect(host={host!r}, user="vcache", dbname="postgres", autocommit=True) as other:
        other.execute(
            "SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity "
            "WHERE pid <> pg_backend_pid() AND backend_type = 'client backend'"
        )
    return answers + [await ask() for _ in range(2)]

report(run(scenario()))
"""


def test_health_checks_replace_a_connection_that_is_lost(postgres: Postgres) -> None:
    source = BROKEN.format(host=postgres.folder)
    assert site(source, postgres.setting(), CONN_MAX_AGE=600, CONN_HEALTH_CHECKS=True) == ["0", "1", "1"]


def test_without_health_checks_one_request_meets_the_lost_connection(postgres: Postgres) -> None:
    source = BROKEN.format(host=postgres.folder)
    assert site(source, postgres.setting(), CONN_MAX_AGE=600) == ["0", 500, "1"]
