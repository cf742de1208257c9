"""Throttles that replace Django Ninja's: the same arguments and settings, one round trip, and no two requests
that slip through together.

    from django_vcache.ninja import AnonRateThrottle, AuthRateThrottle

    api = NinjaAPI(throttle=[AnonRateThrottle("10/s"), AuthRateThrottle("100/m")])

Ninja asks its throttles after the authentication. It has no form of them that is awaited, so in an async operation the
loop waits for the server; ``@throttle`` below the route does not make it wait.
"""

import threading
import weakref
from typing import Any, Literal

from django.http import HttpRequest
from ninja import throttling
from ninja.conf import settings as ninja_settings

from django_vcache.admission import Decision
from django_vcache.admission import parse_rate as parse
from django_vcache.admission.views.classes import decide, ident_of, name_of, said_by, throttle_of
from django_vcache.admission.views.users import auth_value, client_of
from django_vcache.exceptions import ConfigurationError

__all__ = [
    "AnonRateThrottle",
    "AuthRateThrottle",
    "BaseThrottle",
    "SimpleRateThrottle",
    "UserRateThrottle",
    "ValkeyAnonRateThrottle",
    "ValkeyAuthRateThrottle",
    "ValkeyRateThrottle",
    "ValkeyUserRateThrottle",
    "all_throttles",
]

_all: "weakref.WeakSet[ValkeyRateThrottle]" = weakref.WeakSet()


class _Decided(threading.local):
    """One object serves all requests, and Ninja asks ``wait()`` of it on the thread that asked ``allow_request()``."""

    decision: Decision | None = None


class ValkeyRateThrottle(throttling.SimpleRateThrottle):
    """Ninja's ``SimpleRateThrottle``, with the rate counted by the Valkey server.

    Subclasses define ``get_cache_key()``, and ``scope`` or ``rate``, as there; ``throttle_success`` and
    ``throttle_failure`` are called as there. The ``history`` and the ``timer`` are not used: the server decides, by its
    own clock.

    Args:
        rate: what Ninja takes (``"100/h"``, ``"10/30s"``, ``"5/2min"``); if left out, that of the class's ``scope`` in
            ``NINJA_DEFAULT_THROTTLE_RATES``.
        scope: what the budget is called. If it is left out, that is the class's scope, and with a ``rate`` also that:
            throttles of the same class and rate share a budget.

    Raises:
        ConfigurationError: for a rate, a burst or an outage policy that cannot be meant.
    """

    burst: int | None = None
    """Requests that may come at once; as many as the rate has if it is None."""
    using: str | None = None
    """The cache alias whose server counts: that of ``cache``, or ``VCACHE["THROTTLE_ALIAS"]``, if it is None."""
    policy: str | None = None
    """The name of a policy in ``VCACHE["POLICIES"]``."""
    outage: Literal["default", "open", "closed", "local", "raise"] = "default"
    """What happens when the server cannot be asked: "open", "closed" (429, the one status that Ninja has), "local" or
    "raise"; or what the policy or ``VCACHE["DEFAULTS"]`` says, which is "open" unless they do."""
    deadline: float | Literal["default"] | None = "default"
    """Seconds that the server may take before ``outage`` decides; None is the alias's RESPONSE_TIMEOUT. "default" is as
    for ``outage``, and 0.1 if nothing is said there."""

    def __init__(self, rate: str | None = None, *, scope: str | None = None) -> None:
        if scope is not None:
            self.scope = scope
        self._decided = _Decided()
        super().__init__(rate)
        self.name = name_of(self)
        if rate and scope is None:
            # Another rate would not fit to the same counter.
            self.name = f"{self.name}.{self.num_requests}-{self.duration:g}s"[-64:]
        try:
            # Not kept: nothing counts on this alias.
            throttle_of.__wrapped__(self.name, 1, 1.0, self.burst, "default", *said_by(self))
        except (ValueError, TypeError, OverflowError) as error:
            raise ConfigurationError(f"{type(self).__name__}: {error}") from None
        _all.add(self)

    @property
    def decision(self) -> Decision | None:
        """What the server said of the last request on this thread."""
        return self._decided.decision

    def parse_rate(self, rate: str | None) -> tuple[Any, Any]:
        """A rate as its number of requests and seconds.

        Raises:
            ConfigurationError: for what is not a rate.
        """
        if rate is None:
            return None, None
        try:
            return parse(rate)
        except (ValueError, TypeError) as error:
            try:
                known: tuple[Any, Any] = super().parse_rate(rate)
            except (ValueError, AttributeError):
                raise ConfigurationError(f"{type(self).__name__}: {error}") from None
            return known

    def get_ident(self, request: HttpRequest) -> str | None:
        """The client's address: by ``NINJA_NUM_PROXIES`` if that is set, or by ``VCACHE["TRUSTED_PROXIES"]``.

        Where Ninja takes all of X-Forwarded-For, which a client may write as it likes, this takes none of it.
        """
        return ident_of(request, ninja_settings.NUM_PROXIES)

    def allow_request(self, request: HttpRequest) -> bool:
        """Whether the request is to be allowed."""
        self._decided.decision = None
        if self.rate is None:
            return True
        key = self.get_cache_key(request)
        if key is None:
            return True
        self._decided.decision = decision = decide(self, self.name, request, key)
        return bool(self.throttle_success() if decision.allowed else self.throttle_failure())

    def throttle_success(self) -> bool:
        """Called when a request is allowed; it has been counted."""
        return True

    def wait(self) -> float | None:
        """Seconds until the request would be allowed; None if it never will be."""
        decision = self._decided.decision
        return None if decision is None else decision.retry_after


class ValkeyAnonRateThrottle(ValkeyRateThrottle, throttling.AnonRateThrottle):
    """Limits requests without authentication by their address: Ninja's ``AnonRateThrottle``."""


class ValkeyAuthRateThrottle(ValkeyRateThrottle, throttling.AuthRateThrottle):
    """Limits by what the authentication returned, and other requests by their address: Ninja's ``AuthRateThrottle``.

    The primary key identifies a user or a model's object, and the text anything else. What has no text that tells one
    client from another is a ConfigurationError: Ninja's own would never limit it.
    """

    def get_cache_key(self, request: HttpRequest) -> str:
        """Whom the request is charged to."""
        ident = auth_value(getattr(request, "auth", None)) or self.get_ident(request)
        return str(self.cache_format % {"scope": self.scope, "ident": ident})


class ValkeyUserRateThrottle(ValkeyRateThrottle, throttling.UserRateThrottle):
    """Limits users, and anonymous requests by their address: Ninja's ``UserRateThrottle``.

    A user that the authentication returned goes before the session's.
    """

    def get_cache_key(self, request: HttpRequest) -> str:
        """Whom the request is charged to."""
        ident = client_of(request, getattr(request, "user", None)) or self.get_ident(request)
        return str(self.cache_format % {"scope": self.scope, "ident": ident})


BaseThrottle = throttling.BaseThrottle
SimpleRateThrottle = ValkeyRateThrottle
AnonRateThrottle = ValkeyAnonRateThrottle
AuthRateThrottle = ValkeyAuthRateThrottle
UserRateThrottle = ValkeyUserRateThrottle


def all_throttles() -> list[ValkeyRateThrottle]:
    """Every throttle that was made in this process and is in use, for the system checks."""
    return sorted(_all, key=lambda throttle: (throttle.name, str(throttle.rate)))
