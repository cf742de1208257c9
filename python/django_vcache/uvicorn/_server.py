"""What the connections of one server have in common."""

import contextlib
import http
import weakref
from typing import Any

from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware

from django_vcache._vcache import HotReader, HotRequest

from ._site import script_name, table

__all__ = ["STATUS_LINES", "Server", "server_of"]

_H11_LIMIT = 16 * 1024
"""h11's own limit of a head, in bytes, which uvicorn does not change by default."""

_MOST_HEAD = 64 * 1024


def _status_line(status: int) -> bytes:
    try:
        phrase = http.HTTPStatus(status).phrase
    except ValueError:
        phrase = ""
    return f"HTTP/1.1 {status} {phrase}\r\n".encode()


STATUS_LINES = {status: _status_line(status) for status in range(200, 600)}


class Server:
    """The hot routes and the configuration of a server.

    Args:
        config: uvicorn's ``Config``, loaded.
        state: its ``ServerState``.
    """

    def __init__(self, config: Any, state: Any) -> None:
        self.table = table(config.loaded_app)
        self.root_path: str = config.root_path
        self.script_name = script_name(config.root_path)
        self.most_head = min(config.h11_max_incomplete_event_size or _H11_LIMIT, _MOST_HEAD)
        self.resets_context: bool = getattr(config, "reset_contextvars", False)
        # The application is not asked: uvicorn's rules are.
        self._proxies = ProxyHeadersMiddleware(_nothing, config.forwarded_allow_ips) if config.proxy_headers else None
        self._made_of: Any = None
        self._default_headers = b""

    def reader(self, client: tuple[str, int] | None, server: tuple[str, int | None] | None, scheme: str) -> HotReader:
        """A reader for a connection."""
        return HotReader(self.table, self.root_path, self.script_name, self.most_head, (client, server), scheme)

    def default_headers(self, headers: list[tuple[bytes, bytes]]) -> bytes:
        """The lines of the headers that uvicorn adds to each response. It makes a new list once a second."""
        if headers is not self._made_of:
            self._made_of = headers
            self._default_headers = b"".join(b"%b: %b\r\n" % header for header in headers)
        return self._default_headers

    def read_proxy_headers(self, request: HotRequest) -> None:
        """Gives a request the client and the scheme that its headers name, if uvicorn trusts the proxy."""
        if self._proxies is None:
            return
        headers = []
        for line in request.headers.split(b"\r\n"):
            name, _, value = line.partition(b":")
            headers.append((name.lower(), value.strip(b" \t")))
        scope: Any = {"type": "http", "client": request.client, "scheme": request.scheme, "headers": headers}
        # uvicorn's own rules, which change between its releases. There is nothing that it could wait for.
        with contextlib.suppress(StopIteration):
            self._proxies(scope, _nothing, _nothing).__await__().__next__()
        request.client, request.scheme = scope["client"], scope["scheme"]
        request.peer = request.client[0] if request.client else None


async def _nothing(*_: Any) -> Any:
    pass


_servers: weakref.WeakKeyDictionary[Any, Server] = weakref.WeakKeyDictionary()


def server_of(config: Any, state: Any) -> Server:
    """The one of a server's state. It is made with the first connection, when the application has been loaded."""
    server = _servers.get(state)
    if server is None:
        server = _servers[state] = Server(config, state)
    return server
