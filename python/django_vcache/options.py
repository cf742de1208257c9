"""``CACHES[alias]`` becomes a client: every option is checked, and each mistake named, before anything is sent."""

import difflib
import functools
from collections.abc import Mapping
from typing import Any, NamedTuple

from django.conf import settings
from django.utils.module_loading import import_string

from . import _vcache
from .exceptions import ConfigurationError
from .reports import ignored, unreadable

SERIALIZERS = ("auto", "pickle", "msgpack", "json")
CLEAR = ("flushdb", "prefix")
COMPRESS_MIN_LEN = 1024
MAX_VALUE_LEN = 64 * 1024 * 1024

_TEXT = ("CLIENT_NAME", "USERNAME", "PASSWORD")
_SECONDS = ("CONNECT_TIMEOUT", "RESPONSE_TIMEOUT")
_KNOWN = (
    *_TEXT,
    *_SECONDS,
    "DB",
    "SERIALIZER",
    "COMPRESS_MIN_LEN",
    "MAX_VALUE_LEN",
    "CLEAR",
    "IGNORE_EXCEPTIONS",
    # Django's own, which it also allows here; the server does its own culling.
    "MAX_ENTRIES",
    "CULL_FREQUENCY",
)


class Settings(NamedTuple):
    """What a backend object needs beside Django's own parameters."""

    client: _vcache.Client
    clear_by_prefix: bool


def build(location: object, options: Mapping[str, Any]) -> Settings:
    """Checks one cache's settings and makes its client; the same settings again give the same client.

    Django makes a backend object per thread, and per request under ASGI, so this is quick when nothing is new.

    Raises:
        ConfigurationError: for any setting that is not understood.
    """
    secrets = (settings.SECRET_KEY, *settings.SECRET_KEY_FALLBACKS)
    try:
        return _cached(location, tuple(options.items()), secrets)
    except TypeError:
        # An option that cannot be hashed is one that is wrong: the message is in there.
        return _build(location, options, secrets)


@functools.lru_cache(maxsize=64)
def _cached(location: object, options: tuple[tuple[str, Any], ...], secrets: tuple[Any, ...]) -> Settings:
    return _build(location, dict(options), secrets)


def _build(location: object, options: Mapping[str, Any], secrets: tuple[Any, ...]) -> Settings:
    alias = _alias_of(location, options)

    def wrong(message: str) -> ConfigurationError:
        return ConfigurationError(f"cache '{alias}': {message}")

    for name in options:
        if name not in _KNOWN:
            near = difflib.get_close_matches(str(name).upper(), _KNOWN, n=3)
            hint = f" Did you mean {' or '.join(near)}?" if near else f" Known are {', '.join(_KNOWN)}."
            raise wrong(f"unknown option {name!r} in OPTIONS.{hint}")
    for name in _TEXT:
        if not isinstance(options.get(name, ""), str):
            raise wrong(f"OPTIONS[{name!r}] must be a string, not {type(options[name]).__name__}")
    for name in _SECONDS:
        value = options.get(name, 1)
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise wrong(f"OPTIONS[{name!r}] must be a number of seconds, not {value!r}")
    for name, lowest in (("DB", 0), ("COMPRESS_MIN_LEN", 1), ("MAX_VALUE_LEN", 1)):
        value = options.get(name)
        if value is None and name != "MAX_VALUE_LEN":
            continue
        value = options.get(name, MAX_VALUE_LEN)
        if isinstance(value, bool) or not isinstance(value, int) or value < lowest:
            raise wrong(f"OPTIONS[{name!r}] must be an integer of at least {lowest}, not {value!r}")
    for name in ("IGNORE_EXCEPTIONS",):
        if not isinstance(options.get(name, False), bool):
            raise wrong(f"OPTIONS[{name!r}] must be True or False, not {options[name]!r}")
    clear = options.get("CLEAR", "flushdb")
    if clear not in CLEAR:
        raise wrong(f"OPTIONS['CLEAR'] must be one of {', '.join(CLEAR)}, not {clear!r}")

    serializer, dumps, loads = _serializer(options.get("SERIALIZER", "auto"), wrong)
    compress_min_len = options.get("COMPRESS_MIN_LEN", COMPRESS_MIN_LEN)
    try:
        client = _vcache.Client(
            alias,
            _url(location, wrong),
            connect_timeout=options.get("CONNECT_TIMEOUT"),
            response_timeout=options.get("RESPONSE_TIMEOUT"),
            client_name=options.get("CLIENT_NAME"),
            username=options.get("USERNAME"),
            password=options.get("PASSWORD"),
            db=options.get("DB"),
            serializer=serializer,
            dumps=dumps,
            loads=loads,
            compress_min_len=compress_min_len,
            max_value_len=options.get("MAX_VALUE_LEN", MAX_VALUE_LEN),
            signing_keys=[key.encode() if isinstance(key, str) else bytes(key) for key in secrets],
            ignore_exceptions=options.get("IGNORE_EXCEPTIONS", False),
            on_miss=unreadable,
            on_error=ignored,
        )
    except ConfigurationError as error:
        raise wrong(str(error)) from None
    return Settings(client, clear == "prefix")


def _url(location: object, wrong: Any) -> str:
    """The one URL in LOCATION, with ``embedded://`` resolved to the socket of a running server."""
    if isinstance(location, list | tuple):
        if len(location) != 1:
            raise wrong(f"LOCATION holds {len(location)} servers: give one URL (replicas and clusters are not supported)")
        location = location[0]
    if not isinstance(location, str):
        raise wrong(f"LOCATION must be a URL, not {type(location).__name__}")
    if not location.strip():
        raise wrong("LOCATION is missing: give the server's URL, such as redis://localhost:6379/1")
    location = location.strip()
    if location.startswith("embedded:"):
        from .embedded import resolve

        try:
            return resolve(location)
        except (ValueError, ImportError, OSError, RuntimeError) as error:
            raise wrong(str(error)) from error
    return location


def _serializer(choice: object, wrong: Any) -> tuple[str, Any, Any]:
    if isinstance(choice, str) and choice in SERIALIZERS:
        return choice, None, None
    custom = choice
    if isinstance(choice, str):
        if "." not in choice:
            known = ", ".join(SERIALIZERS)
            raise wrong(f"OPTIONS['SERIALIZER'] must be one of {known} or a dotted path, not {choice!r}")
        try:
            custom = import_string(choice)
        except ImportError as error:
            raise wrong(f"OPTIONS['SERIALIZER']: {error}") from error
    if isinstance(custom, type):
        custom = custom()
    try:
        return "custom", custom.dumps, custom.loads  # type: ignore[attr-defined]
    except AttributeError as error:
        raise wrong(f"OPTIONS['SERIALIZER'] {choice!r} needs the functions dumps and loads: {error}") from error


def _alias_of(location: object, options: Mapping[str, Any]) -> str:
    """The alias in CACHES with these settings. Django does not tell a backend, and errors should."""
    for alias, config in settings.CACHES.items():
        if config.get("LOCATION", "") == location and config.get("OPTIONS", {}) == options:
            return str(alias)
    return "unnamed"
