"""LOCATION: what may stand there, and a ConfigurationError, made before anything is sent and
free of passwords, for what may not.
"""

from __future__ import annotations

from typing import Any

import pytest
from support.caches import make_cache
from support.server import ValkeyServer


def works(cache: Any) -> bool:
    cache.set("k", ("v",))
    return cache.get("k") == ("v",)


def test_unix_tcp_and_a_list_of_one(drive: Any, server: ValkeyServer) -> None:
    tcp = server.tcp_url
    for location in (server.url, tcp, tcp.replace("redis:", "valkey:"), [server.url]):
        assert works(drive(make_cache(location))), location


@pytest.mark.parametrize("database", [0, 5])
def test_the_database_of_a_location(drive: Any, server: ValkeyServer, database: int) -> None:
    for location in (
        f"unix://{server.socket_path}?db={database}",
        f"redis://127.0.0.1:{server.port}/{database}",
    ):
        server.execute("FLUSHALL")
        assert works(drive(make_cache(location))), location
        assert f"db{database}" in server.info("keyspace"), location


def test_the_user_and_password_of_a_location_are_percent_decoded(drive: Any) -> None:
    with ValkeyServer() as server:
        server.execute("ACL", "SETUSER", "al@ice", "on", ">p:a/s?s", "~*", "&*", "+@all")
        location = f"redis://al%40ice:p%3Aa%2Fs%3Fs@127.0.0.1:{server.port}/0"
        cache = drive(make_cache(location))
        assert works(cache)
        assert cache.execute("ACL", "WHOAMI") == b"al@ice"


BAD = {
    "no list items": [],
    "no scheme": "localhost:6379",
    "another server's scheme": "memcached://localhost",
    "http": "http://user:s3cr3t@localhost:6379",
    "no host": "redis://",
    "port is no number": "redis://user:s3cr3t@localhost:port/0",
    "port too large": "redis://user:s3cr3t@localhost:65536/0",
    "port zero": "redis://user:s3cr3t@localhost:0/0",
    "database is no number": "redis://user:s3cr3t@localhost:6379/zero",
    "negative database": "redis://user:s3cr3t@localhost:6379/-1",
    "database of a socket": "unix:///tmp/vcache-no-such.sock?db=zero",
    "no path": "unix://?db=0",
    "two in a list": ["redis://:s3cr3t@one:6379", "redis://:s3cr3t@two:6379"],
    "two with a comma": "redis://:s3cr3t@one:6379,redis://:s3cr3t@two:6379",
    "two with a semicolon": "redis://:s3cr3t@one:6379;redis://:s3cr3t@two:6379",
}


@pytest.mark.parametrize("location", BAD.values(), ids=BAD)
def test_a_bad_location_is_refused_without_its_password(location: Any) -> None:
    from django_vcache.exceptions import ConfigurationError

    with pytest.raises(ConfigurationError) as caught:
        make_cache(location)
    error: BaseException | None = caught.value
    assert str(error)
    while error is not None:
        assert "s3cr3t" not in f"{error!s} {error!r}"
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
