"""At which level each hot route is answered, what stands in its way, and what it hides: for the system checks and
``vcache_routes``."""

import uuid
from dataclasses import dataclass

from django.urls import Resolver404, URLPattern, get_resolver

from ._finding import Placed, walk
from ._targets import Target
from ._views import HotView

__all__ = ["Listed", "listed"]


@dataclass
class Listed:
    """A hot route with what there is to say about it."""

    placed: Placed
    hidden: URLPattern | None
    """An earlier pattern that Django would have taken for a path of this route."""
    sample: str
    """That path."""

    @property
    def target(self) -> Target:
        view = self.placed.view
        assert view is not None
        target: Target = view.route.target
        return target

    @property
    def methods(self) -> str:
        view = self.placed.view
        assert view is not None
        methods = view.route.methods  # type: ignore[attr-defined]
        return ",".join(each for each in methods if each not in ("HEAD", "OPTIONS")) if methods else "any"

    @property
    def level(self) -> str:
        """The earliest level at which it is answered."""
        return "view" if self.placed.reason else "early"


def listed() -> list[Listed]:
    """The hot routes of the URLconf, in its order.

    Raises:
        Exception: what importing the URLconf raised.
    """
    found = []
    for placed in walk():
        if placed.view is not None:
            sample = _sample(placed)
            found.append(Listed(placed, _taken(sample, placed) if sample else None, sample))
    return found


_SAMPLES = {
    "int": "7",
    "str": "vcache-sample",
    "slug": "vcache-sample",
    "uuid": str(uuid.UUID(int=7)),
    "path": "vcache/sample",
}


def _sample(placed: Placed) -> str:
    """A path that fits a route; empty if it cannot be told."""
    if placed.reason is not None:
        return ""
    return "/" + "".join(piece if isinstance(piece, str) else _SAMPLES[piece[0]] for piece in placed.pieces)


def _taken(path: str, placed: Placed) -> URLPattern | None:
    """The pattern that Django takes for a path, if it stands before the route's own."""
    try:
        match = get_resolver().resolve(path)
    except Resolver404:
        return None
    if match.func is placed.pattern.callback or isinstance(match.func, HotView):
        return None
    return next((each.pattern for each in walk() if each.pattern.callback is match.func), None)
