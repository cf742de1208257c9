"""The hot routes of a URLconf: where each stands, and whether it can be answered before Django's handler."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from django.conf import settings
from django.urls import URLPattern, URLResolver, converters, get_resolver
from django.urls.resolvers import RegexPattern, RoutePattern

from django_vcache._vcache import RouteTable

from ._row import Piece
from ._views import HotView

__all__ = ["Placed", "placed_routes", "walk"]

_CONVERTERS: dict[type, str] = {
    converters.IntConverter: "int",
    converters.StringConverter: "str",
    converters.SlugConverter: "slug",
    converters.UUIDConverter: "uuid",
    converters.PathConverter: "path",
}


@dataclass
class Placed:
    """A pattern of the URLconf with what stands before it."""

    route: str
    """As it is written, all prefixes included."""
    pattern: URLPattern
    name: str | None
    """With its namespaces, as ``reverse()`` wants it."""
    pieces: list[Piece] = field(default_factory=list)
    extra: dict[str, Any] = field(default_factory=dict)
    """Arguments of ``include()`` and of the pattern itself."""
    reason: str | None = None
    """Why it is not answered before Django's handler; None if it is."""
    names: tuple[str, ...] = ()
    """The parameters of its URL."""

    @property
    def view(self) -> HotView | None:
        view = self.pattern.callback
        return view if isinstance(view, HotView) else None


@dataclass
class _Prefix:
    route: str = ""
    namespaces: tuple[str, ...] = ()
    pieces: tuple[Piece, ...] = ()
    extra: dict[str, Any] = field(default_factory=dict)
    reason: str | None = None
    names: tuple[str, ...] = ()


def placed_routes() -> list[Placed]:
    """The hot routes of ``ROOT_URLCONF``, in its order."""
    return [placed for placed in walk() if placed.view is not None]


def walk() -> Iterator[Placed]:
    """All patterns of ``ROOT_URLCONF``, in the order in which Django tries them.

    Raises:
        Exception: what importing the URLconf raised.
    """
    if not getattr(settings, "ROOT_URLCONF", None):
        return
    yield from _patterns(get_resolver().url_patterns, _Prefix())


def _patterns(patterns: Any, prefix: _Prefix) -> Iterator[Placed]:
    for pattern in patterns:
        own = pattern.pattern
        pieces, reason = _pieces(own)
        route = prefix.route + str(own)
        reason = prefix.reason or reason
        extra = {
            **prefix.extra,
            **(pattern.default_kwargs if isinstance(pattern, URLResolver) else pattern.default_args),
        }
        everything = (*prefix.pieces, *pieces)
        names = tuple(dict.fromkeys((*prefix.names, *_names(own))))
        if isinstance(pattern, URLResolver):
            namespaces = (*prefix.namespaces, pattern.namespace) if pattern.namespace else prefix.namespaces
            below = _Prefix(route, namespaces, everything, extra, reason or _problem_of_prefix(pieces), names)
            yield from _patterns(pattern.url_patterns, below)
        elif isinstance(pattern, URLPattern):
            name = ":".join((*prefix.namespaces, pattern.name)) if pattern.name else None
            yield Placed(route, pattern, name, list(everything), extra, reason or _problem(everything, extra), names)


def _names(pattern: Any) -> Iterable[str]:
    """The parameters that Django finds with a pattern."""
    # Others than regular expressions say it without one, which Django would compile for this.
    names: Iterable[str] = pattern.regex.groupindex if isinstance(pattern, RegexPattern) else pattern.converters
    return names


def _pieces(pattern: Any) -> tuple[tuple[Piece, ...], str | None]:
    """The pieces of a pattern, or why there are none."""
    cls: type = pattern.__class__
    if cls is not RoutePattern:
        kind = cls.__name__
        return (), {
            "RegexPattern": "it is under a regular expression (re_path)",
            "LocalePrefixPattern": "it is under i18n_patterns, so its path depends on the language",
        }.get(kind, f"it is under a {kind}")
    if not isinstance(pattern._route, str):
        return (), "its route is translated"
    pieces: list[Piece] = []
    rest: str = pattern._route
    for name, converter in pattern.converters.items():
        known = _CONVERTERS.get(type(converter))
        if known is None:
            return (), f"its parameter '{name}' has a converter of yours ({type(converter).__name__})"
        before, _, rest = _split(rest, name)
        pieces += [before, (known, name)]
    pieces.append(rest)
    return tuple(piece for piece in pieces if piece != ""), None


def _split(route: str, name: str) -> tuple[str, str, str]:
    """A route before and behind a parameter."""
    for written in (f":{name}>", f"<{name}>"):
        at = route.find(written)
        if at >= 0:
            begin = route.rindex("<", 0, at + 1)
            return route[:begin], name, route[at + len(written) :]
    raise AssertionError(f"{route!r} has no parameter {name!r}")


def _problem_of_prefix(pieces: tuple[Piece, ...]) -> str | None:
    # Django looks for the prefix first, and takes as much of the path as the parameter fits.
    if pieces and not isinstance(pieces[-1], str):
        return "the route of an include() ends with a parameter"
    if any(piece[0] == "path" for piece in pieces if not isinstance(piece, str)):
        return "the route of an include() has a path converter"
    if pieces and isinstance(pieces[-1], str) and not pieces[-1].endswith("/") and len(pieces) > 1:
        return "the route of an include() has a parameter and does not end with a slash"
    return None


def _problem(pieces: tuple[Piece, ...], extra: dict[str, Any]) -> str | None:
    names = [piece[1] for piece in pieces if not isinstance(piece, str)]
    for name in names:
        if names.count(name) > 1 or name in extra:
            return f"the parameter '{name}' is given twice"
    problem = RouteTable.problem(list(pieces))
    return problem and f"{problem}, which the table does not take"
