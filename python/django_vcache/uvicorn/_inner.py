"""The protocol class of uvicorn that reads what no hot route answers, and how it says that it is between two requests.

``--http`` names ours, so the environment variable ``VCACHE_UVICORN_HTTP`` names the one inside, in the words of
``--http``. A class that does not say whether it is idle keeps a connection once it has had a request of it.
"""

import asyncio
import functools
import os
from typing import TYPE_CHECKING, Any, cast

from uvicorn.config import HTTP_PROTOCOLS
from uvicorn.importer import ImportFromStringError, import_from_string

from django_vcache.exceptions import ConfigurationError

__all__ = ["VARIABLE", "Inner", "composed", "inner_class", "named"]

VARIABLE = "VCACHE_UVICORN_HTTP"

if TYPE_CHECKING:
    import logging

    from uvicorn.config import Config
    from uvicorn.protocols.http.flow_control import FlowControl
    from uvicorn.server import ServerState

    class Inner(asyncio.Protocol):
        """What is used of uvicorn's protocol classes."""

        config: Config
        loop: asyncio.AbstractEventLoop
        logger: logging.Logger
        access_logger: logging.Logger
        access_log: bool
        root_path: str
        limit_concurrency: int | None
        timeout_keep_alive: float
        server_state: ServerState
        connections: set[Any]
        tasks: set[asyncio.Future[Any]]
        transport: asyncio.Transport
        flow: FlowControl
        client: tuple[str, int] | None
        server: tuple[str, int | None] | None
        scheme: str
        cycle: Any
        parser: Any
        conn: Any
        pipeline: Any

        def _unset_keepalive_if_required(self) -> None: ...
        def timeout_keep_alive_handler(self) -> None: ...
        def shutdown(self) -> None: ...
        def on_message_begin(self) -> None: ...
        def on_message_complete(self) -> None: ...
        def _is_idle(self) -> bool: ...
else:
    Inner = asyncio.Protocol


class _Httptools(Inner):
    """httptools has no state to ask for. It says where messages begin and end."""

    _is_reading = False
    _has_left_http = False

    def on_message_begin(self) -> None:
        self._is_reading = True
        super().on_message_begin()

    def on_message_complete(self) -> None:
        self._is_reading = False
        if self.parser.should_upgrade():
            # What follows is another protocol's, or lost.
            self._has_left_http = True
        super().on_message_complete()

    def _is_idle(self) -> bool:
        cycle = self.cycle
        return not (self._is_reading or self._has_left_http or self.pipeline or (cycle and not cycle.response_complete))


class _H11(Inner):
    def _is_idle(self) -> bool:
        import h11

        conn = self.conn
        return conn.their_state is h11.IDLE and conn.our_state is h11.IDLE and not conn.trailing_data[0]


class _Other(Inner):
    def _is_idle(self) -> bool:
        return False


_KINDS: dict[str, type[Inner]] = {
    "uvicorn.protocols.http.httptools_impl:HttpToolsProtocol": _Httptools,
    "uvicorn.protocols.http.h11_impl:H11Protocol": _H11,
}


def inner_class() -> type[Inner]:
    """The class that ``VCACHE_UVICORN_HTTP`` names, or that uvicorn would take.

    Raises:
        ConfigurationError: there is no such class, or its parser is not installed.
    """
    return named(os.environ.get(VARIABLE, "") or "auto", VARIABLE)


@functools.cache
def named(name: str, said: str) -> type[Inner]:
    """The class of a name, which ``said`` was given.

    Raises:
        ConfigurationError: as for :func:`inner_class`.
    """
    path = HTTP_PROTOCOLS.get(name, name)
    hint = f"It is one of {', '.join(HTTP_PROTOCOLS)}, or a class as package.module:Class"
    try:
        found = import_from_string(path)
    except (ImportError, ImportFromStringError) as error:
        raise ConfigurationError(f"{said} is {name!r}, which cannot be imported: {error}. {hint}") from error
    if not (isinstance(found, type) and issubclass(found, asyncio.Protocol)) or hasattr(found, "_hot_routes"):
        raise ConfigurationError(f"{said} is {name!r}, which is no protocol class for what is not hot. {hint}")
    return cast(type[Inner], found)


def composed(outer: type[Inner], inner: type[Inner]) -> type[Inner]:
    """A class that is both: what ``outer`` does not do, ``inner`` does."""
    made = _composed.get((outer, inner))
    if made is None:
        names = (f"{each.__module__}:{each.__qualname__}" for each in inner.__mro__)
        kind = next((_KINDS[name] for name in names if name in _KINDS), _Other)
        name = f"{outer.__name__}On{inner.__name__}"
        made = _composed[outer, inner] = type(name, (outer, kind, inner), {"__module__": outer.__module__})
    return made


_composed: dict[tuple[type, type], type[Inner]] = {}
