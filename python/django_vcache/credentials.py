"""CREDENTIALS in OPTIONS: where user names and passwords come from that change."""

import urllib.parse
from collections.abc import Callable, Mapping
from typing import Any

from ._imported import imported
from .exceptions import ConfigurationError

__all__ = ["provider"]

Wrong = Callable[[str], ConfigurationError]


def provider(url: str, options: Mapping[str, Any], wrong: Wrong) -> object | None:
    """What is called for each connection; None without CREDENTIALS.

    Args:
        url: that of the server, of which "aws" takes the names.
        options: OPTIONS.
        wrong: makes the error for what is wrong.

    Returns:
        A callable without arguments, or an object with ``get_credentials`` as redis-py's.

    Raises:
        ConfigurationError: CREDENTIALS is none of these, or cannot be imported; or there is a password beside it.
    """
    given = options.get("CREDENTIALS")
    if given is None:
        return None
    parsed = urllib.parse.urlsplit(url)
    if options.get("PASSWORD") is not None or parsed.password is not None:
        raise wrong("there are CREDENTIALS and a password: drop one of them")
    if given == "aws":
        from .aws import token_for

        user = options.get("USERNAME") or urllib.parse.unquote(parsed.username or "")
        try:
            return token_for(parsed.hostname or "", user)
        except (ValueError, ImportError) as error:
            raise wrong(f"OPTIONS['CREDENTIALS'] is 'aws': {error}") from error
    given = imported(given, "OPTIONS['CREDENTIALS']", wrong)
    if callable(given) or callable(getattr(given, "get_credentials", None)):
        return given
    raise wrong(
        "OPTIONS['CREDENTIALS'] must be a function, its dotted path, an object with get_credentials, or \"aws\", not "
        f"{type(given).__name__}"
    )
