"""A hot route as the table in Rust takes it, which reads these attributes."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

__all__ = ["Direct", "Piece", "Row"]

Piece = str | tuple[str, str]
"""Text of a route, or the name of a converter and that of a parameter."""


@dataclass(frozen=True)
class Direct:
    """A hot path that can be called without its ``Route``, which would add nothing.

    Attributes:
        awaitable: the form to await.
        methods: those that it takes, or None for all.
        most: bytes that a body may have when it is decoded.
        headers: those that every answer gets.
    """

    awaitable: Callable[..., Any]
    methods: Sequence[str] | None
    most: int
    headers: Sequence[tuple[bytes, bytes]] = ()


@dataclass(frozen=True)
class Row:
    """A route of the table.

    Attributes:
        pieces: what a path has to look like.
        route: what is found for it.
        extra: further arguments.
        limit: bytes that a body may have on the wire, or None for any number.
        with_objects: a UUID is given as an object, not as text.
        direct: how its hot path is called without it, where that can be.
    """

    pieces: Sequence[Piece]
    route: Any
    extra: dict[str, Any] = field(default_factory=dict)
    limit: int | None = None
    with_objects: bool = True
    direct: Direct | None = None
