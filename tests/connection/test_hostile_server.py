"""A server that sends anything but what it should: random bytes, lengths that lie, replies that nobody
asked for, half a reply, replies byte by byte. A call gets its value or an error, never another's value,
never for ever; and once the server behaves, everything works again. Randomness is seeded; how many seeds
there are is what VCACHE_TEST_ROUNDS says.
"""

from __future__ import annotations

import asyncio
import os
import random
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from support.caches import make_cache
from support.fake import FakeServer, Peer, answer, answer_keys, bulk
from support.load import failures
from support.server import wait_until

LIMITS = {"RESPONSE_TIMEOUT": 0.4, "CONNECT_TIMEOUT": 2.0}
HANG = 60.0
# No reply of any protocol version begins with one of these, so they cannot be taken for one.
NO_REPLY = bytes(set(range(256)) - set(b"+-:$*%~>|=!#,_(\r\n"))
ROUNDS = int(os.environ.get("VCACHE_TEST_ROUNDS", "8"))


def garbage(peer: Peer, rng: random.Random, reply: bytes) -> None:
    peer.send(bytes([rng.choice(NO_REPLY)]) + rng.randbytes(rng.randrange(1, 4000)))


def garbage_in_a_reply(peer: Peer, rng: random.Random, reply: bytes) -> None:
    peer.send(b"*2\r\n$1\r\na\r\n" + bytes([rng.choice(NO_REPLY)]) + rng.randbytes(50) + b"\r\n")


def huge_length(peer: Peer, rng: random.Random, reply: bytes) -> None:
    kind = rng.choice([b"$", b"*", b"%", b"~", b"=", b"!"])
    peer.send(kind + b"%d\r\n" % rng.choice([2**29, 2**31, 2**40, 2**62, 10**18]) + rng.randbytes(100))
    peer.close()


def negative_length(peer: Peer, rng: random.Random, reply: bytes) -> None:
    peer.send(rng.choice([b"$", b"*", b"%"]) + b"%d\r\n" % rng.randrange(-(2**62), -1))


def half_a_reply(peer: Peer, rng: random.Random, reply: bytes) -> None:
    peer.send(reply[: rng.randrange(len(reply))])
    peer.close()


def close_at_once(peer: Peer, rng: random.Random, reply: bytes) -> None:
    peer.close()


def unasked(peer: Peer, rng: random.Random, reply: bytes) -> None:
    peer.send(reply + rng.choice([bulk(b"stray"), b":1\r\n", b"+OK\r\n", b"*1\r\n$5\r\nstray\r\n"]))


def unasked_push(peer: Peer, rng: random.Random, reply: bytes) -> None:
    peer.send(b">2\r\n$10\r\ninvalidate\r\n*1\r\n$1\r\nk\r\n" + reply + b">1\r\n$4\r\nnews\r\n")


def byte_by_byte(peer: Peer, rng: random.Random, reply: bytes) -> None:
    for byte in reply:
        peer.send(bytes([byte]))


def never(peer: Peer, rng: random.Random, reply: bytes) -> None:
    peer.wait_for_the_end()


def right(peer: Peer, rng: random.Random, reply: bytes) -> None:
    peer.send(reply)


Behaviour = Callable[[Peer, random.Random, bytes], None]
# What still answers the call, and what may not.
HARMLESS: tuple[Behaviour, ...] = (right, unasked_push, byte_by_byte)
HARMFUL: tuple[Behaviour, ...] = (
    garbage,
    garbage_in_a_reply,
    huge_length,
    negative_length,
    half_a_reply,
    close_at_once,
)


class Hostile:
    """A script that treats each command by chance, until it is told to be honest."""

    def __init__(self, seed: int, behaviours: tuple[Behaviour, ...]) -> None:
        self.rng = random.Random(seed)
        self.behaviours = behaviours
        self.honest = False
        self.seen: Counter[str] = Counter()

    def __call__(self, peer: Peer) -> None:
        peer.shake_hands()
        for command in peer.commands():
            behave = right if self.honest else self.rng.choice(self.behaviours)
            self.seen[behave.__name__] += 1
            behave(peer, self.rng, answer(command))


def look_up(cache: Any, key: str) -> bytes | None:
    """The value, or None for one of the documented errors."""
    try:
        return cache.execute("GET", key)
    except failures():
        return None


@pytest.mark.parametrize("behave", [*HARMLESS, *HARMFUL, unasked, never], ids=lambda each: each.__name__)
def test_a_misbehaving_reply_is_a_value_or_an_error_and_then_all_is_well(drive: Any, behave: Behaviour) -> None:
    script = Hostile(1, (behave,))
    with FakeServer(script) as fake:
        cache = drive(make_cache(fake.url, **LIMITS))
        for number in range(2 if behave is never else 10):
            value = look_up(cache, f"k{number}")
            assert value in (f"k{number}".encode(), None)
            if behave in HARMLESS:
                assert value is not None
            elif behave not in (unasked, close_at_once):
                assert value is None
        script.honest = True
        wait_until(lambda: look_up(cache, "last") == b"last", timeout=HANG)
        if behave in HARMLESS:
            assert fake.accepted == 1


@pytest.mark.parametrize("seed", range(ROUNDS))
def test_one_after_the_other_gets_its_own_value_or_an_error(drive: Any, seed: int) -> None:
    script = Hostile(seed, (*HARMLESS, *HARMLESS, *HARMFUL, unasked))
    with FakeServer(script) as fake:
        cache = drive(make_cache(fake.url, **LIMITS))
        for number in range(30):
            assert look_up(cache, f"k{number}") in (f"k{number}".encode(), None)
        script.honest = True
        wait_until(lambda: look_up(cache, "last") == b"last", timeout=HANG)
        for number in range(10):
            assert look_up(cache, f"k{number}") == f"k{number}".encode()


@pytest.mark.parametrize("seed", range(ROUNDS))
def test_many_at_once_get_their_own_value_or_an_error(run: Any, seed: int) -> None:
    script = Hostile(1000 + seed, (*HARMLESS * 10, *HARMFUL))
    with FakeServer(script) as fake:
        cache = make_cache(fake.url, **LIMITS)

        async def call(number: int) -> None:
            try:
                assert await cache.aexecute("GET", f"k{number}") == f"k{number}".encode()
            except failures():
                pass

        async def main() -> None:
            async with asyncio.timeout(HANG):
                for turn in range(5):
                    await asyncio.gather(*(call(100 * turn + number) for number in range(40)))
                script.honest = True
                while True:
                    try:
                        assert await cache.aexecute("GET", "last") == b"last"
                        return
                    except failures():
                        await asyncio.sleep(0.01)

        run(main())


@pytest.mark.parametrize("seed", range(ROUNDS))
def test_bytes_that_may_even_parse_never_hang_or_crash(drive: Any, seed: int) -> None:
    """Anything may come back here, also a value: what counts is that something does."""
    rng = random.Random(2000 + seed)
    alphabet = b"$*%~>|+-:,#_(!=0123456789\r\n\r\n\r\nabOK"
    honest = False

    def script(peer: Peer) -> None:
        peer.shake_hands()
        for command in peer.commands():
            if honest:
                peer.send(answer(command))
                continue
            peer.send(bytes(rng.choice(alphabet) for _ in range(rng.randrange(1, 60))) + b"\r\n")
            if rng.random() < 0.8:
                return

    with FakeServer(script) as fake:
        cache = drive(make_cache(fake.url, **LIMITS))
        from django_vcache.exceptions import VcacheError

        for number in range(12):
            try:
                cache.execute("GET", f"k{number}")
            except (VcacheError, ValueError):
                continue
        honest = True

        def ours() -> bool:
            try:
                return cache.execute("GET", "last") == b"last"
            except (VcacheError, ValueError):
                return False

        wait_until(ours, timeout=HANG)


def test_a_length_that_lies_costs_no_memory(server: Any) -> None:
    """Half a gigabyte is announced, a hundred bytes are sent, and nothing more comes."""
    from support.caches import cache_setting
    from support.programs import run_program

    def announce(peer: Peer) -> None:
        peer.shake_hands()
        peer.command()
        peer.send(b"$536870912\r\n" + bytes(100))
        peer.wait_for_the_end()

    source = """
        before = rss()
        try:
            cache.execute("INCR", "k")
        except exceptions.TimeoutError:
            report(rss() - before)
    """
    with FakeServer(announce) as fake:
        caches = {"default": {**cache_setting(server, **LIMITS), "LOCATION": fake.url}}
        assert run_program(source, caches) < 32 * 1024 * 1024


def test_a_reply_in_pieces_of_every_size_is_the_same_value(drive: Any) -> None:
    value = random.Random(7).randbytes(300_000)
    pieces = iter([1, 2, 3, 7, 100, 4096, 65_535, 65_536, 65_537, 299_999])

    def script(peer: Peer) -> None:
        peer.shake_hands()
        for _ in peer.commands():
            reply, size = bulk(value), next(pieces)
            start = 0
            while start < len(reply):
                # Many tiny pieces in front, so that headers and the first bytes are split everywhere.
                end = start + (size if start < 200 * size else len(reply))
                peer.send(reply[start:end])
                start = end

    with FakeServer(script) as fake:
        cache = drive(make_cache(fake.url, RESPONSE_TIMEOUT=20.0))
        for _ in range(10):
            assert cache.execute("GET", "k") == value
        assert fake.accepted == 1


def test_the_honest_script_is_honest(drive: Any) -> None:
    """The other tests' ground: with this script, nothing fails."""
    with FakeServer(answer_keys) as fake:
        cache = drive(make_cache(fake.url, **LIMITS))
        assert [look_up(cache, f"k{number}") for number in range(50)] == [f"k{n}".encode() for n in range(50)]
        assert fake.accepted == 1
