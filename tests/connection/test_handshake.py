"""Connecting goes wrong: the server hangs, is another kind of server, wants another password, is still
loading. Every call fails within CONNECT_TIMEOUT, with an error that says where and what to do, and no
secret stands in an error, a repr or a log.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable
from typing import Any

import pytest
from support.caches import make_cache
from support.fake import HELLO, OK, FakeServer, Peer, answer_keys
from support.load import failures, works_again
from support.server import ValkeyServer, wait_until
from support.ticks import ticking

LIMITS = {"RESPONSE_TIMEOUT": 5.0, "CONNECT_TIMEOUT": 0.5}
SECRET = "s3cr3t-p4ss"


def connection_error() -> type[Exception]:
    from django_vcache.exceptions import ConnectionError

    return ConnectionError


def says(reply: bytes) -> Callable[[Peer], None]:
    """A script that answers HELLO with `reply` and everything else with OK."""

    def script(peer: Peer) -> None:
        for command in peer.commands():
            peer.send(reply if command[0] == b"HELLO" else OK)

    return script


def http(peer: Peer) -> None:
    peer.send(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")
    peer.wait_for_the_end()


def say_nothing(peer: Peer) -> None:
    peer.wait_for_the_end()


def half_a_handshake(peer: Peer) -> None:
    peer.command()
    peer.send(HELLO[:20])
    peer.wait_for_the_end()


def hang_up(peer: Peer) -> None:
    peer.command()


@pytest.mark.parametrize(
    ("script", "text"),
    [
        (say_nothing, r"no answer within 0\.5 s \(CONNECT_TIMEOUT\)"),
        (half_a_handshake, r"no answer within 0\.5 s \(CONNECT_TIMEOUT\)"),
        (hang_up, "closed the connection during the handshake"),
        (http, "not a Valkey or Redis server"),
        (says(b"-NOAUTH Authentication required.\r\n"), "wants a password"),
        (says(b"-WRONGPASS invalid username-password pair\r\n"), "check the user name and the password"),
        (says(b"-LOADING server is loading the dataset in memory\r\n"), "still loading"),
        (says(b"-NOPROTO unsupported protocol version\r\n"), "RESP3"),
        (says(b"-ERR unknown command 'HELLO'\r\n"), "refused HELLO"),
        (says(b"-DENIED Redis is running in protected mode\r\n"), "protected mode"),
    ],
    ids=["nothing", "half", "hang up", "http", "noauth", "wrongpass", "loading", "noproto", "old", "protected"],
)
def test_a_failed_handshake_says_where_and_why(drive: Any, script: Callable[[Peer], None], text: str) -> None:
    with FakeServer(script) as fake:
        cache = drive(make_cache(fake.url, PASSWORD=SECRET, **LIMITS))
        with pytest.raises(connection_error(), match=text) as caught:
            cache.get("k")
        assert f"127.0.0.1:{fake.port}" in str(caught.value)
        assert SECRET not in f"{caught.value!r} {cache!r}"
        fake.script = answer_keys
        wait_until(lambda: succeeds(lambda: cache.execute("GET", "k") == b"k"), timeout=20)


def succeeds(call: Callable[[], bool]) -> bool:
    try:
        return call()
    except failures():
        return False


def test_a_handshake_that_hangs_blocks_no_loop(run: Any) -> None:
    with FakeServer(say_nothing) as fake:
        cache = make_cache(fake.url, **LIMITS)

        async def main() -> None:
            async with ticking() as ticker, asyncio.timeout(20):
                errors = await asyncio.gather(*(cache.aget("k") for _ in range(100)), return_exceptions=True)
            assert {type(error) for error in errors} == {connection_error()}
            assert ticker.ticks > 5, "the loop was blocked"

        run(main())


@pytest.mark.parametrize("pieces", [1, 3])
def test_a_handshake_byte_by_byte_succeeds(drive: Any, pieces: int) -> None:
    def script(peer: Peer) -> None:
        class Slow(Peer):
            def send(self, data: bytes) -> None:
                for start in range(0, len(data), pieces):
                    Peer.send(peer, data[start : start + pieces])

        slow = Slow.__new__(Slow)
        slow.__dict__.update(peer.__dict__)
        answer_keys(slow)

    with FakeServer(script) as fake:
        cache = drive(make_cache(fake.url, RESPONSE_TIMEOUT=5.0, CONNECT_TIMEOUT=5.0))
        assert cache.execute("GET", "k") == b"k"
        assert fake.accepted == 1


def test_an_unknown_host_is_named(drive: Any) -> None:
    cache = drive(make_cache(f"redis://:{SECRET}@no-such-host.invalid:6379", **LIMITS))
    with pytest.raises(connection_error(), match=r"no-such-host\.invalid") as caught:
        cache.get("k")
    assert SECRET not in f"{caught.value!r} {cache!r}"


def test_a_socket_that_does_not_exist_is_named(drive: Any, tmp_path: Any) -> None:
    cache = drive(make_cache(f"unix://{tmp_path}/none.sock", PASSWORD=SECRET, **LIMITS))
    with pytest.raises(connection_error(), match=r"none\.sock.*running") as caught:
        cache.get("k")
    assert SECRET not in f"{caught.value!r} {cache!r}"


def test_a_database_that_does_not_exist_is_named(drive: Any, server: ValkeyServer) -> None:
    cache = drive(make_cache(server, DB=9999, **LIMITS))
    with pytest.raises(connection_error(), match=r"SELECT 9999 was refused.*out of range"):
        cache.get("k")


@pytest.mark.parametrize(
    ("credentials", "text"),
    [
        ({}, "wants a password.*LOCATION.*OPTIONS"),
        ({"PASSWORD": SECRET}, "check the user name and the password"),
        ({"USERNAME": "alice", "PASSWORD": SECRET}, "check the user name and the password"),
        ({"USERNAME": "nobody", "PASSWORD": SECRET}, "check the user name and the password"),
    ],
    ids=["missing", "wrong", "wrong for the user", "no such user"],
)
@pytest.mark.parametrize("address", ["url", "tcp_url"])
def test_wrong_credentials_are_an_error_and_shown_nowhere(
    drive: Any, caplog: pytest.LogCaptureFixture, credentials: dict[str, str], text: str, address: str
) -> None:
    caplog.set_level(logging.DEBUG)
    with ValkeyServer(requirepass="right", users=["alice on >pw ~* &* +@all"]) as server:
        for ignore in (False, True):
            cache = drive(make_cache(getattr(server, address), IGNORE_EXCEPTIONS=ignore, **credentials, **LIMITS))
            if ignore:
                assert cache.get("k", "default") == "default"
                continue
            with pytest.raises(connection_error(), match=text) as caught:
                cache.get("k")
            where = server.address if address == "url" else f"127.0.0.1:{server.port}"
            assert where in str(caught.value)
            assert SECRET not in f"{caught.value!r} {caught.value.__dict__} {cache!r}"
    assert SECRET not in caplog.text


@pytest.mark.parametrize("address", ["url", "tcp_url"])
def test_right_credentials_open_the_door(drive: Any, address: str) -> None:
    with ValkeyServer(requirepass="right", users=["alice on >pw ~* &* +@all"]) as server:
        location = getattr(server, address)
        assert drive(make_cache(location, PASSWORD="right")).execute("ACL", "WHOAMI") == b"default"
        assert drive(make_cache(location, USERNAME="alice", PASSWORD="pw")).execute("ACL", "WHOAMI") == b"alice"
        with_user = server.tcp_url.replace("://", "://alice:pw@")
        assert drive(make_cache(with_user)).execute("ACL", "WHOAMI") == b"alice"


def test_what_a_user_may_not_do_is_the_servers_own_error(drive: Any) -> None:
    from django_vcache.exceptions import ResponseError

    with ValkeyServer(users=["reader on >pw ~* &* +@read +hello +client"]) as server:
        cache = drive(make_cache(server, USERNAME="reader", PASSWORD="pw"))
        assert cache.get("k") is None
        with pytest.raises(ResponseError, match="NOPERM") as caught:
            cache.set("k", "v")
        assert caught.value.code == "NOPERM"


def test_a_server_that_is_still_loading_is_not_there_yet(drive: Any) -> None:
    """HELLO and CLIENT are allowed while the server loads, other commands are not."""

    def loading(peer: Peer) -> None:
        for command in peer.commands():
            allowed = {b"HELLO": HELLO, b"CLIENT": OK, b"SELECT": OK}
            peer.send(allowed.get(command[0], b"-LOADING Valkey is loading the dataset in memory\r\n"))

    with FakeServer(loading) as fake:
        cache = drive(make_cache(fake.url, **LIMITS))
        for _ in range(5):
            with pytest.raises(connection_error(), match="still loading"):
                cache.execute("INCR", "k")
        fake.script = answer_keys
        wait_until(lambda: succeeds(lambda: cache.execute("GET", "k") == b"k"), timeout=20)
        assert fake.received("INCR") == []


def test_a_restarted_server_is_used_once_it_has_loaded(drive: Any) -> None:
    with ValkeyServer(
        appendonly="yes", appendfsync="always", key_load_delay=2000, loading_process_events_interval_bytes=1024
    ) as server:
        cache = drive(make_cache(server, **LIMITS))
        cache.set_many({f"k{number}": "x" * 100 for number in range(500)}, timeout=None)
        server.kill()
        seen: list[BaseException] = []
        loaded = threading.Event()

        def ask() -> None:
            blocking = make_cache(server, **LIMITS)
            while not loaded.wait(0.001):
                try:
                    blocking.get("k499")
                except Exception as error:
                    seen.append(error)

        # The server dies with the thread that starts it, so that is this one.
        asking = threading.Thread(target=ask)
        asking.start()
        try:
            server.restart()
        finally:
            loaded.set()
            asking.join()
        assert {type(error) for error in seen} <= set(failures()), {str(error) for error in seen}
        wait_until(lambda: works_again(cache))
        assert cache.get("k499") == "x" * 100
