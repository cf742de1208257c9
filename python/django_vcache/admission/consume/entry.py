"""An entry of a stream, as a consumer is given it."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry of a stream."""

    id: str
    """Such as ``"1795383986036-0"``. Two shards of a stream may each have an entry of the same id."""
    payload: bytes
    """The field ``payload``; empty if there is none."""
    fields: dict[str, bytes]
    """The other fields: for what a gate has written, the scope."""
    deliveries: int
    """How often it was handed out, this time included. From 2 on, it may have been worked on before."""
    shard: int
    """The number of the shard that it stands in, from 0."""


def entry_of(shard: int, id: bytes, words: Sequence[bytes], deliveries: int) -> Entry:
    """An entry as the server tells it."""
    # Names that are not UTF-8 come from other programs, and are kept apart.
    fields = {name.decode(errors="surrogateescape"): value for name, value in zip(words[::2], words[1::2], strict=True)}
    return Entry(id.decode(), fields.pop("payload", b""), fields, deliveries, shard)
