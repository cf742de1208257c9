"""Settings for Django's own tests, with our ASGI handler in the place of Django's: copied into Django's `tests/` and
named to its runtests.py. `AsyncClient` has a handler that loads middleware as ours does, so that Django's tests of
async requests go through it as well.

With VCACHE_ASYNC_CLIENT=1 the blocking test client does so, too: each of its requests is answered by the async half of
the handler, and what blocks in it runs on the test's own thread.
"""

import os

from django.core.handlers import asgi
from test_sqlite import *  # noqa: F403

import django_vcache.asgi

asgi.ASGIHandler = django_vcache.asgi.ASGIHandler


def _swap_clients() -> None:
    from asgiref.sync import async_to_sync
    from django.core.handlers.base import BaseHandler
    from django.test import client

    from django_vcache.asgi._middleware import load

    class AsyncClientHandler(client.AsyncClientHandler):
        def load_middleware(self, is_async=False):
            load(self, super().load_middleware, is_async)

    class ClientHandler(client.ClientHandler):
        def load_middleware(self, is_async=False):
            load(self, lambda _: BaseHandler.load_middleware(self, True), True)

        def get_response(self, request):
            return async_to_sync(self.get_response_async)(request)

    client.AsyncClientHandler = AsyncClientHandler
    if os.environ.get("VCACHE_ASYNC_CLIENT"):
        client.ClientHandler = ClientHandler


_swap_clients()
