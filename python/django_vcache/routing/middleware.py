"""Middleware for hot routes: the few kinds that matter there.

Each is called with the next step, and returns a coroutine function of a request that returns a response, as Django's
middleware does with its own. :func:`rate_limit_headers` and :func:`access_log` need nothing more::

    hot("api/store/", store, middleware=[rate_limit_headers, access_log])

A project writes its own in the same way::

    def with_server_name(respond):
        async def middleware(request):
            response = await respond(request)
            response.set("X-Served-By", socket.gethostname())
            return response

        return middleware

An error of the target passes through them, as Django's own middleware never sees it: it becomes an answer around them.
"""

import functools
import logging
import time
from collections.abc import Awaitable, Callable
from typing import Any

from django_vcache.admission.settings import current
from django_vcache.admission.views.refusal import decisions_of, headers_of

from ._request import Request
from ._response import Response

__all__ = ["access_log", "prometheus", "rate_limit_headers"]

Respond = Callable[[Request], Awaitable[Response]]

logger = logging.getLogger("django_vcache.access")


def rate_limit_headers(respond: Respond) -> Respond:
    """Adds ``RateLimit-Policy``, ``RateLimit`` and ``Retry-After``, as
    :class:`django_vcache.admission.middleware.RateLimitHeadersMiddleware` does.

    It tells of the decisions that the target attached to the request.

    >>> async def store(request, org):
    ...     decision = await gate.aadmit({"org": org}, payload=request.body)
    ...     attach(request, decision)
    ...     return Response(200 if decision else 429)
    """

    async def middleware(request: Request) -> Response:
        response = await respond(request)
        decisions = decisions_of(request)  # type: ignore[arg-type]
        if decisions:
            for name, value in headers_of(decisions, legacy=current().legacy_headers).items():
                if name != "Retry-After" or (response.status in (429, 503) and response.get(name) is None):
                    response.set(name, value)
        return response

    return middleware


def access_log(respond: Respond) -> Respond:
    """Writes a line for each request to the logger ``django_vcache.access``, at the level INFO.

    The record also has ``method``, ``path``, ``status``, ``length`` (bytes of the body) and ``seconds`` as attributes.
    """

    async def middleware(request: Request) -> Response:
        begin = time.perf_counter()
        status, length = 500, 0
        try:
            response = await respond(request)
            status, length = response.status, len(response.body)
            return response
        finally:
            if logger.isEnabledFor(logging.INFO):
                seconds = time.perf_counter() - begin
                # A line break in the path would forge a line.
                path = request.path.encode("unicode_escape").decode("ascii")
                told = {
                    "method": request.method,
                    "path": path,
                    "status": status,
                    "length": length,
                    "seconds": seconds,
                }
                logger.info("%s %s %d %d %.1f ms", request.method, path, status, length, seconds * 1000, extra=told)

    return middleware


def prometheus(route: str, registry: Any = None) -> Callable[[Respond], Respond]:
    """Counts requests by status, and measures how long they take, for ``prometheus_client``.

    The metrics are ``vcache_hot_requests_total`` with the labels ``route``, ``method`` and ``status``, and the
    histogram ``vcache_hot_request_seconds`` with ``route``.

    Args:
        route: the label. It is not the path, because that would make a series for each of its parameters.
        registry: a ``CollectorRegistry``; that of ``prometheus_client`` if it is None.

    Raises:
        ImportError: ``prometheus_client`` is not installed.

    >>> hot("api/<int:project>/store/", store, middleware=[prometheus("store")])  # doctest: +SKIP
    """
    requests, seconds = _metrics(registry)
    taken = seconds.labels(route)

    def factory(respond: Respond) -> Respond:
        async def middleware(request: Request) -> Response:
            begin = time.perf_counter()
            status = 500
            try:
                response = await respond(request)
                status = response.status
                return response
            finally:
                taken.observe(time.perf_counter() - begin)
                # What clients invent is one series.
                method = request.method if request.method in _METHODS else "other"
                requests.labels(route, method, str(status)).inc()

        return middleware

    return factory


_METHODS = frozenset(("DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT"))


@functools.cache
def _metrics(registry: Any) -> tuple[Any, Any]:
    from prometheus_client import REGISTRY, Counter, Histogram

    registry = REGISTRY if registry is None else registry
    return (
        Counter("vcache_hot_requests", "Requests to hot routes", ["route", "method", "status"], registry=registry),
        Histogram("vcache_hot_request_seconds", "How long hot routes take", ["route"], registry=registry),
    )
