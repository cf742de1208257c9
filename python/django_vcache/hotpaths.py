"""Hot paths in Rust that the wheel brings along, as examples to try and to measure against.

They run on the connection that ``CACHES["default"]`` uses. Each has a blocking form and, with an ``a`` in front, one to
await::

    from django_vcache import hotpaths

    decision = await hotpaths.aallow(f"project:{project_id}", limit=100, period=60)
    if not decision:
        return decision.response()
    entry_id = await hotpaths.aenqueue("events", request.body)

They name keys as the caller does, without ``KEY_PREFIX``, and know no policy for an outage. For limits and streams in
production use :mod:`django_vcache.admission`.
"""

from . import _vcache
from .backend import publish_alias

__all__ = [
    "aallow",
    "aconnection_id",
    "aenqueue",
    "allow",
    "aread",
    "connection_id",
    "enqueue",
    "read",
]

_vcache.on_unknown_alias(publish_alias)

# `python -m django_vcache stubs django_vcache.hotpaths` writes hotpaths.pyi.
__vcache_stub__ = _vcache.hotpaths.__vcache_stub__

allow = _vcache.hotpaths.allow
aallow = _vcache.hotpaths.aallow
enqueue = _vcache.hotpaths.enqueue
aenqueue = _vcache.hotpaths.aenqueue
read = _vcache.hotpaths.read
aread = _vcache.hotpaths.aread
connection_id = _vcache.hotpaths.connection_id
aconnection_id = _vcache.hotpaths.aconnection_id
