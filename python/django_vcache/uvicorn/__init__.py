"""Hot routes answered below ASGI, by uvicorn's own thread, in the step that reads the request.

    uvicorn --http django_vcache.uvicorn:HotProtocol shop.asgi:application

or, as a short form, ``manage.py vcache_serve``. A request that is not for a hot route goes to uvicorn's own parser,
byte for byte, and from there to the application. It needs no Valkey.
"""

from ._versions import check

check()

from ._protocol import HotProtocol  # noqa: E402

__all__ = ["HotProtocol"]
