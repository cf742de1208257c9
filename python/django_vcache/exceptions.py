"""What can go wrong, as one small tree.

``VcacheError``
  ``ConnectionError``     the server could not be reached, or the connection was lost (also a builtin ConnectionError)
  ``TimeoutError``        no reply within the deadline (also a builtin TimeoutError)
  ``ResponseError``       the server answered with an error; ``code`` is its first word, such as ``"WRONGTYPE"``
  ``ConfigurationError``  a setting is wrong (also Django's ImproperlyConfigured)
  ``HotPathPanic``        a hot path written in Rust panicked (also a RuntimeError)
  ``RequestError``        a request is refused; ``status`` is what a hot route answers it with, such as 400
  ``ABIMismatch``         an extension module does not fit this package (also an ImportError)

A message names the cache alias, the server and what to do; it never holds a password.
"""

import builtins

from django.core.exceptions import ImproperlyConfigured

__all__ = [
    "ABIMismatch",
    "ConfigurationError",
    "ConnectionError",
    "HotPathPanic",
    "RequestError",
    "ResponseError",
    "TimeoutError",
    "VcacheError",
]


class VcacheError(Exception):
    """The base of everything below."""


class ConnectionError(VcacheError, builtins.ConnectionError):
    """The server could not be reached, or the connection was lost.

    A command that may have reached the server was sent again only if that is harmless; any other may or may not have
    been executed.
    """


class TimeoutError(VcacheError, builtins.TimeoutError):
    """No reply within the deadline. The server may still execute the command."""


class ResponseError(VcacheError):
    """The server answered with an error.

    Attributes:
        code: the first word of the error, such as ``"WRONGTYPE"`` or ``"OOM"``.
    """

    code: str = ""


class ConfigurationError(VcacheError, ImproperlyConfigured):
    """A URL, an option or an alias is wrong. Nothing was sent."""


class HotPathPanic(VcacheError, RuntimeError):
    """A hot path written in Rust panicked. The process, the loop and the connection live on."""


class RequestError(VcacheError):
    """A request is refused: by what reads its body, or by a hot path of its own accord.

    A hot route answers with the status, and with the message as a line of plain text. So the message is for the client,
    and holds nothing of the server's.

    Args:
        args: the message.
        status: the status of the answer, from 400 to 599.

    Attributes:
        status: 400 for a body that does not decode or parse, 413 for one that is too large when decoded, 415 for a
            Content-Encoding or a Content-Type that is not known, or what a hot path has chosen.

    >>> RequestError("this key is not the project's", status=403).status
    403
    """

    status: int

    def __init__(self, *args: object, status: int = 400) -> None:
        super().__init__(*args)
        if not isinstance(status, int) or not 400 <= status <= 599:
            raise ValueError(f"the status of a RequestError is from 400 to 599, not {status!r}")
        self.status = status


class ABIMismatch(VcacheError, ImportError):
    """An extension module with hot paths was built for another version of this package.

    The message names both versions and the command that mends it.
    """
