"""Looking after streams: how long they are, who reads them and how far, and what ended up among the dead letters. It is
what ``manage.py vcache_stream`` shows, for code of your own such as a metrics endpoint::

    from django_vcache.admission import streams

    lag = {group.name: group.lag for group in streams.state(stream).groups}

Each function has an awaited form with an ``a`` in front.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from ._steps import Script, Steps, adrive, drive, send
from ._stream import NamedStream, StreamLike

__all__ = [
    "ConsumerState",
    "DeadLetter",
    "GroupState",
    "NamedStream",
    "StreamState",
    "adead_letters",
    "adelete_group",
    "arequeue",
    "astate",
    "dead_letters",
    "delete_group",
    "requeue",
    "state",
]

_REQUEUE = Script("requeue.lua")
_DELETE_GROUP = Script("entries.lua", "delete_group.lua", flags="flags=allow-oom")
_AT_ONCE = 100  # dead letters in one call


@dataclass
class ConsumerState:
    """One consumer of a group."""

    name: str
    pending: int
    """Entries that it was given and has not acknowledged."""
    idle: float
    """Seconds since it last asked for entries."""


@dataclass
class GroupState:
    """One consumer group of a stream, all shards together."""

    name: str
    pending: int = 0
    """Entries that were delivered and not acknowledged."""
    lag: int | None = 0
    """Entries that were not delivered yet; None if the server cannot tell: such entries were deleted."""
    consumers: list[ConsumerState] = field(default_factory=list)


@dataclass
class StreamState:
    """A stream, all shards together."""

    name: str
    using: str
    shards: int
    exists: bool
    """Whether any of its keys is on the server."""
    depth: int
    """Entries that are stored, also those that are delivered and pending."""
    dead: int
    """Dead letters."""
    groups: list[GroupState]


@dataclass(frozen=True)
class DeadLetter:
    """An entry that was delivered as often as it may be, or that was rejected."""

    id: str
    """Its id among the dead letters, with the shard's number and a slash before it if there are several shards: what
    :func:`requeue` takes."""
    shard: int
    entry: str
    """The id that it had in the stream."""
    group: str
    consumer: str
    """Who had it last."""
    deliveries: int
    at: datetime | None
    """When it was moved here, UTC."""
    reason: str
    payload: bytes
    fields: Mapping[str, bytes]
    """The entry's other fields."""


def state(stream: StreamLike) -> StreamState:
    """How long a stream is, and who reads it.

    Raises:
        ConfigurationError: if its cache alias is none of ours.
        VcacheError: the server's errors, and those of the connection.
    """
    return drive(_state(stream), stream.using)


async def astate(stream: StreamLike) -> StreamState:
    """As :func:`state`."""
    return await adrive(_state(stream), stream.using)


def dead_letters(stream: StreamLike, limit: int = 100) -> list[DeadLetter]:
    """The oldest dead letters, `limit` of them at the most.

    Raises:
        As :func:`state`.
    """
    return drive(_dead_letters(stream, limit), stream.using)


async def adead_letters(stream: StreamLike, limit: int = 100) -> list[DeadLetter]:
    """As :func:`dead_letters`."""
    return await adrive(_dead_letters(stream, limit), stream.using)


def requeue(stream: StreamLike, ids: Iterable[str] | None = None) -> int:
    """Moves dead letters back to the stream, as new entries with new ids, where all its groups get them. The move of
    each is one step on the server: a crash neither loses nor doubles it.

    Args:
        ids: of dead letters, such as ``"1795383986036-0"`` or ``"3/1795383986036-0"``; without, all that are there now.

    Returns:
        How many were moved.

    Raises:
        ValueError: for an id that is none, or that is given without its shard and two shards have. Nothing was moved.
        As :func:`state`; what was moved before the error stays moved.
    """
    return drive(_requeue(stream, ids), stream.using)


async def arequeue(stream: StreamLike, ids: Iterable[str] | None = None) -> int:
    """As :func:`requeue`."""
    return await adrive(_requeue(stream, ids), stream.using)


def delete_group(stream: StreamLike, group: str, *, trim: bool = False) -> int:
    """Deletes a consumer group that nobody reads any more, with what is pending for it, in all shards. As long as it is
    there, entries are kept for it. A consumer of the group that is alive creates it again, from the first entry on.

    Args:
        trim: also delete the entries that were kept for it, which are those that all other groups have acknowledged.
            Without other groups none are deleted. Not for a stream whose consumers say ``delete=False``. It takes
            several steps, the last of which deletes the group: after an error, say it again.

    Returns:
        How many entries were deleted.

    Raises:
        ValueError: if the stream has no such group.
        As :func:`state`.
    """
    return drive(_delete_group(stream, group, trim), stream.using)


async def adelete_group(stream: StreamLike, group: str, *, trim: bool = False) -> int:
    """As :func:`delete_group`."""
    return await adrive(_delete_group(stream, group, trim), stream.using)


def _delete_group(stream: StreamLike, group: str, trim: bool) -> Steps[int]:
    destroyed = trimmed = 0
    for key in stream.keys:
        start = b"-"
        while start:
            found, count, start = yield from _DELETE_GROUP((key,), group, int(trim), start.decode())
            destroyed += found
            trimmed += count
    if not destroyed:
        raise ValueError(f"stream {stream.name!r} has no group {group!r}")
    return trimmed


def _state(stream: StreamLike) -> Steps[StreamState]:
    groups: dict[str, GroupState] = {}
    depth = dead = existing = 0
    for key, dead_key in zip(stream.keys, stream.dead_keys, strict=True):
        depth += yield from send("XLEN", key)
        dead += yield from send("XLEN", dead_key)
        existing += yield from send("EXISTS", key, dead_key)
        if (yield from send("EXISTS", key)):
            for told in (yield from send("XINFO", "GROUPS", key)):
                about = _pairs(told)
                group = groups.setdefault(about["name"].decode(), GroupState(about["name"].decode()))
                group.pending += about["pending"]
                lag = about["lag"]
                group.lag = None if lag is None or group.lag is None else group.lag + lag
                for consumer in (yield from send("XINFO", "CONSUMERS", key, about["name"])):
                    _add(group.consumers, _pairs(consumer))
    for group in groups.values():
        group.consumers.sort(key=lambda consumer: consumer.name)
    found = sorted(groups.values(), key=lambda group: group.name)
    return StreamState(stream.name, stream.using, len(stream.keys), existing > 0, depth, dead, found)


def _add(consumers: list[ConsumerState], about: Mapping[str, Any]) -> None:
    name, pending, idle = about["name"].decode(), about["pending"], about["idle"] / 1000
    for known in consumers:
        if known.name == name:
            known.pending += pending
            known.idle = min(known.idle, idle)
            return
    consumers.append(ConsumerState(name, pending, idle))


def _dead_letters(stream: StreamLike, limit: int) -> Steps[list[DeadLetter]]:
    letters: list[DeadLetter] = []
    for shard, key in enumerate(stream.dead_keys):
        rows = yield from send("XRANGE", key, "-", "+", "COUNT", limit)
        head = f"{shard}/" if len(stream.dead_keys) > 1 else ""
        letters += (_letter(shard, head + id.decode(), words) for id, words in rows)
    letters.sort(key=lambda letter: [int(half) for half in letter.id.rpartition("/")[2].split("-")])
    return letters[:limit]


def _letter(shard: int, id: str, words: list[bytes]) -> DeadLetter:
    fields = {name.decode(errors="surrogateescape"): value for name, value in _twos(words)}

    def ours(name: str) -> str:
        value: bytes = fields.pop(f"dead:{name}", b"")
        return value.decode(errors="replace")

    # Somebody else may have written to the key.
    deliveries, at = ours("deliveries"), ours("at")
    return DeadLetter(
        id=id,
        shard=shard,
        entry=ours("id"),
        group=ours("group"),
        consumer=ours("consumer"),
        deliveries=int(deliveries) if deliveries.isdecimal() else 0,
        at=datetime.fromtimestamp(int(at) / 1000, UTC) if at.isdecimal() else None,
        reason=ours("reason"),
        payload=fields.pop("payload", b""),
        fields=fields,
    )


def _requeue(stream: StreamLike, ids: Iterable[str] | None) -> Steps[int]:
    moved = 0
    if ids is None:
        for shard, dead_key in enumerate(stream.dead_keys):
            newest = yield from send("XREVRANGE", dead_key, "+", "-", "COUNT", 1)
            # What comes back as a dead letter meanwhile is left for the next time.
            while newest and (rows := (yield from send("XRANGE", dead_key, "-", newest[0][0], "COUNT", _AT_ONCE))):
                moved += yield from _move(stream, shard, [id.decode() for id, _ in rows])
        return moved
    by_shard: dict[int, list[str]] = {}
    for each in dict.fromkeys(ids):
        shard, id = yield from _find(stream, each)
        by_shard.setdefault(shard, []).append(id)
    for shard, chosen in by_shard.items():
        for first in range(0, len(chosen), _AT_ONCE):
            moved += yield from _move(stream, shard, chosen[first : first + _AT_ONCE])
    return moved


def _move(stream: StreamLike, shard: int, ids: list[str]) -> Steps[int]:
    new = yield from _REQUEUE((stream.keys[shard], stream.dead_keys[shard]), *ids)
    return sum(1 for id in new if id)


def _find(stream: StreamLike, asked: str) -> Steps[tuple[int, str]]:
    """The shard and the id of a dead letter."""
    number, slash, id = asked.rpartition("/")
    shards = range(len(stream.dead_keys))
    ms, _, sequence = id.partition("-")
    if not (ms.isdecimal() and sequence.isdecimal() and (number.isdecimal() if slash else True)):
        raise ValueError(f"{asked!r} is no id of a dead letter: it looks like 1795383986036-0, or 3/1795383986036-0")
    found = []
    for shard in [int(number)] if slash else shards:
        if shard not in shards:
            raise ValueError(f"{asked!r}: stream {stream.name!r} has no shard {shard}, only 0 to {len(shards) - 1}")
        if (yield from send("XRANGE", stream.dead_keys[shard], id, id)):
            found.append(shard)
    if not found:
        raise ValueError(f"stream {stream.name!r} has no dead letter {asked!r}")
    if len(found) > 1:
        choices = " or ".join(f"{shard}/{id}" for shard in found)
        raise ValueError(f"stream {stream.name!r} has several dead letters {asked!r}: say {choices}")
    return found[0], id


def _pairs(told: Any) -> dict[str, Any]:
    """What XINFO tells of one thing: a mapping, or with the older protocol a list of pairs."""
    pairs = told.items() if isinstance(told, Mapping) else _twos(told)
    return {name.decode() if isinstance(name, bytes) else name: value for name, value in pairs}


def _twos(words: list[Any]) -> Iterator[tuple[Any, Any]]:
    return zip(words[::2], words[1::2], strict=True)
