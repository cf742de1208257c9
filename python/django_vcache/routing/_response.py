"""What a hot route answers: a status, headers and bytes, made from whatever its target returned."""

from collections.abc import Iterable
from typing import Any, NoReturn

from django.http import HttpResponse, HttpResponseBase

__all__ = ["Response", "response_of"]

Pairs = list[tuple[bytes, bytes]]


class Response:
    """An answer.

    Attributes:
        status: such as 200.
        headers: names and values.
        body: bytes.
    """

    __slots__ = ("body", "headers", "is_logged", "status")

    def __init__(self, status: int, headers: Iterable[tuple[bytes, bytes]] = (), body: bytes = b"") -> None:
        self.status = status
        self.headers: Pairs = list(headers)
        self.body = body
        self.is_logged = False
        """An error that was written to the log already."""

    def __repr__(self) -> str:
        return f"<Response: {self.status}, {len(self.body)} bytes>"

    def get(self, name: str) -> str | None:
        """The first header of a name, in any case; None if there is no such header.

        >>> Response(204, [(b"Allow", b"GET")]).get("allow")
        'GET'
        """
        key = name.lower().encode()
        return next((value.decode("latin-1") for each, value in self.headers if each.lower() == key), None)

    def set(self, name: str, value: str) -> None:
        """Sets a header, in the place of those of its name.

        Raises:
            ValueError: the name or the value has a line break or a character that HTTP does not carry.
        """
        pair = (name.encode("ascii"), value.encode("latin-1"))
        if any(bad in each for each in pair for bad in (b"\r", b"\n", b"\0")):
            raise ValueError(f"a header cannot hold a line break: {name!r}")
        key = pair[0].lower()
        self.headers = [each for each in self.headers if each[0].lower() != key]
        self.headers.append(pair)

    def as_django(self) -> HttpResponse:
        """Django's own response."""
        response = HttpResponse(self.body, status=self.status)
        del response["Content-Type"]
        for name, value in self.headers:
            key, text = name.decode("latin-1"), value.decode("latin-1")
            if key.lower() == "set-cookie":
                response.cookies.load(text)
            else:
                response.headers[key] = f"{response.headers[key]}, {text}" if key in response.headers else text
        response._has_been_logged = self.is_logged  # type: ignore[attr-defined]
        return response


def response_of(result: Any) -> Response:
    """An answer from what a target returned.

    Raises:
        TypeError: it is nothing that a hot route can send.
    """
    if isinstance(result, Response):
        return result
    match result:
        case (int() as status, list() as headers, bytes() as body):
            return Response(status, headers, body)
        case bytes():
            return Response(200, [(b"Content-Type", b"application/octet-stream")], result)
        case HttpResponseBase():
            return _of_django(result)
        case _:
            _refuse(result)


def _of_django(response: Any) -> Response:
    if response.streaming:
        raise TypeError(
            f"a hot route cannot stream: it returned a {type(response).__name__}. Place this view with path() instead"
        )
    if not getattr(response, "is_rendered", True):
        response = response.render()
    headers = [
        (name.encode("ascii"), value.encode("latin-1") if isinstance(value, str) else bytes(value))
        for name, value in response.items()
    ]
    headers += [(b"Set-Cookie", cookie.OutputString().encode("ascii")) for cookie in response.cookies.values()]
    made = Response(response.status_code, headers, response.content)
    # As Django marks it.
    made.is_logged = getattr(response, "_has_been_logged", False)
    return made


def _refuse(result: Any) -> NoReturn:
    raise TypeError(
        "the target of a hot route returns an HttpResponse, a JsonResponse, a Response or bytes, not "
        f"{type(result).__name__}"
    )
