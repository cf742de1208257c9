"""Throttles that replace those of Django REST framework: the same settings and attributes, one round trip, and no
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

import math
import re
from typing import Any, Literal

from rest_framework import status, throttling
from rest_framework.exceptions import APIException
from rest_framework.settings import api_settings

from django_vcache.admission import Decision
from django_vcache.admission import parse_rate as parse
from django_vcache.admission.views.classes import decide, ident_of, name_of, said_by
from django_vcache.admission.views.classes import throttle_of as _throttle
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

    Subclasses define ``get_cache_key()``, and ``scope`` or ``rate``, as there; ``throttle_success`` and
    ``throttle_failure`` are called as there. The ``history`` and the ``timer`` are not used: the server decides, by its
    own clock.

    A rate is what REST framework takes, or ``"10/30s"``. It refills evenly (GCRA), so a client that was refused may
    soon send one request, and does not wait for the whole period.
    """

    burst: int | None = None
    """Requests that may come at once; as many as the rate has if it is None."""
    using: str | None = None
    """The cache alias whose server counts: unless it is said that of ``cache``, or ``VCACHE["THROTTLE_ALIAS"]``."""
    policy: str | None = None
    """The name of a policy in ``VCACHE["POLICIES"]``."""
    outage: str = "default"
    """What happens when the server cannot be asked: "open", "closed" (503), "local" or "raise"; or what the policy or
    ``VCACHE["DEFAULTS"]`` says, which is "open" unless they do."""
    deadline: float | Literal["default"] | None = "default"
    """Seconds that the server may take before ``outage`` decides; None is the alias's RESPONSE_TIMEOUT. "default" is as
    for ``outage``, and 0.1 if nothing is said there."""

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
        return ident_of(request, api_settings.NUM_PROXIES)

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
        self.decision = decide(self, name_of(self), request, self.key)
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

    It is for the system checks. A rate of None is not looked at, nor is one that a `parse_rate` of the project reads.
    """
    requests, seconds = 1, 1.0
    if rate is not None and throttle.parse_rate is ValkeyRateThrottle.parse_rate:
        try:
            requests, seconds = parse_rate(rate)
        except ConfigurationError as error:
            return f"{where}: {error}"
    said = throttle.burst, "default", *said_by(throttle)
    # What is a property is known with the request.
    if not any(isinstance(value, property) for value in said):
        try:
            # Not kept, as those of requests are: nothing counts on this alias.
            _throttle.__wrapped__(name_of(throttle), requests, seconds, *said)
        except (ValueError, TypeError, OverflowError, ConfigurationError) as error:
            return f"{throttle.__name__}: {error}"
    return None
