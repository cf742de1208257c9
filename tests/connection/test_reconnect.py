"""A server that takes connections and does not keep them: it is not flooded with new ones, and what it says before it
closes one is what the caller reads.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections.abc import Callable
from typing import Any

import pytest
from support.caches import make_cache
from support.driver import LOOPS, open_runner
from support.fake import FakeServer, Peer, answer, answer_keys
from support.load import failures
from support.server import ValkeyServer, wait_until

LIMITS = {"RESPONSE_TIMEOUT": 5.0, "CONNECT_TIMEOUT": 5.0}
# How long one caller calls, and the attempts that fit: from 25 ms on the back-off doubles up to a second, half of it is
# jitter. A connection that answered begins anew with the shortest.
SECONDS = 1.0
FEW = 20
SHORTEST = 0.0125


def connection_error() -> type[Exception]:
    from django_vcache.exceptions import ConnectionError

    return ConnectionError


def hang_up_after_the_handshake(peer: Peer) -> None:
    peer.shake_hands()


def hang_up_after_one_answer(peer: Peer) -> None:
    peer.shake_hands()
    peer.send(answer(peer.command()))


def call_for_a_while(form: str, cache: Any) -> int:
    """One caller that calls again and again, whatever comes of it; how often it got an answer."""
    until = time.monotonic() + SECONDS
    answered = 0

    def blocking() -> None:
        nonlocal answered
        while time.monotonic() < until:
            with contextlib.suppress(*failures()):
                cache.execute("INCR", "n")
                answered += 1

    async def awaiting() -> None:
        nonlocal answered
        while time.monotonic() < until:
            with contextlib.suppress(*failures()):
                await cache.aexecute("INCR", "n")
                answered += 1

    if form == "blocking":
        blocking()
    else:
        with open_runner(form) as runner:
            runner.run(awaiting())
    return answered


@pytest.mark.parametrize("form", ["blocking", "asyncio"])
def test_a_server_that_hangs_up_after_the_handshake_is_not_flooded(form: str) -> None:
    with FakeServer(hang_up_after_the_handshake) as fake:
        assert call_for_a_while(form, make_cache(fake.url, **LIMITS)) == 0
        assert 1 <= fake.accepted <= FEW


@pytest.mark.parametrize("form", ["blocking", "asyncio"])
def test_a_server_that_hangs_up_after_one_answer_is_not_flooded(form: str) -> None:
    """It does answer, so that each connection is worth a try soon, but not at once."""
    with FakeServer(hang_up_after_one_answer) as fake:
        answered = call_for_a_while(form, make_cache(fake.url, **LIMITS))
        assert 1 <= fake.accepted <= SECONDS / SHORTEST + 10
        assert answered >= 1


@pytest.mark.parametrize("form", ["blocking", "asyncio"])
def test_a_connection_that_lived_is_made_anew_at_once(form: str) -> None:
    """Back-off is for connections that do not last: the end of an old one costs no caller an error."""
    hang_up = False

    def script(peer: Peer) -> None:
        if peer.number > 1:
            return answer_keys(peer)
        peer.shake_hands()
        while True:
            command = peer.command()
            if hang_up:
                return
            peer.send(answer(command))

    with FakeServer(script) as fake, open_runner("asyncio") as runner:
        cache = make_cache(fake.url, **LIMITS)

        def get(key: str) -> Any:
            if form == "blocking":
                return cache.execute("GET", key)

            async def call() -> Any:
                return await cache.aexecute("GET", key)

            return runner.run(call())

        assert get("first") == b"first"
        # Longer than a connection lives that is held against its server.
        until = time.monotonic() + 1.2
        while time.monotonic() < until:
            assert get("k") == b"k"
            time.sleep(0.05)
        hang_up = True
        assert get("after") == b"after"
        assert fake.accepted == 2


@pytest.mark.parametrize("loop", LOOPS)
def test_a_connection_lost_as_soon_as_it_is_made_is_made_anew_for_those_who_wait(loop: str) -> None:
    """It may be lost before the loop has heard of it, which then has to learn when the next attempt is due. The moment
    is a matter of microseconds, so there are many attempts to hit it."""

    def script(peer: Peer) -> None:
        if peer.number > 1:
            return answer_keys(peer)
        peer.shake_hands()
        until = time.perf_counter() + random.Random(fake.port).random() * 20e-6
        while time.perf_counter() < until:
            pass
        peer.reset()

    async def main() -> list[Any]:
        return await asyncio.gather(*(cache.aexecute("GET", f"k{number}") for number in range(3)))

    with open_runner(loop) as runner:
        for _ in range(120):
            with FakeServer(script) as fake:
                cache = make_cache(fake.url, RESPONSE_TIMEOUT=20.0, CONNECT_TIMEOUT=20.0)
                begun = time.monotonic()
                assert runner.run(main()) == [b"k0", b"k1", b"k2"]
                # The pause before the next attempt is 25 ms. Otherwise the loop wakes when a time-out is over.
                assert time.monotonic() - begun < 10.0


# What servers say before they close a connection that they do not want.

DENIED = (
    b"-DENIED Valkey is running in protected mode because protected mode is enabled and no password is set for the "
    b"default user. In this mode connections are only accepted from the loopback interface.\r\n"
)


def deny_and_close(peer: Peer) -> None:
    peer.send(DENIED)


def deny_and_reset(peer: Peer) -> None:
    peer.send(DENIED)
    peer.reset()


def deny_after_the_first_command(peer: Peer) -> None:
    peer.command()
    peer.send(DENIED)


@pytest.mark.parametrize("script", [deny_and_close, deny_and_reset, deny_after_the_first_command])
def test_what_a_server_says_before_it_closes_is_the_errors_text(drive: Any, script: Callable[[Peer], None]) -> None:
    with FakeServer(script) as fake:
        cache = drive(make_cache(fake.url, **LIMITS))
        for _ in range(3):
            with pytest.raises(connection_error(), match="protected mode") as caught:
                cache.get("k")
            assert f"127.0.0.1:{fake.port}" in str(caught.value)
        fake.script = answer_keys
        wait_until(lambda: answers(cache), timeout=20)


def answers(cache: Any) -> bool:
    try:
        return cache.execute("GET", "k") == b"k"
    except failures():
        return False


# With TLS it does not: it closes the connection before the handshake.
@pytest.mark.plain_server
@pytest.mark.parametrize("address", ["url", "tcp_url"])
def test_a_server_with_too_many_clients_says_so(drive: Any, address: str) -> None:
    # The test's own connection is the one that it takes.
    with ValkeyServer(maxclients=1) as server:
        cache = drive(make_cache(getattr(server, address), **LIMITS))
        for _ in range(3):
            with pytest.raises(connection_error(), match="max number of clients reached"):
                cache.get("k")
        server.execute("CONFIG", "SET", "maxclients", 10)

        def works() -> bool:
            try:
                return cache.get("k", "miss") == "miss"
            except failures():
                return False

        wait_until(works, timeout=20)


LAST_WORDS = b"-ERR the proxy in between is shutting down\r\n"


def test_the_last_words_on_a_connection_reach_those_who_waited(run: Any) -> None:
    """Three calls are under way. The first of them is answered by it, for the others it is why they have no answer."""
    from django_vcache.exceptions import VcacheError

    def script(peer: Peer) -> None:
        if peer.number > 1:
            return answer_keys(peer)
        peer.shake_hands()
        commands = [peer.command() for _ in range(4)]
        peer.send(answer(commands[0]) + LAST_WORDS)

    with FakeServer(script) as fake:
        cache = make_cache(fake.url, **LIMITS)

        async def main() -> list[Any]:
            calls = [cache.aexecute("INCR", f"k{number}") for number in range(4)]
            results = await asyncio.gather(*calls, return_exceptions=True)
            assert await cache.aexecute("GET", "after") == b"after"
            return results

        answered, *failed = run(main())
        assert answered == 1
        for error in failed:
            assert isinstance(error, VcacheError)
            assert "is shutting down" in str(error)
        assert [type(error) for error in failed[1:]] == [connection_error()] * 2
        assert len(fake.received("INCR")) == 4


def test_what_a_caller_sent_is_not_in_anothers_error(run: Any) -> None:
    """A server quotes the arguments of a command that it does not know. They are for the caller that sent them."""

    def script(peer: Peer) -> None:
        if peer.number > 1:
            return answer_keys(peer)
        peer.shake_hands()
        peer.command()
        peer.command()
        peer.send(b"-ERR unknown command 'LOGON', with args beginning with: 's3cr3t' 'n3xt' \r\n")

    with FakeServer(script) as fake:
        cache = make_cache(fake.url, **LIMITS)

        async def main() -> list[Any]:
            calls = [cache.aexecute("LOGON", "s3cr3t", "n3xt"), cache.aexecute("INCR", "k")]
            return await asyncio.gather(*calls, return_exceptions=True)

        own, another = run(main())
        assert "s3cr3t" in str(own)
        assert "unknown command 'LOGON'" in str(another)
        assert "s3cr3t" not in str(another)
        assert "n3xt" not in str(another)


def test_an_error_long_ago_is_not_why_the_connection_was_closed(run: Any) -> None:
    def script(peer: Peer) -> None:
        if peer.number > 1:
            return answer_keys(peer)
        peer.shake_hands()
        peer.command()
        peer.send(b"-ERR value is not an integer or out of range\r\n")
        peer.command()
        time.sleep(0.5)

    with FakeServer(script) as fake:
        cache = make_cache(fake.url, **LIMITS)

        async def main() -> list[Any]:
            calls = [cache.aexecute("INCR", "k"), cache.aexecute("INCR", "n")]
            return await asyncio.gather(*calls, return_exceptions=True)

        own, another = run(main())
        assert "not an integer" in str(own)
        assert "the server closed it" in str(another)
        assert "not an integer" not in str(another)


def test_last_words_on_an_idle_connection_cost_no_call(drive: Any) -> None:
    def script(peer: Peer) -> None:
        if peer.number > 1:
            return answer_keys(peer)
        peer.shake_hands()
        peer.send(answer(peer.command()) + LAST_WORDS)

    with FakeServer(script) as fake:
        cache = drive(make_cache(fake.url, **LIMITS))
        with contextlib.suppress(connection_error()):
            # Perhaps the words come with this answer.
            assert cache.execute("GET", "first") == b"first"
        for number in range(3):
            time.sleep(0.05)
            assert cache.execute("GET", f"k{number}") == f"k{number}".encode()
        assert cache.execute("INCR", "n") == 1
        assert [number for number, _ in fake.received("INCR")] == [2]
        assert fake.accepted == 2
