"""A stream by its name alone, a stream that stands alone and a stream of a gate are the same place on the server."""

from __future__ import annotations

from typing import Any

import pytest
from support.streams import Form

pytestmark = pytest.mark.usefixtures("default_alias", "patient")


@pytest.mark.parametrize("shards", [1, 16])
@pytest.mark.parametrize("prefix", [None, "shop", "shop:eu-1.x_y"])
def test_all_of_them_name_the_same_keys(shards: int, prefix: str | None) -> None:
    from django_vcache.admission import Gate, Stream
    from django_vcache.admission.streams import NamedStream

    keywords: Any = {} if prefix is None else {"prefix": prefix}
    named = NamedStream("ev.en_t-s", shards, **keywords)
    alone = Stream("ev.en_t-s", shards=shards, **keywords)
    gated = Gate(stream=Stream("ev.en_t-s"), shards=shards, **keywords, owner="org").stream
    assert gated is not None
    assert named.keys == alone.keys == gated.keys
    assert named.dead_keys == alone.dead_keys == gated.dead_keys
    assert (named.name, named.using) == (alone.name, alone.using) == (gated.name, gated.using)
    assert len(set(named.keys + named.dead_keys)) == 2 * shards
    assert named.keys[-1] == f"{prefix or 'vcache'}:2:{{v{shards - 1:02}}}:s:ev.en_t-s"


def test_other_numbers_of_shards_are_written_alike() -> None:
    from django_vcache.admission import Stream
    from django_vcache.admission.streams import NamedStream

    for shards in (2, 10, 11, 100, 101):
        assert NamedStream("events", shards).keys == Stream("events", shards=shards).keys


@pytest.mark.parametrize(
    ("name", "keywords", "text"),
    [
        ("", {}, "name"),
        ("a b", {}, "name"),
        ("x" * 65, {}, "name"),
        ("clé", {}, "name"),
        ("events", {"prefix": ""}, "prefix"),
        ("events", {"prefix": "x" * 65}, "prefix"),
        ("events", {"prefix": "{x}"}, "prefix"),
        ("events", {"prefix": "clé"}, "prefix"),
        ("events", {"shards": 0}, "shards"),
    ],
    ids=lambda value: repr(value)[:30],
)
def test_what_is_no_stream_of_one_kind_is_none_of_the_other(name: str, keywords: Any, text: str) -> None:
    from django_vcache.admission import Stream
    from django_vcache.admission.streams import NamedStream

    for kind in (Stream, NamedStream):
        with pytest.raises(ValueError, match=text):
            kind(name, **keywords)


@pytest.mark.parametrize("shards", [1, 16])
@pytest.mark.parametrize("by_name", [False, True], ids=["of the gate", "by its name"])
def test_a_consumer_finds_what_was_admitted_in_all_shards(
    form: Form, default_alias: None, shards: int, by_name: bool
) -> None:
    from django_vcache.admission import Gate, Stream, Throttle
    from django_vcache.admission.consumer import Consumer
    from django_vcache.admission.streams import NamedStream

    gate = Gate([Throttle("org", "1000/d")], stream=Stream("events"), shards=shards, prefix="shop", owner="org")
    stream = gate.stream
    assert stream is not None
    told = {}
    for org in range(200):
        decision = gate.admit({"org": org}, payload=f"event of {org}")
        assert decision
        told[f"event of {org}".encode()] = (str(org).encode(), decision.id)
    options: Any = {"batch": 64, "max_wait": 0.02, "signals": ()}
    if by_name:
        consumer = Consumer(NamedStream("events", shards, "shop"), "g", **options)
    else:
        consumer = stream.consumer("g", **options)
    seen: list[Any] = []

    async def work(batch: Any) -> None:
        seen.extend(batch)
        if len(seen) == len(told):
            consumer.stop()

    form.consume(consumer, work)
    assert {entry.payload: (entry.fields["org"], entry.id) for entry in seen} == told
    assert len(seen) == len(told)
    assert {entry.shard for entry in seen} == set(range(shards))
    assert stream.length() == 0
