"""Django's ASGI handler without the threads and hand-overs that a request does not need.

In ``asgi.py`` of a project::

    from django_vcache.asgi import get_asgi_application

    application = get_asgi_application()

Django's own handler makes two threads for every request. This one keeps a few, which it calls lanes, and a request that
runs no blocking code takes none. It needs no Valkey.
"""

from ._application import ASGIApplication, get_asgi_application
from ._handler import ASGIHandler

__all__ = ["ASGIApplication", "ASGIHandler", "get_asgi_application"]
