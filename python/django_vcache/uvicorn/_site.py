"""The hot routes of the process, as the protocol needs them. This is the one place that knows where they come from."""

import asyncio
import logging
from typing import Any

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured

from django_vcache._vcache import HotRequest, RouteTable
from django_vcache.admission.settings import current
from django_vcache.admission.views.address import warn_of_a_proxy
from django_vcache.routing._head import Head
from django_vcache.routing._security import security

__all__ = ["head_of", "script_name", "start", "table"]

logger = logging.getLogger("uvicorn.error")


def table() -> RouteTable:
    """The hot routes. If the site cannot be made there are none: that is an error in the log, and the application's to
    report to clients."""
    try:
        from django_vcache.routing._site import site

        return site().table
    except Exception:
        logger.exception("There are no hot routes below ASGI: the site could not be made")
        return RouteTable([])


def head_of(request: HotRequest) -> Head:
    """The request without its body, as a route gets it."""
    return Head(request.method, request.path, request.query, request.headers, request.peer, request.scheme)


def start(request: HotRequest) -> tuple[Any, asyncio.Future[Any] | None] | None:
    """Calls the hot path of a request, if its route has nothing else to do; None if it has.

    Returns:
        What the hot path answered and None, or None and the loop's future of its answer.

    Raises:
        Exception: what the hot path raised.
    """
    if not request.is_direct:
        return None
    secured = security()
    if secured.policy is None:
        return None
    scheme = secured.scheme(head_of(request)) if secured.names_scheme else request.scheme
    proxies = current().trusted_proxies
    if proxies is None and request.names_proxy:
        warn_of_a_proxy(head_of(request).has)
    return request.start(secured.policy, scheme, proxies or 0)


def script_name(root_path: str) -> str:
    """The prefix of paths that Django takes away: FORCE_SCRIPT_NAME, or the server's root path."""
    try:
        return settings.FORCE_SCRIPT_NAME or root_path
    except ImproperlyConfigured:
        return root_path
