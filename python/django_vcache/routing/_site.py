"""The hot routes of this process: a table for all levels that answer early.

It is made from the URLconf when it is first asked for, and anew when settings or the URLconf change.
"""

from typing import Any

from django.core.signals import setting_changed
from django.urls import get_resolver

from django_vcache._vcache import RouteTable

from ._finding import Placed, placed_routes
from ._routes import Route
from ._row import Row
from ._targets import HotPathTarget

__all__ = ["Site", "site"]


class Site:
    """The hot routes that are answered early.

    Args:
        placed: all hot routes of the URLconf, in its order.
    """

    def __init__(self, placed: list[Placed]) -> None:
        self.table = RouteTable([_row(each) for each in placed if each.reason is None])

    def __len__(self) -> int:
        return len(self.table)

    def find(self, path: str) -> tuple[Route, dict[str, Any]] | None:
        """The route that a path fits, with the arguments for its target; None if none is to be answered early.

        Args:
            path: decoded, from the slash behind the root path.
        """
        return self.table.find(path)


def _row(placed: Placed) -> Row:
    assert placed.view is not None
    route: Any = placed.view.route
    with_objects = not isinstance(route.target, HotPathTarget)
    return Row(placed.pieces, route, placed.extra, route.limit, with_objects, route.direct)


_made: tuple[Any, Site] | None = None


def site() -> Site:
    """The hot routes of ``ROOT_URLCONF``.

    Raises:
        Exception: what importing the URLconf raised. Django's handler says it to the client.
    """
    global _made
    resolver = get_resolver()
    if _made is None or _made[0] is not resolver:
        _made = resolver, Site(placed_routes())
    return _made[1]


def _forget(**kwargs: Any) -> None:
    global _made
    _made = None


setting_changed.connect(_forget)
