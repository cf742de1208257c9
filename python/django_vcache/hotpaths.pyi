from .admission import Decision

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

def allow(key: str, limit: int, period: float, cost: int = 1) -> Decision:
    """Spends ``cost`` units of the budget ``key``, which has ``limit`` units for each ``period`` seconds.

    >>> decision = allow(f"project:{project_id}", limit=100, period=60)  # doctest: +SKIP

    One script on the server, on the server's clock (GCRA). A refused call charges nothing; a cost of 0 asks
    whether a unit would be let through, and charges nothing. The decision's one rule is called "allow". The key is the
    server's own, without prefix and version. No outage policy decides: an error is raised. Blocks, with the GIL
    released.

    Raises ValueError for an empty key and numbers that make no sense, TypeError for wrong types; ConnectionError,
    TimeoutError or ResponseError, of ``django_vcache.exceptions``, if the server does not answer or refuses.
    """

async def aallow(key: str, limit: int, period: float, cost: int = 1) -> Decision:
    """As ``allow``, to be awaited. Nothing is asked before that.

    >>> decision = await aallow(f"project:{project_id}", limit=100, period=60)  # doctest: +SKIP

    It raises TypeError in a boolean context, where an ``await`` was forgotten.
    """

def enqueue(stream: str, payload: bytes | bytearray | memoryview | str, maxlen: int | None = None) -> str:
    """Appends ``payload`` to a stream, as the field ``payload``, and returns the entry's id.

    >>> entry_id = enqueue("events", request.body, maxlen=1_000_000)  # doctest: +SKIP

    With ``maxlen`` the stream is trimmed to about that many entries, the oldest first, whether or not they were read;
    without it, it grows. Blocks, with the GIL released.

    Raises TypeError for wrong types; ConnectionError, TimeoutError or ResponseError, of ``django_vcache.exceptions``.
    After a time-out it is not known whether the entry was written.
    """

async def aenqueue(stream: str, payload: bytes | bytearray | memoryview | str, maxlen: int | None = None) -> str:
    """As ``enqueue``, to be awaited."""

def read(key: str) -> bytes | None:
    """The bytes under ``key``, as they are stored, or None.

    The key is the server's own, without prefix and version. A value that the cache wrote comes as the cache encoded it.

    Raises ConnectionError, TimeoutError or ResponseError, of ``django_vcache.exceptions``.
    """

async def aread(key: str) -> bytes | None:
    """As ``read``, to be awaited."""

def connection_id() -> int:
    """The server's number for the connection that this runs on: its ``CLIENT ID``.

    Raises ConnectionError, TimeoutError or ResponseError, of ``django_vcache.exceptions``.
    """

async def aconnection_id() -> int:
    """As ``connection_id``, to be awaited."""
