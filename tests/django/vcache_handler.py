"""Settings for Django's own tests, with our ASGI handler in the place of Django's: copied into Django's `tests/` and
named to its runtests.py. `AsyncClient` loads middleware as our handler does.

With VCACHE_ASYNC_CLIENT=1 the blocking test client does so, too: each of its requests is answered by the async half of
the handler, and what blocks in it runs on the test's own thread. So all that Django tests of its middleware is tested
of our way to call it.
"""

import atexit
import os
import sys

from django.core.handlers import asgi
from test_sqlite import *  # noqa: F403

import django_vcache.asgi
from django_vcache.asgi import _middleware


class ASGIHandler(django_vcache.asgi.ASGIHandler):
    """Counts its requests, which the test wants to know of."""

    requests = 0

    async def handle(self, scope, receive, send):
        type(self).requests += 1
        await super().handle(scope, receive, send)


asgi.ASGIHandler = ASGIHandler


def _swap_clients() -> None:
    from asgiref.sync import async_to_sync
    from django.core.handlers.base import BaseHandler
    from django.test import client

    class AsyncClientHandler(client.AsyncClientHandler):
        def load_middleware(self, is_async=False):
            _middleware.load(self, super().load_middleware, is_async)

    class ClientHandler(client.ClientHandler):
        def load_middleware(self, is_async=False):
            _middleware.load(self, lambda _: BaseHandler.load_middleware(self, True), True)

        def get_response(self, request):
            ASGIHandler.requests += 1
            return async_to_sync(self.get_response_async)(request)

    client.AsyncClientHandler = AsyncClientHandler
    if os.environ.get("VCACHE_ASYNC_CLIENT"):
        client.ClientHandler = ClientHandler


_swap_clients()
# By the process of runtests.py and not by those that it forks, which do not run this.
atexit.register(lambda: print(f"requests to our handler: {ASGIHandler.requests}", file=sys.stderr))
