"""Every limit of views that there is in a project, with its name, rate and alias: for the system checks."""

import contextlib
import sys
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from django.conf import settings
from django.utils.module_loading import import_string

from django_vcache import _vcache
from django_vcache._vcache import counted_as, throttles_in_use
from django_vcache.admission.settings import current, keywords_for
from django_vcache.admission.views import classes
from django_vcache.admission.views.classes import name_of
from django_vcache.admission.views.keys import BY_ADDRESS
from django_vcache.admission.views.limit import all_limits
from django_vcache.admission.views.listing import views_with_urls
from django_vcache.exceptions import ConfigurationError

__all__ = ["alias_of", "by_address", "named_rates", "ninja_throttles", "rate_of", "rest_framework_throttles"]

Budget = tuple[str, str, str]
"""Whose counters a limit has: the alias, their place there, and the name."""


def alias_of(throttle: Any) -> str | None:
    """The alias that a throttle, or a class of them, counts on; None if its cache is not a ValkeyCache."""
    # The first request says so.
    with contextlib.suppress(ConfigurationError):
        return classes.alias_of(throttle)
    return None


def named_rates() -> Iterator[tuple[Budget, Any, str]]:
    """Limits that were given a name: whose counters they have, what those mean, and where it is.

    What does not count, for it has no limit or a limit of 0, shares nothing.
    """
    called: set[Budget] = set()
    for budget, rate, where in _of_views():
        if callable(rate):
            called.add(budget)
            # Whether two callables return the same, only they know.
            yield budget, _identity(rate), where
        elif rate is not None:
            yield budget, rate, where
    # Last: the throttles of all these are among them, and say less of where they stand.
    for alias, place, name, counted, where in throttles_in_use():
        budget = alias, place, name
        if counted is not None or budget not in called:
            yield budget, counted or "callable", where


def _identity(function: Any) -> Any:
    """The function, or what stands for it among others if it cannot be hashed."""
    try:
        hash(function)
    except TypeError:
        return id(function)
    return function


def _of_views() -> Iterator[tuple[Budget, Any, str]]:
    """The limits of views and frameworks. The rate is a callable, or what its counters mean, or None without any."""
    default = current().throttle_alias
    views = views_with_urls()
    for limit in all_limits():
        if limit.name is not None:
            prefix = limit.keyword("prefix") or _vcache.DEFAULT_PREFIX
            rate = limit.rate if callable(limit.rate) else counted_as(*_vcache.parse_rate(limit.rate), limit.burst)
            using = limit.policy.using or default
            yield (using, _place(prefix, limit.name), limit.name), rate, f"{limit!r} at {limit.where}"
    for each, view in rest_framework_throttles(views):
        from django_vcache.rest_framework import ValkeyRateThrottle, problem_of
        from django_vcache.rest_framework import parse_rate as parse

        where, text = rate_of(each, view)
        alias, scope = alias_of(each), scope_of(each, view)
        # What is wrong with it, and what is known only with a request, is not compared.
        is_known = isinstance(text, str) and each.parse_rate is ValkeyRateThrottle.parse_rate
        is_known = is_known and not any(isinstance(said, property) for said in (scope, each.policy, each.burst))
        if is_known and alias and not problem_of(each, where, text):
            rate = counted_as(*classes.in_whole_seconds(*parse(str(text)), each.burst))
            name = name_of(each, scope)
            yield (alias, _place(_prefix(each.policy), name), name), rate, f"{where} is {text!r}"
    for throttle in ninja_throttles():
        if throttle.rate is not None and (alias := alias_of(throttle)):
            exact = classes.in_whole_seconds(throttle.num_requests, throttle.duration, throttle.burst)
            rate = counted_as(*exact)
            yield (
                (alias, _place(_prefix(throttle.policy), throttle.name), throttle.name),
                rate,
                f"{type(throttle).__name__}({throttle.rate!r})",
            )


def _place(prefix: str, name: str) -> str:
    """As Rust tells it of a throttle that is keyed by the entry of its name."""
    return f"{prefix}:{name} by {name}"


def _prefix(policy: str | None) -> str:
    defaults, named = keywords_for(policy)
    return str({**defaults, **named}.get("prefix", _vcache.DEFAULT_PREFIX))


def by_address() -> Iterator[str]:
    """The limits that charge addresses, as far as that is known, and have no number of proxies from a framework."""
    for limit in all_limits():
        if limit.key in BY_ADDRESS:
            yield f"{limit!r} at {limit.where}"
    for each, _ in rest_framework_throttles(views_with_urls()):
        from rest_framework.settings import api_settings

        if api_settings.NUM_PROXIES is None and each.get_cache_key.__module__ == "rest_framework.throttling":
            yield each.__name__
    for throttle in ninja_throttles():
        from ninja.conf import settings as ninja_settings

        module = type(throttle).get_cache_key.__module__
        if ninja_settings.NUM_PROXIES is None and module in ("ninja.throttling", "django_vcache.ninja"):
            yield type(throttle).__name__


def ninja_throttles() -> list[Any]:
    """Those of Ninja's throttles that are ours. They are made where an API is, so their module is imported then."""
    module = sys.modules.get("django_vcache.ninja")
    return module.all_throttles() if module else []


def _rest_framework() -> dict[str, Any]:
    return getattr(settings, "REST_FRAMEWORK", None) or {}


def rest_framework_throttles(views: Iterable[Any]) -> Iterator[tuple[Any, Any]]:
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


def scope_of(each: Any, view: Any) -> Any:
    """The scope of a throttle of REST framework's: its own, or the view's."""
    return _of_view(view, each.scope_attr) if hasattr(each, "scope_attr") else each.scope


def rate_of(each: Any, view: Any) -> tuple[str, Any]:
    """Where the rate of a throttle of REST framework's stands, and what it is: None if it has none, or is not known."""
    from rest_framework.settings import api_settings
    from rest_framework.throttling import ScopedRateThrottle, SimpleRateThrottle

    # Of a scope of the view's, the rate is always that of the scope.
    scoped = issubclass(each, ScopedRateThrottle)
    own = None if scoped else getattr(each, "rate", None)
    if own:
        return f"{each.__name__}.rate", None if isinstance(own, property) else own
    scope = scope_of(each, view)
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
