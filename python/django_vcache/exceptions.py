"""What can go wrong, as one small tree.

``VcacheError``
  ``ConnectionError``     the server could not be reached, or the connection was lost (also a builtin ConnectionError)
  ``TimeoutError``        no reply within the deadline (also a builtin TimeoutError)
  ``ResponseError``       the server answered with an error; ``code`` is its first word, such as ``"WRONGTYPE"``
  ``ConfigurationError``  a setting is wrong (also Django's ImproperlyConfigured)
  ``HotPathPanic``        a hot path written in Rust panicked (also a RuntimeError)
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


class ABIMismatch(VcacheError, ImportError):
    """An extension module with hot paths was built for another version of this package.

    The message names both versions and the command that mends it.
    """
