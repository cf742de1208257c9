"""Values go in and come out as themselves, through every way of reading and writing: None is a
value, types are kept, ints are stored as digits, and what other programs left is a miss.
"""

from __future__ import annotations

import datetime
import decimal
import pickle
import uuid
from typing import Any

import pytest
from django.utils.functional import Promise
from django.utils.safestring import SafeString, mark_safe
from django.utils.translation import gettext_lazy, override
from support.server import ValkeyServer

VALUES = [
    None,
    True,
    False,
    0,
    -1,
    2**63 - 1,
    -(2**63),
    2**70,
    0.1,
    float("inf"),
    "",
    "42",
    "Iñtërnâtiônàlizætiøn 清 \U0001f40d \x00",
    b"",
    b"42",
    b"\x00\xff\xc1\x80\x04",
    (1, (2, [3, (4,)])),
    [1, [2, (3,)]],
    {"a": (1, None), 2: {"b": b"c"}},
    {(1, 2): frozenset({3})},
    {1, 2, 3},
    bytearray(b"xyz"),
    decimal.Decimal("1.10"),
    uuid.UUID(int=7),
    datetime.date(2026, 11, 22),
    datetime.datetime(2026, 11, 22, 12, 30, 0, 123456),
    datetime.datetime(2026, 11, 22, 12, 30, tzinfo=datetime.UTC),
    datetime.timedelta(days=-1, microseconds=1),
    ValueError,
    len,
]


def same(left: object, right: object) -> bool:
    """Equal, and of equal types all the way down."""
    if type(left) is not type(right):
        return False
    if isinstance(left, list | tuple):
        return len(left) == len(right) and all(map(same, left, right))
    if isinstance(left, dict):
        return left.keys() == right.keys() and all(same(left[k], right[k]) for k in left)
    return left == right


@pytest.mark.parametrize("value", VALUES, ids=repr)
def test_a_value_comes_back_as_itself(cache: Any, value: object) -> None:
    cache.set("set", value)
    cache.set_many({"set_many": value})
    assert cache.add("add", value) is True
    assert same(cache.get_or_set("get_or_set", lambda: value), value)
    for key in ("set", "set_many", "add", "get_or_set"):
        assert same(cache.get(key, default="missing"), value), key
        assert same(cache.get_many([key]), {key: value}), key


def test_a_mutable_value_is_copied(cache: Any) -> None:
    value = [1]
    cache.set("k", value)
    value.append(2)
    assert cache.get("k") == [1]
    assert cache.get("k") is not cache.get("k")


@pytest.mark.parametrize("value", [0, 42, -7])
def test_an_int_is_stored_as_its_digits(cache: Any, server: ValkeyServer, value: int) -> None:
    cache.set("k", value)
    assert server.execute("GET", ":1:k") == str(value).encode()


def test_digits_that_another_program_stored_are_an_int(cache: Any, server: ValkeyServer) -> None:
    server.execute("SET", ":1:k", "1234")
    assert cache.get("k") == 1234


@pytest.mark.parametrize("junk", [b"", b"junk", b"\xc1", b"\x80\x04K\x01.", b"(\xb5/\xfd", b"1.5"])
def test_what_another_program_stored_is_a_miss(cache: Any, server: ValkeyServer, junk: bytes) -> None:
    server.execute("SET", ":1:k", junk)
    assert cache.get("k", "default") == "default"
    assert cache.get_many(["k"]) == {}


def test_none_is_a_value(cache: Any) -> None:
    cache.set("k", None)
    assert cache.get("k", "default") is None
    assert cache.get_many(["k"]) == {"k": None}
    assert cache.has_key("k") is True
    assert "k" in cache
    assert cache.add("k", 1) is False
    assert cache.get_or_set("k", "default") is None
    assert cache.incr_version("k") == 2
    assert cache.get("k", "default", version=2) is None


def test_get_of_a_missing_key_is_the_default(cache: Any) -> None:
    assert cache.get("k") is None
    sentinel = object()
    assert cache.get("k", sentinel) is sentinel
    assert cache.has_key("k") is False
    assert "k" not in cache


def test_set_returns_none_and_replaces(cache: Any) -> None:
    assert cache.set("k", "old") is None
    assert cache.set("k", "new") is None
    assert cache.get("k") == "new"


def test_add_stores_only_what_is_missing(cache: Any) -> None:
    assert cache.add("k", "first") is True
    assert cache.add("k", "second") is False
    assert cache.get("k") == "first"


def test_delete_returns_a_bool(cache: Any) -> None:
    cache.set("k", 1)
    assert cache.delete("k") is True
    assert cache.delete("k") is False


def test_get_many_leaves_out_what_is_missing(cache: Any) -> None:
    cache.set_many({"a": 1, "b": None, "c": "x"})
    assert cache.get_many(["a", "b", "c", "d"]) == {"a": 1, "b": None, "c": "x"}
    assert cache.get_many(["d"]) == {}


@pytest.mark.parametrize("form", [list, tuple, iter, set, dict.fromkeys, lambda keys: (key for key in keys)])
def test_many_keys_may_come_from_any_iterable(cache: Any, form: Any) -> None:
    cache.set_many({"a": 1, "b": 2, "c": 3})
    assert cache.get_many(form(["a", "b"])) == {"a": 1, "b": 2}
    assert cache.delete_many(form(["a", "b"])) is None
    assert cache.get_many(["a", "b", "c"]) == {"c": 3}


@pytest.mark.parametrize("empty", [[], (), iter([]), {}])
def test_no_keys_are_no_trouble(cache: Any, empty: Any) -> None:
    assert cache.get_many(empty) == {}
    assert cache.delete_many(empty) is None
    assert cache.set_many({}) == []


def test_get_many_takes_a_key_twice(cache: Any) -> None:
    cache.set("a", 1)
    assert cache.get_many(["a", "a"]) == {"a": 1}


def test_set_many_returns_an_empty_list(cache: Any) -> None:
    assert cache.set_many({"a": 1, "b": 2}) == []


def test_get_or_set_stores_the_default_once(cache: Any) -> None:
    assert cache.get_or_set("k", "first") == "first"
    assert cache.get_or_set("k", "second") == "first"
    assert cache.get_or_set("null", None) is None
    assert cache.get("null", "default") is None


def test_get_or_set_calls_a_callable_only_on_a_miss(cache: Any) -> None:
    calls: list[int] = []

    def default() -> int:
        calls.append(1)
        return 42

    assert cache.get_or_set("k", default) == 42
    assert cache.get_or_set("k", default) == 42
    assert calls == [1]
    assert cache.get_or_set("null", lambda: None) is None
    assert cache.get("null", "default") is None


def test_get_or_set_passes_an_error_of_the_default_on(cache: Any) -> None:
    def default() -> None:
        raise LookupError("no such thing")

    with pytest.raises(LookupError, match="no such thing"):
        cache.get_or_set("k", default)
    assert cache.has_key("k") is False


class Unpicklable:
    def __getstate__(self) -> None:
        raise pickle.PickleError("refused")


@pytest.mark.parametrize(
    "store",
    [
        lambda cache: cache.set("k", Unpicklable()),
        lambda cache: cache.add("k", [1, Unpicklable()]),
        lambda cache: cache.set_many({"a": 1, "k": Unpicklable()}),
        lambda cache: cache.get_or_set("k", Unpicklable()),
    ],
    ids=["set", "add", "set_many", "get_or_set"],
)
def test_an_unpicklable_value_raises_its_own_error_and_stores_nothing(
    cache: Any, server: ValkeyServer, store: Any
) -> None:
    with pytest.raises(pickle.PickleError, match="refused"):
        store(cache)
    assert server.keys() == []


@pytest.mark.parametrize("serializer", ["auto", "pickle"])
def test_text_of_any_kind_comes_back_as_it_was(cache_factory: Any, serializer: str) -> None:
    cache = cache_factory(SERIALIZER=serializer)
    lazy = gettext_lazy("January")
    cache.set_many({"lone": "a\ud800", "safe": mark_safe("<b>"), "lazy": lazy, "nested": {"a\ud800": [lazy]}})
    assert cache.get("lone") == "a\ud800"
    assert isinstance(cache.get("safe"), SafeString)
    for loaded in (cache.get("lazy"), cache.get("nested")["a\ud800"][0]):
        assert isinstance(loaded, Promise)
        with override("de"):
            assert str(loaded) == "Januar"


def test_text_that_a_serializer_cannot_store_is_refused_by_its_place(cache_factory: Any) -> None:
    msgpack, json = cache_factory(SERIALIZER="msgpack"), cache_factory(SERIALIZER="json")
    with pytest.raises(TypeError, match=r"str with an unpaired surrogate at value\['t'\]"):
        msgpack.set("k", {"t": "a\ud800"})
    with pytest.raises(TypeError, match=r"SafeString at value\[0\]"):
        msgpack.set("k", [mark_safe("<b>")])
    with pytest.raises(TypeError, match=r"__proxy__ at value\[0\]"):
        msgpack.set("k", [gettext_lazy("January")])
    with pytest.raises(TypeError, match="__proxy__ is not JSON serializable"):
        json.set("k", [gettext_lazy("January")])
    json.set("k", "a\ud800")
    assert json.get("k") == "a\ud800"


def test_rows_that_share_a_large_dict(cache: Any, server: ValkeyServer) -> None:
    shared = {f"option {n}": f"{n} " + "value " * 8 for n in range(800)}
    rows = [{"id": n, "config": shared} for n in range(3000)]
    cache.set_many({"rows": rows})
    assert len(pickle.dumps(shared)) > 45_000
    assert server.execute("STRLEN", ":1:rows") < 60_000
    loaded = cache.get("rows")
    assert loaded == rows
    assert all(row["config"] is loaded[0]["config"] for row in loaded)
