"""At which level each hot route is answered, what stands in its way, and what it hides: for the system checks and
``vcache_routes``."""

import uuid
from dataclasses import dataclass, field

from django.urls import Resolver404, URLPattern, get_resolver

from ._finding import Placed, walk
from ._routes import Route
from ._site import site
from ._targets import Target

__all__ = ["Listed", "listed"]


@dataclass
class Listed:
    """A hot route with what there is to say about it."""

    placed: Placed
    hidden: list[tuple[URLPattern, str]] = field(default_factory=list)
    """Earlier patterns, each with a path for which Django would have taken it."""

    @property
    def route(self) -> Route:
        view = self.placed.view
        assert view is not None
        route: Route = view.route  # type: ignore[assignment]
        return route

    @property
    def target(self) -> Target:
        return self.route.target

    @property
    def methods(self) -> str:
        methods = self.route.methods
        return ",".join(each for each in methods if each not in ("HEAD", "OPTIONS")) if methods else "any"

    @property
    def level(self) -> str:
        """The earliest level at which it is answered."""
        return "view" if self.placed.reason else "early"

    @property
    def problem(self) -> str | None:
        """Why it cannot answer, as far as that can be known before a request comes."""
        return self.route.problem([*self.placed.names, *self.placed.extra])


def listed() -> list[Listed]:
    """The hot routes of the URLconf, in its order.

    Raises:
        Exception: what importing the URLconf raised.
    """
    patterns = list(walk())
    by_view: dict[int, list[Placed]] = {}
    for placed in patterns:
        by_view.setdefault(id(placed.pattern.callback), []).append(placed)
    found = [Listed(placed) for placed in patterns if placed.view is not None]
    by_route = {id(each.route): each for each in found}
    early = {id(each.placed.pattern) for each in found if each.level == "early"}
    for placed in patterns:
        # A path that fits the pattern, or one that fits the hot route: the other of the two is then asked.
        path = _sample(placed)
        answers = site().find(path)
        pattern = _by_django(path, by_view) if answers is not None else None
        if pattern is None or answers is None or id(pattern) in early:
            continue
        listed = by_route[id(answers[0])]
        if all(pattern is not each for each, _ in listed.hidden):
            listed.hidden.append((pattern, path))
    return found


_SAMPLES = {
    "int": "7",
    "str": "vcache-sample",
    "slug": "vcache-sample",
    "uuid": str(uuid.UUID(int=7)),
    "path": "vcache/sample",
}


def _sample(placed: Placed) -> str:
    """A path that fits a pattern, if its pieces are known."""
    return "/" + "".join(piece if isinstance(piece, str) else _SAMPLES[piece[0]] for piece in placed.pieces)


def _by_django(path: str, by_view: dict[int, list[Placed]]) -> URLPattern | None:
    """The pattern that Django takes for a path."""
    try:
        match = get_resolver().resolve(path)
    except Resolver404:
        return None
    found = by_view.get(id(match.func), [])
    # One view may have several patterns.
    return next((each.pattern for each in found if each.route == match.route), found[0].pattern if found else None)
