"""LOCATION: what may stand there, and a ConfigurationError, made before anything is sent and
free of passwords, for what may not.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from support import certificates
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
    for url in (server.unix_url, server.tcp_url):
        location = url.replace("?db=0", f"?db={database}").replace("/0", f"/{database}", 1)
        server.execute("FLUSHALL")
        assert works(drive(make_cache(location))), location
        assert f"db{database}" in server.info("keyspace"), location


def test_the_user_and_password_of_a_location_are_percent_decoded(drive: Any) -> None:
    with ValkeyServer() as server:
        server.execute("ACL", "SETUSER", "al@ice", "on", ">p:a/s?s", "~*", "&*", "+@all")
        location = server.tcp_url.replace("://", "://al%40ice:p%3Aa%2Fs%3Fs@")
        cache = drive(make_cache(location))
        assert works(cache)
        assert cache.execute("ACL", "WHOAMI") == b"al@ice"


def test_a_user_and_password_before_a_sockets_path(drive: Any) -> None:
    with ValkeyServer(requirepass="main-s3cr3t") as server:
        server.execute("ACL", "SETUSER", "alice", "on", ">a/b", "~*", "&*", "+@all")
        for location, user in (
            (f"unix://:main-s3cr3t@{server.socket_path}?db=2", b"default"),
            (f"unix://alice:a%2Fb@{server.socket_path}", b"alice"),
            (f"redis+unix://alice:a%2Fb@{server.socket_path}", b"alice"),
        ):
            cache = drive(make_cache(location))
            assert works(cache), location
            assert cache.execute("ACL", "WHOAMI") == user


def test_one_server_may_be_written_as_other_backends_take_it(drive: Any, server: ValkeyServer) -> None:
    tcp = server.tcp_url
    for location in ([f" {tcp}\n"], (tcp,), f"{tcp},", f"{tcp};", [server.url, ""]):
        assert works(drive(make_cache(location))), location


def test_commas_in_a_path_and_in_a_password_are_not_separators(drive: Any) -> None:
    with ValkeyServer(requirepass="a,b;c") as server:
        other = Path(server.directory, "s,1;2.sock")
        other.symlink_to(server.socket_path)
        for location in (
            server.tcp_url.replace("://", "://:a,b;c@"),
            f"unix://:a,b;c@{other}",
            f"unix://:a,b;c@{other}?db=1",
        ):
            assert works(drive(make_cache(location))), location


@pytest.mark.parametrize(
    "location",
    [
        ["{scheme}://127.0.0.1:1", "{scheme}://127.0.0.1:{port}"],
        "{scheme}://127.0.0.1:1,{scheme}://127.0.0.1:{port}",
        "{scheme}://127.0.0.1:1; 127.0.0.1:{port};{scheme}://127.0.0.1:2",
        "{scheme}://127.0.0.1:1,127.0.0.1:{port}",
    ],
)
def test_several_servers_are_tried_in_turn(server: ValkeyServer, drive: Any, location: Any) -> None:
    trust = {"ssl_ca_certs": str(certificates.authority().certificate)}
    scheme, options = ("rediss", trust) if server.tls else ("redis", {})
    listed = [location] if isinstance(location, str) else location
    named = [each.format(scheme=scheme, port=server.port) for each in listed]
    assert works(drive(make_cache(named, **options)))


def test_of_several_servers_the_primary_is_taken(server: ValkeyServer, drive: Any) -> None:
    with ValkeyServer(replicaof=f"127.0.0.1 {server.port}") as replica:
        # A replica would refuse to write.
        assert works(drive(make_cache([replica.tcp_url, server.tcp_url])))


@pytest.mark.parametrize(
    ("location", "words"),
    [
        (
            ["redis://:s3cr3t@one:6379", "redis://:other@two:6379"],
            "2 servers, and number 2 differs from the first in more",
        ),
        (
            "redis://:s3cr3t@one; redis://:s3cr3t@two;redis://three",
            "3 servers, and number 3 differs from the first in more",
        ),
        (["redis://one/1", "redis://two/2"], "2 servers, and number 2 differs from the first in more"),
        (["redis://one", "rediss://two"], "2 servers, and number 2 differs from the first in more"),
        ("unix:///run/one.sock,unix:///run/two.sock", "2 servers, and number 2 is a unix:// URL"),
    ],
)
def test_several_servers_that_are_not_alike_are_refused(location: Any, words: str) -> None:
    message = message_for(location)
    assert words in message
    assert "s3cr3t" not in message
    assert "other" not in message


@pytest.mark.parametrize("cut", ["/", "#", "?"])
@pytest.mark.parametrize("scheme", ["redis", "valkey", "unix", "rediss"])
@pytest.mark.parametrize("user", ["", "user"])
@pytest.mark.parametrize(("first", "second"), [("s3c", "r3t"), ("12", "34"), ("s3c,r3t", "r3t")])
def test_a_password_that_is_not_encoded_gets_a_hint_and_is_not_shown_in_part(
    scheme: str, user: str, first: str, second: str, cut: str
) -> None:
    rest = "/run/v.sock" if scheme == "unix" else "localhost:6379/0"
    message = message_for(f"{scheme}://{user}:{first}{cut}{second}@{rest}")
    assert "percent-encode it: '/' is %2F, '?' is %3F, '#' is %23" in message
    told = message.replace("%2F", "").replace("%3F", "").replace("%23", "").replace("%40", "")
    assert not any(part in told for part in (first, second, "localhost", "v.sock"))


@pytest.mark.parametrize(
    ("location", "reason"),
    [
        (None, "LOCATION is None"),
        ([None], "LOCATION is None"),
        (7, "must be a URL, not int"),
        ("  ", "LOCATION is missing"),
        (" , ", "LOCATION is missing"),
        ("localhost:6379", "it has no scheme"),
        ("s3cr3t@localhost:6379", "it has no scheme"),
        ("redis://:s3cr3t", "empty host"),
        ("redis://localhost:s3cr3t", "invalid port"),
        ("redis://localhost#s3cr3t", "'#'"),
    ],
)
def test_the_message_says_what_is_wrong_and_no_more(location: Any, reason: str) -> None:
    message = message_for(location)
    assert reason in message
    assert "s3c" not in message


def message_for(location: Any) -> str:
    from django_vcache.exceptions import ConfigurationError

    with pytest.raises(ConfigurationError) as caught:
        make_cache(location)
    return str(caught.value)


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
    "two in a list": ["redis://:s3cr3t@one:6379", "redis://:s3cr3t@two:6379/1"],
    "two with a comma": "redis://:s3cr3t@one:6379,redis://:s3cr3t@two:6379/1",
    "two with a semicolon": "redis://:s3cr3t@one:6379;redis://:s3cr3t@two:6379/1",
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
