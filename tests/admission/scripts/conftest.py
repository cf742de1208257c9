"""The admission scripts on each server there is: Valkey, and Redis 7 where it is installed. Where it is not, the
summary says so, and with VCACHE_REQUIRE_REDIS in the environment these tests fail.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from lua import START, Scripts
from support.server import ValkeyServer, redis_binary, server_binary

REDIS = redis_binary()
REQUIRED = bool(os.environ.get("VCACHE_REQUIRE_REDIS"))


@pytest.fixture(scope="session", params=["valkey", "redis"] if REDIS or REQUIRED else ["valkey"])
def engine(request: pytest.FixtureRequest) -> str:
    """The binary of a server."""
    if request.param == "valkey":
        return server_binary()
    assert REDIS, "no redis-server of version 7 or newer is on PATH, and VCACHE_REQUIRE_REDIS wants one"
    return REDIS


@pytest.fixture(scope="session")
def script_server(engine: str) -> Iterator[ValkeyServer]:
    """A server for all these tests; one that changes its configuration puts it back."""
    with ValkeyServer(binary=engine) as server:
        yield server


@pytest.fixture
def scripts(script_server: ValkeyServer) -> Scripts:
    """The scripts as they ship, on an empty server."""
    script_server.execute("FLUSHALL")
    return Scripts(script_server)


@pytest.fixture
def timeless(script_server: ValkeyServer) -> Scripts:
    """The scripts in virtual time, which stands still between two calls of `move_clock`."""
    script_server.execute("FLUSHALL")
    scripts = Scripts(script_server, virtual_time=True)
    scripts.move_clock(START)
    return scripts
