"""The hot routes of the process, as the protocol needs them. This is the one place that knows where they come from."""

import asyncio
import logging
from typing import Any

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.core.handlers.asgi import ASGIHandler

from django_vcache._vcache import HotRequest, RouteTable
from django_vcache.admission.settings import current
from django_vcache.admission.views.address import warn_of_a_proxy
from django_vcache.asgi import ASGIApplication
from django_vcache.routing._head import Head
from django_vcache.routing._security import security

__all__ = ["head_of", "script_name", "start", "table"]

logger = logging.getLogger("uvicorn.error")


def table(application: Any) -> RouteTable:
    """The hot routes that are answered before an application of uvicorn's.

    There are none if it is not Django's: its paths are not those of the URLs. There are none either if the site cannot
    be made: that is an error in the log, and the application's to report to clients.
    """
    try:
        if _is_wanted(application):
            from django_vcache.routing._site import site

            return site().table
    except Exception:
        logger.exception("There are no hot routes below ASGI: the site could not be made")
    return RouteTable([])


def _is_wanted(application: Any) -> bool:
    wanted = current().below_asgi
    if wanted is not None:
        return wanted
    found = application
    # What ASGI middleware calls is its `app`, by a custom that uvicorn and most others follow.
    for _ in range(50):
        if isinstance(found, ASGIHandler | ASGIApplication):
            return True
        if not hasattr(found, "app"):
            break
        found = found.app
    logger.warning(
        "Hot routes are not answered below ASGI, because the application is not Django's but %r: it may have other "
        "paths, or check something first. If it hands on each path as it is, set VCACHE['BELOW_ASGI'] to True. False "
        "is for no hot routes below ASGI, and no warning",
        found,
    )
    return False


class HotHead(Head):
    """The head of a request that ASGI has not seen."""

    __slots__ = ("_request",)

    def __init__(self, request: HotRequest) -> None:
        super().__init__(request.method, request.path, request.query, request.headers, request.peer, request.scheme)
        self._request = request

    @property
    def full_path(self) -> str:
        return self._request.full_path

    def scope(self) -> dict[str, Any]:
        request = self._request
        full = request.full_path
        # What is before the path that Django sees.
        root = full[: len(full) - len(request.path)] if full.endswith(request.path) else ""
        return {
            **super().scope(),
            "path": full,
            "root_path": root,
            "client": request.client,
            "server": request.server,
        }


def head_of(request: HotRequest) -> Head:
    """The request without its body, as a route gets it."""
    return HotHead(request)


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
