"""The hot routes of the process, as the protocol needs them. This is the one place that knows where they come from."""

import logging
from collections.abc import Callable
from typing import Any

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured

from django_vcache._vcache import HotRequest
from django_vcache.routing._head import Head

__all__ = ["finder", "head_of", "script_name"]

logger = logging.getLogger("uvicorn.error")

Found = tuple[Any, dict[str, Any]]
"""A route and the arguments for its target."""


def finder() -> Callable[[str], Found | None]:
    """What finds the hot route of a path within the application. It does not raise: a site that cannot be made is an
    error in the log, and the application's to report to clients."""
    try:
        from django_vcache.routing._site import site

        find: Callable[[str], Found | None] = site().find
    except Exception:
        logger.exception("There are no hot routes below ASGI: the site could not be made")
        return lambda path: None
    return find


def head_of(request: HotRequest) -> Head:
    """The request without its body, as a route gets it."""
    return Head(request.method, request.path, request.query, request.headers, request.peer, request.scheme)


def script_name(root_path: str) -> str:
    """The prefix of paths that Django takes away: FORCE_SCRIPT_NAME, or the server's root path."""
    try:
        return settings.FORCE_SCRIPT_NAME or root_path
    except ImproperlyConfigured:
        return root_path
