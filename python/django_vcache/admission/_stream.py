"""What the consumer and ``manage.py vcache_stream`` need to know of a stream, and a stream known by its name alone."""

import re
from dataclasses import dataclass
from typing import Protocol

_NAME = re.compile(r"[A-Za-z0-9_.-]{1,64}")
_PREFIX = re.compile(r"[A-Za-z0-9_.:-]{1,64}")


class StreamLike(Protocol):
    """A stream of one or more shards, each a key of its own on the server."""

    @property
    def name(self) -> str: ...

    @property
    def keys(self) -> tuple[str, ...]:
        """The key of each shard, on the server, exactly as it stands there."""

    @property
    def dead_keys(self) -> tuple[str, ...]:
        """The key of each shard's dead letters, in the same order, in the same hash slot."""

    @property
    def using(self) -> str:
        """The cache alias whose connection is used."""


@dataclass(frozen=True)
class NamedStream:
    """A stream that no code describes, or that this process has no object for.

    >>> NamedStream("events", shards=2).keys
    ('vcache:{v00}:s:events', 'vcache:{v01}:s:events')
    """

    name: str
    shards: int = 1
    prefix: str = "vcache"
    using: str = "default"

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise ValueError(f"{self.name!r} is no stream's name: use 1 to 64 of A-Z, a-z, 0-9, '_', '.' and '-'")
        if not _PREFIX.fullmatch(self.prefix):
            raise ValueError(f"{self.prefix!r} is no prefix: use 1 to 64 of A-Z, a-z, 0-9, '_', '.', '-' and ':'")
        if self.shards < 1:
            raise ValueError(f"shards is {self.shards}: a stream has at least 1")

    @property
    def keys(self) -> tuple[str, ...]:
        return tuple(f"{self.prefix}:{{v{shard:02}}}:s:{self.name}" for shard in range(self.shards))

    @property
    def dead_keys(self) -> tuple[str, ...]:
        return tuple(f"{key}:dead" for key in self.keys)
