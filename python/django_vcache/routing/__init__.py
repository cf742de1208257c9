"""Hot routes: URLs that are answered before Django's handler is entered, where that can be.

In ``urls.py`` of a project::

    from django_vcache.routing import hot

    urlpatterns = [
        hot("api/<int:project_id>/envelope/", _native.ingest, methods=["POST"]),
        path("admin/", admin.site.urls),
    ]

A hot route is an ordinary URL pattern: ``reverse()``, ``include()``, the test client, WSGI and any ASGI server know it.
Inside :mod:`django_vcache.asgi` it is answered early, and by ``django_vcache.uvicorn`` before that.
"""

from ._cors import Cors
from ._request import Request
from ._response import Response
from ._routes import hot

__all__ = ["Cors", "Request", "Response", "hot"]
