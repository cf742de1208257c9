"""clear() with CLEAR "flushdb" empties the database; with "prefix" it drops the alias's own keys
in every version, whatever characters the prefix has, and nothing else.
"""

from __future__ import annotations

from typing import Any

import pytest
from support.caches import make_cache
from support.server import ValkeyServer


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
    cache.set("clé", 3, version="beta")
    cache.clear()
    assert server.keys() == foreign


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
    fill = "for i = 1, 12000 do redis.call('SET', ARGV[1] .. i % 3 .. ':' .. i, 'x') end"
    server.execute("EVAL", fill, 0, "app:")
    server.execute("EVAL", fill, 0, "other:")
    cache_factory(CLEAR="prefix", KEY_PREFIX="app").clear()
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
