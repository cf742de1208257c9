"""Hot paths in Rust, on the connection that ``CACHES["default"]`` uses.

Each has a blocking form and, with an ``a`` in front, one to await::

    from django_vcache import hotpaths

    decision = await hotpaths.aallow(f"project:{project_id}", limit=100, period=60)
    if not decision.allowed:
        return HttpResponse(status=429, headers={"Retry-After": math.ceil(decision.retry_after or 60)})
    entry_id = await hotpaths.aenqueue("events", request.body)
"""

from typing import NamedTuple

from . import _vcache
from .backend import publish_alias

__all__ = [
    "Decision",
    "aallow",
    "aconnection_id",
    "aenqueue",
    "allow",
    "aread",
    "connection_id",
    "enqueue",
    "read",
]


class Decision(NamedTuple):
    """The answer of :func:`allow`. It is true if the call may go on."""

    allowed: bool
    """Whether the call may go on. If not, nothing was charged."""
    remaining: int
    """Whole units left in the budget."""
    retry_after: float | None
    """Seconds until the same cost would be allowed: 0.0 if it was, None if it never will be."""

    def __bool__(self) -> bool:
        return self.allowed


_vcache.on_unknown_alias(publish_alias)

allow = _vcache.hotpaths.allow
aallow = _vcache.hotpaths.aallow
enqueue = _vcache.hotpaths.enqueue
aenqueue = _vcache.hotpaths.aenqueue
read = _vcache.hotpaths.read
aread = _vcache.hotpaths.aread
connection_id = _vcache.hotpaths.connection_id
aconnection_id = _vcache.hotpaths.aconnection_id
