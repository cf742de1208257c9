"""Keys on the server are exactly `prefix:version:key` in UTF-8, made by the alias's key function
at the time of the call, and warned about in the very words of Django's own backends.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import pytest
from django.core.cache.backends.base import CacheKeyWarning
from django.core.cache.backends.locmem import LocMemCache
from django.db.models import TextChoices
from django.utils.safestring import mark_safe
from django.utils.translation import gettext_lazy
from support.server import ValkeyServer

from django_vcache.exceptions import ConfigurationError


def dashed(key: str, prefix: str, version: int) -> str:
    """A KEY_FUNCTION for the tests below, which name it by its dotted path."""
    return f"{prefix}-{version}-{key}"


@pytest.mark.parametrize(
    ("params", "key", "stored"),
    [
        ({}, "k", b":1:k"),
        ({"KEY_PREFIX": "app"}, "k", b"app:1:k"),
        ({"KEY_PREFIX": "app", "VERSION": 7}, "k", b"app:7:k"),
        ({"VERSION": "beta"}, "k", b":beta:k"),
        ({"KEY_PREFIX": "a:b"}, "c:d", b"a:b:1:c:d"),
        ({}, "", b":1:"),
        ({}, 1, b":1:1"),
        ({}, "clé-清-\U0001f40d", ":1:clé-清-\U0001f40d".encode()),
        ({"KEY_PREFIX": "préfixe"}, "k", "préfixe:1:k".encode()),
        ({"KEY_FUNCTION": dashed, "KEY_PREFIX": "p"}, "k", b"p-1-k"),
        ({"KEY_FUNCTION": f"{__name__}.dashed", "KEY_PREFIX": "p"}, "k", b"p-1-k"),
    ],
)
def test_the_key_as_stored(
    cache_factory: Any, server: ValkeyServer, params: dict[str, Any], key: Any, stored: bytes
) -> None:
    cache = cache_factory(**params)
    cache.set(key, "v")
    assert server.keys() == [stored]
    assert cache.get(key) == "v"
    assert cache.get_many([key]) == {key: "v"}
    assert cache.has_key(key) is True
    assert cache.delete(key) is True
    assert cache.set_many({key: "v"}) == []
    assert cache.add(key, "w") is False
    assert server.keys() == [stored]


def test_a_call_may_name_its_version(cache: Any, server: ValkeyServer) -> None:
    cache.set("k", "two", version=2)
    cache.set_many({"l": "three"}, version=3)
    assert server.keys() == [b":2:k", b":3:l"]
    assert cache.get("k") is None
    assert cache.get("k", version=2) == "two"
    assert cache.get_many(["l"], version=3) == {"l": "three"}
    assert cache.touch("k", version=2) is True
    assert cache.has_key("l", version=3) is True
    cache.delete_many(["k"], version=2)
    assert cache.delete("l", version=3) is True
    assert server.keys() == []


@pytest.mark.parametrize("name", ["key_func", "key_prefix", "version"])
def test_what_makes_a_key_may_be_assigned_at_run_time(cache: Any, server: ValkeyServer, name: str) -> None:
    assignments = {"key_func": dashed, "key_prefix": "later", "version": 9}
    stored = {"key_func": b"-1-k", "key_prefix": b"later:1:k", "version": b":9:k"}
    cache.set("k", "before")
    setattr(cache, name, assignments[name])
    cache.set("k", "after")
    assert server.keys() == sorted([b":1:k", stored[name]])
    assert cache.get("k") == "after"


def test_aliases_with_other_prefixes_do_not_meet(cache_factory: Any) -> None:
    one, two = cache_factory(KEY_PREFIX="one"), cache_factory(KEY_PREFIX="two")
    one.set("k", 1)
    assert two.get("k") is None
    two.set("k", 2)
    assert one.get("k") == 1


OPERATIONS: dict[str, Callable[[Any, Any], Any]] = {
    "get": lambda cache, key: cache.get(key),
    "set": lambda cache, key: cache.set(key, 1),
    "add": lambda cache, key: cache.add(key, 1),
    "incr": lambda cache, key: cache.incr(key),
    "decr": lambda cache, key: cache.decr(key),
    "touch": lambda cache, key: cache.touch(key),
    "delete": lambda cache, key: cache.delete(key),
    "has_key": lambda cache, key: cache.has_key(key),
    "in": lambda cache, key: key in cache,
    "get_many": lambda cache, key: cache.get_many(["a", key]),
    "set_many": lambda cache, key: cache.set_many({"a": 1, key: 2}),
    "delete_many": lambda cache, key: cache.delete_many(["a", key]),
    "get_or_set": lambda cache, key: cache.get_or_set(key, 1),
    "incr_version": lambda cache, key: cache.incr_version(key),
    "decr_version": lambda cache, key: cache.decr_version(key),
}
KEYS = {
    "plain": "plain",
    "long": "a" * 250,
    "as long as allowed": "a" * 247,
    "long and unicode": "清" * 251,
    "space": "key with spaces and 清",
    "newline": "a\nb",
    "nul": "a\x00b",
    "unit separator": "a\x1fb",
    "delete": "a\x7fb",
    "next line": "a\x85b",
    "no-break space": "a\xa0b",
    "line separator": "a\u2028b",
    "quotes": "a'\"\\b",
    "both": "long with space " * 20,
}


def warned(operation: Callable[[Any, Any], Any], cache: Any, key: str) -> list[str]:
    """The distinct CacheKeyWarnings of one call on a key that is there, in order."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        cache.set(key, 1)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        operation(cache, key)
    assert {warning.category for warning in caught} <= {CacheKeyWarning}
    return list(dict.fromkeys(str(warning.message) for warning in caught))


@pytest.mark.parametrize("operation", OPERATIONS.values(), ids=OPERATIONS)
def test_key_warnings_are_those_of_django(cache: Any, operation: Callable[[Any, Any], Any]) -> None:
    reference = LocMemCache("key-warnings", {})
    for what, key in KEYS.items():
        expected = warned(operation, reference, key)
        assert warned(operation, cache, key) == expected, what
        reference.clear()


def test_a_key_that_was_warned_about_works(cache: Any, server: ValkeyServer) -> None:
    key = "two words"
    with pytest.warns(CacheKeyWarning, match="two words"):
        cache.set(key, "v")
    with pytest.warns(CacheKeyWarning):
        assert cache.get_many([key]) == {key: "v"}
    assert server.keys() == [b":1:two words"]


class Shouting(str):
    __slots__ = ()

    def __str__(self) -> str:
        return self.upper()


class Plan(TextChoices):
    PAID = "paid", gettext_lazy("Paid plan")


@pytest.mark.parametrize(
    "key",
    [Shouting("abc"), Plan.PAID, mark_safe("safe"), gettext_lazy("lazy"), b"bytes", None, 1.5, True, ("a",)],
    ids=repr,
)
def test_a_key_of_any_type_is_what_django_makes_of_it(cache: Any, server: ValkeyServer, key: Any) -> None:
    reference = LocMemCache("key-types", {})
    cache.set(key, "v")
    assert server.keys() == [reference.make_key(key).encode()]
    assert cache.get(key) == "v"
    assert cache.get_many([key]) == {key: "v"}
    cache.delete_many([key])
    assert server.keys() == []


@pytest.mark.parametrize("prefix", [Shouting("abc"), gettext_lazy("lazy"), mark_safe("safe")], ids=repr)
def test_a_prefix_and_a_version_of_any_text_type(cache_factory: Any, server: ValkeyServer, prefix: Any) -> None:
    cache = cache_factory(KEY_PREFIX=prefix, CLEAR="prefix")
    cache.set("k", "v", version=Shouting("v"))
    cache.set("k", "v")
    assert server.keys() == sorted([f"{prefix}:V:k".encode(), f"{prefix}:1:k".encode()])
    cache.clear()
    assert server.keys() == [f"{prefix}:V:k".encode()]


LONE = "a\ud800"
SHOWN = r"must be text that UTF-8 can hold, and 'a\\ud800' has a lone surrogate"


@pytest.mark.parametrize("operation", OPERATIONS.values(), ids=OPERATIONS)
def test_a_key_that_has_no_utf8_form_is_refused_by_name(
    cache: Any, server: ValkeyServer, operation: Callable[[Any, Any], Any]
) -> None:
    with pytest.raises(ValueError, match=f"^key {SHOWN}"):
        operation(cache, LONE)
    with pytest.raises(ValueError, match=r"^key must be text"):
        operation(cache, Shouting(LONE))
    assert server.keys() == []


def test_other_parts_that_have_no_utf8_form_are_refused_by_name(cache_factory: Any) -> None:

    with pytest.raises(ValueError, match=f"^version {SHOWN}"):
        cache_factory().get("k", version=LONE)
    with pytest.raises(ValueError, match=f"^VERSION {SHOWN}"):
        cache_factory(VERSION=LONE).get("k")
    with pytest.raises(ConfigurationError, match=f"KEY_PREFIX {SHOWN}"):
        cache_factory(KEY_PREFIX=LONE)
    cache = cache_factory()
    cache.key_prefix = LONE
    with pytest.raises(ValueError, match=f"^KEY_PREFIX {SHOWN}"):
        cache.get("k")
    with pytest.raises(ValueError, match=r"^the key that KEY_FUNCTION or make_key\(\) made must be text"):
        cache_factory(KEY_FUNCTION=dashed).get(LONE)
