"""System checks: mistakes in settings and decorators, and with ``check --deploy`` servers that may drop counters.

``vcache.E001``  ``VCACHE`` holds something that is not understood
``vcache.E002``  a ``throttle`` decorator is written wrongly, so that the URLs cannot be imported, or limits nothing
``vcache.E003``  a gate (or throttle, or quota) of ``VCACHE["GATES"]`` or a stream of ``VCACHE["STREAMS"]`` cannot be
                 imported
``vcache.E004``  a rate or a burst of REST framework's throttles, in settings or on a class, cannot be read
``vcache.E005``  a cache alias that is to count does not exist, or is another backend's
``vcache.E006``  a ``throttle`` by user stands where the user is not known yet
``vcache.E007``  limits of one name have several rates, and share a counter
``vcache.E008``  what ``VCACHE["REFUSAL"]`` names cannot be loaded
``vcache.E009``  ``cache.clear()`` would delete a stream's events
``vcache.W001``  a server's maxmemory-policy may evict counters (``--deploy``)
``vcache.W002``  a server could not be asked for its policy (``--deploy``)
``vcache.W003``  limits count by address, and ``VCACHE["TRUSTED_PROXIES"]`` is not set (``--deploy``)
``vcache.W004``  a crate of hot paths is not built, or not for this Python, or is no crate
``vcache.W010``  limits are switched off (``--deploy``)
"""

import contextlib
from collections.abc import Iterator
from typing import Any, cast
from urllib.parse import parse_qsl, urlsplit

from django.conf import settings
from django.core.cache import caches
from django.core.cache.backends.base import BaseCache
from django.core.cache.backends.redis import RedisCache
from django.core.checks import CheckMessage, Error, Warning, register
from django.utils.module_loading import import_string

from django_vcache._vcache import aliases_in_use, aliases_with_streams
from django_vcache.admission.gates import import_gate, import_stream
from django_vcache.admission.settings import current, problems
from django_vcache.admission.views.found import (
    alias_of,
    by_address,
    named_rates,
    ninja_throttles,
    rate_of,
    rest_framework_throttles,
)
from django_vcache.admission.views.limit import Limit, all_limits
from django_vcache.admission.views.listing import problem_in_urls, views_with_urls
from django_vcache.admission.views.refusal import problem_with
from django_vcache.backend import ValkeyCache, is_usable
from django_vcache.exceptions import VcacheError

__all__ = ["TAG"]

TAG = "vcache"


@register(TAG)
def check_settings(app_configs: Any, **kwargs: Any) -> list[CheckMessage]:
    """Whether ``VCACHE`` is understood, its gates are gates, and the aliases are ours."""
    wrong = problems(getattr(settings, "VCACHE", {}))
    if wrong:
        return [Error(problem, id="vcache.E001") for problem in wrong]
    found: list[CheckMessage] = []
    ours = current()
    for name, paths, load in (("GATES", ours.gates, import_gate), ("STREAMS", ours.streams, import_stream)):
        for path in paths:
            try:
                load(path)
            except ValueError as error:
                found.append(Error(f"VCACHE[{name!r}]: {error}", id="vcache.E003"))
    if problem := problem_with(ours.refusal):
        found.append(Error(f"VCACHE['REFUSAL'] names {problem}", id="vcache.E008"))
    if ours.enabled:
        for alias in _aliases():
            found += _check_alias(alias)
    return found


@register(TAG)
def check_decorators(app_configs: Any, **kwargs: Any) -> list[CheckMessage]:
    """Whether every ``throttle`` on a view can work."""
    # A mistake there is told by its own check, and not by each decorator.
    if problems(getattr(settings, "VCACHE", {})):
        return []
    found: list[CheckMessage] = []
    if problem := problem_in_urls():
        found.append(Error(problem, id="vcache.E002"))
    for view in views_with_urls():
        if isinstance(view, Limit):
            text = "a URL leads to it and not to a view: write it with parentheses above the view"
            found.append(Error(str(view.error(text)), id="vcache.E002"))
    for limit in all_limits():
        found += [Error(str(limit.error(text)), id="vcache.E006") for text in sorted(set(limit.misplaced.values()))]
    return found


@register(TAG)
def check_names(app_configs: Any, **kwargs: Any) -> list[CheckMessage]:
    """Whether limits that share a name, and so a counter, have the same rate."""
    if problems(getattr(settings, "VCACHE", {})):
        return []
    rates: dict[tuple[str, str, str], dict[Any, str]] = {}
    for budget, rate, where in named_rates():
        rates.setdefault(budget, {}).setdefault(rate, where)
    found: list[CheckMessage] = []
    for (alias, _, name), different in sorted(rates.items()):
        if len(different) > 1:
            listed = "; ".join(sorted(different.values()))
            text = f"The name {name!r} has several rates, which share a counter on the cache alias {alias!r}: {listed}."
            hint = "Give each its own name or scope, or the same rate and burst."
            found.append(Error(text, hint=hint, id="vcache.E007"))
    return found


@register(TAG)
def check_streams(app_configs: Any, **kwargs: Any) -> list[CheckMessage]:
    """Whether ``cache.clear()`` leaves the events alone that wait in streams."""
    if problems(getattr(settings, "VCACHE", {})):
        return []
    found: list[CheckMessage] = []
    for alias in _stream_aliases():
        backend, place = _backend(alias), _database(alias)
        # Where there is no server of ours, another check says so.
        if backend is None or not issubclass(backend, ValkeyCache) or place is None:
            continue
        # Another alias of the same database empties it as well.
        emptying = [other for other in settings.CACHES if _empties(other) and _database(other) == place]
        if not emptying:
            continue
        culprit = alias if alias in emptying else emptying[0]
        text = (
            f"A stream stores its events on the cache alias {alias!r}, and caches[{culprit!r}].clear() deletes them: "
            "it empties the whole database."
        )
        hint = (
            f"Make {culprit!r} a django_vcache.ValkeyCache with a KEY_PREFIX and OPTIONS = {{'CLEAR': 'prefix'}}, or "
            "give the stream an alias with a separate database."
        )
        found.append(Error(text, hint=hint, id="vcache.E009"))
    return found


@register(TAG)
def check_rest_framework(app_configs: Any, **kwargs: Any) -> list[CheckMessage]:
    """Whether the rates and bursts of REST framework's throttles, of settings and of views, are some."""
    found: set[str] = set()
    for each, view in rest_framework_throttles(views_with_urls()):
        from django_vcache.rest_framework import problem_of

        if problem := problem_of(each, *rate_of(each, view)):
            found.add(problem)
    return [Error(problem, id="vcache.E004") for problem in sorted(found)]


@register(TAG)
def check_crates(app_configs: Any, **kwargs: Any) -> list[CheckMessage]:
    """Whether the compiled modules of the project's crates of hot paths can be found. It imports none."""
    if problems(getattr(settings, "VCACHE", {})):
        return []
    # Only where checks run: a server in production does without.
    from django_vcache.crates.checking import unusable

    # NOTE: no errors. A development server would not start, and could not build what is missing.
    return [Warning(text, hint=hint, id="vcache.W004") for text, hint in unusable(settings, current().hotpaths)]


@register(TAG, deploy=True)
def check_proxies(app_configs: Any, **kwargs: Any) -> list[CheckMessage]:
    """Whether limits by address know how many proxies there are."""
    if problems(getattr(settings, "VCACHE", {})) or current().trusted_proxies is not None:
        return []
    found = sorted(set(by_address()))
    if not found:
        return []
    text = (
        f"Limits count by the client's address ({_some(found)}), but VCACHE['TRUSTED_PROXIES'] is not set. Behind a "
        "proxy, all clients are one to them."
    )
    hint = "Set it to the number of your proxies that append to X-Forwarded-For, or to 0 if there is no proxy."
    return [Warning(text, hint=hint, id="vcache.W003")]


@register(TAG, deploy=True)
def check_servers(app_configs: Any, **kwargs: Any) -> list[CheckMessage]:
    """Whether the servers that count keep what they counted. It asks them."""
    if problems(getattr(settings, "VCACHE", {})):
        return []
    if not current().enabled:
        text = "VCACHE['ENABLED'] is False: every throttle, quota and gate admits everything."
        return [
            Warning(text, hint="Switch limits off in the settings of tests and development only.", id="vcache.W010")
        ]
    return [message for alias in _aliases() if not _check_alias(alias) for message in _check_server(alias)]


def _some(names: list[str]) -> str:
    more = len(names) - 3
    return ", ".join(names[:3]) + (f", and {more} more" if more > 0 else "")


def _aliases() -> list[str]:
    """The cache aliases that limits count on: what settings and views tell, and all that this process has made."""
    views, default = views_with_urls(), current().throttle_alias
    known = {limit.policy.using or default for limit in all_limits()}
    # What cannot be imported is told elsewhere.
    for path in current().gates:
        with contextlib.suppress(ValueError):
            known.add(import_gate(path).using)
    for path in current().streams:
        with contextlib.suppress(ValueError):
            if (stream := import_stream(path)) is not None:
                known.add(stream.using)
    for each in [*(each for each, _ in rest_framework_throttles(views)), *ninja_throttles()]:
        if (alias := alias_of(each)) is not None:
            known.add(alias)
    if "THROTTLE_ALIAS" in getattr(settings, "VCACHE", {}):
        known.add(default)
    return sorted(known.union(aliases_in_use()))


def _stream_aliases() -> list[str]:
    """The cache aliases that streams store events on."""
    known = set(aliases_with_streams())
    for path in (*current().gates, *current().streams):
        with contextlib.suppress(ValueError):
            if (stream := import_stream(path)) is not None:
                known.add(stream.using)
    return sorted(known)


def _backend(alias: str) -> type[BaseCache] | None:
    try:
        backend = import_string(settings.CACHES[alias]["BACKEND"])
    except (ImportError, KeyError):
        return None
    return backend if isinstance(backend, type) and issubclass(backend, BaseCache) else None


def _empties(alias: str) -> bool:
    """Whether ``clear()`` of an alias empties its whole database."""
    backend = _backend(alias)
    if backend is None or not issubclass(backend, ValkeyCache):
        return backend is not None and backend.clear is RedisCache.clear
    clear = (settings.CACHES[alias].get("OPTIONS") or {}).get("CLEAR", "flushdb")
    return clear == "flushdb" and backend.clear is ValkeyCache.clear


def _database(alias: str) -> tuple[str, str] | None:
    """The server's address and the number of the database, as far as the settings show them."""
    setting = settings.CACHES.get(alias, {})
    location = setting.get("LOCATION")
    if isinstance(location, list | tuple):
        location = next(iter(location), None)
    if not isinstance(location, str):
        return None
    try:
        url = urlsplit(location.split(",")[0].strip())
        port = url.port or 6379
    except ValueError:
        return None
    if url.scheme == "unix":
        place, in_path = url.path, ""
    else:
        place, in_path = f"{url.hostname}:{port}", url.path.strip("/")
    database = (setting.get("OPTIONS") or {}).get("DB")
    if database is None:
        database = dict(parse_qsl(url.query)).get("db") or in_path or 0
    return place, str(database)


def _check_alias(alias: str) -> list[CheckMessage]:
    # NOTE: the cache is not made here, which for embedded:// would start a server.
    setting = settings.CACHES.get(alias)
    if setting is None:
        text, hint = f"A limit counts on the cache alias {alias!r}, which is not in CACHES.", "Add it, or name another."
        return [Error(text, hint=hint, id="vcache.E005")]
    try:
        backend = import_string(setting["BACKEND"])
    except (ImportError, KeyError):
        # Django says so itself.
        return []
    if is_usable(backend):
        return []
    text = f"A limit counts on the cache alias {alias!r}, but its BACKEND is {setting['BACKEND']}."
    hint = (
        "Make it django_vcache.ValkeyCache, or name another alias. To develop without a server, give LOCATION "
        '"embedded://", or switch limits off by VCACHE = {"ENABLED": False}.'
    )
    return [Error(text, hint=hint, id="vcache.E005")]


def _check_server(alias: str) -> Iterator[CheckMessage]:
    try:
        memory = _memory(alias)
    # Whatever keeps it from answering, a check reports and never fails.
    except (VcacheError, ValueError, OSError) as error:
        text = f"The server of the cache alias {alias!r} could not be asked whether it may evict counters: {error}"
        hint = "Run the check where the server answers, as a user who may send INFO, or look at its maxmemory-policy."
        yield Warning(text, hint=hint, id="vcache.W002")
        return
    policy, limit = memory.get("maxmemory_policy", ""), memory.get("maxmemory", "0")
    if policy in ("", "noeviction"):
        return
    victims = "any key" if policy.startswith("allkeys-") else "keys that expire, as counters do"
    when = "once it has a maxmemory" if limit == "0" else "when its maxmemory is full"
    yield Warning(
        f"The server of the cache alias {alias!r} has the maxmemory-policy {policy}: {when}, it may evict {victims}. "
        "An evicted counter begins anew, so a limit lets more through.",
        hint="Count on a separate server that has the maxmemory-policy noeviction: name its alias in "
        "VCACHE['THROTTLE_ALIAS'], or with using=.",
        id="vcache.W001",
    )


def _memory(alias: str) -> dict[str, str]:
    """The section ``memory`` of INFO. CONFIG would do as well, where it is allowed."""
    cache = cast("ValkeyCache", caches[alias])
    reply = cache.execute("INFO", "memory")
    text = reply if isinstance(reply, str) else bytes(reply).decode(errors="replace")
    pairs = (line.partition(":") for line in text.splitlines())
    return {name: value.strip() for name, colon, value in pairs if colon}
