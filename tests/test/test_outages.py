"""An outage in a test: for everything that exists already, at once, and over without a trace."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from django.core.cache import caches
from django.test import override_settings
from support.caches import cache_setting
from support.server import ValkeyServer

from django_vcache import cache, exceptions, hotpaths
from django_vcache.admission import Gate, Quota, Stream, Throttle
from django_vcache.test import outage

AWAY: dict[str, Any] = {
    "refused": exceptions.ConnectionError,
    "silent": (exceptions.ConnectionError, exceptions.TimeoutError),
}


@pytest.fixture(autouse=True)
def two_aliases(server: ValkeyServer) -> Any:
    with override_settings(CACHES={"default": cache_setting(server), "other": cache_setting(server, DB=1)}):
        yield


@pytest.mark.parametrize("kind", AWAY)
def test_caches_and_hot_paths_fail_inside_and_work_behind(kind: Any) -> None:
    cache.set("k", 1)
    for _ in range(2):
        with outage(kind):
            for call in (cache.get, caches["default"].get, caches["other"].get, hotpaths.read):
                with pytest.raises(AWAY[kind]):
                    call("k")
            with pytest.raises(AWAY[kind]):
                asyncio.run(cache.aget("k"))
        assert cache.get("k") == 1
        assert asyncio.run(cache.aget("k")) == 1
        assert caches["other"].get("k") is None
        assert hotpaths.read(":1:k")


@pytest.mark.parametrize("kind", AWAY)
def test_limits_decide_by_their_policies_inside_and_by_the_server_behind(kind: Any) -> None:
    limits = {policy: Throttle(policy, "1/d", outage=policy, deadline=None) for policy in ("open", "closed", "local")}
    gate = Gate([Throttle("org", "1/d")], [Quota("q", 1, "day", key="org")], Stream("s"), owner="org", deadline=None)
    with outage(kind):
        # Until the breakers are open, and then.
        for _ in range(8):
            assert [(bool(limit.check(1)), limit.check(1).source) for limit in limits.values()][:2] == [
                (True, "outage"),
                (False, "outage"),
            ]
            assert gate.admit({"org": 1}, payload=b"x").status == 503
    for limit in limits.values():
        assert [limit.check(1).source, limit.check(1).allowed] == ["server", False]
    assert gate.admit({"org": 1}, payload=b"x").id


def test_one_alias_may_be_away(server: ValkeyServer) -> None:
    for using in ("other", ["other"]):
        with outage(using=using):
            cache.set("k", 1)
            with pytest.raises(exceptions.ConnectionError):
                caches["other"].get("k")
        assert caches["other"].get("k") is None


def test_its_options_stay(server: ValkeyServer) -> None:
    with override_settings(CACHES={"default": cache_setting(server, IGNORE_EXCEPTIONS=True, KEY_PREFIX="shop")}):
        with outage():
            assert cache.get("k", "missed") == "missed"
            assert cache.make_key("k") == "shop:1:k"
        cache.set("k", 1)
        assert cache.get("k", "missed") == 1


def test_an_exception_ends_it() -> None:
    with pytest.raises(KeyError), outage():
        raise KeyError
    cache.set("k", 1)


def test_mistakes_are_told() -> None:
    with pytest.raises(ValueError, match="not 'slow'"), outage("slow"):  # type: ignore[arg-type]
        raise AssertionError
    with pytest.raises(ValueError, match=r"no ValkeyCache 'nowhere'.*\['default', 'other'\]"), outage(using="nowhere"):
        raise AssertionError
