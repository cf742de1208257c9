"""The setting ``VCACHE``: one dict for what limits, their commands and the ASGI handler need beside ``CACHES``.

``ENABLED`` (True)
    False admits everything without asking a server: throttles, quotas, gates, decorators, REST framework's classes.
    Streams still store what they are given. For tests and development.
``TRUSTED_PROXIES`` (not set)
    How many proxies of yours stand before this server and add to X-Forwarded-For. 0 reads the header never, and so does
    a project that does not set it; but that is warned when the header comes.
``GATES`` (``[]``), ``STREAMS`` (``[]``)
    Dotted paths of gates and streams, for the system checks and the commands. Among the gates there may be throttles
    and quotas that stand alone.
``LEGACY_HEADERS`` (False)
    Whether the middleware adds the X-RateLimit triple as well.
``THROTTLE_ALIAS`` (``"default"``)
    The cache alias of decorators and of REST framework's and Ninja's throttles that do not name one.
``REFUSAL`` (``"text"``)
    What a refused client gets: ``"text"``, ``"json"``, ``"template:429.html"``, or the dotted path of a callable of the
    request and the decision, or of an exception that is raised with a message.
``WARM_UP`` (True)
    Whether a server's process connects and loads the scripts of limits as it starts, in the background: runserver,
    gunicorn, uvicorn, granian, hypercorn, daphne, uWSGI and waitress, with ``django_vcache`` in INSTALLED_APPS.
``DEFAULTS`` (``{}``)
    Keywords of limits, gates and streams that do not say otherwise: ``{"outage": "local", "processes": 8}``.
``POLICIES`` (``{}``)
    The same under names, for those that say ``policy=``: ``{"payments": {"outage": "closed", "deadline": 0.05}}``.
``HOTPATHS`` (not set)
    The folders of the project's crates of hot paths, for ``vcache_hotpath`` and the reload of a development server. Not
    set: those beside ``manage.py``.
``LANES`` (32)
    How many threads :mod:`django_vcache.asgi` keeps for the blocking code of requests, at the most. 0 keeps none: each
    request gets a new one, as under Django's handler.
``LANE_IDLE`` (60)
    Seconds after which such a thread ends if no request needs it, and its database connections with it.
``INLINE`` (True)
    Whether :mod:`django_vcache.asgi` runs the hooks of Django's middleware that do no I/O without a thread.
``INLINE_MIDDLEWARE`` (``[]``)
    Dotted paths of further middleware whose hooks never block, and need no thread either.
``BELOW_ASGI`` (not set)
    Whether :mod:`django_vcache.uvicorn` answers hot routes before ASGI. Not set: if the application is Django's, which
    is looked for within ASGI middleware.
"""

import functools
import os
from collections.abc import Mapping
from typing import Any, NamedTuple

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.core.signals import setting_changed

from django_vcache import _vcache
from django_vcache._names import hint_for
from django_vcache.exceptions import ConfigurationError

__all__ = ["VcacheSettings", "current", "keywords_for", "limits_are_enabled", "problems"]


class VcacheSettings(NamedTuple):
    """``settings.VCACHE``, checked, with defaults for what it leaves out."""

    enabled: bool = True
    trusted_proxies: int | None = None
    gates: tuple[str, ...] = ()
    streams: tuple[str, ...] = ()
    legacy_headers: bool = False
    throttle_alias: str = "default"
    refusal: str = "text"
    warm_up: bool = True
    defaults: Mapping[str, Any] = {}
    policies: Mapping[str, Mapping[str, Any]] = {}
    hotpaths: tuple[str | os.PathLike[str], ...] | None = None
    lanes: int = 32
    lane_idle: float = 60.0
    inline: bool = True
    inline_middleware: tuple[str, ...] = ()
    below_asgi: bool | None = None


@functools.cache
def current() -> VcacheSettings:
    """The settings as they are now.

    Raises:
        ConfigurationError: for the first thing in ``VCACHE`` that is not understood.
    """
    given = getattr(settings, "VCACHE", {})
    for problem in problems(given):
        raise ConfigurationError(problem)
    values: dict[str, Any] = {
        name.lower(): tuple(value) if isinstance(value, list) else value for name, value in given.items()
    }
    return VcacheSettings(**values)


def problems(given: Any) -> list[str]:
    """What is wrong with a value of ``settings.VCACHE``, a sentence each."""
    if not isinstance(given, dict):
        return [f"VCACHE must be a dict, not {type(given).__name__}"]
    known = [name.upper() for name in VcacheSettings._fields]
    found = []
    for name, value in given.items():
        if name not in known:
            found.append(f"VCACHE has an unknown setting {name!r}. {hint_for(name, known)}")
        elif name in ("DEFAULTS", "POLICIES"):
            found += _keyword_problems(name, value)
        elif name == "HOTPATHS":
            found += _hotpath_problems(value)
        elif problem := _problem(name, value):
            found.append(f"VCACHE[{name!r}] must be {problem}, not {value!r}")
    return found


def _problem(name: str, value: object) -> str:
    """What the value of a setting should be, or an empty string if it is that."""
    match name:
        case "TRUSTED_PROXIES":
            fits = isinstance(value, int) and not isinstance(value, bool) and value >= 0
            return "" if fits else "a number of proxies, 0 or more"
        case "LANES":
            fits = isinstance(value, int) and not isinstance(value, bool) and value >= 0
            return "" if fits else "a number of threads, 0 or more"
        case "LANE_IDLE":
            # What a thread can wait for; more is as good as for ever.
            fits = isinstance(value, int | float) and not isinstance(value, bool) and 0 < value <= 86400
            return "" if fits else "a number of seconds above 0, at most a day's 86400"
        case "GATES" | "STREAMS" | "INLINE_MIDDLEWARE":
            fits = isinstance(value, list | tuple) and all(isinstance(path, str) and "." in path for path in value)
            return "" if fits else "a list of dotted paths"
        case "ENABLED" | "LEGACY_HEADERS" | "WARM_UP" | "INLINE" | "BELOW_ASGI":
            return "" if isinstance(value, bool) else "True or False"
        case "REFUSAL":
            fits = isinstance(value, str) and (value in ("text", "json") or _names_something(value))
            return "" if fits else "'text', 'json', 'template:<name>' or a dotted path"
        case _:
            return "" if isinstance(value, str) and value else "the name of a cache alias"


def _hotpath_problems(value: object) -> list[str]:
    """What is wrong with ``HOTPATHS``, a sentence each. Whether there is a crate is looked at elsewhere."""
    if not isinstance(value, list | tuple):
        return [f"VCACHE['HOTPATHS'] must be a list of folders, such as [BASE_DIR / 'shop_hot'], not {value!r}"]
    return [
        f"VCACHE['HOTPATHS'][{number}] must be the path of a folder, such as BASE_DIR / 'shop_hot', not {path!r}"
        for number, path in enumerate(value)
        if not _is_path(path)
    ]


def _is_path(value: object) -> bool:
    """Whether the system could have a file of this name."""
    if not isinstance(value, str | os.PathLike):
        return False
    try:
        path = os.fspath(value)
        return isinstance(path, str) and path != "" and b"\0" not in os.fsencode(path)
    except (TypeError, UnicodeEncodeError):
        return False


def _keyword_problems(name: str, value: object) -> list[str]:
    """What is wrong with ``DEFAULTS`` or ``POLICIES``, a sentence each."""
    if not isinstance(value, dict):
        such = "{'outage': 'local'}" if name == "DEFAULTS" else "{'payments': {'outage': 'closed'}}"
        return [f"VCACHE[{name!r}] must be a dict such as {such}, not {value!r}"]
    if name == "POLICIES":
        found = []
        for policy, keywords in value.items():
            if not isinstance(policy, str):
                found.append(f"VCACHE['POLICIES'] has the name {policy!r}: a policy's name is a str")
            else:
                found += _wrong_keywords(f"VCACHE['POLICIES'][{policy!r}]", keywords)
        return found
    return _wrong_keywords(f"VCACHE[{name!r}]", value)


def _wrong_keywords(where: str, keywords: object) -> list[str]:
    if not isinstance(keywords, dict):
        return [f"{where} must be a dict of keywords such as {{'outage': 'closed'}}, not {keywords!r}"]
    try:
        _vcache.check_policy(keywords)
    except (ValueError, TypeError, OverflowError) as error:
        return [f"{where}: {error}"]
    return []


def keywords_for(policy: str | None) -> tuple[dict[str, Any], dict[str, Any]]:
    """The keywords in ``VCACHE["DEFAULTS"]``, and those of a policy. Rust asks for them when a limit is made.

    Raises:
        TypeError: the policy is not named by a str.
        ValueError: there is no policy of this name.
    """
    try:
        given = getattr(settings, "VCACHE", {})
    except ImproperlyConfigured:
        # A program without settings may have limits, with what each says itself.
        given = {}
    # NOTE: the system checks report what else is wrong with VCACHE, not each module that makes a limit.
    if not isinstance(given, dict):
        given = {}
    defaults, policies = given.get("DEFAULTS", {}), given.get("POLICIES", {})
    for problem in _keyword_problems("DEFAULTS", defaults) + _keyword_problems("POLICIES", policies):
        raise ConfigurationError(problem)
    if policy is None:
        return defaults, {}
    if not isinstance(policy, str):
        raise TypeError(f"policy must be a str, the name of one in VCACHE['POLICIES'], not {type(policy).__name__}")
    if policy not in policies:
        known = f"there are {', '.join(sorted(policies))}" if policies else "it has no policies"
        raise ValueError(f"there is no policy {policy!r} in VCACHE['POLICIES']: {known}")
    return defaults, policies[policy]


def _names_something(value: str) -> bool:
    kind, colon, name = value.partition(":")
    if colon:
        return kind == "template" and bool(name)
    parts = value.split(".")
    return len(parts) > 1 and all(part.isidentifier() for part in parts)


def limits_are_enabled() -> bool:
    """``VCACHE["ENABLED"]``. Rust asks for it at the first decision, and again when the settings have changed."""
    return current().enabled


def _forget(*, setting: str, **_: object) -> None:
    if setting == "VCACHE":
        current.cache_clear()
        _vcache.forget_enabled()


setting_changed.connect(_forget)
