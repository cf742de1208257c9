"""The admission scripts on each server there is: Valkey, and Redis 7 where it is installed. Where it is not, that is a
failure if VCACHE_REQUIRE_REDIS is in the environment.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator

import pytest
from lua import START, Scripts
from support.server import ValkeyServer, server_binary


def _redis() -> str | None:
    """The path of a redis-server of version 7 or newer."""
    path = shutil.which("redis-server")
    if path is None:
        return None
    version = subprocess.run([path, "--version"], capture_output=True, text=True, check=True).stdout
    major = version.partition("v=")[2].partition(".")[0]
    return path if major.isdigit() and int(major) >= 7 else None


@pytest.fixture(scope="session", params=["valkey", "redis"])
def engine(request: pytest.FixtureRequest) -> str:
    """The binary of a server."""
    path = server_binary() if request.param == "valkey" else _redis()
    if path is None:
        reason = "no redis-server of version 7 or newer is on PATH"
        if os.environ.get("VCACHE_REQUIRE_REDIS"):
            pytest.fail(f"{reason}, and VCACHE_REQUIRE_REDIS wants one")
        pytest.skip(reason)
    return path


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
