"""Views of every shape, each made with what is to decorate it, and requests for them."""

from __future__ import annotations

import asyncio
import functools
from typing import Any

from django.contrib.auth.models import AnonymousUser
from django.http import HttpResponse
from django.test import RequestFactory
from django.utils.decorators import method_decorator
from django.views import View


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
    sync_dispatch,
    async_dispatch,
    sync_method,
    async_method,
    sync_method_by_method_decorator,
    callable_object,
    partial,
]
FUNCTIONS = [sync_function, async_function]
