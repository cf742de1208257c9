"""clear() with CLEAR "flushdb" empties the database; with "prefix" it drops the alias's own keys
in every version, whatever characters the prefix has, and nothing else.
"""

from __future__ import annotations

from typing import Any

import pytest
from django.test import override_settings
from support.caches import cache_setting, make_cache
from support.server import ValkeyServer, wait_until


def test_flushdb_empties_this_database_only(cache_factory: Any, server: ValkeyServer) -> None:
    cache = cache_factory(CLEAR="flushdb", KEY_PREFIX="app")
    other_database = cache_factory(DB=1)
    cache.set("k", 1)
    cache.set("k", 2, version=2)
    other_database.set("k", 3)
    server.execute("SET", "foreign", "x")
    cache.clear()
    assert server.keys() == []
    assert other_database.get("k") == 3


def test_prefix_drops_every_version_and_nothing_of_others(cache_factory: Any, server: ValkeyServer) -> None:
    cache = cache_factory(CLEAR="prefix", KEY_PREFIX="app")
    foreign = [b"ap:1:k", b"app", b"app2:1:k", b"foreign", b"other:app:1:k"]
    for key in foreign:
        server.execute("SET", key, "x")
    cache.set("k", 1)
    cache.set("k", 2, version=2)
    cache.set("clé", 3, version=-7)
    cache.clear()
    assert server.keys() == foreign


def test_a_longer_prefix_is_another_caches(cache_factory: Any, server: ValkeyServer) -> None:
    shop, sessions = cache_factory(CLEAR="prefix", KEY_PREFIX="shop"), cache_factory(KEY_PREFIX="shop:sessions")
    throttle = b"shop:throttle:api:42"
    server.execute("SET", throttle, "1")
    for version in (1, 2):
        shop.set("k", 1, version=version)
        shop.set("a:b", 1, version=version)
        sessions.set("k", 1, version=version)
    shop.clear()
    assert server.keys() == [b"shop:sessions:1:k", b"shop:sessions:2:k", throttle]


@pytest.mark.parametrize(("prefix", "limits"), [("vcache", ""), ("shop", "shop"), ("shop:vcache", "shop")])
def test_limits_and_streams_stay(server: ValkeyServer, prefix: str, limits: str) -> None:
    from django_vcache.admission import Quota, Stream, Throttle
    from django_vcache.backend import publish_alias

    given = {"KEY_PREFIX": limits} if limits else {}
    with override_settings(CACHES={"default": cache_setting(server, **given)}):
        publish_alias("default")
        assert Throttle("t", "5/m", deadline=None).check(1)
        assert Quota("q", 5, "month", key="org", deadline=None).consume({"org": 1})
        assert Stream("s", deadline=None).add(b"payload", dedupe="one")
        kept = server.keys()
        cache = make_cache(server, CLEAR="prefix", KEY_PREFIX=prefix)
        cache.set("k", 1)
        cache.set("{v1}", 1)
        cache.clear()
        assert len(kept) == 4
        assert server.keys() == kept


def test_versions_that_are_no_integers_are_cleared_where_they_are_the_caches_own(
    cache_factory: Any, server: ValkeyServer
) -> None:
    cache = cache_factory(CLEAR="prefix", KEY_PREFIX="app", VERSION="beta")
    cache.set("k", 1)
    cache.set("k", 1, version=3)
    cache.set("k", 1, version="alpha")
    cache.clear()
    assert server.keys() == [b"app:alpha:k"]


def settings_with(server: ValkeyServer, **prefixes: Any) -> dict[str, Any]:
    options: dict[str, dict[str, Any]] = {
        alias: {"KEY_PREFIX": prefix} if isinstance(prefix, str) else prefix for alias, prefix in prefixes.items()
    }
    return {alias: cache_setting(server, CLEAR="prefix", **given) for alias, given in options.items()}


@pytest.mark.parametrize(
    ("shorter", "longer"),
    [
        # The longer one looks like a version of the shorter one.
        ({"KEY_PREFIX": "tenant"}, {"KEY_PREFIX": "tenant:12"}),
        ({"KEY_PREFIX": "shop", "VERSION": "sessions"}, {"KEY_PREFIX": "shop:sessions"}),
        ({"KEY_PREFIX": "shop", "VERSION": "x"}, {"KEY_PREFIX": "shop:x", "KEY_FUNCTION": f"{__name__}.slashed"}),
    ],
)
def test_aliases_that_look_like_a_version_of_this_one_stay(
    cache_factory: Any, server: ValkeyServer, shorter: dict[str, Any], longer: dict[str, Any]
) -> None:
    caches = settings_with(server, default=shorter, longer=longer)
    one, other = cache_factory(CLEAR="prefix", **shorter), cache_factory(CLEAR="prefix", **longer)
    with override_settings(CACHES=caches):
        one.set("k", 1)
        before = server.keys()
        other.set("k", 1)
        one.clear()
        assert len(server.keys()) == 1
        assert other.get("k") == 1
        one.set("k", 1)
        other.clear()
        assert server.keys() == before


def slashed(key: str, prefix: str, version: int) -> str:
    return f"{prefix}/v{version}/{key}"


def version_first(key: str, prefix: str, version: int) -> str:
    return f"{version:05d}@{prefix}@{key}.cache"


@pytest.mark.parametrize(
    ("function", "foreign"),
    [
        (slashed, [b"shop/vx/k", b"shop/1/k", b"shop/sessions/v1/k", b"shop:1:k", b"shopping/v1/k"]),
        (version_first, [b"00001@other@k.cache", b"00001@shop@k", b"1:shop:k", b"x@shop@k.cache"]),
    ],
)
def test_a_key_function_says_which_keys_are_the_caches(
    cache_factory: Any, server: ValkeyServer, function: Any, foreign: list[bytes]
) -> None:
    cache = cache_factory(CLEAR="prefix", KEY_PREFIX="shop", KEY_FUNCTION=function)
    for key in foreign:
        server.execute("SET", key, "x")
    cache.set("k", 1)
    cache.set("a/b:c", 2, version=12)
    cache.clear()
    assert server.keys() == sorted(foreign)


@pytest.mark.parametrize(
    "function",
    [
        lambda key, prefix, version: f"{prefix}:{version}:{hash(key)}",
        lambda key, prefix, version: f"{version}:{key}",
        lambda key, prefix, version: f"{prefix}:{key}",
        lambda key, prefix, version: f"{prefix}:{key}:{version}",
    ],
    ids=["hashed", "without prefix", "without version", "version last"],
)
def test_keys_that_cannot_be_told_from_others_are_not_cleared(
    cache_factory: Any, server: ValkeyServer, function: Any
) -> None:
    from django_vcache.exceptions import ConfigurationError

    cache = cache_factory(CLEAR="prefix", KEY_PREFIX="shop", KEY_FUNCTION=function)
    cache.set("k", 1)
    stored = server.keys()
    with pytest.raises(ConfigurationError, match=r"clear\(\) by prefix .*KEY_FUNCTION.*'flushdb'"):
        cache.clear()
    assert server.keys() == stored


def test_keys_in_different_slots_of_a_cluster_are_cleared(run: Any, tmp_path: Any) -> None:
    with ValkeyServer(cluster_enabled="yes", cluster_config_file=str(tmp_path / "nodes.conf")) as node:
        node.execute("CLUSTER", "ADDSLOTSRANGE", 0, 16383)
        wait_until(lambda: b"cluster_state:ok" in node.execute("CLUSTER", "INFO"))
        cache = make_cache(node, CLEAR="prefix", KEY_PREFIX="app")
        for number in range(50):
            cache.set(f"k{number}", number)
        assert len(node.keys()) == 50
        run(cache.aclear())
        assert node.keys() == []


@pytest.mark.parametrize(
    ("prefix", "lookalike"),
    [
        ("a*b", "aXXb"),
        ("a?b", "aXb"),
        ("[abc]", "a"),
        ("[^a]", "b"),
        ("a\\*", "a*"),
        ("a*[b]?\\", "aXbX"),
        ("*", "anything"),
        ("{tag}", "tag"),
        ("clé-清", "clé-X"),
    ],
)
def test_glob_characters_in_the_prefix_mean_themselves(
    cache_factory: Any, server: ValkeyServer, prefix: str, lookalike: str
) -> None:
    cache = cache_factory(CLEAR="prefix", KEY_PREFIX=prefix)
    foreign = f"{lookalike}:1:k".encode()
    server.execute("SET", foreign, "x")
    cache.set("k", 1)
    cache.clear()
    assert server.keys() == [foreign]


def test_prefix_with_more_keys_than_one_scan(cache_factory: Any, server: ValkeyServer) -> None:
    cache, other = cache_factory(CLEAR="prefix", KEY_PREFIX="app"), cache_factory(KEY_PREFIX="other")
    for version in range(3):
        for each in (cache, other):
            each.set_many(dict.fromkeys(map(str, range(4000)), "x"), version=version)
    cache.clear()
    assert server.execute("DBSIZE") == 12_000
    assert server.keys("app:*") == []


@pytest.mark.parametrize("options", [{"CLEAR": "flushdb"}, {"CLEAR": "prefix", "KEY_PREFIX": "p"}])
def test_clearing_an_empty_database(cache_factory: Any, options: dict[str, str]) -> None:
    cache = cache_factory(**options)
    cache.clear()
    cache.set("k", 1)
    assert cache.get("k") == 1


def test_prefix_without_a_prefix_is_refused(server: ValkeyServer) -> None:
    from django_vcache.exceptions import ConfigurationError

    with pytest.raises(ConfigurationError, match="KEY_PREFIX"):
        make_cache(server, CLEAR="prefix")
