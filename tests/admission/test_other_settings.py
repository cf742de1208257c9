"""`override_settings` of CACHES and VCACHE takes effect at once, also for limits that exist already; and a `clear()` is
the end of what was refused."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from django.core.cache import caches
from django.test import override_settings
from support.caches import cache_setting
from support.server import ValkeyServer
from support.views import get, sync_function

SCOPE = {"org": 1}
NOWHERE = {"BACKEND": "django_vcache.ValkeyCache", "LOCATION": "unix:///nowhere/valkey.sock"}


def limits() -> dict[str, Any]:
    """One of each kind that admits once, and is asked without arguments."""
    from django_vcache.admission import Gate, Quota, Stream, Throttle

    throttle, quota = Throttle("org", "1/d", deadline=None), Quota("events", 1, "month", key="org", deadline=None)
    gate = Gate([Throttle("gated", "1/d", key="org")], stream=Stream("gated"), deadline=None)
    guarded = Throttle("guarded", "1/d", key="org", guard=1.0, deny_cache=False, deadline=None)
    return {
        "throttle": lambda: throttle.check(SCOPE),
        "quota": lambda: quota.consume(SCOPE),
        "gate": lambda: gate.admit(SCOPE, payload=b"x"),
        "guard": lambda: guarded.check(SCOPE),
    }


def asked(limits: dict[str, Any], times: int = 2) -> dict[str, list[bool]]:
    return {name: [bool(ask()) for _ in range(times)] for name, ask in limits.items()}


def test_other_caches_are_another_server_at_once_and_then_the_first_again(
    server: ValkeyServer, fresh_server: ValkeyServer
) -> None:
    from django_vcache import hotpaths

    each = limits()
    with override_settings(CACHES={"default": cache_setting(server)}):
        assert set(map(tuple, asked(each).values())) == {(True, False)}
        with override_settings(CACHES={"default": cache_setting(fresh_server)}):
            assert set(map(tuple, asked(each).values())) == {(True, False)}
            hotpaths.enqueue("hot", b"x")
            assert fresh_server.execute("XLEN", "hot") == 1
        assert set(map(tuple, asked(each).values())) == {(False, False)}
        hotpaths.enqueue("hot", b"x")
    assert server.execute("XLEN", "hot") == 1


def test_another_database_is_another_server(server: ValkeyServer) -> None:
    each = limits()
    for database in (1, 2):
        with override_settings(CACHES={"default": cache_setting(server, DB=database)}):
            assert set(map(tuple, asked(each).values())) == {(True, False)}


def test_without_other_caches_nothing_is_left_of_them(server: ValkeyServer) -> None:
    from django_vcache.admission import Throttle
    from django_vcache.exceptions import ConfigurationError

    throttle = Throttle("org", "1/d", deadline=None)
    with override_settings(CACHES={"default": cache_setting(server)}):
        assert throttle.check(1)
    with pytest.raises(ConfigurationError, match="DummyCache"):
        throttle.check(2)


def test_an_outage_ends_with_the_settings_that_made_it(server: ValkeyServer) -> None:
    from django_vcache.admission import Throttle

    throttle = Throttle("org", "1/d", outage="closed", deadline=None)
    with override_settings(CACHES={"default": NOWHERE}):
        while not throttle.metrics()["breaker_opened"]:
            assert throttle.check(1).source == "outage"
    with override_settings(CACHES={"default": cache_setting(server)}):
        assert throttle.check(1).source == "server"


def test_a_breaker_opens_for_the_next_server_too() -> None:
    from django_vcache.admission import Throttle

    throttle = Throttle("org", "1/d", outage="closed", deadline=None)
    for opened in (1, 2):
        with override_settings(CACHES={"default": NOWHERE}):
            while throttle.metrics()["breaker_opened"] < opened:
                assert "left alone" not in str(throttle.check(1).outage)
            assert "left alone" in str(throttle.check(1).outage)


def test_the_alias_of_decorators_is_that_of_the_moment(server: ValkeyServer) -> None:
    from django_vcache.admission import throttle

    view = sync_function(throttle("1/d", key="ip", deadline=None))
    aliases = {name: cache_setting(server, DB=number) for number, name in enumerate(("default", "one", "two"))}
    with override_settings(CACHES=aliases):
        for alias in ("one", "two"):
            with override_settings(VCACHE={"THROTTLE_ALIAS": alias}):
                assert [view(get()).status_code for _ in range(2)] == [200, 429]
        assert view(get()).status_code == 200
    assert {name for name in server.info("keyspace") if name.startswith("db")} == {"db0", "db1", "db2"}


CLEARS: dict[str, Any] = {
    "clear": lambda: caches["default"].clear(),
    "aclear": lambda: asyncio.run(caches["default"].aclear()),
}


@pytest.mark.parametrize("clear", CLEARS.values(), ids=CLEARS)
def test_clear_forgets_refusals(server: ValkeyServer, clear: Any) -> None:
    each = limits()
    with override_settings(CACHES={"default": cache_setting(server)}):
        for _ in range(2):
            assert set(map(tuple, asked(each).values())) == {(True, False)}
            clear()


@pytest.mark.parametrize("clear", CLEARS.values(), ids=CLEARS)
def test_clear_by_prefix_forgets_refusals_and_leaves_the_counters(server: ValkeyServer, clear: Any) -> None:
    from django_vcache.admission import Throttle

    throttle = Throttle("org", "1/d", prefix="shop", deadline=None)
    with override_settings(CACHES={"default": cache_setting(server, KEY_PREFIX="shop", CLEAR="prefix")}):
        assert [throttle.check(1).source for _ in range(3)] == ["server", "server", "deny_cache"]
        for _ in range(2):
            clear()
            refused = throttle.check(1)
            assert (refused.allowed, refused.source) == (False, "server")
