"""Sentinel: the primary is where the sentinels say, at the first connection and after each failover, whichever of the
sentinels is dead or hangs. Every call ends, and none is executed twice."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from support import certificates
from support.caches import make_cache
from support.load import works_again
from support.sentinels import SERVICE, Sentinel, Watched
from support.server import ValkeyServer, wait_until

from django_vcache.exceptions import ConnectionError

TRUST = {"ssl_ca_certs": str(certificates.authority().certificate)}
LIMITS = {"RESPONSE_TIMEOUT": 10.0, "CONNECT_TIMEOUT": 10.0}


@pytest.fixture(scope="module")
def watched() -> Iterator[Watched]:
    """A primary, a replica, three sentinels. Tests may fail over, and leave all of them running."""
    with Watched() as watched:
        yield watched


def works(cache: Any) -> bool:
    cache.set("k", "v")
    return cache.get("k") == "v"


def port_of(cache: Any) -> int:
    """The port of the server that answers."""
    found = cache.execute("CONFIG", "GET", "*port")
    ports = found if isinstance(found, dict) else dict(zip(found[::2], found[1::2], strict=True))
    return int(ports[b"port"]) or int(ports[b"tls-port"])


@pytest.mark.parametrize("scheme", ["sentinel", "redis+sentinel", "valkey+sentinel"])
def test_the_primary_is_found(watched: Watched, drive: Any, scheme: str) -> None:
    cache = drive(make_cache(watched.url(scheme)))
    assert works(cache)
    assert port_of(cache) == watched.primary.port


def test_settings_of_django_redis_are_taken(watched: Watched, drive: Any) -> None:
    hosts = [("127.0.0.1", sentinel.port) for sentinel in watched.sentinels]
    options: dict[str, Any] = {
        "CLIENT_CLASS": "django_redis.client.SentinelClient",
        "CONNECTION_POOL_CLASS": "redis.sentinel.SentinelConnectionPool",
        "CONNECTION_FACTORY": "django_redis.pool.SentinelConnectionFactory",
        "SENTINELS": hosts,
        "SENTINEL_KWARGS": {"socket_timeout": 1},
    }
    scheme = "redis"
    if watched.first.tls:
        scheme = "rediss"
        options |= TRUST
        options["SENTINEL_KWARGS"] |= {"ssl": True} | TRUST
    one = f"{scheme}://{SERVICE}/0"
    for location in (one, [f"{one}?is_master=1", f"{one}?is_master=0"]):
        cache = drive(make_cache(location, **options))
        assert works(cache)
        assert port_of(cache) == watched.primary.port


def test_a_failover_is_followed_by_a_connection_that_lives(watched: Watched, drive: Any) -> None:
    cache = drive(make_cache(watched.url(), **LIMITS))
    assert works(cache)
    watched.fail_over()
    # The old primary stays up, as a replica that refuses writes.
    assert cache.execute("SET", "after", "1") == b"OK"
    assert works(cache)
    assert port_of(cache) == watched.primary.port


def test_a_sentinel_that_hangs_or_is_dead_costs_nothing(watched: Watched, drive: Any) -> None:
    with socket.socket() as free, socket.create_server(("127.0.0.1", 0)) as silent:
        free.bind(("127.0.0.1", 0))
        dead, hanging = free.getsockname()[1], silent.getsockname()[1]
        url = watched.url_of(f"127.0.0.1:{dead},127.0.0.1:{hanging},{watched.hosts}")
        # Far above what it takes, and far below what a hanging one would take.
        cache = drive(make_cache(url, CONNECT_TIMEOUT=60.0))
        begun = time.monotonic()
        assert works(cache)
        assert time.monotonic() - begun < 30


def test_a_paused_sentinel_is_passed_over(watched: Watched, drive: Any) -> None:
    first = watched.sentinels[0]
    first.pause()
    try:
        assert works(drive(make_cache(watched.url(), CONNECT_TIMEOUT=60.0)))
    finally:
        first.resume()


@pytest.mark.parametrize(
    ("service", "query", "words"),
    [
        ("nonsense", "", "it does not know 'nonsense'"),
        (SERVICE, "?sentinel_password=s3cr3t", "check sentinel_username and sentinel_password"),
    ],
)
def test_what_the_sentinels_say_is_told(watched: Watched, service: str, query: str, words: str) -> None:
    cache = make_cache(watched.url_of(watched.hosts, query=query, service=service))
    with pytest.raises(ConnectionError, match="no sentinel says where") as caught:
        cache.get("k")
    assert "s3cr3t" not in str(caught.value)
    if query:
        # Without a password, a sentinel may refuse it or let it be.
        return
    assert words in str(caught.value)


# It would have to be spoken to with TLS.
@pytest.mark.plain_server
def test_a_server_that_is_no_sentinel_is_told(server: ValkeyServer) -> None:
    cache = make_cache(f"redis+sentinel://127.0.0.1:{server.port}/{SERVICE}/0")
    with pytest.raises(ConnectionError, match="this is no sentinel"):
        cache.get("k")


def test_no_sentinel_at_all_is_told() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        cache = make_cache(f"redis+sentinel://127.0.0.1:{free.getsockname()[1]}/{SERVICE}/0")
        with pytest.raises(ConnectionError, match="no sentinel says where 'mymaster' is"):
            cache.get("k")


def test_sentinels_and_primary_have_passwords_of_their_own(drive: Any) -> None:
    with Watched(requirepass="data", sentinels={"requirepass": "watch"}) as watched:
        url = watched.url(userinfo=":data@", query="?sentinel_password=watch")
        assert works(drive(make_cache(url)))
        # As django-redis has it.
        hosts = [("127.0.0.1", sentinel.port) for sentinel in watched.sentinels]
        trust, scheme = ({"ssl": True} | TRUST, "rediss") if watched.first.tls else ({}, "redis")
        options = {"SENTINELS": hosts, "SENTINEL_KWARGS": {"password": "watch"} | trust, "PASSWORD": "data"}
        if trust:
            options |= TRUST
        assert works(drive(make_cache(f"{scheme}://{SERVICE}/0", **options)))
        for query in ("", "?sentinel_password=s3cr3t"):
            with pytest.raises(ConnectionError, match="check sentinel_username and sentinel_password") as caught:
                make_cache(watched.url(userinfo=":data@", query=query)).get("k")
            assert "s3cr3t" not in str(caught.value)


class Load:
    """Threads that count up on the server, and what they were told."""

    def __init__(self, cache: Any, threads: int = 4) -> None:
        self.acknowledged = 0
        self.uncertain = 0
        self.last = 0.0
        self._cache = cache
        self._lock = threading.Lock()
        self._over = threading.Event()
        self._threads = [threading.Thread(target=self._count) for _ in range(threads)]

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        wait_until(lambda: self.acknowledged > 100, what="the load")
        return self

    def __exit__(self, *error: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join()

    def _count(self) -> None:
        while not self._over.is_set():
            try:
                self._cache.execute("INCR", "n")
            except (ConnectionError, TimeoutError) as error:
                with self._lock:
                    self.uncertain += "may" in str(error)
                continue
            with self._lock:
                self.acknowledged += 1
                self.last = time.monotonic()


def test_a_failover_under_load_ends_every_call_and_repeats_none(watched: Watched) -> None:
    cache = make_cache(watched.url(), **LIMITS)
    cache.execute("SET", "n", "0")
    with Load(cache) as load:
        watched.fail_over()
        failed_over = time.monotonic()
        wait_until(lambda: load.last > failed_over, what="calls after the failover")
        before = load.acknowledged
        wait_until(lambda: load.acknowledged > before + 100, what="many of them")
    count = int(cache.execute("GET", "n"))
    # What the old primary took after the new one was made is gone, as always with Sentinel.
    assert 0 < count <= load.acknowledged + load.uncertain


def test_a_primary_that_is_killed_is_replaced_by_the_next() -> None:
    with Watched() as watched:
        cache = make_cache(watched.url(), **LIMITS)
        assert works(cache)
        old, new = watched.primary, watched.replica
        old.kill()
        watched.wait_for(new)
        wait_until(lambda: works_again(cache), what="the new primary answers")
        assert port_of(cache) == new.port


def test_one_sentinel_is_enough(watched: Watched, drive: Any) -> None:
    with Sentinel(watched.primary, 1) as alone:
        assert works(drive(make_cache(watched.url_of(f"127.0.0.1:{alone.port}", "sentinel"))))
