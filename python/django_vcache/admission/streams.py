"""Looking after streams: how long they are, who reads them and how far, and what ended up among the dead letters; and
groups that are to come, or are over. It is what ``manage.py vcache_stream`` shows and does, for code of your own, such
as a metrics endpoint::

    from django_vcache.admission import streams

    lag = {group.name: group.lag for group in streams.state(stream).groups}

Each function has an awaited form with an ``a`` in front.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from django_vcache.exceptions import ResponseError

from .consume.group import is_crossslot
from .consume.steps import Script, Steps, adrive, drive, send
from .consume.stream import NamedStream, StreamLike

__all__ = [
    "ConsumerState",
    "DeadLetter",
    "GroupState",
    "NamedStream",
    "StreamState",
    "acreate_group",
    "adead_letters",
    "adelete_group",
    "adrop_dead_letters",
    "arequeue",
    "astate",
    "atrim",
    "create_group",
    "dead_letters",
    "delete_group",
    "drop_dead_letters",
    "requeue",
    "state",
    "trim",
]

_STATE = Script("state.lua", flags="flags=no-writes")
_IDS = Script("ids.lua", flags="flags=no-writes")
_JOIN = Script("join.lua", flags="flags=allow-oom")
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
        ConfigurationError: if its cache alias has another backend.
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
        ValueError: for what is no id, or an id without its shard that two shards have. Nothing was moved.
        TypeError: for a string instead of a list. Nothing was moved.
        As :func:`state`; what was moved before the error stays moved.
    """
    return drive(_requeue(stream, ids), stream.using)


async def arequeue(stream: StreamLike, ids: Iterable[str] | None = None) -> int:
    """As :func:`requeue`."""
    return await adrive(_requeue(stream, ids), stream.using)


def drop_dead_letters(stream: StreamLike, ids: Iterable[str] | None = None) -> int:
    """Deletes dead letters, for good. Nothing else does: what is neither dropped nor moved back is kept for ever.

    Args:
        ids: as those of :func:`requeue`; without, all that are there now.

    Returns:
        How many were deleted.

    Raises:
        ValueError: for what is no id, or an id without its shard that two shards have. Nothing was deleted.
        TypeError: for a string instead of a list. Nothing was deleted.
        As :func:`state`; what was deleted before the error stays deleted.

    >>> streams.drop_dead_letters(gate.stream, ["3/1795383986036-0"])  # doctest: +SKIP
    1
    """
    return drive(_drop_dead_letters(stream, ids), stream.using)


async def adrop_dead_letters(stream: StreamLike, ids: Iterable[str] | None = None) -> int:
    """As :func:`drop_dead_letters`."""
    return await adrive(_drop_dead_letters(stream, ids), stream.using)


def create_group(stream: StreamLike, group: str) -> bool:
    """Creates a consumer group before its first consumer does, from the first entry on, and the stream with it.

    What all the groups that there are have acknowledged is deleted, so of several groups each has to be there before
    the first consumer of any runs. A group that is there already stays as it is.

    Returns:
        Whether it was missing, in any shard.

    Raises:
        ValueError: if `group` is no text of at least one letter.
        As :func:`state`.

    >>> streams.create_group(gate.stream, "audit")  # doctest: +SKIP
    True
    """
    return drive(_create_group(stream, group), stream.using)


async def acreate_group(stream: StreamLike, group: str) -> bool:
    """As :func:`create_group`."""
    return await adrive(_create_group(stream, group), stream.using)


def delete_group(stream: StreamLike, group: str, *, trim: bool = False) -> int:
    """Deletes a consumer group without a reader, with what is pending for it, in all shards. As long as it is
    there, entries are kept for it. A consumer of the group that is alive creates it again, from the first entry on.

    Args:
        trim: also delete the entries that were kept for it, which are those that all other groups have acknowledged.
            Without other groups none are deleted. Not for a stream whose consumers say ``delete=False``. It takes
            several steps, the last of which deletes the group: after an error, say it again.

    Returns:
        How many entries were deleted.

    Raises:
        ValueError: if the stream has no such group, or `group` is no text of at least one letter.
        As :func:`state`.
    """
    return drive(_delete_group(stream, group, trim), stream.using)


async def adelete_group(stream: StreamLike, group: str, *, trim: bool = False) -> int:
    """As :func:`delete_group`."""
    return await adrive(_delete_group(stream, group, trim), stream.using)


def trim(stream: StreamLike) -> int:
    """Deletes the entries that all groups have acknowledged: those that were kept for a group which was deleted without
    `trim`. Without any group none are deleted. Not for a stream whose consumers say ``delete=False``.

    Returns:
        How many entries were deleted.

    Raises:
        As :func:`state`.

    >>> streams.trim(gate.stream)  # doctest: +SKIP
    1200
    """
    return drive(_trim(stream), stream.using)


async def atrim(stream: StreamLike) -> int:
    """As :func:`trim`."""
    return await adrive(_trim(stream), stream.using)


def _create_group(stream: StreamLike, group: str) -> Steps[bool]:
    _check_group(group)
    created = 0
    for key in stream.keys:
        created += yield from _JOIN((key,), group)
    return created > 0


def _delete_group(stream: StreamLike, group: str, trim: bool) -> Steps[int]:
    _check_group(group)
    destroyed, trimmed = yield from _without(stream, group, trim)
    if not destroyed:
        raise ValueError(f"stream {stream.name!r} has no group {group!r}")
    return trimmed


def _trim(stream: StreamLike) -> Steps[int]:
    _, trimmed = yield from _without(stream, "", True)
    return trimmed


def _without(stream: StreamLike, group: str, trim: bool) -> Steps[tuple[int, int]]:
    destroyed = trimmed = 0
    for key in stream.keys:
        start = b"-"
        while start:
            found, count, start = yield from _DELETE_GROUP((key,), group, int(trim), start.decode())
            destroyed += found
            trimmed += count
    return destroyed, trimmed


def _check_group(group: object) -> None:
    if not isinstance(group, str) or not group:
        raise ValueError(f"a group's name must be a text of at least one letter, not {group!r}")


def _state(stream: StreamLike) -> Steps[StreamState]:
    groups: dict[str, GroupState] = {}
    depth = dead = existing = 0
    for exists, entries, letters, told_of_groups in (yield from _told(stream)):
        existing += exists
        depth += entries
        dead += letters
        for told, told_of_consumers in told_of_groups:
            about = _pairs(told)
            group = groups.setdefault(about["name"].decode(), GroupState(about["name"].decode()))
            group.pending += about["pending"]
            lag = about["lag"]
            group.lag = None if lag is None or group.lag is None else group.lag + lag
            for consumer in told_of_consumers:
                _add(group.consumers, _pairs(consumer))
    for group in groups.values():
        group.consumers.sort(key=lambda consumer: consumer.name)
    found = sorted(groups.values(), key=lambda group: group.name)
    return StreamState(stream.name, stream.using, len(stream.keys), existing > 0, depth, dead, found)


def _told(stream: StreamLike) -> Steps[list[Any]]:
    """What the server tells of each shard: at once, or of a cluster one by one."""
    try:
        told: list[Any] = yield from _STATE((*stream.keys, *stream.dead_keys))
    except ResponseError as error:
        if not is_crossslot(error) or len(stream.keys) == 1:
            raise
        told = []
        for pair in zip(stream.keys, stream.dead_keys, strict=True):
            told += yield from _STATE(pair)
    return told


def _add(consumers: list[ConsumerState], about: Mapping[str, Any]) -> None:
    name, pending, idle = about["name"].decode(), about["pending"], about["idle"] / 1000
    for known in consumers:
        if known.name == name:
            known.pending += pending
            known.idle = min(known.idle, idle)
            return
    consumers.append(ConsumerState(name, pending, idle))


def _dead_letters(stream: StreamLike, limit: int) -> Steps[list[DeadLetter]]:
    keys = stream.dead_keys
    counts = {0: limit}
    if len(keys) > 1:
        # Which are the oldest of all, before any payload is read.
        ids: list[tuple[list[int], int]] = []
        for shard, key in enumerate(keys):
            ids += ((_halves(id.decode()), shard) for id in (yield from _IDS((key,), "+", limit)))
        counts = Counter(shard for _, shard in sorted(ids)[:limit])
    letters: list[DeadLetter] = []
    for shard, count in counts.items():
        rows = yield from send("XRANGE", keys[shard], "-", "+", "COUNT", count)
        head = f"{shard}/" if len(keys) > 1 else ""
        letters += (_letter(shard, head + id.decode(), words) for id, words in rows)
    letters.sort(key=lambda letter: (_halves(letter.id.rpartition("/")[2]), letter.shard))
    return letters


def _halves(id: str) -> list[int]:
    return [int(half) for half in id.split("-")]


def _letter(shard: int, id: str, words: list[bytes]) -> DeadLetter:
    fields = {name.decode(errors="surrogateescape"): value for name, value in _twos(words)}

    def ours(name: str) -> str:
        value: bytes = fields.pop(f"dead:{name}", b"")
        return value.decode(errors="replace")

    # Another program may have written to the key.
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
            while newest and (rows := (yield from _IDS((dead_key,), newest[0][0].decode(), _AT_ONCE))):
                moved += yield from _move(stream, shard, [id.decode() for id in rows])
        return moved
    for shard, chosen in (yield from _chosen(stream, ids)):
        moved += yield from _move(stream, shard, chosen)
    return moved


def _drop_dead_letters(stream: StreamLike, ids: Iterable[str] | None) -> Steps[int]:
    dropped = 0
    if ids is None:
        for key in stream.dead_keys:
            dropped += yield from send("XTRIM", key, "MAXLEN", 0)
        return dropped
    for shard, chosen in (yield from _chosen(stream, ids)):
        dropped += yield from send("XDEL", stream.dead_keys[shard], *chosen)
    return dropped


def _chosen(stream: StreamLike, ids: Iterable[str]) -> Steps[list[tuple[int, list[str]]]]:
    """The dead letters of these ids: a shard, and of its ids so many that go into one call."""
    if isinstance(ids, str):
        raise TypeError(f"give a list of ids, not the string {ids!r}")
    by_shard: dict[int, list[str]] = {}
    for each in dict.fromkeys(ids):
        shard, id = yield from _find(stream, each)
        by_shard.setdefault(shard, []).append(id)
    return [
        (shard, found[first : first + _AT_ONCE])
        for shard, found in by_shard.items()
        for first in range(0, len(found), _AT_ONCE)
    ]


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
