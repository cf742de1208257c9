"""What the connections of one server have in common."""

import http
import weakref
from typing import Any

from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware

from django_vcache._vcache import HotReader

from ._site import finder, script_name

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
        self.find = finder()
        self.root_path: str = config.root_path
        self.script_name = script_name(config.root_path)
        self.most_head = min(config.h11_max_incomplete_event_size or _H11_LIMIT, _MOST_HEAD)
        self.resets_context: bool = getattr(config, "reset_contextvars", False)
        self._trusted = (
            # Its parser of the setting, and its rules.
            ProxyHeadersMiddleware(config.loaded_app, trusted_hosts=config.forwarded_allow_ips).trusted_hosts
            if config.proxy_headers
            else None
        )
        self._made_of: Any = None
        self._default_headers = b""

    def reader(self, client: tuple[str, int] | None, scheme: str) -> HotReader:
        """A reader for a connection."""
        peer = client[0] if client else None
        return HotReader(self.find, self.root_path, self.script_name, self.most_head, peer, scheme)

    def default_headers(self, headers: list[tuple[bytes, bytes]]) -> bytes:
        """The lines of the headers that uvicorn adds to each response. It makes a new list once a second."""
        if headers is not self._made_of:
            self._made_of = headers
            self._default_headers = b"".join(b"%b: %b\r\n" % header for header in headers)
        return self._default_headers

    def trusts(self, client: tuple[str, int] | None) -> bool:
        """Whether a connection's other end is a proxy that may say who the client is."""
        return self._trusted is not None and (client[0] if client else None) in self._trusted

    def forwarded(
        self, lines: bytes, client: tuple[str, int] | None, scheme: str
    ) -> tuple[tuple[str, int] | None, str]:
        """The client and the scheme that a trusted proxy has written into header lines, as uvicorn reads them."""
        assert self._trusted is not None
        hops = []
        said = None
        for line in lines.split(b"\r\n"):
            name, _, value = line.partition(b":")
            name = name.lower()
            if name == b"x-forwarded-for":
                hops.append(value.strip(b" \t"))
            elif name == b"x-forwarded-proto":
                # The last one counts, whether or not it is a scheme.
                said = value.decode("latin1").strip()
        if said in ("http", "https", "ws", "wss"):
            scheme = said
        if hops:
            host, port = self._trusted.get_trusted_client_address(b", ".join(hops).decode("latin1"))
            if host:
                client = (host, port)
        return client, scheme


_servers: weakref.WeakKeyDictionary[Any, Server] = weakref.WeakKeyDictionary()


def server_of(config: Any, state: Any) -> Server:
    """The one of a server's state. It is made with the first connection, when the application has been loaded."""
    server = _servers.get(state)
    if server is None:
        server = _servers[state] = Server(config, state)
    return server
