"""What a limit of views is: its arguments, what must be the same for several to be decided together, and the rule that
the server is asked about."""

import weakref
from collections.abc import Callable
from http import HTTPMethod
from typing import Any, NamedTuple

from django.http import HttpRequest

from django_vcache import _vcache
from django_vcache.admission.settings import current
from django_vcache.admission.views.keys import Key, key_for
from django_vcache.exceptions import ConfigurationError

__all__ = ["Limit", "Policy", "Rule", "Rules", "all_limits"]

Rules = tuple[tuple["Limit", str], ...]

_METHODS = frozenset(method.value for method in HTTPMethod)

_all: "weakref.WeakSet[Limit]" = weakref.WeakSet()


class Policy(NamedTuple):
    """What must be the same for limits to be decided together."""

    using: str | None
    block: bool
    response: Callable[[HttpRequest, _vcache.Decision], Any] | None
    options: tuple[tuple[str, Any], ...]


class Rule(NamedTuple):
    """A limit under the name that it has for a view, ready to be asked."""

    limit: "Limit"
    name: str
    throttle: _vcache.Throttle
    key: Key


class Limit:
    """One limit with its arguments, for any number of views."""

    def __init__(
        self,
        rate: str | Callable[[HttpRequest], Any],
        key: str | Callable[[HttpRequest], Any],
        methods: frozenset[str] | None,
        cost: int | Callable[[HttpRequest], Any],
        burst: int | None,
        name: str | None,
        policy: Policy,
        where: str,
    ) -> None:
        self.rate = rate
        self.key = key
        self.methods = methods if methods is None else frozenset(str(method).upper() for method in methods)
        # Django's class-based views answer HEAD with what they do for GET.
        if self.methods and HTTPMethod.GET in self.methods:
            self.methods |= {"HEAD"}
        self.cost = cost
        self.burst = burst
        self.name = name
        self.policy = policy
        self.where = where
        self._rules: dict[str, Rule] = {}
        _all.add(self)

    def __repr__(self) -> str:
        return f"throttle({self.rate!r})"

    def rule(self, name: str) -> Rule:
        """This limit under a name.

        Raises:
            ConfigurationError: for a mistake in the arguments.
        """
        rule = self._rules.get(name)
        if rule is None:
            try:
                rule = self._rules[name] = self._make(name)
            except (ValueError, TypeError, OverflowError, ConfigurationError) as error:
                raise ConfigurationError(f"{self!r} at {self.where}: {error}") from error
        return rule

    def _make(self, name: str) -> Rule:
        options = dict(self.policy.options)
        if "shards" in options:
            raise TypeError("a view's throttle has one shard; use a gate in the view for more")
        if self.methods is not None and not (self.methods and self.methods <= _METHODS):
            raise ValueError(f"method is {sorted(self.methods)}: give one of {sorted(_METHODS)}, or a list of them")
        if not callable(self.cost) and (type(self.cost) is not int or self.cost < 0):
            raise ValueError(f"cost is {self.cost!r}: give a whole number from 0, or a callable of the request")
        using = self.policy.using or current().throttle_alias
        # In place of a callable's, which is known with the request.
        rate = "1/s" if callable(self.rate) else self.rate
        return Rule(self, name, _vcache.Throttle(name, rate, self.burst, using=using, **options), key_for(self.key))


def all_limits() -> list[Limit]:
    """Every limit that was made in this process and still decorates a view, for the system checks."""
    return sorted(_all, key=lambda limit: limit.where)
