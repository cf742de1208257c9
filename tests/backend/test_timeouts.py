"""Timeouts are seconds: None persists, zero and less mean gone at once, fractions count, and the
server does the expiring. What the server holds is read with PTTL over the tests' own connection.
"""

from __future__ import annotations

import datetime
from collections.abc import Callable
from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest
from support.caches import make_cache
from support.server import ValkeyServer, wait_until

PERSISTS = -1
MISSING = -2


def by_set(cache: Any, *timeout: Any) -> None:
    cache.set("k", "v", *timeout)


def by_add(cache: Any, *timeout: Any) -> None:
    assert cache.add("k", "v", *timeout) is True


def by_set_many(cache: Any, *timeout: Any) -> None:
    assert cache.set_many({"k": "v"}, *timeout) == []


def by_get_or_set(cache: Any, *timeout: Any) -> None:
    assert cache.get_or_set("k", "v", *timeout) == "v"


def by_touch(cache: Any, *timeout: Any) -> None:
    cache.set("k", "v", 7)
    assert cache.touch("k", *timeout) is True


Store = Callable[..., None]
every_way = pytest.mark.parametrize(
    "store", [by_set, by_add, by_set_many, by_get_or_set, by_touch], ids=lambda way: way.__name__
)


def pttl(server: ValkeyServer, key: str = ":1:k") -> int:
    left = server.execute("PTTL", key)
    assert isinstance(left, int)
    return left


@every_way
@pytest.mark.parametrize(
    ("timeout", "milliseconds"),
    [
        (100, 100_000),
        (100.2, 100_200),
        (datetime.timedelta(minutes=2), 120_000),
        (datetime.timedelta(days=400, microseconds=1500), 34_560_000_002),
        (Decimal("100.5"), 100_500),
        (Fraction(201, 2), 100_500),
        (0.5, 500),
        (30 * 24 * 3600 + 1, 2_592_001_000),
        (10 * 365 * 24 * 3600, 315_360_000_000),
    ],
)
def test_a_timeout_is_seconds(
    cache: Any, server: ValkeyServer, store: Store, timeout: float, milliseconds: int
) -> None:
    store(cache, timeout)
    left = pttl(server)
    if milliseconds <= 500 and left == MISSING:
        pytest.skip("the machine was too slow to look in time")
    assert max(0, milliseconds - 10_000) < left <= milliseconds


@every_way
def test_none_persists(cache: Any, server: ValkeyServer, store: Store) -> None:
    store(cache, None)
    assert pttl(server) == PERSISTS
    assert cache.get("k") == "v"


@every_way
def test_the_default_is_five_minutes(cache: Any, server: ValkeyServer, store: Store) -> None:
    store(cache)
    assert 290_000 < pttl(server) <= 300_000


@every_way
@pytest.mark.parametrize(("TIMEOUT", "least", "most"), [(60, 50_000, 60_000), (None, -1, -1)])
def test_the_default_is_configurable(
    cache_factory: Any, server: ValkeyServer, store: Store, TIMEOUT: Any, least: int, most: int
) -> None:
    store(cache_factory(TIMEOUT=TIMEOUT))
    assert least <= pttl(server) <= most


@pytest.mark.parametrize("timeout", [0, 0.0, -1, -0.5, -(10**9)])
class TestZeroAndNegativeTimeouts:
    def test_set_deletes(self, cache: Any, server: ValkeyServer, timeout: float) -> None:
        cache.set("k", "old", None)
        assert cache.set("k", "new", timeout) is None
        assert server.keys() == []

    def test_set_many_deletes(self, cache: Any, server: ValkeyServer, timeout: float) -> None:
        cache.set("k", "old", None)
        assert cache.set_many({"k": "new", "l": "new"}, timeout) == []
        assert server.keys() == []

    def test_add_of_a_missing_key_is_true_and_stores_nothing(
        self, cache: Any, server: ValkeyServer, timeout: float
    ) -> None:
        assert cache.add("k", "v", timeout) is True
        assert server.keys() == []

    def test_add_of_a_live_key_is_false_and_keeps_it(self, cache: Any, timeout: float) -> None:
        cache.set("k", "old", None)
        assert cache.add("k", "v", timeout) is False
        assert cache.get("k") == "old"

    def test_touch_of_a_live_key_is_true_and_expires_it(self, cache: Any, server: ValkeyServer, timeout: float) -> None:
        cache.set("k", "v")
        assert cache.touch("k", timeout) is True
        assert server.keys() == []

    def test_touch_of_a_missing_key_is_false(self, cache: Any, timeout: float) -> None:
        assert cache.touch("k", timeout) is False

    def test_get_or_set_returns_the_default(self, cache: Any, server: ValkeyServer, timeout: float) -> None:
        assert cache.get_or_set("k", "v", timeout) == "v"
        assert server.keys() == []


@every_way
@pytest.mark.parametrize(
    ("timeout", "error", "shown"),
    [
        ("60", TypeError, "'60'"),
        ([60], TypeError, r"\[60\]"),
        (True, TypeError, "True"),
        (False, TypeError, "False"),
        (datetime.datetime(2030, 1, 1), TypeError, r"datetime\.datetime\(2030"),
        (float("nan"), ValueError, "nan"),
        ("x" * 1000, TypeError, r"'x{59}\.\.\.$"),
    ],
    ids=repr,
)
def test_what_is_no_length_of_time_is_refused_by_name(
    cache: Any, server: ValkeyServer, store: Store, timeout: object, error: type[Exception], shown: str
) -> None:
    with pytest.raises(error, match=f"timeout must be a number of seconds, a timedelta or None, not {shown}"):
        store(cache, timeout)
    assert server.execute("GET", ":1:k") is None or store is by_touch


@every_way
@pytest.mark.parametrize("timeout", [float("inf"), 10**400, 1e300, datetime.timedelta.max], ids=str)
def test_longer_than_the_server_counts_is_as_long_as_it_counts(
    cache: Any, server: ValkeyServer, store: Store, timeout: object
) -> None:
    store(cache, timeout)
    assert pttl(server) > 10**13


@pytest.mark.parametrize("timeout", [float("-inf"), -(10**400), datetime.timedelta(seconds=-1), datetime.timedelta(0)])
def test_any_length_of_time_below_zero_is_at_once(cache: Any, server: ValkeyServer, timeout: object) -> None:
    cache.set("k", "old", None)
    cache.set("k", "new", timeout)
    assert server.keys() == []


@pytest.mark.parametrize(
    ("given", "milliseconds"),
    [
        (datetime.timedelta(minutes=1), 60_000),
        (60.5, 60_500),
        ("60", 60_000),
        (Decimal(60), 60_000),
    ],
)
def test_the_setting_is_any_length_of_time(
    cache_factory: Any, server: ValkeyServer, given: object, milliseconds: int
) -> None:
    cache_factory(TIMEOUT=given).set("k", "v")
    assert milliseconds - 10_000 < pttl(server) <= milliseconds


def test_a_setting_of_less_than_a_second_is_not_at_once(cache_factory: Any, server: ValkeyServer) -> None:
    cache = cache_factory(TIMEOUT=0.9)
    assert cache.default_timeout == 0.9
    server.execute("CONFIG", "RESETSTAT")
    cache.set("k", "v")
    assert server.command_counts() == {"set": 1}


def test_an_assigned_default_is_any_length_of_time(cache: Any, server: ValkeyServer) -> None:
    cache.default_timeout = datetime.timedelta(minutes=1)
    cache.set("k", "v")
    assert 50_000 < pttl(server) <= 60_000


@pytest.mark.parametrize("given", ["soon", [60], True, float("nan"), datetime.date(2030, 1, 1)], ids=repr)
def test_a_setting_that_is_no_length_of_time_is_refused(server: ValkeyServer, given: object) -> None:
    from django_vcache.exceptions import ConfigurationError

    with pytest.raises(ConfigurationError, match="TIMEOUT must be a number of seconds, a timedelta, or None"):
        make_cache(server, TIMEOUT=given)


def test_a_wait_takes_any_length_of_time(server: ValkeyServer, run: Any) -> None:
    cache = make_cache(server)
    for timeout in (datetime.timedelta(milliseconds=1), Decimal("0.001"), 0):
        assert cache.wait_changed("k", timeout) is False
        assert run(cache.await_changed("k", timeout)) is False
    for timeout in ("1", True):
        with pytest.raises(TypeError, match="timeout must be a number of seconds"):
            cache.wait_changed("k", timeout)


@every_way
def test_less_than_a_millisecond_is_not_for_ever(cache: Any, server: ValkeyServer, store: Store) -> None:
    store(cache, 0.0001)
    wait_until(lambda: pttl(server) == MISSING)


@every_way
def test_the_value_is_gone_when_its_time_is_up(cache: Any, server: ValkeyServer, store: Store) -> None:
    store(cache, 0.05)
    wait_until(lambda: cache.get("k", "gone") == "gone")
    assert cache.has_key("k") is False
    assert cache.get_many(["k"]) == {}
    assert cache.add("k", "again") is True


@pytest.mark.parametrize("timeout", [5, None])
def test_touch_of_a_missing_key_is_false(cache: Any, timeout: int | None) -> None:
    assert cache.touch("k", timeout) is False
    assert cache.touch("k") is False


def test_touch_none_of_a_persistent_key_is_true(cache: Any, server: ValkeyServer) -> None:
    cache.set("k", "v", None)
    assert cache.touch("k", None) is True
    assert pttl(server) == PERSISTS


def test_touch_keeps_the_value(cache: Any) -> None:
    cache.set("k", ("v",), None)
    cache.touch("k", 10)
    assert cache.get("k") == ("v",)


def test_set_of_a_key_with_a_timeout_replaces_the_timeout(cache: Any, server: ValkeyServer) -> None:
    cache.set("k", "v", 10)
    cache.set("k", "v", None)
    assert pttl(server) == PERSISTS


@pytest.mark.parametrize("timeout", ["10", object(), [], float("nan")])
def test_a_timeout_that_is_no_number_is_refused(cache: Any, server: ValkeyServer, timeout: Any) -> None:
    with pytest.raises((TypeError, ValueError)):
        cache.set("k", "v", timeout)
    assert server.keys() == []
