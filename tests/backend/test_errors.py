"""A server that is gone, silent, or refuses: by default each is an exception of its own kind,
which tells where, and never the password; with IGNORE_EXCEPTIONS every method answers as for a
miss, and the log says so at most once a second.
"""

from __future__ import annotations

import builtins
import contextlib
import logging
import time
from collections.abc import Callable
from typing import Any

import pytest
from support.caches import make_cache
from support.server import ValkeyServer, wait_until

SHORT = {"CONNECT_TIMEOUT": 0.2, "RESPONSE_TIMEOUT": 0.2}

CALLS: dict[str, Callable[[Any], Any]] = {
    "get": lambda cache: cache.get("k", "default"),
    "set": lambda cache: cache.set("k", 1),
    "add": lambda cache: cache.add("k", 1),
    "touch": lambda cache: cache.touch("k", 10),
    "delete": lambda cache: cache.delete("k"),
    "has_key": lambda cache: cache.has_key("k"),
    "in": lambda cache: "k" in cache,
    "get_many": lambda cache: cache.get_many(["k", "l"]),
    "set_many": lambda cache: cache.set_many({"k": 1, "l": 2}),
    "delete_many": lambda cache: cache.delete_many(["k", "l"]),
    "incr": lambda cache: cache.incr("k"),
    "decr": lambda cache: cache.decr("k"),
    "incr_version": lambda cache: cache.incr_version("k"),
    "decr_version": lambda cache: cache.decr_version("k"),
    "get_or_set": lambda cache: cache.get_or_set("k", lambda: "default"),
    "clear": lambda cache: cache.clear(),
}
# What each call gives with IGNORE_EXCEPTIONS; a class is an exception, as for a missing key.
MISSES: dict[str, Any] = {
    "get": "default",
    "set": None,
    "add": False,
    "touch": False,
    "delete": False,
    "has_key": False,
    "in": False,
    "get_many": {},
    "set_many": ["k", "l"],
    "delete_many": None,
    "incr": ValueError,
    "decr": ValueError,
    "incr_version": ValueError,
    "decr_version": ValueError,
    "get_or_set": "default",
}
each_call = pytest.mark.parametrize("name", CALLS)


def outcome(name: str, cache: Any) -> Any:
    try:
        result = CALLS[name](cache)
    except ValueError:
        return ValueError
    return sorted(result) if name == "set_many" else result


def test_the_tree_of_exceptions() -> None:
    from django.core.exceptions import ImproperlyConfigured

    from django_vcache import exceptions

    base = exceptions.VcacheError
    assert issubclass(exceptions.ConnectionError, base)
    assert issubclass(exceptions.ConnectionError, builtins.ConnectionError)
    assert issubclass(exceptions.TimeoutError, base)
    assert issubclass(exceptions.TimeoutError, builtins.TimeoutError)
    assert issubclass(exceptions.ResponseError, base)
    assert issubclass(exceptions.ConfigurationError, base)
    assert issubclass(exceptions.ConfigurationError, ImproperlyConfigured)
    assert issubclass(exceptions.HotPathPanic, RuntimeError)


def connect(cache: Any) -> None:
    """Has the cache's connection made, for which a busy machine may need longer than its patience with the server."""

    def is_connected() -> bool:
        with contextlib.suppress(builtins.TimeoutError):
            cache.set("k", 1)
            return bool(cache.get("k") == 1)
        return False

    wait_until(is_connected)


@each_call
def test_a_dead_server_is_an_error(drive: Any, fresh_server: ValkeyServer, name: str) -> None:
    from django_vcache import exceptions

    cache = drive(make_cache(fresh_server, **SHORT))
    connect(cache)
    fresh_server.kill()
    with pytest.raises((exceptions.ConnectionError, exceptions.TimeoutError)):
        CALLS[name](cache)


@each_call
def test_a_silent_server_is_a_timeout(drive: Any, fresh_server: ValkeyServer, name: str) -> None:
    from django_vcache import exceptions

    cache = drive(make_cache(fresh_server, **SHORT))
    connect(cache)
    fresh_server.pause()
    with pytest.raises(exceptions.TimeoutError):
        CALLS[name](cache)
    fresh_server.resume()
    wait_until(lambda: works(cache))


def works(cache: Any) -> bool:
    """Whether a write and a read succeed now."""
    from django_vcache.exceptions import VcacheError

    try:
        cache.set("again", "v")
        return cache.get("again") == "v"
    except VcacheError:
        return False


@pytest.mark.parametrize("address", ["url", "tcp_url"])
def test_an_error_tells_where_and_no_password(drive: Any, fresh_server: ValkeyServer, address: str) -> None:
    from django_vcache.exceptions import VcacheError

    location = getattr(fresh_server, address)
    where = fresh_server.address if address == "url" else str(fresh_server.port)
    fresh_server.kill()
    cache = drive(make_cache(location, USERNAME="alice", PASSWORD="s3cr3t", **SHORT))
    with pytest.raises(VcacheError) as caught:
        cache.get("k")
    assert where in str(caught.value)
    assert "s3cr3t" not in f"{caught.value!s} {caught.value!r} {cache!r}"


def test_a_wrong_password_is_an_error_without_it(drive: Any) -> None:
    from django_vcache.exceptions import VcacheError

    with ValkeyServer(requirepass="right") as server:
        location = server.tcp_url.replace("://", "://:s3cr3t@")
        with pytest.raises(VcacheError, match=r"WRONGPASS|invalid username-password") as caught:
            drive(make_cache(location, **SHORT)).get("k")
        assert "s3cr3t" not in f"{caught.value!s} {caught.value!r}"


def test_a_restarted_server_is_found_again(drive: Any, fresh_server: ValkeyServer) -> None:
    cache = drive(make_cache(fresh_server))
    cache.set("k", 1)
    fresh_server.restart()
    wait_until(lambda: works(cache))


# IGNORE_EXCEPTIONS.


def ignoring(drive: Any, server: ValkeyServer) -> Any:
    return drive(make_cache(server, IGNORE_EXCEPTIONS=True, **SHORT))


@pytest.mark.parametrize("state", ["killed", "killed before the first use"])
def test_ignored_exceptions_are_misses(drive: Any, fresh_server: ValkeyServer, state: str) -> None:
    cache = ignoring(drive, fresh_server)
    if state == "killed":
        connect(cache)
    fresh_server.kill()
    assert {name: outcome(name, cache) for name in MISSES} == MISSES
    cache.clear()
    cache.close()


def test_an_ignored_silence_is_a_miss(drive: Any, fresh_server: ValkeyServer) -> None:
    cache = ignoring(drive, fresh_server)
    connect(cache)
    fresh_server.pause()
    assert cache.get("k", "default") == "default"
    assert cache.get_many(["k"]) == {}
    fresh_server.resume()
    wait_until(lambda: cache.get("k") == 1)


def test_ignored_exceptions_are_logged_at_most_once_a_second(
    drive: Any, fresh_server: ValkeyServer, caplog: pytest.LogCaptureFixture
) -> None:
    cache = ignoring(drive, fresh_server)
    fresh_server.kill()
    caplog.set_level(logging.DEBUG, "django_vcache")

    def records() -> list[logging.LogRecord]:
        return [
            record
            for record in caplog.records
            if record.name.split(".")[0] == "django_vcache" and record.levelno >= logging.WARNING
        ]

    begin = time.monotonic()
    # The limit may be one for the process: an earlier test may have used up this second.
    wait_until(lambda: (cache.get("k"), records())[1])
    for _ in range(20):
        cache.get("k")
    assert len(records()) <= 1 + int(time.monotonic() - begin)
    assert fresh_server.address in records()[0].getMessage()


def test_after_a_restart_values_are_back(drive: Any, fresh_server: ValkeyServer) -> None:
    cache = ignoring(drive, fresh_server)
    fresh_server.kill()
    assert cache.get("k", "default") == "default"
    fresh_server.restart()
    wait_until(lambda: cache.set("k", "v") or cache.get("k") == "v")


def test_mistakes_of_the_caller_are_not_ignored(drive: Any, fresh_server: ValkeyServer) -> None:
    cache = ignoring(drive, fresh_server)
    cache.set("text", "x")
    with pytest.raises(TypeError):
        cache.incr("text")
    with pytest.raises(ValueError, match="missing"):
        cache.incr("missing")
