"""What the throttle classes for REST framework and for Ninja share: the rule that the server is asked about, its name
and its alias."""

import functools
import math
from fractions import Fraction
from typing import Any

from django.conf import settings
from django.core.cache import cache as default_cache
from django.core.cache import caches
from django.core.signals import setting_changed
from django.http import HttpRequest

from django_vcache import _vcache
from django_vcache.admission.settings import current
from django_vcache.admission.views.address import client_ip, warn_of_no_address
from django_vcache.admission.views.bounds import bounded
from django_vcache.admission.views.counts import count
from django_vcache.admission.views.names import internal
from django_vcache.admission.views.refusal import attach, limit_exceeded
from django_vcache.backend import is_usable
from django_vcache.exceptions import ConfigurationError

__all__ = ["alias_of", "decide", "ident_of", "name_of", "said_by", "throttle_of"]


def decide(throttle: Any, name: str, request: Any, key: object) -> _vcache.Decision:
    """Asks the server whether a request of a client may go on, and tells the middleware, the metrics and the signal.

    Args:
        throttle: one of the framework's throttles, with its rate, ``burst``, ``using``, ``policy``, ``outage`` and
            ``deadline``.
        name: what its budget is called.
        request: the framework's request.
        key: what the throttle's ``get_cache_key`` returned.
    """
    rate = throttle.num_requests, throttle.duration
    rule = throttle_of(name, *rate, throttle.burst, alias_of(throttle), *said_by(throttle))
    decision = rule.check(bounded(str(key)))
    attach(request, decision)
    count((name,), decision)
    if not decision.allowed:
        limit_exceeded.send_robust(type(throttle), request=request, decision=decision, blocked=True)
    return decision


def ident_of(request: HttpRequest, proxies: int | None) -> str | None:
    """The client's address: by the framework's number of proxies if it is set, or by ``VCACHE["TRUSTED_PROXIES"]``."""
    address = client_ip(request, proxies)
    if address is None:
        warn_of_no_address()
    return address


def name_of(throttle: Any, scope: object = None) -> str:
    """What the budget of a throttle, or of a class of them, is called: its scope, or else its class's import path."""
    if scope := scope or throttle.scope:
        return _vcache.as_name(str(scope))[-_vcache.LONGEST_NAME :]
    each = throttle if isinstance(throttle, type) else type(throttle)
    return internal(f"{each.__module__}.{each.__qualname__}")


def alias_of(throttle: Any) -> str:
    """The alias that a throttle, or a class of them, counts on.

    Raises:
        ConfigurationError: its ``cache`` is not a ValkeyCache. The frameworks' documentation suggests setting one.
    """
    if throttle.using:
        return str(throttle.using)
    cache = throttle.cache
    if cache is default_cache or not current().enabled:
        return current().throttle_alias
    alias = getattr(cache, "_alias", None) or next((name for name in settings.CACHES if caches[name] is cache), None)
    if isinstance(alias, str) and alias in settings.CACHES and is_usable(type(caches[alias])):
        return alias
    raise ConfigurationError(
        f"a throttle's cache is {cache!r}, which is not a ValkeyCache of CACHES: set `using` to an alias that is one"
    )


def said_by(throttle: Any) -> tuple[Any, Any, Any]:
    """The policy, the outage and the deadline of a throttle or of a class of them."""
    return throttle.policy, throttle.outage, throttle.deadline


def in_whole_seconds(requests: int, seconds: float, burst: int | None) -> tuple[int, int, int | None]:
    """The limit, period and burst of a rate's text, which has whole seconds.

    A project's own ``parse_rate`` may give fractions: (1, 1.5) is two in 3 s, of which one may come at once.
    """
    period = Fraction(math.ceil(seconds))
    if period != seconds:
        period = Fraction(math.ceil(seconds * 1000), 1000)
        burst = (requests or None) if burst is None else burst
    return requests * period.denominator, period.numerator, burst


@functools.lru_cache(maxsize=1024)
def throttle_of(
    name: str, requests: int, seconds: float, burst: int | None, using: str, policy: Any, outage: Any, deadline: Any
) -> _vcache.Throttle:
    """The rule of a throttle. ``"default"`` is what the policy says, or the project's ``VCACHE["DEFAULTS"]``."""
    limit, whole, burst = in_whole_seconds(requests, seconds, burst)
    rate = f"{limit}/{whole}s"
    options = {"outage": outage, "deadline": deadline}
    said = {option: value for option, value in options.items() if value != "default"}
    if policy is not None:
        said["policy"] = policy
    return _vcache.Throttle(name, rate, burst, using=using, **said)


def _forget(*, setting: str, **_others: object) -> None:
    if setting == "VCACHE":
        throttle_of.cache_clear()


setting_changed.connect(_forget)
