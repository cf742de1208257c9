"""The middleware that tells clients about their limits."""

from collections.abc import Awaitable, Callable
from typing import Any

from asgiref.sync import iscoroutinefunction, markcoroutinefunction
from django.http import HttpRequest, HttpResponseBase

from django_vcache.admission.settings import current
from django_vcache.admission.views.refusal import decisions_of, headers_of

__all__ = ["RateLimitHeadersMiddleware"]


class RateLimitHeadersMiddleware:
    """Adds ``RateLimit-Policy``, ``RateLimit`` and ``Retry-After`` to the responses of throttled requests.

    It tells of every decision that was made for the request, by decorators, by REST framework throttles, and by the
    view itself if that attached it (:func:`django_vcache.admission.attach`). ``Retry-After`` is added to responses with
    the status 429 or 503 that have none. With ``VCACHE["LEGACY_HEADERS"]`` the triple ``X-RateLimit-Limit``,
    ``X-RateLimit-Remaining`` and ``X-RateLimit-Reset`` (seconds) is added as well.

    It goes first in MIDDLEWARE, outside of all that keeps or replaces responses: inside UpdateCacheMiddleware, a cached
    response would tell everyone of the limits of the client that it was made for; inside ConditionalGetMiddleware, a
    304 would tell nothing. It works under WSGI and ASGI without a thread.
    """

    sync_capable = True
    async_capable = True

    def __init__(self, get_response: Callable[[HttpRequest], Any]) -> None:
        self.get_response = get_response
        self._is_async = iscoroutinefunction(get_response)
        if self._is_async:
            markcoroutinefunction(self)

    def __call__(self, request: HttpRequest) -> HttpResponseBase | Awaitable[HttpResponseBase]:
        if self._is_async:
            return self._acall(request)
        response: HttpResponseBase = self.get_response(request)
        return _told(request, response)

    async def _acall(self, request: HttpRequest) -> HttpResponseBase:
        return _told(request, await self.get_response(request))


def _told(request: HttpRequest, response: HttpResponseBase) -> HttpResponseBase:
    decisions = decisions_of(request)
    if decisions:
        for name, value in headers_of(decisions, legacy=current().legacy_headers).items():
            if name != "Retry-After" or (response.status_code in (429, 503) and name not in response.headers):
                response.headers[name] = value
    return response
