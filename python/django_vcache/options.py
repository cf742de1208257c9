"""``CACHES[alias]`` becomes a client: every option is checked, and each mistake named, before anything is sent."""

import contextlib
import datetime
import functools
import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

from django.conf import settings
from django.utils.module_loading import import_string

from . import _vcache, credentials, sentinel, tls
from ._imported import imported
from ._names import hint_for
from .exceptions import ConfigurationError
from .foreign import advice_on, advice_on_serializer
from .location import embedded_url, project, url_of
from .reports import ignored, unreadable, unscripted, untracked

SERIALIZERS = ("auto", "pickle", "msgpack", "json")
CLEAR = ("flushdb", "prefix")
COMPRESS_MIN_LEN = 1024
MAX_VALUE_LEN = 64 * 1024 * 1024
_TIMEOUT = 300
"""Django's, in seconds."""

_TEXT = ("CLIENT_NAME", "USERNAME", "PASSWORD", "READ_FROM", "AVAILABILITY_ZONE")
_SECONDS = ("CONNECT_TIMEOUT", "RESPONSE_TIMEOUT")
_INTEGERS = {"DB": 0, "COMPRESS_MIN_LEN": 1, "MAX_VALUE_LEN": 1}
"""The least that each may be."""
_MAY_BE_NONE = ("DB", "COMPRESS_MIN_LEN", "CREDENTIALS", "CLUSTER", "ADDRESS_MAP", *_TEXT, *_SECONDS)
_KNOWN = (
    *_TEXT,
    *_SECONDS,
    *_INTEGERS,
    "SERIALIZER",
    "CLEAR",
    "IGNORE_EXCEPTIONS",
    "CREDENTIALS",
    "ALLOW_PLAINTEXT_CREDENTIALS",
    "CLUSTER",
    "ADDRESS_MAP",
    # Django's own, which it also allows here; the server does its own culling.
    "MAX_ENTRIES",
    "CULL_FREQUENCY",
)
_BESIDE = (
    *("BACKEND", "LOCATION", "TIMEOUT", "OPTIONS", "KEY_PREFIX", "VERSION", "KEY_FUNCTION"),
    # Django reads these as well.
    *("timeout", "max_entries", "cull_frequency"),
)

Wrong = Callable[[str], ConfigurationError]
"""Makes the error for a setting of the cache at hand."""


class Settings(NamedTuple):
    """What a backend object needs beside Django's own parameters."""

    alias: str
    client: _vcache.Client
    clear_by_prefix: bool


def build(location: object, params: Mapping[str, Any], backend: type) -> Settings:
    """Checks one cache's settings and makes its client; the same settings again give the same client.

    Django makes a backend object per thread, and per request under ASGI, so this is quick when nothing is new.

    Args:
        location: LOCATION of the cache.
        params: the rest of its entry in CACHES, without BACKEND.
        backend: the class of the backend object, which BACKEND names.

    Raises:
        ConfigurationError: for any setting that is not understood.
    """
    alias = _alias_of(location, params, backend)
    options = tls.flattened(params.get("OPTIONS") or {}, functools.partial(_wrong, alias))
    for name in params:
        _check_place(name, functools.partial(_wrong, alias))
    # Not part of what is remembered: an embedded server may have ended, and is then started again.
    url = url_of(location, options, functools.partial(_wrong, alias))
    options = sentinel.without(options)
    # Limits and streams that count on this alias have it too; the cache's own keys get it from the backend object.
    key_prefix = str(params.get("KEY_PREFIX") or "")
    if not _is_utf8(key_prefix):
        raise _wrong(alias, f"KEY_PREFIX must be text that UTF-8 can hold, and {key_prefix!r} has a lone surrogate")
    secrets = (settings.SECRET_KEY, *settings.SECRET_KEY_FALLBACKS)
    try:
        return _cached(alias, url, key_prefix, tuple(options.items()), secrets)
    except TypeError:
        # An option that cannot be hashed is a wrong one, or a serializer object.
        return _build(alias, url, key_prefix, options, secrets)


def _is_utf8(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def default_timeout(alias: str, params: Mapping[str, Any]) -> float | None:
    """TIMEOUT of a cache in seconds; None is for ever.

    Raises:
        ConfigurationError: it is neither a number of seconds nor a timedelta nor None.
    """
    timeout = params.get("timeout", params.get("TIMEOUT", _TIMEOUT))
    if timeout is None:
        return None
    if isinstance(timeout, datetime.timedelta):
        return timeout.total_seconds()
    try:
        # A str is what os.environ gives. A bool would be read as a second, or none.
        seconds = math.nan if isinstance(timeout, bool) else float(timeout)
    except (TypeError, ValueError):
        seconds = math.nan
    except OverflowError:
        seconds = math.inf
    if math.isnan(seconds):
        raise _wrong(alias, f"TIMEOUT must be a number of seconds, a timedelta, or None for never, not {timeout!r}")
    return int(seconds) if seconds.is_integer() else seconds


@functools.lru_cache(maxsize=64)
def _cached(
    alias: str, url: str, key_prefix: str, options: tuple[tuple[str, Any], ...], secrets: tuple[Any, ...]
) -> Settings:
    return _build(alias, url, key_prefix, dict(options), secrets)


def _wrong(alias: str, message: str) -> ConfigurationError:
    return ConfigurationError(f"cache '{alias}': {message}")


def _build(alias: str, url: str, key_prefix: str, options: Mapping[str, Any], secrets: tuple[Any, ...]) -> Settings:
    wrong = functools.partial(_wrong, alias)
    for name, value in options.items():
        _check(name, value, wrong)
    serializer, dumps, loads = _serializer(options.get("SERIALIZER", "auto"), wrong)
    try:
        client = _vcache.Client(
            alias,
            url,
            key_prefix=key_prefix,
            connect_timeout=options.get("CONNECT_TIMEOUT"),
            response_timeout=options.get("RESPONSE_TIMEOUT"),
            client_name=options.get("CLIENT_NAME"),
            username=options.get("USERNAME"),
            password=options.get("PASSWORD"),
            db=options.get("DB"),
            ssl=tls.texts(options, wrong),
            cluster=options.get("CLUSTER"),
            address_map=_addresses(options.get("ADDRESS_MAP"), wrong),
            read_from=options.get("READ_FROM"),
            availability_zone=options.get("AVAILABILITY_ZONE"),
            credentials=credentials.provider(url, options, wrong),
            allow_plaintext_credentials=options.get("ALLOW_PLAINTEXT_CREDENTIALS", False),
            serializer=serializer,
            dumps=dumps,
            loads=loads,
            compress_min_len=options.get("COMPRESS_MIN_LEN", COMPRESS_MIN_LEN),
            max_value_len=options.get("MAX_VALUE_LEN", MAX_VALUE_LEN),
            signing_keys=[key.encode() if isinstance(key, str) else bytes(key) for key in secrets],
            ignore_exceptions=options.get("IGNORE_EXCEPTIONS", False),
            on_miss=unreadable,
            on_error=ignored,
            on_untracked=untracked,
            on_unscripted=unscripted,
        )
    except (ConfigurationError, ValueError, OverflowError) as error:
        raise wrong(str(error)) from None
    if client.tls == "none":
        tls.warn_of_no_verification(alias)
    return Settings(alias, client, options.get("CLEAR") == "prefix")


def _hint(name: str) -> str:
    """What to write in place of an option that is unknown."""
    if advice := advice_on(name):
        return advice
    return hint_for(name, _KNOWN)


def _check_place(name: str, wrong: Wrong) -> None:
    """Refuses an option that stands beside OPTIONS, where it has no effect. Other names may be a subclass's."""
    if name in _BESIDE:
        return
    if name in _KNOWN or tls.is_setting(name):
        raise wrong(f"{name!r} stands beside OPTIONS, where it has no effect: move it into OPTIONS")
    if advice := advice_on(name):
        raise wrong(f"{name!r} is a setting of another backend. {advice}")


def _check(name: str, value: object, wrong: Wrong) -> None:
    """Refuses an option that is unknown, or of the wrong type or size."""
    shown = f"OPTIONS[{name!r}]"
    if tls.is_setting(name):
        return
    if name not in _KNOWN:
        raise wrong(f"unknown option {name!r} in OPTIONS. {_hint(str(name))}")
    if value is None and name in _MAY_BE_NONE:
        return
    if name in _TEXT and not isinstance(value, str):
        # The value may be a secret, so only its type is told.
        raise wrong(f"{shown} must be a string, not {type(value).__name__}")
    if name in _SECONDS and (isinstance(value, bool) or not isinstance(value, int | float)):
        raise wrong(f"{shown} must be a number of seconds, not {value!r}")
    if name in _INTEGERS:
        least = _INTEGERS[name]
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            raise wrong(f"{shown} must be an integer of at least {least}, not {value!r}")
    if name in ("IGNORE_EXCEPTIONS", "ALLOW_PLAINTEXT_CREDENTIALS", "CLUSTER") and not isinstance(value, bool):
        raise wrong(f"{shown} must be True or False, not {value!r}")
    if name == "CLEAR" and value not in CLEAR:
        raise wrong(f"{shown} must be one of {', '.join(CLEAR)}, not {value!r}")


def _addresses(given: object, wrong: Wrong) -> dict[str, str]:
    """ADDRESS_MAP: each a host and a port, or a host, as a string or as a tuple."""
    if given is None:
        return {}
    if not isinstance(given, Mapping):
        raise wrong(f"OPTIONS['ADDRESS_MAP'] must be a dict, not {type(given).__name__}")

    def text(address: object) -> str:
        match address:
            case str():
                return address
            case (str(host), int(port)):
                return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        raise wrong(f"OPTIONS['ADDRESS_MAP'] has {address!r}: write 'host:port', or ('host', port), or a host alone")

    return {text(announced): text(reached) for announced, reached in given.items()}


def configured() -> Iterator[tuple[str, Mapping[str, Any]]]:
    """The aliases of CACHES and their settings. What is no dict, Django tells when that cache is made."""
    for alias, config in settings.CACHES.items():
        if isinstance(config, Mapping):
            yield alias, config


def hold_embedded() -> None:
    """Has embedded servers outlive the reload of a development server. Its parent process, which stays, calls this.

    What is wrong with a LOCATION is told when its cache is made.
    """
    for _, config in configured():
        url = embedded_url(config.get("LOCATION"))
        if url is not None:
            from .embedded import hold

            with contextlib.suppress(ValueError, OSError, RuntimeError):
                hold(url, project())


def _serializer(choice: object, wrong: Wrong) -> tuple[str, Any, Any]:
    if isinstance(choice, str) and choice in SERIALIZERS:
        return choice, None, None
    if isinstance(choice, str):
        if "." not in choice:
            known = ", ".join(SERIALIZERS)
            raise wrong(f"OPTIONS['SERIALIZER'] must be one of {known} or a dotted path, not {choice!r}")
        if advice := advice_on_serializer(choice):
            raise wrong(f"OPTIONS['SERIALIZER'] is {choice!r}. {advice}")
    custom = imported(choice, "OPTIONS['SERIALIZER']", wrong)
    try:
        return "custom", custom.dumps, custom.loads  # type: ignore[attr-defined]
    except AttributeError as error:
        raise wrong(f"OPTIONS['SERIALIZER'] {choice!r} needs the functions dumps and loads: {error}") from error


def _alias_of(location: object, params: Mapping[str, Any], backend: type) -> str:
    """The alias in CACHES with these settings. Django does not tell a backend, and errors should."""
    alike = []
    for alias, config in configured():
        rest = {name: value for name, value in config.items() if name not in ("BACKEND", "LOCATION")}
        if config.get("LOCATION", "") == location and rest == params:
            alike.append(alias)
    if len(alike) > 1:
        # Such as an alias with the backend from before, on the same server.
        alike = [alias for alias in alike if _names(settings.CACHES[alias].get("BACKEND", ""), backend)] or alike
    return str(alike[0]) if alike else "unnamed"


def _names(path: str, backend: type) -> bool:
    try:
        return import_string(path) is backend
    except ImportError:
        return False
