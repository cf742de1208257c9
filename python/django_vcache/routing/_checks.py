"""System checks of hot routes.

``vcache.E010``  the target of a hot route does not take a request, or its middleware cannot be made
``vcache.W005``  a pattern before a hot route would have been taken, and is not
``vcache.W006``  a hot route cannot be answered early, and why
"""

from typing import Any

from django.core.checks import CheckMessage, Error, Warning, register

from ._levels import listed

__all__ = ["check_hot_routes"]


@register("vcache")
def check_hot_routes(app_configs: Any, **kwargs: Any) -> list[CheckMessage]:
    """Whether each hot route is answered as it was meant."""
    try:
        routes = listed()
    except Exception:
        # Why the URLconf cannot be imported is for Django's own checks to tell.
        return []
    found: list[CheckMessage] = []
    for each in routes:
        route = f"the hot route '{each.placed.route}'"
        problem = each.problem
        if problem is not None:
            found.append(Error(f"{route}: {problem}", id="vcache.E010"))
        if each.hidden:
            pattern, path = each.hidden[0]
            more = len(each.hidden) - 1
            found.append(
                Warning(
                    f"{route} wins over the pattern {pattern.pattern.describe()}, which stands before it and would "
                    f"have been taken for {path}" + (f"; and over {more} more, see vcache_routes" if more else ""),
                    hint="Place the hot route first, so that all servers answer alike, or make the two differ.",
                    id="vcache.W005",
                )
            )
        if each.placed.reason is not None:
            found.append(
                Warning(
                    f"{route} is answered as a view, not early, because {each.placed.reason}",
                    hint="Place it with path converters int, str, slug, uuid and path, outside of re_path() and "
                    "i18n_patterns(), or silence this if the route need not be fast.",
                    id="vcache.W006",
                )
            )
    return found
