"""A connection lives as long as the server makes progress on it, however long its queue is. A single call still ends at
its own deadline. When nothing has arrived for a whole RESPONSE_TIMEOUT, the connection is given up: then, not before.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from support.caches import make_cache
from support.fake import FakeServer, Peer, answer, answer_keys, bulk
from support.server import wait_until

TIMEOUT = 0.6
LIMITS = {"RESPONSE_TIMEOUT": TIMEOUT, "CONNECT_TIMEOUT": 5.0}
# How much later than its deadline something may be noticed on a busy machine.
LATE = 2.0


def timeout_error() -> type[Exception]:
    from django_vcache.exceptions import TimeoutError

    return TimeoutError


def pause(seconds: float) -> None:
    threading.Event().wait(seconds)


def one_every(seconds: float) -> Callable[[Peer], None]:
    """A server that answers in order, and takes so long for each command."""

    def script(peer: Peer) -> None:
        peer.shake_hands()
        for command in peer.commands():
            pause(seconds)
            peer.send(answer(command))

    return script


def own_result(number: int) -> Any:
    return f"k{number}".encode() if number % 3 else 1


def command(number: int) -> tuple[str, str]:
    return ("GET" if number % 3 else "INCR", f"k{number}")


def until_the_queue_is_over(fake: FakeServer, count: int) -> None:
    """Waits until the rest is answered, to callers that are gone."""
    wait_until(lambda: len(fake.received()) >= count, timeout=10, what="the connection is not reset")


def check(outcomes: dict[int, Any], fake: FakeServer) -> None:
    """Each call got its own result or ran out of its own time, and what came back came over one connection."""
    kinds: Counter[str] = Counter()
    for number, outcome in outcomes.items():
        if isinstance(outcome, BaseException):
            assert type(outcome) is timeout_error(), outcome
            assert "did not reply" in str(outcome)
            kinds["late"] += 1
        else:
            assert outcome == own_result(number)
            kinds["in time"] += 1
    assert kinds["late"], "the queue was to take longer than the time-out"
    assert kinds["in time"], kinds
    increments = Counter(command[1] for _, command in fake.received("INCR"))
    assert increments == {f"k{number}".encode(): 1 for number in outcomes if number % 3 == 0}
    assert fake.accepted == 1, "the connection was reset"


def test_calls_of_a_long_queue_end_by_themselves_and_the_connection_lives(run: Any) -> None:
    """300 calls, answered one every 5 ms: some of them are too late, and nothing is wrong with the connection."""
    with FakeServer(one_every(0.005)) as fake:
        cache = make_cache(fake.url, **LIMITS)

        async def main() -> list[Any]:
            await cache.aexecute("GET", "warm")
            calls = [cache.aexecute(*command(number)) for number in range(300)]
            results = await asyncio.gather(*calls, return_exceptions=True)
            await asyncio.to_thread(until_the_queue_is_over, fake, 301)
            assert await cache.aexecute("GET", "after") == b"after"
            return results

        check(dict(enumerate(run(main()))), fake)


def test_threads_in_a_long_queue_end_by_themselves_and_the_connection_lives() -> None:
    with FakeServer(one_every(0.03)) as fake:
        cache = make_cache(fake.url, **LIMITS)
        outcomes: dict[int, Any] = {}

        def body(number: int) -> None:
            try:
                outcomes[number] = cache.execute(*command(number))
            except Exception as error:
                outcomes[number] = error

        cache.execute("GET", "warm")
        threads = [threading.Thread(target=body, args=(number,)) for number in range(40)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
        until_the_queue_is_over(fake, 41)
        assert cache.execute("GET", "after") == b"after"
        assert len(outcomes) == 40
        check(outcomes, fake)


class Silence:
    """A server that answers a while and then says nothing more on its first connection: when it last said something,
    and when the client gave up."""

    def __init__(self, say: Callable[[Peer], None]) -> None:
        self.say = say
        self.silent = 0.0
        self.given_up = threading.Event()
        self.after = 0.0

    def __call__(self, peer: Peer) -> None:
        if peer.number > 1:
            return answer_keys(peer)
        peer.shake_hands()
        self.say(peer)
        self.silent = time.monotonic()
        try:
            peer.wait_for_the_end()
        finally:
            self.after = time.monotonic() - self.silent
            self.given_up.set()


def answer_five(peer: Peer) -> None:
    """One answer each 100 ms."""
    for _ in range(5):
        reply = answer(peer.command())
        pause(TIMEOUT / 6)
        peer.send(reply)


def answer_half_of_one(peer: Peer) -> None:
    """A large reply in pieces, of which the last one never comes."""
    peer.command()
    value = bulk(bytes(10_000))
    for start in range(0, 5_000, 1_000):
        pause(TIMEOUT / 6)
        peer.send(value[start : start + 1_000])


@pytest.mark.parametrize("say", [answer_five, answer_half_of_one], ids=["between replies", "within a reply"])
def test_a_server_that_stops_is_given_up_a_whole_time_out_after_its_last_word(
    run: Any, say: Callable[[Peer], None]
) -> None:
    silence = Silence(say)
    with FakeServer(silence) as fake:
        cache = make_cache(fake.url, **LIMITS)

        async def call(number: int) -> None:
            try:
                assert await cache.aexecute("GET", f"k{number}") == f"k{number}".encode()
            except timeout_error():
                return

        async def main() -> None:
            # Calls keep coming, so that somebody notices in time.
            calls = []
            while not silence.given_up.is_set():
                calls.append(asyncio.ensure_future(call(len(calls))))
                await asyncio.sleep(0.02)
            await asyncio.gather(*calls)
            assert await cache.aexecute("GET", "after") == b"after"

        async def within_a_minute() -> None:
            async with asyncio.timeout(60):
                await main()

        run(within_a_minute())
        # The client counts from when it had the last word, which is later than when it was said.
        assert silence.after >= TIMEOUT - 0.01
        assert silence.after < TIMEOUT + LATE
        assert fake.accepted == 2


def test_the_bytes_of_a_large_reply_are_progress(run: Any) -> None:
    """A reply takes two time-outs to arrive. Calls may run out of time over it, but the connection is well."""
    arrived = threading.Event()

    def trickle(peer: Peer) -> None:
        if peer.number > 1:
            return answer_keys(peer)
        peer.shake_hands()
        for number, command in enumerate(peer.commands()):
            if number:
                peer.send(answer(command))
                continue
            value = bulk(bytes(60_000))
            for start in range(0, len(value), 1_000):
                peer.send(value[start : start + 1_000])
                pause(TIMEOUT / 30)
            arrived.set()

    with FakeServer(trickle) as fake:
        cache = make_cache(fake.url, **LIMITS)

        async def call(*command: str) -> None:
            with contextlib.suppress(timeout_error()):
                await cache.aexecute(*command)

        async def main() -> None:
            await call("GET", "large")
            while not arrived.is_set() and fake.accepted == 1:
                await call("INCR", "behind")
                await asyncio.sleep(TIMEOUT / 6)
            assert await cache.aexecute("GET", "after") == b"after"

        run(main())
        assert fake.accepted == 1, "the connection was reset"
