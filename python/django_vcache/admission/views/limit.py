"""What a limit of views is: its arguments, what must be the same for several to be decided together, and the rule that
the server is asked about."""

import inspect
import weakref
from collections.abc import Callable, Iterable
from http import HTTPMethod
from typing import Any, NamedTuple

from django.core.signals import setting_changed
from django.http import HttpRequest

from django_vcache import _vcache
from django_vcache.admission.settings import current, keywords_for
from django_vcache.admission.views.counts import total
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
    deduct: Callable[[Any], Any] | None
    options: tuple[tuple[str, Any], ...]


class Rule(NamedTuple):
    """A limit under the name that it has for a view, ready to be asked."""

    limit: "Limit"
    name: str
    throttle: _vcache.Throttle
    key: Key


def _no_rate(scope: Any) -> None:
    """Stands for the rate of a throttle to which each call says one."""


class Limit:
    """One limit with its arguments, for any number of views.

    Raises:
        ConfigurationError: for an argument that cannot be meant.
    """

    def __init__(
        self,
        rate: str | Callable[[HttpRequest], Any],
        key: str | Callable[[HttpRequest], Any],
        methods: Any,
        cost: int | Callable[[HttpRequest], Any],
        burst: int | None,
        name: str | None,
        policy: Policy,
        where: str,
    ) -> None:
        self.rate = rate
        self.key = key
        self.cost = cost
        self.burst = burst
        self.name = name
        self.policy = policy
        self.where = where
        self.misplaced: dict[str, str] = {}
        """What is wrong with where it stands, by the names that it has there."""
        self.names: dict[str, str] = {}
        """What it is called for views, by their import paths."""
        self._rules: dict[str, Rule] = {}
        try:
            self.methods = _methods(methods)
            self._key = key_for(key)
            self._check()
        except (ValueError, TypeError, OverflowError, ConfigurationError) as error:
            raise self.error(str(error)) from None
        _all.add(self)

    def __repr__(self) -> str:
        return f"throttle({self.rate!r})"

    def error(self, text: str) -> ConfigurationError:
        """A mistake, and where it is."""
        return ConfigurationError(f"{self!r} at {self.where}: {text}")

    def rule(self, name: str) -> Rule:
        """This limit under a name."""
        rule = self._rules.get(name)
        if rule is None:
            using = self.policy.using or current().throttle_alias
            rule = self._rules[name] = Rule(self, name, self._throttle(name, using), self._key)
        return rule

    def forget_rules(self) -> None:
        """The settings have changed that the rules were made of: the next request makes them anew."""
        self._rules.clear()

    def metrics(self) -> dict[str, int]:
        """What it has decided in this process, for all views that it decorates.

        The words are those of :func:`django_vcache.admission.metrics`.
        """
        return total(self._rules)

    def keyword(self, name: str) -> Any:
        """What the limit, its policy or the project says of a keyword; None if they say nothing."""
        said = dict(self.policy.options)
        defaults, named = keywords_for(said.get("policy"))
        return {**defaults, **named, **said}.get(name)

    def _throttle(self, name: str, using: str) -> _vcache.Throttle:
        # A callable's rate comes with each request.
        rate = _no_rate if callable(self.rate) else self.rate
        return _vcache.Throttle(name, rate, self.burst, using=using, **dict(self.policy.options))

    def _check(self) -> None:
        policy, options = self.policy, dict(self.policy.options)
        if "shards" in options:
            raise TypeError("a view's throttle has one shard; use a gate in the view for more")
        if not callable(self.cost) and (type(self.cost) is not int or self.cost < 0):
            raise ValueError(f"cost is {self.cost!r}: give a whole number from 0, or a callable of the request")
        if self.name is not None and not isinstance(self.name, str):
            raise TypeError(f"name is {self.name!r}: give a str, or leave it out")
        if not isinstance(policy.block, bool):
            raise TypeError(f"block is {policy.block!r}: give True or False")
        if policy.using is not None and not (isinstance(policy.using, str) and policy.using):
            raise TypeError(f"using is {policy.using!r}: give the name of a cache alias, or leave it out")
        for name, value in (("response", policy.response), ("deduct", policy.deduct)):
            if value is not None and not callable(value):
                raise TypeError(f"{name} is {value!r}: give a callable, or leave it out")
        _takes(self.rate, "rate", "the request")
        _takes(self.key, "key", "the request")
        _takes(self.cost, "cost", "the request")
        _takes(policy.response, "response", "the request", "the decision")
        _takes(policy.deduct, "deduct", "the response")
        if policy.deduct is not None and self.keyword("outage") == "local":
            raise ValueError(
                "deduct asks before the view and charges after it, and what a process counts by itself "
                "(outage='local') cannot be asked: make outage 'open', 'closed' or 'raise'"
            )
        # It checks the rest. It is not kept, so nothing counts on this alias.
        self._throttle(self.name or "check", "default")


def _methods(given: Any) -> frozenset[str] | None:
    if given is None:
        return None
    if not isinstance(given, Iterable):
        raise TypeError(f"method is {given!r}: give one of {sorted(_METHODS)}, or a list of them")
    methods = frozenset(str(method).upper() for method in ([given] if isinstance(given, str) else given))
    if not (methods and methods <= _METHODS):
        raise ValueError(f"method is {sorted(methods)}: give one of {sorted(_METHODS)}, or a list of them")
    # Django's class-based views answer HEAD with what they do for GET.
    return methods | {"HEAD"} if HTTPMethod.GET in methods else methods


def _takes(function: Any, name: str, *arguments: str) -> None:
    """Whether a callable can be called as it will be."""
    if not callable(function):
        return
    try:
        signature = inspect.signature(function)
    except ValueError:
        # Of some that are written in C it is not known.
        return
    try:
        signature.bind(*arguments)
    except TypeError:
        raise TypeError(
            f"{name} is called with {' and '.join(arguments)}, and {function!r} takes {signature}"
        ) from None


def _follow_settings(*, setting: str, **_others: object) -> None:
    if setting == "VCACHE":
        for limit in all_limits():
            limit.forget_rules()


setting_changed.connect(_follow_settings)


def all_limits() -> list[Limit]:
    """Every limit that was made in this process and still decorates a view, for the system checks."""
    return sorted(_all, key=lambda limit: limit.where)
