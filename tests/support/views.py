"""Views of every shape, each made with what is to decorate it, requests for them, and how they are called."""

from __future__ import annotations

import asyncio
import contextlib
import functools
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from asgiref.sync import iscoroutinefunction
from django.contrib.auth.models import AnonymousUser
from django.http import HttpResponse
from django.test import RequestFactory
from django.utils.decorators import method_decorator
from django.views import View
from django.views.decorators.csrf import csrf_exempt

from support.driver import open_runner

Call = Callable[..., Any]


@contextlib.contextmanager
def caller(loop: Any) -> Iterator[Call]:
    """Calls a view, and awaits what it returns if that has to be."""
    with open_runner(loop) as runner:

        def run(view: Any, request: Any = None, *args: Any, **kwargs: Any) -> Any:
            async def awaited() -> Any:
                return await view(request, *args, **kwargs)

            request = get() if request is None else request
            return runner.run(awaited()) if iscoroutinefunction(view) else view(request, *args, **kwargs)

        yield run


def statuses(call: Call, view: Any, count: int, **kwargs: Any) -> list[int]:
    return [call(view, get(**kwargs)).status_code for _ in range(count)]


def get(peer: str = "192.0.2.1", user: Any = None, method: str = "GET", **headers: str) -> Any:
    request = RequestFactory().generic(method, "/", headers=headers, REMOTE_ADDR=peer)
    request.user = user or AnonymousUser()
    return request


def sync_function(decorate: Any) -> Any:
    @decorate
    def view(request: Any) -> HttpResponse:
        return HttpResponse("seen")

    return view


def async_function(decorate: Any) -> Any:
    @decorate
    async def view(request: Any) -> HttpResponse:
        await asyncio.sleep(0)
        return HttpResponse("seen")

    return view


def sync_class(decorate: Any) -> Any:
    @decorate
    class Page(View):
        def get(self, request: Any) -> HttpResponse:
            return HttpResponse("seen")

        def post(self, request: Any) -> HttpResponse:
            return HttpResponse("seen")

    return Page.as_view()


def async_class(decorate: Any) -> Any:
    @decorate
    class Page(View):
        async def get(self, request: Any) -> HttpResponse:
            await asyncio.sleep(0)
            return HttpResponse("seen")

        async def post(self, request: Any) -> HttpResponse:
            return HttpResponse("seen")

    return Page.as_view()


def sync_class_by_method_decorator(decorate: Any) -> Any:
    return sync_class(method_decorator(decorate, name="dispatch"))


def async_class_by_method_decorator(decorate: Any) -> Any:
    return async_class(method_decorator(decorate, name="dispatch"))


def refusing_strangers(view: Any) -> Any:
    """A decorator that knows nothing of async views, as `login_required` is around a `dispatch`."""

    @functools.wraps(view)
    def wrapper(request: Any, *args: Any, **kwargs: Any) -> Any:
        return HttpResponse(status=403) if "x-stranger" in request.headers else view(request, *args, **kwargs)

    return wrapper


def sync_class_by_a_list(decorate: Any) -> Any:
    return sync_class(method_decorator([decorate, csrf_exempt], name="dispatch"))


def async_class_by_a_list(decorate: Any) -> Any:
    return async_class(method_decorator([decorate, csrf_exempt], name="dispatch"))


def sync_class_around_another_decorator(decorate: Any) -> Any:
    return sync_class(method_decorator([decorate, refusing_strangers], name="dispatch"))


def async_class_around_another_decorator(decorate: Any) -> Any:
    return async_class(method_decorator([decorate, refusing_strangers], name="dispatch"))


def async_method_around_another_decorator(decorate: Any) -> Any:
    return async_class(method_decorator([decorate, refusing_strangers], name="get"))


def sync_class_inside_another_decorator(decorate: Any) -> Any:
    return sync_class(method_decorator([refusing_strangers, decorate], name="dispatch"))


def async_class_inside_another_decorator(decorate: Any) -> Any:
    return async_class(method_decorator([refusing_strangers, decorate], name="dispatch"))


def sync_as_view(decorate: Any) -> Any:
    return decorate(sync_class(lambda each: each))


def async_as_view(decorate: Any) -> Any:
    return decorate(async_class(lambda each: each))


def sync_dispatch(decorate: Any) -> Any:
    class Page(View):
        @decorate
        def dispatch(self, request: Any, *args: Any, **kwargs: Any) -> Any:
            return super().dispatch(request, *args, **kwargs)

        def get(self, request: Any) -> HttpResponse:
            return HttpResponse("seen")

    return Page.as_view()


def async_dispatch(decorate: Any) -> Any:
    class Page(View):
        @decorate
        def dispatch(self, request: Any, *args: Any, **kwargs: Any) -> Any:
            return super().dispatch(request, *args, **kwargs)

        async def get(self, request: Any) -> HttpResponse:
            await asyncio.sleep(0)
            return HttpResponse("seen")

    return Page.as_view()


def sync_method(decorate: Any) -> Any:
    class Page(View):
        @decorate
        def get(self, request: Any) -> HttpResponse:
            return HttpResponse("seen")

    return Page.as_view()


def async_method(decorate: Any) -> Any:
    class Page(View):
        @decorate
        async def get(self, request: Any) -> HttpResponse:
            return HttpResponse("seen")

    return Page.as_view()


def sync_method_by_method_decorator(decorate: Any) -> Any:
    class Page(View):
        @method_decorator(decorate)
        def get(self, request: Any) -> HttpResponse:
            return HttpResponse("seen")

    return Page.as_view()


def callable_object(decorate: Any) -> Any:
    class Feed:
        def __call__(self, request: Any) -> HttpResponse:
            return HttpResponse("seen")

    return decorate(Feed())


def partial(decorate: Any) -> Any:
    def view(request: Any, word: str) -> HttpResponse:
        return HttpResponse(word)

    return decorate(functools.partial(view, word="seen"))


SHAPES = [
    sync_function,
    async_function,
    sync_class,
    async_class,
    sync_class_by_method_decorator,
    async_class_by_method_decorator,
    sync_class_by_a_list,
    async_class_by_a_list,
    sync_class_around_another_decorator,
    async_class_around_another_decorator,
    async_method_around_another_decorator,
    sync_class_inside_another_decorator,
    async_class_inside_another_decorator,
    sync_as_view,
    async_as_view,
    sync_dispatch,
    async_dispatch,
    sync_method,
    async_method,
    sync_method_by_method_decorator,
    callable_object,
    partial,
]
FUNCTIONS = [sync_function, async_function]

shapes = pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape.__name__)
functions = pytest.mark.parametrize("shape", FUNCTIONS, ids=lambda shape: shape.__name__)
