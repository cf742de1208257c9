"""The hot routes of the process, as the protocol needs them. This is the one place that knows where they come from."""

import importlib
import logging
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured

__all__ = ["Head", "Route", "finder", "script_name"]

logger = logging.getLogger("uvicorn.error")


class Head(Protocol):
    """A request without its body, as a route gets it."""

    method: str
    path: str
    query: bytes
    headers: bytes
    """Header lines as they came, without the empty line at the end."""
    peer: str | None
    scheme: str


class Route(Protocol):
    """A hot route."""

    limit: int | None
    """Bytes of a body on the wire."""

    async def respond(
        self, head: Head, body: bytes, params: Mapping[str, Any]
    ) -> tuple[int, list[tuple[bytes, bytes]], bytes]:
        """Status, headers and body of the response. It raises nothing but a cancellation."""
        ...


Found = tuple[Route, Mapping[str, Any]]


def finder() -> Callable[[str], Found | None]:
    """What finds the hot route of a path within the application. It does not raise: a site that cannot be made is an
    error in the log, and the application's to report to clients."""
    try:
        find: Callable[[str], Found | None] = importlib.import_module("django_vcache.routing").site().find
    except Exception:
        logger.exception("There are no hot routes below ASGI: the site could not be made")
        return lambda path: None
    return find


def script_name(root_path: str) -> str:
    """The prefix of paths that Django takes away: FORCE_SCRIPT_NAME, or the server's root path."""
    try:
        return settings.FORCE_SCRIPT_NAME or root_path
    except ImproperlyConfigured:
        return root_path
