"""System checks: mistakes in settings and decorators, and with ``check --deploy`` servers that may drop counters.

``vcache.E001``  ``VCACHE`` holds something that is not understood
``vcache.E002``  a ``throttle`` decorator's arguments are wrong: a rate that is none, a burst of 0
``vcache.E003``  a gate (or throttle, or quota) of ``VCACHE["GATES"]`` or a stream of ``VCACHE["STREAMS"]`` cannot be
                 imported
``vcache.E004``  a rate or a burst of REST framework's throttles, in settings or on a class, is none
``vcache.E005``  a cache alias that is to count does not exist, or is another backend's
``vcache.W001``  a server's maxmemory-policy may evict counters (``--deploy``)
``vcache.W002``  a server could not be asked for its policy (``--deploy``)
``vcache.W010``  limits are switched off (``--deploy``)
"""

import contextlib
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, cast

from django.conf import settings
from django.core.cache import caches
from django.core.checks import CheckMessage, Error, Warning, register
from django.utils.module_loading import import_string

from django_vcache._vcache import aliases_in_use
from django_vcache.admission.decorated import views_with_urls
from django_vcache.admission.decorators import all_throttles
from django_vcache.admission.gates import import_gate, import_stream
from django_vcache.admission.settings import current, problems
from django_vcache.backend import ValkeyCache, is_usable
from django_vcache.exceptions import ConfigurationError, VcacheError

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
    views_with_urls()
    found: list[CheckMessage] = []
    for limit in all_throttles():
        try:
            limit.rule(limit.name or "check")
        except ConfigurationError as error:
            found.append(Error(str(error), id="vcache.E002"))
    return found


@register(TAG)
def check_rest_framework(app_configs: Any, **kwargs: Any) -> list[CheckMessage]:
    """Whether the rates and bursts of REST framework's throttles, of settings and of views, are some."""
    found: set[str] = set()
    for each, view in _rest_framework_throttles(views_with_urls()):
        from django_vcache.rest_framework import problem_of

        if problem := problem_of(each, *_rate_of(each, view)):
            found.add(problem)
    return [Error(problem, id="vcache.E004") for problem in sorted(found)]


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


def _rest_framework() -> dict[str, Any]:
    return getattr(settings, "REST_FRAMEWORK", None) or {}


def _aliases() -> list[str]:
    """The cache aliases that limits count on: what settings and views tell, and all that this process has made."""
    views, default = views_with_urls(), current().throttle_alias
    known = {limit.policy.using or default for limit in all_throttles()}
    # What cannot be imported is told elsewhere.
    for path in current().gates:
        with contextlib.suppress(ValueError):
            known.add(import_gate(path).using)
    for path in current().streams:
        with contextlib.suppress(ValueError):
            if (stream := import_stream(path)) is not None:
                known.add(stream.using)
    for each, _ in _rest_framework_throttles(views):
        from django_vcache.rest_framework import alias_of

        # A cache that is none of ours is told by the first request.
        with contextlib.suppress(ConfigurationError):
            known.add(alias_of(each))
    if "THROTTLE_ALIAS" in getattr(settings, "VCACHE", {}):
        known.add(default)
    return sorted(known.union(aliases_in_use()))


def _rest_framework_throttles(views: Iterable[Any]) -> Iterator[tuple[Any, Any]]:
    """REST framework's throttles that are ours or made of ours, each with the view that has it or None."""
    for each in _ours_among(_rest_framework().get("DEFAULT_THROTTLE_CLASSES")):
        yield each, None
    for view in views:
        for each in _ours_among(_of_view(view, "throttle_classes")):
            yield each, view


def _of_view(view: Any, name: str) -> Any:
    """An attribute of a view of REST framework's."""
    # What `as_view()` is given, and with it an `@action`, goes before what the class says.
    given = getattr(view, "initkwargs", None) or {}
    return given.get(name, getattr(getattr(view, "cls", None), name, None))


def _rate_of(each: Any, view: Any) -> tuple[str, Any]:
    """Where the rate of a throttle of REST framework's stands, and what it is: None if it has none, or is not known."""
    from rest_framework.settings import api_settings
    from rest_framework.throttling import ScopedRateThrottle, SimpleRateThrottle

    # Of a scope of the view's, the rate is always that of the scope.
    scoped = issubclass(each, ScopedRateThrottle)
    own = None if scoped else getattr(each, "rate", None)
    if own:
        return f"{each.__name__}.rate", None if isinstance(own, property) else own
    scope = _of_view(view, each.scope_attr) if scoped else each.scope
    where, rates = "REST_FRAMEWORK['DEFAULT_THROTTLE_RATES']", api_settings.DEFAULT_THROTTLE_RATES
    if each.THROTTLE_RATES is not SimpleRateThrottle.THROTTLE_RATES:
        where, rates = f"{each.__name__}.THROTTLE_RATES", each.THROTTLE_RATES
    known = isinstance(rates, Mapping) and each.get_rate is SimpleRateThrottle.get_rate
    # That a scope has none, REST framework says itself.
    return f"{where}[{scope!r}]", rates.get(scope) if known else None


def _ours_among(classes: Any) -> list[Any]:
    """Those of REST framework's throttles, or of their paths, that are ours or made of ours."""
    try:
        from django_vcache.rest_framework import ValkeyRateThrottle
    except ImportError:
        return []
    found = []
    for named in classes if isinstance(classes, list | tuple) else ():
        # What cannot be imported is for REST framework to tell.
        with contextlib.suppress(ImportError):
            each = import_string(named) if isinstance(named, str) else named
            if isinstance(each, type) and issubclass(each, ValkeyRateThrottle):
                found.append(each)
    return found


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
        hint="Count on a server of its own that has the maxmemory-policy noeviction: name its alias in "
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
