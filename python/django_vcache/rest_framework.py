"""Throttles for Django REST framework, in place of its own: the same settings and attributes, one round trip, and no
two requests that slip through together.

In settings::

    REST_FRAMEWORK = {
        "DEFAULT_THROTTLE_CLASSES": [
            "django_vcache.rest_framework.ValkeyAnonRateThrottle",
            "django_vcache.rest_framework.ValkeyUserRateThrottle",
        ],
        "DEFAULT_THROTTLE_RATES": {"anon": "100/day", "user": "1000/day"},
    }

The classes are here under REST framework's names too, so that subclasses of yours need only another import.
"""

import functools
import math
import re
from fractions import Fraction
from typing import Any

from django.conf import settings
from django.core.cache import cache as default_cache
from django.core.cache import caches
from rest_framework import status, throttling
from rest_framework.exceptions import APIException
from rest_framework.settings import api_settings

from django_vcache.admission import Decision, Throttle, attach, client_ip
from django_vcache.admission import parse_rate as parse
from django_vcache.admission.keys import bounded, warn_of_no_address
from django_vcache.admission.settings import current
from django_vcache.backend import is_usable
from django_vcache.exceptions import ConfigurationError

__all__ = [
    "AnonRateThrottle",
    "BaseThrottle",
    "ScopedRateThrottle",
    "SimpleRateThrottle",
    "ThrottleUnavailable",
    "UserRateThrottle",
    "ValkeyAnonRateThrottle",
    "ValkeyRateThrottle",
    "ValkeyScopedRateThrottle",
    "ValkeyUserRateThrottle",
    "parse_rate",
]

_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


class ThrottleUnavailable(APIException):
    """The server that counts could not be asked, and the throttle's ``outage`` is not ``"open"``: 503."""

    status_code = status.HTTP_503_SERVICE_UNAVAILABLE
    default_detail = "Rate limits cannot be checked at the moment."
    default_code = "throttle_unavailable"

    def __init__(self, wait: float | None = None) -> None:
        super().__init__()
        self.wait = None if wait is None else math.ceil(wait)


class ValkeyRateThrottle(throttling.SimpleRateThrottle):
    """REST framework's ``SimpleRateThrottle``, with the rate counted by the Valkey server.

    Subclasses say ``get_cache_key()``, and ``scope`` or ``rate``, as there; ``throttle_success`` and
    ``throttle_failure`` are called as there. The ``history`` and the ``timer`` are not used: the server decides, by its
    own clock.

    A rate is what REST framework takes, or ``"10/30s"``. It refills evenly (GCRA), so a client that was refused may
    soon send one request, and does not wait for the whole period.
    """

    burst: int | None = None
    """Requests that may come at once; as many as the rate has if it is None."""
    using: str | None = None
    """The cache alias whose server counts: unless it is said that of ``cache``, or ``VCACHE["THROTTLE_ALIAS"]``."""
    outage: str = "open"
    """What happens when the server cannot be asked: "open", "closed" (503), "local" or "raise"."""

    deadline: float | None = 0.1
    """Seconds that the server may take before ``outage`` decides; None is the alias's RESPONSE_TIMEOUT."""

    decision: Decision | None = None
    """What the server said of this request."""

    def parse_rate(self, rate: str | None) -> tuple[int, float] | tuple[None, None]:
        """A rate as its number of requests and seconds.

        Raises:
            ConfigurationError: for what is not a rate.
        """
        return (None, None) if rate is None else parse_rate(rate)

    def get_ident(self, request: Any) -> str | None:
        """The client's address: by ``NUM_PROXIES`` if that is set, or by ``VCACHE["TRUSTED_PROXIES"]``.

        Where REST framework takes all of X-Forwarded-For, which a client may write as it likes, this takes none of it.
        """
        address = client_ip(request, api_settings.NUM_PROXIES)
        if address is None:
            warn_of_no_address()
        return address

    def allow_request(self, request: Any, view: Any) -> bool:
        """Whether the request is to be allowed.

        Raises:
            ThrottleUnavailable: the server could not be asked, and ``outage`` says no.
        """
        if self.rate is None:
            return True
        self.key = self.get_cache_key(request, view)
        if self.key is None:
            return True
        self.decision = self._throttle().check(bounded(str(self.key)))
        attach(request, self.decision)
        if self.decision.allowed:
            return bool(self.throttle_success())
        refused = self.decision.refused_by
        if refused and refused.kind == "outage":
            raise ThrottleUnavailable(self.decision.retry_after)
        return bool(self.throttle_failure())

    def throttle_success(self) -> bool:
        """Called when a request is allowed; it has been counted."""
        return True

    def wait(self) -> float | None:
        """Seconds until the request would be allowed; None if it never will be."""
        return None if self.decision is None else self.decision.retry_after

    def _throttle(self) -> Throttle:
        name = _name_of(self.scope or type(self).__name__)
        return _throttle(name, self.num_requests, self.duration, self.burst, alias_of(self), self.outage, self.deadline)


class ValkeyAnonRateThrottle(ValkeyRateThrottle, throttling.AnonRateThrottle):
    """Limits anonymous requests by their address: REST framework's ``AnonRateThrottle``."""

    scope = "anon"


class ValkeyUserRateThrottle(ValkeyRateThrottle, throttling.UserRateThrottle):
    """Limits users, and anonymous requests by their address: REST framework's ``UserRateThrottle``."""

    scope = "user"


class ValkeyScopedRateThrottle(throttling.ScopedRateThrottle, ValkeyRateThrottle):
    """Limits views that have a ``throttle_scope``: REST framework's ``ScopedRateThrottle``."""


BaseThrottle = throttling.BaseThrottle
SimpleRateThrottle = ValkeyRateThrottle
AnonRateThrottle = ValkeyAnonRateThrottle
UserRateThrottle = ValkeyUserRateThrottle
ScopedRateThrottle = ValkeyScopedRateThrottle


def parse_rate(rate: str) -> tuple[int, float]:
    """A rate as its number of requests and seconds: ``"10/30s"``, or any that REST framework takes.

    Raises:
        ConfigurationError: for what is not a rate.
    """
    try:
        return parse(rate)
    except (ValueError, TypeError) as error:
        # REST framework looks at the first letter of the period only: "3/seconds", "100/days".
        found = re.fullmatch(r"\s*(\d+)\s*/([smhd]).*", rate) if isinstance(rate, str) else None
        if found is None:
            raise ConfigurationError(str(error)) from None
        return int(found[1]), _SECONDS[found[2]]


def problem_of(throttle: Any, where: str, rate: str | None) -> str | None:
    """What is wrong with a class of throttles, or with its rate, which stands somewhere; None if nothing is.

    It is for the system checks. A rate of None is not looked at, nor is one that somebody's own `parse_rate` reads.
    """
    requests, seconds = 1, 1.0
    if rate is not None and throttle.parse_rate is ValkeyRateThrottle.parse_rate:
        try:
            requests, seconds = parse_rate(rate)
        except ConfigurationError as error:
            return f"{where}: {error}"
    said = throttle.burst, "default", throttle.outage, throttle.deadline
    # What is a property is known with the request.
    if not any(isinstance(value, property) for value in said):
        try:
            # Not kept, as those of requests are: nothing counts on this alias.
            _throttle.__wrapped__(_name_of(throttle.scope or throttle.__name__), requests, seconds, *said)
        except (ValueError, TypeError, OverflowError, ConfigurationError) as error:
            return f"{throttle.__name__}: {error}"
    return None


def _name_of(scope: Any) -> str:
    return re.sub(r"[^A-Za-z0-9_.-]", "_", str(scope))[-64:]


@functools.lru_cache(maxsize=1024)
def _throttle(
    name: str, requests: int, seconds: float, burst: int | None, using: str, outage: Any, deadline: float | None
) -> Throttle:
    period = Fraction(math.ceil(seconds))
    # A `parse_rate` of somebody's own may give fractions of a second, which a rate's text has not: (1, 1.5) is two in
    # 3 s, of which one may come at once.
    if period != seconds:
        period = Fraction(math.ceil(seconds * 1000), 1000)
        burst = (requests or None) if burst is None else burst
    rate = f"{requests * period.denominator}/{period.numerator}s"
    return Throttle(name, rate, burst, using=using, outage=outage, deadline=deadline)


def alias_of(throttle: Any) -> str:
    """The alias that a throttle, or a class of them, counts on.

    Raises:
        ConfigurationError: its ``cache``, which REST framework's documentation has people set, is none of ours.
    """
    if throttle.using:
        return str(throttle.using)
    cache = throttle.cache
    if cache is default_cache:
        return current().throttle_alias
    if not current().enabled:
        return current().throttle_alias
    alias = getattr(cache, "_alias", None) or next((name for name in settings.CACHES if caches[name] is cache), None)
    if isinstance(alias, str) and alias in settings.CACHES and is_usable(type(caches[alias])):
        return alias
    raise ConfigurationError(
        f"a throttle's cache is {cache!r}, which is not a ValkeyCache of CACHES: set `using` to an alias that is one"
    )
