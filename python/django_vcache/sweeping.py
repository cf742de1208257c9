"""Which keys on the server are a cache's own: what ``clear()`` by prefix deletes.

Keys of the prefix ``shop`` begin with ``shop:``, and so do those of an alias with the prefix ``shop:sessions``. So a
key is looked at as a whole: what ``make_key`` puts before the version, a version, what it puts between version and key,
and what it puts at the end.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

from django.core.cache.backends.base import BaseCache, get_key_func

from .exceptions import ConfigurationError
from .options import configured

__all__ = ["Layout", "layouts"]

_VERSION = 7340033861907
_KEY = "vcachekey"
"""Seen in no other part of a key, so that it shows where version and key go."""


class Layout(NamedTuple):
    """A key is ``head + version + middle + key + tail``."""

    head: bytes
    middle: bytes
    tail: bytes


def layouts(cache: BaseCache, alias: str) -> list[Layout]:
    """The layout of a cache's keys, and behind it those of aliases in CACHES that begin with more than this one's.

    Raises:
        ConfigurationError: the keys do not show which cache they belong to.
    """
    made = cache.make_key(_KEY, version=_VERSION)
    own = _layout(made, cache.key_prefix)
    if own is None:
        raise ConfigurationError(
            f"cache '{alias}': clear() by prefix does not know this cache's keys: KEY_FUNCTION or make_key() must put "
            "KEY_PREFIX, the version, and after it the key into the server's key as they are, but with the prefix "
            f"{cache.key_prefix!r} it made {made!r} of the key {_KEY!r} in version {_VERSION}. Set OPTIONS['CLEAR'] "
            "to 'flushdb', or change VERSION instead of clearing"
        )
    others = (_layout_of(config) for _, config in configured())
    return [own, *(other for other in others if other and _is_longer(other.head, own.head))]


def _is_longer(head: bytes, own: bytes) -> bool:
    return head != own and head.startswith(own)


def _layout_of(config: Mapping[str, Any]) -> Layout | None:
    """That of an alias, as far as its settings tell."""
    prefix = config.get("KEY_PREFIX", "")
    if not prefix:
        return None
    try:
        return _layout(get_key_func(config.get("KEY_FUNCTION"))(_KEY, prefix, _VERSION), prefix)
    except Exception:
        # Another alias's mistakes are its own.
        return None


def _layout(made: object, prefix: object) -> Layout | None:
    head, version, rest = str(made).partition(str(_VERSION))
    middle, key, tail = rest.partition(_KEY)
    if not version or not key or (str(prefix) not in head and str(prefix) not in middle):
        return None
    return Layout(*(part.encode(errors="surrogatepass") for part in (head, middle, tail)))
