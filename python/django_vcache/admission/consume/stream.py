"""What the consumer and ``manage.py vcache_stream`` need to know of a stream, and a stream known by its name alone."""

from typing import Protocol

from django_vcache import _vcache


class StreamLike(Protocol):
    """A stream of one or more shards, each of them one key on the server."""

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


class NamedStream:
    """A stream that no code describes, or that this process has no object for.

    Args:
        name: as it was given to :class:`~django_vcache.admission.Stream`.
        shards: of the gate or stream that it is written by.
        prefix: of that gate or stream.
        using: the cache alias; its ``KEY_PREFIX`` is part of the keys.

    Raises:
        ValueError: for what is not a name or a prefix, and no shards.

    >>> NamedStream("events", shards=2).keys  # doctest: +SKIP
    ('vcache:2:{v00}:s:events', 'vcache:2:{v01}:s:events')
    """

    def __init__(self, name: str, shards: int = 1, prefix: str = "vcache", using: str = "default") -> None:
        # The layout of keys is known there alone.
        self._stream = _vcache.Stream(name, shards=shards, prefix=prefix, using=using)
        self.name, self.shards, self.prefix, self.using = name, shards, prefix, using

    def __repr__(self) -> str:
        return f"NamedStream({self.name!r}, shards={self.shards}, prefix={self.prefix!r}, using={self.using!r})"

    @property
    def keys(self) -> tuple[str, ...]:
        """The key of each shard, as it stands on the server."""
        return self._stream.keys

    @property
    def dead_keys(self) -> tuple[str, ...]:
        """The key of each shard's dead letters, in the same order."""
        return self._stream.dead_keys
