"""The check that `cache.clear()` leaves the events alone that wait in streams."""

from __future__ import annotations

import gc
import sys
import types
from collections.abc import Iterator
from typing import Any

import pytest
from django.core.checks import run_checks
from django.test import override_settings
from support.caches import cache_setting
from support.checks import LOCMEM
from support.server import ValkeyServer

PREFIX = {"KEY_PREFIX": "shop", "CLEAR": "prefix"}


@pytest.fixture
def streams(monkeypatch: pytest.MonkeyPatch) -> Iterator[types.ModuleType]:
    """An importable module; no stream of another test is known."""
    from django_vcache.admission import checks

    gc.collect()
    known = set(checks.aliases_with_streams())
    original = checks.aliases_with_streams
    monkeypatch.setattr(checks, "aliases_with_streams", lambda: set(original()) - known)
    module = types.ModuleType("streams_of_a_test")
    sys.modules[module.__name__] = module
    yield module
    del sys.modules[module.__name__]


def found(**settings: Any) -> list[str]:
    with override_settings(**settings):
        return [f"{each.msg} {each.hint}" for each in run_checks(tags=["vcache"]) if each.id == "vcache.E009"]


def setting(server: ValkeyServer, **options: Any) -> dict[str, Any]:
    return cache_setting(server, **options)


def test_a_stream_on_an_alias_that_is_emptied_whole_is_an_error(server: ValkeyServer, streams: Any) -> None:
    from django_vcache.admission import Stream

    streams.events = Stream("events", using="streams_only")
    (text,) = found(CACHES={"default": LOCMEM, "streams_only": setting(server)})
    assert "caches['streams_only'].clear()" in text
    assert "KEY_PREFIX" in text
    assert found(CACHES={"default": LOCMEM, "streams_only": setting(server, **PREFIX)}) == []


def test_the_streams_of_gates_and_of_the_settings_count(server: ValkeyServer, streams: Any) -> None:
    from django_vcache.admission import Gate, Stream, Throttle

    streams.gate = Gate([Throttle("a", "5/m", using="gates_only")], stream=Stream("events", using="gates_only"))
    aliases = {"default": LOCMEM, "gates_only": setting(server)}
    assert len(found(CACHES=aliases)) == 1
    # Of another process nothing is known but what the settings name.
    streams.without = Gate([Throttle("a", "5/m", using="gates_only")])
    for vcache in ({"GATES": ["streams_of_a_test.gate"]}, {"STREAMS": ["streams_of_a_test.gate"]}):
        assert len(found(CACHES=aliases, VCACHE=vcache)) == 1
    del streams.gate
    gc.collect()
    assert found(CACHES=aliases, VCACHE={"GATES": ["streams_of_a_test.without"]}) == []


def test_another_alias_of_the_same_database_empties_it_too(server: ValkeyServer, streams: Any) -> None:
    from django_vcache.admission import Stream

    streams.events = Stream("events", using="streams_only")
    aliases = {"default": setting(server), "streams_only": setting(server, **PREFIX)}
    (text,) = found(CACHES=aliases)
    assert "caches['default'].clear()" in text
    assert found(CACHES=aliases | {"default": setting(server, DB=5)}) == []
    assert found(CACHES=aliases | {"default": setting(server, KEY_PREFIX="cache", CLEAR="prefix")}) == []


SAME = [
    (("redis://h:6379/1", None), (["redis://h:6379/1"], None)),
    (("redis://h:6379", 1), ("redis://h:6379/1", None)),
    (("redis://h:6379", None), ("redis://h:6379/0", None)),
    (("redis://h/1", None), ("valkey://h:6379/1", None)),
    (("redis://u:p@h:6379/1", None), ("redis://H:6379/1 ", None)),
    (("unix:///tmp/s?db=1", None), ("unix:///tmp/s", 1)),
    (("embedded:///1", None), ("embedded://", 1)),
]
OTHERS = [
    (("redis://h:6379/1", None), ("redis://h:6379/2", None)),
    (("redis://h:6379/1", None), ("redis://h:6380/1", None)),
    (("redis://h:6379/1", None), ("redis://g:6379/1", None)),
    (("unix:///tmp/s", None), ("unix:///tmp/t", None)),
    (("redis://h:port/1", None), ("redis://h:6379/1", None)),
]


@pytest.mark.parametrize(("first", "second", "same"), [*((*p, True) for p in SAME), *((*p, False) for p in OTHERS)])
@pytest.mark.parametrize("backend", ["django_vcache.ValkeyCache", "django.core.cache.backends.redis.RedisCache"])
def test_a_database_may_be_written_in_several_ways(
    streams: Any, backend: str, first: Any, second: Any, same: bool
) -> None:
    from django_vcache.admission import Stream

    def alias(backend: str, location: Any, db: Any, **params: Any) -> dict[str, Any]:
        options = params.pop("OPTIONS", {}) | ({} if db is None else {"DB": db})
        return {"BACKEND": backend, "LOCATION": location, "OPTIONS": options, **params}

    streams.events = Stream("events", using="streams_only")
    own = alias("django_vcache.ValkeyCache", *first, KEY_PREFIX="shop", OPTIONS={"CLEAR": "prefix"})
    aliases = {"default": LOCMEM, "streams_only": own, "other": alias(backend, *second)}
    assert bool(found(CACHES=aliases)) is same


def test_a_backend_with_a_clear_of_its_own_knows_what_it_does(streams: Any) -> None:
    from django_vcache import ValkeyCache
    from django_vcache.admission import Stream

    class Careful(ValkeyCache):
        def clear(self) -> None:
            """Nothing."""

    streams.Careful = Careful
    streams.events = Stream("events", using="streams_only")
    setting = {"BACKEND": "streams_of_a_test.Careful", "LOCATION": "redis://h"}
    assert found(CACHES={"default": LOCMEM, "streams_only": setting}) == []


def test_an_alias_that_is_missing_or_anothers_is_not_this_checks_matter(server: ValkeyServer, streams: Any) -> None:
    from django_vcache.admission import Stream

    streams.events = Stream("events", using="streams_only")
    for aliases in ({"default": setting(server)}, {"default": setting(server), "streams_only": LOCMEM}):
        assert found(CACHES=aliases) == []
    assert found(CACHES={"default": setting(server), "streams_only": setting(server)}, VCACHE={"GATE": []}) == []
