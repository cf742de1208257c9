"""A server that is not there: the first call says so, those after it fail at once and make only a few
attempts to connect between them, and when a server appears at that address it is found.
"""

from __future__ import annotations

import asyncio
import socket
import threading
from typing import Any

import pytest
from support.caches import make_cache
from support.fake import FakeServer, Peer, answer_keys
from support.load import works_again
from support.server import ValkeyServer, wait_until

LIMITS = {"RESPONSE_TIMEOUT": 5.0, "CONNECT_TIMEOUT": 5.0}
# Back-off doubles from 25 ms to 1 s, so even a minute of calls is about this many attempts.
FEW = 60


def connection_error() -> type[Exception]:
    from django_vcache.exceptions import ConnectionError

    return ConnectionError


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def hang_up(peer: Peer) -> None:
    """Accept, and close at once."""


def test_calls_on_a_dead_server_fail_with_few_attempts(drive: Any) -> None:
    with FakeServer(hang_up) as fake:
        cache = drive(make_cache(fake.url, **LIMITS))
        for _ in range(2000):
            with pytest.raises(connection_error()):
                cache.get("k")
        assert 1 <= fake.accepted <= FEW


def test_concurrent_calls_on_a_dead_server_share_an_attempt(run: Any) -> None:
    with FakeServer(hang_up) as fake:
        cache = make_cache(fake.url, **LIMITS)

        async def main() -> list[Any]:
            return await asyncio.gather(*(cache.aget("k") for _ in range(2000)), return_exceptions=True)

        for _ in range(3):
            assert {type(error) for error in run(main())} == {connection_error()}
        assert 1 <= fake.accepted <= 6


def test_threads_on_a_dead_server_fail_with_few_attempts() -> None:
    with FakeServer(hang_up) as fake:
        cache = make_cache(fake.url, **LIMITS)
        failed: list[int] = []

        def body() -> None:
            for number in range(250):
                try:
                    cache.get("k")
                except connection_error():
                    failed.append(number)

        threads = [threading.Thread(target=body) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert len(failed) == 2000
        assert 1 <= fake.accepted <= FEW


def test_a_refused_connection_is_named(drive: Any) -> None:
    port = free_port()
    with pytest.raises(connection_error(), match=f"127.0.0.1:{port}.*[Rr]efused.*running"):
        drive(make_cache(f"redis://127.0.0.1:{port}", **LIMITS)).get("k")


@pytest.mark.parametrize("address", ["url", "tcp_url"])
def test_a_server_that_appears_is_found(drive: Any, fresh_server: ValkeyServer, address: str) -> None:
    location = getattr(fresh_server, address)
    fresh_server.kill()
    cache = drive(make_cache(location, **LIMITS))
    for _ in range(20):
        with pytest.raises(connection_error()):
            cache.get("k")
    fresh_server.restart()

    wait_until(lambda: works_again(cache))
    assert len(fresh_server.clients()) == 1


def test_300_concurrent_first_calls_make_one_connection(run: Any) -> None:
    with FakeServer(answer_keys) as fake:
        cache = make_cache(fake.url, **LIMITS)

        async def main() -> list[Any]:
            return await asyncio.gather(*(cache.aexecute("GET", f"k{number}") for number in range(300)))

        assert run(main()) == [f"k{number}".encode() for number in range(300)]
        assert fake.accepted == 1


def test_concurrent_first_calls_while_the_handshake_takes_its_time_make_one_connection(run: Any) -> None:
    go_on = threading.Event()

    def slowly(peer: Peer) -> None:
        go_on.wait(10)
        answer_keys(peer)

    with FakeServer(slowly) as fake:
        cache = make_cache(fake.url, **LIMITS)
        from_threads: list[bytes] = []
        threads = [
            threading.Thread(target=lambda: from_threads.append(cache.execute("GET", "t")), daemon=True)
            for _ in range(20)
        ]

        async def main() -> list[Any]:
            calls = [asyncio.ensure_future(cache.aexecute("GET", f"k{number}")) for number in range(300)]
            for thread in threads:
                thread.start()
            await asyncio.sleep(0.05)
            go_on.set()
            return await asyncio.gather(*calls)

        try:
            assert run(main()) == [f"k{number}".encode() for number in range(300)]
        finally:
            go_on.set()
        for thread in threads:
            thread.join(10)
        assert from_threads == [b"t"] * 20
        assert fake.accepted == 1


def test_a_lost_connection_is_made_anew_once_for_all_who_wait(run: Any) -> None:
    def first_hangs_up(peer: Peer) -> None:
        if peer.number > 1:
            return answer_keys(peer)
        peer.shake_hands()
        peer.command()

    with FakeServer(first_hangs_up) as fake:
        cache = make_cache(fake.url, **LIMITS)

        async def main() -> list[Any]:
            return await asyncio.gather(*(cache.aexecute("GET", f"k{number}") for number in range(300)))

        assert run(main()) == [f"k{number}".encode() for number in range(300)]
        assert fake.accepted == 2
