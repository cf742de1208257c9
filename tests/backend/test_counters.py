"""incr, decr and the versions: one atomic step on the server that keeps the timeout, with
Django's errors for what cannot be counted.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from support.caches import make_cache
from support.fake import FakeServer, Peer, bulk
from support.server import ValkeyServer

from django_vcache.exceptions import ResponseError


@pytest.mark.parametrize("value", [0, 41, -5, 2**40])
@pytest.mark.parametrize("delta", [1, 10, -10, 0])
def test_incr_and_decr_count(cache: Any, value: int, delta: int) -> None:
    cache.set("k", value)
    assert cache.incr("k", delta) == value + delta
    assert cache.get("k") == value + delta
    assert cache.decr("k", delta) == value
    assert cache.get("k") == value


def test_the_delta_is_one_by_default(cache: Any) -> None:
    cache.set("k", 1)
    assert cache.incr("k") == 2
    assert cache.decr("k") == 1


@pytest.mark.parametrize("name", ["incr", "decr"])
def test_a_missing_key_is_a_value_error_and_stays_missing(cache: Any, server: ValkeyServer, name: str) -> None:
    with pytest.raises(ValueError, match="k"):
        getattr(cache, name)("k")
    with pytest.raises(ValueError, match="k"):
        getattr(cache, name)("k", -1)
    assert server.keys() == []


@pytest.mark.parametrize("name", ["incr", "decr"])
@pytest.mark.parametrize("value", [None, "text", "1", b"1", [1], 1.5], ids=repr)
def test_what_is_no_int_is_a_type_error_and_stays(cache: Any, name: str, value: object) -> None:
    cache.set("k", value)
    with pytest.raises(TypeError):
        getattr(cache, name)("k")
    assert cache.get("k") == value


@pytest.mark.parametrize("timeout", [100, None])
def test_the_timeout_is_kept(cache: Any, server: ValkeyServer, timeout: int | None) -> None:
    cache.set("k", 1, timeout)
    cache.incr("k")
    cache.decr("k", 5)
    left = server.execute("PTTL", ":1:k")
    assert left == -1 if timeout is None else 90_000 < left <= 100_000


def test_counting_honours_the_version(cache: Any) -> None:
    cache.set("k", 1)
    cache.set("k", 10, version=2)
    assert cache.incr("k", version=2) == 11
    assert cache.decr("k", 2, version=2) == 9
    assert cache.get("k") == 1


def test_threads_lose_no_increments(server: ValkeyServer) -> None:
    cache = make_cache(server)
    cache.set("k", 0)

    def count(_: int) -> None:
        for _ in range(50):
            cache.incr("k")

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(count, range(8)))
    assert cache.get("k") == 400


def test_tasks_lose_no_increments(server: ValkeyServer, run: Any) -> None:
    cache = make_cache(server)

    async def main() -> list[int]:
        await cache.aset("k", 0)

        async def count() -> int:
            return await cache.aincr("k")

        return await asyncio.gather(*(count() for _ in range(200)))

    assert sorted(run(main())) == list(range(1, 201))


@pytest.mark.parametrize(
    ("delta", "error", "message"),
    [
        (1.5, TypeError, "delta must be an int, not 1.5"),
        ("1", TypeError, "delta must be an int, not '1'"),
        (None, TypeError, "delta must be an int, not None"),
        (2**63, OverflowError, f"delta must fit into 64 bits, and {2**63} does not"),
    ],
)
def test_a_delta_that_is_no_int_is_refused_by_name(
    cache: Any, delta: Any, error: type[Exception], message: str
) -> None:
    cache.set("k", 1)
    with pytest.raises(error, match=message):
        cache.incr("k", delta)
    assert cache.get("k") == 1


class TestWithoutScripts:
    """A user whose ACL allows no scripts, or a server that has none."""

    @pytest.fixture(params=["refused by the ACL", "only EVALSHA allowed", "unknown to the server"])
    def bob(self, request: Any, drive: Any) -> Iterator[tuple[Any, ValkeyServer]]:
        rules, config = {
            "refused by the ACL": ("+@all -@scripting", {}),
            "only EVALSHA allowed": ("+@all -@scripting +evalsha", {}),
            "unknown to the server": ("+@all", {"rename_command": 'EVALSHA ""'}),
        }[request.param]
        with ValkeyServer(users=[f"bob on nopass ~* &* {rules}"], **config) as server:
            yield drive(make_cache(server, USERNAME="bob")), server

    def test_incr_counts_and_keeps_the_timeout(self, bob: Any) -> None:
        cache, server = bob
        cache.set("k", 5, 100)
        assert [cache.incr("k"), cache.incr("k", 10), cache.decr("k", 20), cache.incr("k")] == [6, 16, -4, -3]
        assert 90_000 < server.execute("PTTL", ":1:k") <= 100_000

    def test_a_missing_key_stays_missing(self, bob: Any) -> None:
        cache, server = bob
        with pytest.raises(ValueError, match="Key 'k' not found"):
            cache.incr("k")
        assert server.keys() == []

    def test_what_is_no_int_stays(self, bob: Any) -> None:
        cache, _ = bob
        cache.set("k", "text")
        with pytest.raises(TypeError, match="cannot increment or decrement a value of type str"):
            cache.incr("k")
        assert cache.get("k") == "text"

    def test_the_server_counts_in_64_bits(self, bob: Any) -> None:
        cache, _ = bob
        cache.set("k", 2**63 - 1)
        with pytest.raises(ResponseError, match="overflow"):
            cache.incr("k")
        assert cache.get("k") == 2**63 - 1

    def test_scripts_are_tried_once_and_the_log_says_so(self, bob: Any, caplog: Any) -> None:
        cache, server = bob
        cache.set("k", 0)
        cache.incr("k")
        server.execute("CONFIG", "RESETSTAT")
        cache.incr("k")
        assert server.command_counts() == {"get": 1, "exists": 1, "incrby": 1}
        (record,) = caplog.records
        assert record.levelname == "WARNING"
        assert "the server refuses scripts" in record.getMessage()


def test_threads_lose_no_increments_without_scripts() -> None:
    with ValkeyServer(users=["bob on nopass ~* &* +@all -@scripting"]) as server:
        cache = make_cache(server, USERNAME="bob")
        cache.set("k", 0)
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(lambda _: [cache.incr("k") for _ in range(50)], range(8)))
        assert cache.get("k") == 400


def test_a_key_that_a_user_may_not_touch_is_no_matter_of_scripts() -> None:
    with ValkeyServer(users=["bob on nopass ~own:* &* +@all"]) as server:
        cache = make_cache(server, USERNAME="bob")
        with pytest.raises(ResponseError, match="NOPERM"):
            cache.incr("k")
        server.execute("CONFIG", "RESETSTAT")
        with pytest.raises(ResponseError, match="NOPERM"):
            cache.incr("k")
        # Scripts are still used.
        assert "evalsha" in server.command_counts()


def test_a_key_that_expires_between_the_steps_is_not_made_anew() -> None:
    replies = {
        b"EVALSHA": b"-NOPERM User bob has no permissions to run the 'evalsha' command\r\n",
        b"GET": bulk(b"5"),
        b"EXISTS": b":0\r\n",
        b"INCRBY": b":1\r\n",
        b"UNLINK": b":1\r\n",
    }

    def script(peer: Peer) -> None:
        peer.shake_hands()
        for command in peer.commands():
            peer.send(replies[command[0]])

    with FakeServer(script) as fake:
        with pytest.raises(ValueError, match="Key 'k' not found"):
            make_cache(fake.url).incr("k")
        assert fake.received()[-1][1] == [b"UNLINK", b":1:k"]


@pytest.mark.parametrize("value", [1, "text", None, ("a", 1)], ids=repr)
def test_incr_version_moves_the_value(cache: Any, server: ValkeyServer, value: object) -> None:
    cache.set("k", value)
    assert cache.incr_version("k") == 2
    assert server.keys() == [b":2:k"]
    assert cache.get("k", "missing", version=2) == value
    assert cache.incr_version("k", 3, version=2) == 5
    assert cache.decr_version("k", version=5) == 4
    assert cache.decr_version("k", delta=3, version=4) == 1
    assert cache.get("k", "missing") == value
    assert server.keys() == [b":1:k"]


def test_incr_version_replaces_what_the_other_version_held(cache: Any) -> None:
    cache.set("k", "new")
    cache.set("k", "old", version=2)
    assert cache.incr_version("k") == 2
    assert cache.get("k", version=2) == "new"


@pytest.mark.parametrize("name", ["incr_version", "decr_version"])
def test_the_version_of_a_missing_key_is_a_value_error(cache: Any, server: ValkeyServer, name: str) -> None:
    with pytest.raises(ValueError, match="k"):
        getattr(cache, name)("k")
    assert server.keys() == []


def test_incr_version_by_nothing_keeps_the_key(cache: Any) -> None:
    cache.set("k", "v")
    assert cache.incr_version("k", 0) == 1
    assert cache.get("k") == "v"
