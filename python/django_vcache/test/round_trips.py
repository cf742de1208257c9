"""How often a block of code asks the server, as ``assertNumQueries`` counts queries."""

import contextlib
from collections.abc import Iterator
from typing import NamedTuple

from django_vcache import _vcache

__all__ = ["RoundTrip", "assert_round_trips", "record_round_trips"]


class RoundTrip(NamedTuple):
    """What was sent together, and is answered together: one command or several."""

    alias: str
    """The cache alias."""
    commands: tuple[str, ...]
    """The commands' names: ``("MGET",)``."""
    keys: tuple[bytes, ...]
    """The keys of all commands; empty if they are not known of one of them."""

    def __str__(self) -> str:
        """One line, without values, which may be secrets."""
        names = " ".join(self.commands[:5]) + (f" and {len(self.commands) - 5} more" if len(self.commands) > 5 else "")
        keys = ", ".join(repr(key)[2:-1] for key in self.keys[:5])
        more = f", and {len(self.keys) - 5} more" if len(self.keys) > 5 else ""
        return f"{self.alias}: {names}" + (f" on {keys}{more}" if keys else "")


_blocks = 0
"""How many blocks record, one inside the other."""


@contextlib.contextmanager
def record_round_trips(using: str | None = None) -> Iterator[list[RoundTrip]]:
    """Records the round trips of the block into a list, which is filled when the block ends.

    Those of all threads and loops of this process count, and only those: of the cache, limits, streams and hot paths,
    also hot paths in modules of yours. Connecting does not count, and neither does teaching a server a script that it
    does not know yet.

    Args:
        using: the cache alias; all of them unless said.

    >>> with record_round_trips() as trips:  # doctest: +SKIP
    ...     cache.get_many(["a", "b"])
    >>> print(trips[0])  # doctest: +SKIP
    default: MGET on :1:a, :1:b
    """
    global _blocks
    trips: list[RoundTrip] = []
    if not _blocks:
        _vcache.record_round_trips(True)
    before = len(_vcache.recorded_round_trips())
    _blocks += 1
    try:
        yield trips
    finally:
        _blocks -= 1
        recorded = [
            RoundTrip(alias, tuple(commands), tuple(keys))
            for alias, commands, keys in _vcache.recorded_round_trips()[before:]
        ]
        trips += [trip for trip in _without_lessons(recorded) if using in (None, trip.alias)]
        if not _blocks:
            _vcache.record_round_trips(False)


@contextlib.contextmanager
def assert_round_trips(expected: int, *, using: str | None = None) -> Iterator[list[RoundTrip]]:
    """Fails unless the block takes so many round trips, see :func:`record_round_trips`. The failure lists them.

    Args:
        expected: how many.
        using: the cache alias; all of them unless said.

    Raises:
        AssertionError: there were more, or fewer.

    >>> with assert_round_trips(1):  # doctest: +SKIP
    ...     client.get("/")
    """
    with record_round_trips(using) as trips:
        yield trips
    if len(trips) != expected:
        of = f" on the alias {using!r}" if using else ""
        listed = "".join(f"\n  {number}. {trip}" for number, trip in enumerate(trips, 1))
        raise AssertionError(f"{len(trips)} round trips{of}, {expected} expected{':' if trips else ''}{listed}")


def _without_lessons(trips: list[RoundTrip]) -> list[RoundTrip]:
    """The round trips without calls of scripts that the server did not know, and that were made again by their text."""
    kept: list[RoundTrip] = []
    for trip in trips:
        if trip.commands == ("EVAL",):
            by_hash = trip._replace(commands=("EVALSHA",))
            if by_hash in kept:
                kept.remove(by_hash)
        kept.append(trip)
    return kept
