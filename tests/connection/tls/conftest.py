"""Servers with TLS. They are Debian's redis-server; without one these tests are skipped, which the summary says, and
with VCACHE_REQUIRE_REDIS in the environment they fail."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from support.server import MISSING_TLS, ValkeyServer, redis_binary


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if redis_binary() is None and not os.environ.get("VCACHE_REQUIRE_REDIS"):
        for item in items:
            if "/connection/tls/" in item.nodeid:
                item.add_marker(pytest.mark.skip(reason=MISSING_TLS))


@pytest.fixture(scope="session")
def server() -> Iterator[ValkeyServer]:
    """The session's server, with TLS. It is empty when a test begins; do not kill, pause or configure it."""
    with ValkeyServer(tls=True) as server:
        yield server


@pytest.fixture
def fresh_server() -> Iterator[ValkeyServer]:
    """A server with TLS for one test, which may kill, restart, pause or configure it."""
    with ValkeyServer(tls=True) as server:
        yield server
