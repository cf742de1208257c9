"""What a hot route answers: a status, headers and bytes, made from whatever its target returned."""

import contextlib
import inspect
import re
from collections.abc import Iterable, Mapping
from http.cookies import CookieError, Morsel, SimpleCookie
from typing import Any, NoReturn

from django.http import HttpResponse, HttpResponseBase

__all__ = ["Response", "response_of"]

Pairs = list[tuple[bytes, bytes]]


class Response:
    """An answer.

    Attributes:
        status: such as 200.
        headers: names and values, bytes.
        body: bytes.

    >>> Response(201, [(b"Content-Type", b"text/plain")], b"made")
    <Response: 201, 4 bytes>
    """

    __slots__ = ("body", "headers", "is_logged", "status")

    def __init__(
        self, status: int, headers: Mapping[bytes, bytes] | Iterable[tuple[bytes, bytes]] = (), body: bytes = b""
    ) -> None:
        self.status = status
        self.headers: Pairs = list(headers.items() if isinstance(headers, Mapping) else headers)
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
        pair = (name.encode("ascii"), str(value).encode("latin-1"))
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
                cookie = _Cookie(text)
                # Several may have one name, for several paths.
                place = cookie.key or text
                while place in response.cookies:
                    place += " "
                dict.__setitem__(response.cookies, place, cookie)
            else:
                response.headers[key] = f"{response.headers[key]}, {text}" if key in response.headers else text
        response._has_been_logged = self.is_logged  # type: ignore[attr-defined]
        return response


class _Cookie(Morsel[str]):
    """A Set-Cookie header for Django's response, which writes it as it is. What can be read of it can be asked for, as
    the test client does."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.text = text
        name = text.partition("=")[0].strip()
        with contextlib.suppress(CookieError):
            read = SimpleCookie(text).get(name)
            if read is not None:
                self.set(name, read.value, read.coded_value)
                self.update(read)

    def OutputString(self, attrs: Any = None) -> str:
        return self.text

    def output(self, attrs: Any = None, header: str = "Set-Cookie:") -> str:
        return f"{header} {self.text}"


def response_of(result: Any, source: str = "a hot route") -> Response:
    """An answer from what a target returned: a new one, which may be changed.

    Args:
        result: what was returned.
        source: what returned it, for messages.

    Raises:
        TypeError: it is nothing that a hot route can send.
        ValueError: it would break HTTP.
    """
    match result:
        case (int() as status, list() as headers, bytes() as body):
            return Response(status, headers, body)
        case Response():
            return _copied(result, source)
        case bytes():
            return Response(200, [(b"Content-Type", b"application/octet-stream")], result)
        case HttpResponseBase():
            return _of_django(result, source)
        case _:
            _refuse(result, source)


_NAME = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_VALUE = re.compile(rb"[^\0-\x08\n-\x1f\x7f]*")


def _copied(response: Response, source: str) -> Response:
    """The same, once it is known that every server can send it."""
    status, body = response.status, response.body
    if not isinstance(status, int) or not 200 <= status <= 599:
        raise ValueError(f"{source} returned a Response whose status is no number from 200 to 599, but {status!r}")
    if not isinstance(body, bytes):
        if not isinstance(body, bytearray | memoryview):
            raise TypeError(f"{source} returned a Response whose body is not bytes, but {type(body).__name__}")
        body = bytes(body)
    if status in (204, 304):
        body = b""
    for name, value in response.headers:
        if not (isinstance(name, bytes) and isinstance(value, bytes)):
            raise TypeError(
                f"{source} returned a Response with the header ({name!r}, {value!r}): write it as (b'X-A', b'1')"
            )
        key = name.lower()
        # Django sends cookies in ASCII alone.
        if not _NAME.fullmatch(name) or not _VALUE.fullmatch(value) or (key == b"set-cookie" and not value.isascii()):
            raise ValueError(f"{source} returned a Response with a header that cannot be sent: {name!r}: {value!r}")
        if key == b"transfer-encoding":
            raise ValueError(f"{source} returned a Response with Transfer-Encoding: it is sent in one piece")
        if key == b"content-length" and status not in (204, 304) and value != b"%d" % len(body):
            raise ValueError(
                f"{source} returned a Response with Content-Length: {value.decode('latin-1')} and a body of "
                f"{len(body)} bytes. Leave the header out"
            )
    made = Response(status, response.headers, body)
    made.is_logged = response.is_logged
    return made


def _of_django(response: Any, source: str) -> Response:
    if response.streaming:
        # As the end of a response does, but for the signal: the file of a FileResponse.
        for close in response._resource_closers:
            close()
        raise TypeError(
            f"a hot route cannot stream: {source} returned a {type(response).__name__}. Place this view with path() "
            "instead"
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


def _refuse(result: Any, source: str) -> NoReturn:
    if inspect.isawaitable(result):
        hint = ". Is an `await` missing, or is a decorator around it that is not async?"
    elif isinstance(result, dict | list):
        hint = ". JsonResponse makes one of it"
    else:
        hint = ""
    if inspect.iscoroutine(result):
        result.close()
    raise TypeError(
        "the target of a hot route returns an HttpResponse, a JsonResponse, a Response or bytes, and "
        f"{source} returned {'None' if result is None else type(result).__name__}{hint}"
    )
