"""The server of a test run: `CACHES` on it, empty for each test, and gone with its process."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from django.core.cache import caches
from django.test import override_settings
from support.caches import cache_setting
from support.programs import Program
from support.server import ValkeyServer, wait_until

from django_vcache import ValkeyCache, aliases, exceptions
from django_vcache.admission import Throttle
from django_vcache.test import Server, clear_caches, on_server

OURS = "django_vcache.ValkeyCache"
NOWHERE = {"BACKEND": OURS, "LOCATION": "redis://:s3cr3t@nowhere.invalid/1"}


class Subclass(ValkeyCache):
    """A project's own."""


@pytest.fixture(scope="module")
def mine() -> Iterator[Server]:
    server = Server()
    yield server
    server.stop()


def folder_of(server: Server) -> Path:
    return Path(server.url.removeprefix("unix://")).parent


def test_the_caches_of_a_project_are_on_the_server_and_keep_their_settings(mine: Server) -> None:
    settings = {
        "default": {**NOWHERE, "KEY_PREFIX": "shop", "OPTIONS": {"PASSWORD": "s3cr3t", "USERNAME": "a", "DB": 7}},
        "own": {**NOWHERE, "BACKEND": f"{__name__}.Subclass", "OPTIONS": {"COMPRESS_MIN_LEN": None}},
        "same": {**NOWHERE, "TIMEOUT": None},
        "locmem": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"},
        "dummy": {"BACKEND": "django.core.cache.backends.dummy.DummyCache"},
        "files": {"BACKEND": "django.core.cache.backends.filebased.FileBasedCache", "LOCATION": "/tmp/unused"},
    }
    with override_settings(CACHES=settings), on_server(mine):
        for alias in ("default", "own", "same", "locmem", "dummy"):
            caches[alias].set(alias, alias)
        assert type(caches["own"]) is Subclass
        assert type(caches["files"]).__name__ == "FileBasedCache"
        assert aliases["default"].get("default") == "default"
        assert caches["same"].get("own") == "own", "one server stays one server"
        assert [caches[alias].get("same") for alias in ("default", "locmem", "dummy")] == [None] * 3
        assert mine.command("EXISTS", "shop:1:default") == b":1\r\n"
        keyspace = mine.command("INFO", "keyspace").decode()
        assert [line.split(":")[0] for line in keyspace.split() if line.startswith("db")] == [
            "db0",
            "db1",
            "db2",
            "db3",
        ]


def test_a_server_has_no_more_databases_than_that(mine: Server) -> None:
    settings = {f"a{number}": {**NOWHERE, "OPTIONS": {"DB": number}} for number in range(17)}
    with override_settings(CACHES={"default": NOWHERE, **settings}), pytest.raises(ValueError, match="more than 16"):
        mine.caches()


def test_it_is_empty_at_the_beginning_and_limits_are_fresh(mine: Server) -> None:
    throttle = Throttle("org", "1/d", deadline=None)
    with override_settings(CACHES={"default": NOWHERE}):
        for _ in range(2):
            with on_server(mine):
                assert caches["default"].get("k") is None
                caches["default"].set("k", 1)
                assert [bool(throttle.check(1)) for _ in range(2)] == [True, False]
        with on_server(mine):
            assert throttle.check(1)
            mine.clear()
            assert throttle.check(1)


def test_it_can_be_killed_and_started_again(mine: Server) -> None:
    with override_settings(CACHES={"default": NOWHERE}), on_server(mine):
        url = mine.url
        caches["default"].set("k", 1)
        mine.kill()
        with pytest.raises(exceptions.ConnectionError):
            caches["default"].get("k")
        with pytest.raises(OSError, match="does not run"):
            mine.pause()
        mine.restart()
        assert mine.url == url
        assert caches["default"].get("k") is None


def test_it_can_be_paused(mine: Server) -> None:
    impatient = {**NOWHERE, "OPTIONS": {"RESPONSE_TIMEOUT": 0.05}}
    with override_settings(CACHES={"default": impatient}), on_server(mine):
        caches["default"].set("k", 1)
        mine.pause()
        with pytest.raises(exceptions.TimeoutError):
            caches["default"].get("k")
        mine.resume()
        wait_until(lambda: _works(), what="it answers again")


def _works() -> bool:
    try:
        return bool(caches["default"].get("k") == 1)
    except (exceptions.ConnectionError, exceptions.TimeoutError):
        return False


@pytest.mark.parametrize("way", ["kill", "pause"])
def test_the_next_test_has_a_server_whatever_the_one_before_did(mine: Server, way: str) -> None:
    with override_settings(CACHES={"default": NOWHERE}):
        with on_server(mine):
            getattr(mine, way)()
        with on_server(mine):
            caches["default"].set("k", 1)
            assert caches["default"].get("k") == 1


def test_nothing_is_left_of_it() -> None:
    server = Server()
    assert server.command("PING") == b"+PONG\r\n"
    folder = folder_of(server)
    assert (folder / "valkey.sock").is_socket()
    server.stop()
    assert not folder.exists()
    server.stop()
    with pytest.raises(OSError, match="No such file"):
        server.command("PING")


PROCESSES = """
import os
from pathlib import Path
from django_vcache import cache
from django_vcache.test import Server, on_server

def folder(server):
    return str(Path(server.url.removeprefix("unix://")).parent)

assert Server.of_process() is Server.of_process()
with on_server() as server:
    assert server is Server.of_process()
    cache.set("k", 1)
lives, life = os.pipe()
if not os.fork():
    os.close(life)
    with on_server() as other:
        cache.set("k", 2)
        report(folder(other))
        os.read(lives, 1)  # until the parent ends
        os._exit(0)
report(folder(server))
wait_for_word()
with on_server() as again:
    assert again is server
os.kill(os.getpid(), 9)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="needs Linux's PR_SET_PDEATHSIG")
def test_each_process_has_one_which_ends_with_it_however_that_ends() -> None:
    with Program(PROCESSES, {"default": NOWHERE}) as program:
        folders = {Path(program.report()), Path(program.report())}
        assert len(folders) == 2
        assert all((folder / "valkey.sock").is_socket() for folder in folders)
        program.tell()
        program.exit_code()
    wait_until(lambda: not any(folder.exists() for folder in folders), what="their folders are removed")


def test_clear_caches_clears_ours(server: ValkeyServer, fresh_server: ValkeyServer) -> None:
    settings = {
        "default": cache_setting(server),
        "other": cache_setting(fresh_server, KEY_PREFIX="o", CLEAR="prefix"),
        "locmem": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache", "LOCATION": "clear-caches"},
    }
    throttle = Throttle("org", "1/d", deadline=None)
    with override_settings(CACHES=settings):
        for cache in caches.all():
            cache.set("k", 1)
        for alias in settings:
            caches[alias].set("k", 1)
        fresh_server.execute("SET", "foreign", "1")
        assert [bool(throttle.check(1)) for _ in range(2)] == [True, False]
        clear_caches()
        assert [caches[alias].get("k") for alias in settings] == [None, None, 1]
        assert throttle.check(1)
    assert fresh_server.keys() == [b"foreign"]
