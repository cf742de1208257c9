"""What is known of a request before its body: the same for WSGI, ASGI and what comes before ASGI.

Hot routes look at little of it. Where Django has to see the request, to log it or to show an error, it gets a request
of Django's own.
"""

import io
from collections.abc import Iterable, Mapping
from typing import Any

from django.core.handlers.asgi import ASGIRequest
from django.http import HttpRequest

from django_vcache._vcache import header_in

__all__ = ["Head", "ScopeHead", "ViewHead"]

Headers = list[tuple[bytes, bytes]] | bytes


class Head:
    """A request without its body.

    Args:
        method: in upper case.
        path: decoded, from the slash behind the root path.
        query: the query string as it came, without the question mark.
        headers: names and values, or the lines as they came, each with its line break.
        peer: the other end of the socket, if it is known.
        scheme: ``"http"`` or ``"https"``, as the server tells it.
    """

    __slots__ = ("headers", "method", "path", "peer", "query", "scheme")

    def __init__(self, method: str, path: str, query: bytes, headers: Headers, peer: str | None, scheme: str) -> None:
        self.method = method
        self.path = path
        self.query = query
        self.headers = headers
        self.peer = peer
        self.scheme = scheme

    @property
    def full_path(self) -> str:
        """The path with the root path before it, for people to read."""
        return self.path

    def get(self, name: bytes) -> bytes | None:
        """A header by its name in lower case, several of them joined by commas as Django does; or None."""
        if isinstance(self.headers, bytes):
            return header_in(self.headers, name)
        return _joined(value for each, value in self.headers if each == name or each.lower() == name)

    def has(self, name: str) -> bool:
        """Whether there is a header, by its name in ``request.META``."""
        return self.get(name.removeprefix("HTTP_").replace("_", "-").lower().encode()) is not None

    def pairs(self) -> list[tuple[bytes, bytes]]:
        """The headers as names and values."""
        if isinstance(self.headers, bytes):
            lines = (line.split(b":", 1) for line in self.headers.split(b"\r\n") if line)
            return [(name, value.strip(b" \t")) for name, value in lines]
        return self.headers

    def request(self, body: bytes) -> HttpRequest:
        """Django's request of this one."""
        return ASGIRequest(self.scope(), io.BytesIO(body))

    def scope(self) -> Mapping[str, Any]:
        """As ASGI has it."""
        return {
            "type": "http",
            "http_version": "1.1",
            "method": self.method,
            "path": self.path,
            "query_string": self.query,
            "headers": [(name.lower(), value) for name, value in self.pairs()],
            "scheme": self.scheme,
            "client": (self.peer, 0) if self.peer else None,
        }


class ScopeHead(Head):
    """The head of an ASGI request."""

    __slots__ = ("_scope",)

    def __init__(self, scope: Mapping[str, Any], path: str) -> None:
        client = scope.get("client")
        super().__init__(
            scope["method"],
            path,
            scope.get("query_string", b""),
            scope["headers"],
            client[0] if client else None,
            scope.get("scheme", "http"),
        )
        self._scope = scope

    def get(self, name: bytes) -> bytes | None:
        # By the specification names are in lower case.
        return _joined([value for each, value in self._scope["headers"] if each == name])

    @property
    def full_path(self) -> str:
        return str(self._scope["path"])

    def pairs(self) -> list[tuple[bytes, bytes]]:
        # Any iterable may be there.
        return list(self._scope["headers"])

    def scope(self) -> Mapping[str, Any]:
        return self._scope


class ViewHead(Head):
    """The head of a request that Django has seen already."""

    __slots__ = ("_request",)

    def __init__(self, request: HttpRequest) -> None:
        headers = [
            (name.lower().encode("latin-1", "replace"), value.encode("latin-1", "replace"))
            for name, value in request.headers.items()
        ]
        super().__init__(
            str(request.method),
            request.path_info,
            request.META.get("QUERY_STRING", "").encode("latin-1", "replace"),
            headers,
            request.META.get("REMOTE_ADDR") or None,
            # What a proxy says of it is looked at later, as everywhere.
            str(request._get_scheme()),  # type: ignore[attr-defined]
        )
        self._request = request

    @property
    def full_path(self) -> str:
        return self._request.path

    def request(self, body: bytes) -> HttpRequest:
        return self._request


def _joined(values: Iterable[bytes]) -> bytes | None:
    found = list(values)
    return b",".join(found) if found else None
