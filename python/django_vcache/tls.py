"""The settings of TLS. They have redis-py's names, in either case, and stand in OPTIONS, or in CONNECTION_POOL_KWARGS
as django-redis has it."""

import enum
import os
from collections.abc import Callable, Mapping
from typing import Any

from .exceptions import ConfigurationError
from .foreign import advice_on
from .reports import logger

__all__ = ["flattened", "is_setting", "texts", "warn_of_no_verification"]

Wrong = Callable[[str], ConfigurationError]

_POOL = ("CONNECTION_POOL_KWARGS", "CONNECTION_POOL_CLASS_KWARGS")


def is_setting(name: object) -> bool:
    """Whether a name in OPTIONS is one of TLS: that there is such a setting, Rust tells."""
    return isinstance(name, str) and name.lower().startswith("ssl_")


def flattened(options: Mapping[str, Any], wrong: Wrong) -> Mapping[str, Any]:
    """OPTIONS with what the arguments of a pool say of TLS and of credentials.

    Args:
        options: OPTIONS of a cache.
        wrong: makes the error for a setting that is wrong.

    Raises:
        ConfigurationError: something else stands there.
    """
    # Most have none, and this runs for each backend object.
    pools = [name for name in _POOL if name in options]
    if not pools:
        return options
    found = {name: value for name, value in options.items() if name not in pools}
    for pool in pools:
        given = options[pool] or {}
        if not isinstance(given, Mapping):
            raise wrong(f"OPTIONS[{pool!r}] must be a dict, not {type(given).__name__}")
        for name, value in given.items():
            if name == "credential_provider":
                found["CREDENTIALS"] = value
                continue
            if not is_setting(name):
                advice = (
                    advice_on(str(name))
                    or "There is no pool: only credential_provider and the settings of TLS (ssl_*) are read here."
                )
                raise wrong(f"OPTIONS[{pool!r}] has {name!r}. {advice}")
            found[name] = value
    return found


def texts(options: Mapping[str, Any], wrong: Wrong) -> list[tuple[str, str]]:
    """The settings of TLS in OPTIONS, by their names in redis-py, as texts.

    Args:
        options: OPTIONS, flattened.
        wrong: makes the error for a setting that is wrong.

    Raises:
        ConfigurationError: one has a type that none has, or stands there in both cases.
    """
    found: dict[str, str] = {}
    for name, value in options.items():
        if not is_setting(name):
            continue
        known = name.lower()
        if known in found:
            raise wrong(f"OPTIONS has {name!r} twice, in upper and in lower case: drop one of them")
        text = _text(value)
        if text is None and known == "ssl_cert_reqs":
            # As in redis-py.
            text = "none"
        if text is not None:
            found[known] = text
        elif value is not None:
            raise wrong(f"OPTIONS[{name!r}] must be text, a path, True or False, not {type(value).__name__}")
    return list(found.items())


def _text(value: object) -> str | None:
    if isinstance(value, enum.Enum):
        # Such as ssl.CERT_NONE.
        return value.name
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str | os.PathLike):
        path = os.fspath(value)
        return path if isinstance(path, str) else None
    return None


def warn_of_no_verification(alias: str) -> None:
    """A line in the log: the certificates of an alias' server are not looked at."""
    logger.warning(
        "cache '%s': any certificate is taken (ssl_cert_reqs=none). The connection is encrypted, but a machine between "
        "this one and the server can read and change what it carries. Give the CA's certificate as ssl_ca_certs "
        "instead",
        alias,
    )
