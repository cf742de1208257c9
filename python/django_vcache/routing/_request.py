"""What a hot route's Python function gets: the request, without what it does not ask for."""

import json
from collections.abc import Mapping
from functools import cached_property
from typing import Any, NoReturn

from django.http import HttpRequest, QueryDict
from django.utils.datastructures import CaseInsensitiveMapping

from django_vcache._vcache import decoded
from django_vcache.admission.views.address import client_of
from django_vcache.exceptions import RequestError

from ._head import Head

__all__ = ["Request"]


_VIEW = "that is middleware's, which a hot route skips. Place this view with path() instead"
_DJANGOS = "that is for Django's own request, which as_django() makes"
_INSTEAD = {
    "GET": "its parameters are those of request.query",
    "POST": "a form is in request.as_django().POST",
    "FILES": "files are in request.as_django().FILES",
    "META": "it has headers, client, query_string and scheme",
    "COOKIES": "the header is request.headers['Cookie'], and request.as_django().COOKIES has them apart",
    "build_absolute_uri": _DJANGOS,
    "get_host": _DJANGOS,
    "is_secure": "it has scheme",
    "path_info": "it has path",
    "user": _VIEW,
    "auser": _VIEW,
    "session": _VIEW,
    "resolver_match": "it has parameters",
}
"""What a hot route has in place of what Django's request has."""


class Request:
    """A request to a hot route.

    Attributes:
        head: what came before the body.
        method: such as ``"POST"``.
        path: decoded, from the slash behind the root path.
        parameters: those of the URL, by name.
        query_string: as it came, bytes.
        scheme: ``"http"`` or ``"https"``; behind a proxy, by ``SECURE_PROXY_SSL_HEADER``.

    >>> async def search(request, shop):
    ...     return JsonResponse({"shop": shop, "words": request.query.getlist("word")})
    """

    def __init__(
        self, head: Head, body: bytes, scheme: str, proxies: int, most: int, parameters: dict[str, Any]
    ) -> None:
        self.head = head
        self._raw = body
        self._proxies = proxies
        self._most = most
        self.parameters = parameters
        self.method = head.method
        self.path = head.path
        self.query_string = head.query
        self.scheme = scheme

    def __repr__(self) -> str:
        return f"<Request: {self.method} {self.path!r}>"

    def __getattr__(self, name: str) -> NoReturn:
        hint = _INSTEAD.get(name)
        raise AttributeError(
            f"a hot route's Request has no attribute {name!r}" + (f": {hint}" if hint else ""), name=name, obj=self
        )

    @property
    def __vcache_request__(self) -> tuple[Any, ...]:
        """As hot paths in Rust take it."""
        head = self.head
        return (
            head.method,
            head.path,
            head.query,
            head.headers,
            self._raw,
            head.peer,
            self.scheme,
            self._proxies,
            self._most,
        )

    @cached_property
    def query(self) -> QueryDict:
        """The parameters of the query string, as ``request.GET`` of Django's."""
        return QueryDict(self.query_string)

    @cached_property
    def headers(self) -> Mapping[str, str]:
        """The headers; their names in any case. Several of a name are joined with commas."""
        found: dict[str, str] = {}
        for name, value in self.head.pairs():
            text, key = value.decode("latin-1"), name.decode("latin-1").title()
            # As Django: such a name could pretend to be that with hyphens.
            if "_" not in key:
                glue = "; " if key == "Cookie" else ","
                found[key] = f"{found[key]}{glue}{text}" if key in found else text
        return CaseInsensitiveMapping(found)

    @cached_property
    def body(self) -> bytes:
        """The body, with its Content-Encoding undone.

        Raises:
            RequestError: it is damaged (400), decoded larger than the route's limit (413), or has an encoding that is
                not known (415). Not caught, it becomes the answer.
        """
        return decoded(self.head.get(b"content-encoding"), self._raw, self._most)

    @property
    def raw_body(self) -> bytes:
        """The body as it came."""
        return self._raw

    def json(self) -> Any:
        """The body, read as JSON in UTF-8.

        Raises:
            RequestError: it is not JSON (400), or :attr:`body` raised it.
        """
        try:
            return json.loads(self.body)
        except (ValueError, RecursionError) as error:
            reason = "it is nested too deeply" if isinstance(error, RecursionError) else str(error)
            raise RequestError(f"the body is not JSON: {reason}", status=400) from None

    @property
    def client(self) -> str | None:
        """The client's address by ``VCACHE["TRUSTED_PROXIES"]``, an IPv6 client's as its /64 network, or None."""
        return client_of(self.head.peer, self.headers.get("X-Forwarded-For"), self._proxies)

    def as_django(self) -> HttpRequest:
        """Django's own request: for what needs one, such as ``client_ip()`` or a library. It costs some 30 us."""
        return self.head.request(self._raw)
