"""A middleware that has Django's debug page show why a crate does not compile. A development server adds it."""

from collections.abc import Awaitable, Callable
from inspect import iscoroutinefunction
from typing import Any, cast

from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.urls import URLPattern, set_urlconf
from django.utils.decorators import sync_and_async_middleware

from django_vcache.crates.building import HotpathBuildError
from django_vcache.crates.reloading import failure

__all__ = ["build_error_middleware"]

urlpatterns: list[URLPattern] = []


@sync_and_async_middleware
def build_error_middleware(get_response: Callable[[HttpRequest], Any]) -> Callable[[HttpRequest], Any]:
    """Raises :class:`HotpathBuildError` on each request as long as the source of a crate does not compile."""
    if iscoroutinefunction(get_response):
        awaited = cast("Callable[[HttpRequest], Awaitable[HttpResponseBase]]", get_response)

        async def async_middleware(request: HttpRequest) -> HttpResponseBase:
            _raise_failure()
            return await awaited(request)

        return async_middleware

    def middleware(request: HttpRequest) -> Any:
        _raise_failure()
        return get_response(request)

    return middleware


def _raise_failure() -> None:
    if (text := failure()) is not None:
        # The debug page looks for the view. The project's URLs may import a module that could not be built.
        set_urlconf(__name__)
        raise HotpathBuildError(text)
