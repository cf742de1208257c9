"""Hot paths in Rust that the wheel brings along, on the connection of the cache alias `default`.

They are examples, to try and to measure against. For limits and streams in production use
`django_vcache.admission`.
"""

import django_vcache.admission

def allow(key: str, limit: int, period: float, cost: int = 1) -> django_vcache.admission.Decision:
    """Spends `cost` units of the budget `key`, which has `limit` units for each `period` seconds.

    ```python
    decision = allow(f"project:{project_id}", limit=100, period=60)
    ```

    One script on the server, on the server's clock (GCRA). A refused call charges nothing; a cost of 0 asks whether
    a unit would be let through, and charges nothing. The decision's one rule is called "allow". The key is the
    server's own, without prefix and version. No outage policy decides: an error is raised.

    Raises ValueError for an empty key and numbers that make no sense, TypeError for wrong types; ConnectionError,
    TimeoutError or ResponseError, of `django_vcache.exceptions`, if the server does not answer or refuses.
    """

async def aallow(key: str, limit: int, period: float, cost: int = 1) -> django_vcache.admission.Decision:
    """Spends `cost` units of the budget `key`, which has `limit` units for each `period` seconds.

    ```python
    decision = allow(f"project:{project_id}", limit=100, period=60)
    ```

    One script on the server, on the server's clock (GCRA). A refused call charges nothing; a cost of 0 asks whether
    a unit would be let through, and charges nothing. The decision's one rule is called "allow". The key is the
    server's own, without prefix and version. No outage policy decides: an error is raised.

    Raises ValueError for an empty key and numbers that make no sense, TypeError for wrong types; ConnectionError,
    TimeoutError or ResponseError, of `django_vcache.exceptions`, if the server does not answer or refuses.

    The form of `allow` to await.
    """

def enqueue(stream: str, payload: bytes | bytearray | memoryview | str, maxlen: int | None = None) -> str:
    """Appends `payload` to a stream, as the field `payload`, and returns the entry's id.

    ```python
    entry_id = enqueue("events", request.body, maxlen=1_000_000)
    ```

    With `maxlen` the stream is trimmed to about that many entries, the oldest first, whether or not they were read;
    without it, it grows.

    Raises TypeError for wrong types; ConnectionError, TimeoutError or ResponseError, of `django_vcache.exceptions`.
    After a time-out it is not known whether the entry was written.
    """

async def aenqueue(stream: str, payload: bytes | bytearray | memoryview | str, maxlen: int | None = None) -> str:
    """Appends `payload` to a stream, as the field `payload`, and returns the entry's id.

    ```python
    entry_id = enqueue("events", request.body, maxlen=1_000_000)
    ```

    With `maxlen` the stream is trimmed to about that many entries, the oldest first, whether or not they were read;
    without it, it grows.

    Raises TypeError for wrong types; ConnectionError, TimeoutError or ResponseError, of `django_vcache.exceptions`.
    After a time-out it is not known whether the entry was written.

    The form of `enqueue` to await.
    """

def read(key: str) -> bytes | None:
    """The bytes under `key`, as they are stored, or None.

    The key is the server's own, without prefix and version. A value that the cache wrote comes as the cache encoded
    it.

    Raises ConnectionError, TimeoutError or ResponseError, of `django_vcache.exceptions`.
    """

async def aread(key: str) -> bytes | None:
    """The bytes under `key`, as they are stored, or None.

    The key is the server's own, without prefix and version. A value that the cache wrote comes as the cache encoded
    it.

    Raises ConnectionError, TimeoutError or ResponseError, of `django_vcache.exceptions`.

    The form of `read` to await.
    """

def connection_id() -> int:
    """The server's number for the connection that this runs on: its `CLIENT ID`.

    Raises ConnectionError, TimeoutError or ResponseError, of `django_vcache.exceptions`.
    """

async def aconnection_id() -> int:
    """The server's number for the connection that this runs on: its `CLIENT ID`.

    Raises ConnectionError, TimeoutError or ResponseError, of `django_vcache.exceptions`.

    The form of `connection_id` to await.
    """
