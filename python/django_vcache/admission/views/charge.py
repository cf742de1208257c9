"""What the limits around a view do for one request. It is written once, as a coroutine: for an async view it is
awaited, and for a sync view it is run to its end at once, since nothing in it waits then."""

import functools
import inspect
import itertools
from collections.abc import Coroutine, Iterator
from typing import Any, NamedTuple

from django.http import HttpRequest, HttpResponseBase

from django_vcache import _vcache
from django_vcache.admission.views.keys import Value, checked
from django_vcache.admission.views.limit import Policy, Rule, Rules
from django_vcache.admission.views.refusal import attach
from django_vcache.exceptions import ConfigurationError

__all__ = ["refusal", "refusal_now"]


class Charge(NamedTuple):
    """What one request is charged by one rule."""

    rule: Rule
    value: Value
    cost: int
    rate: str | None
    """The request's own, in place of the rule's."""

    @property
    def terms(self) -> tuple[Policy, int]:
        """What must be the same for charges to be decided together."""
        return self.rule.limit.policy, self.cost


def refusal_now(rules: Rules, request: HttpRequest) -> HttpResponseBase | None:
    """As :func:`refusal`, for a sync view."""
    return _run(refusal(rules, request, False))


async def refusal(rules: Rules, request: HttpRequest, is_async: bool) -> HttpResponseBase | None:
    """The response of the first limit that refuses a request, or None if the view is to be called.

    Raises:
        ConfigurationError: if a limit's arguments, or what their callables return, are wrong.
    """
    charges = []
    for limit, name in rules:
        # Before the method is looked at: a limit of methods that there are not would never tell.
        rule = limit.rule(name)
        if limit.methods is None or request.method in limit.methods:
            charge = await _charge(rule, request, is_async)
            if charge is not None:
                charges.append(charge)
    for policy, together in _decided_together(charges):
        decision = await _decide(together, is_async)
        attach(request, decision)
        if not decision.allowed and policy.block:
            if policy.response is None:
                return decision.response()
            response: HttpResponseBase = await _settled(policy.response(request, decision), policy.response, is_async)
            return response
    return None


async def _charge(rule: Rule, request: HttpRequest, is_async: bool) -> Charge | None:
    """What a rule charges a request, or None if it does not concern it."""
    limit = rule.limit
    find = rule.key.aget if is_async else rule.key.get
    value = checked(await _settled(find(request), limit.key, is_async), limit.key)
    if value is None:
        return None
    rate = None
    if callable(limit.rate):
        rate = await _settled(limit.rate(request), limit.rate, is_async)
        if rate is None:
            return None
    cost = await _settled(limit.cost(request), limit.cost, is_async) if callable(limit.cost) else limit.cost
    return Charge(rule, value, cost, rate)


async def _decide(charges: list[Charge], is_async: bool) -> _vcache.Decision:
    if len(charges) == 1:
        [(rule, value, cost, rate)] = charges
        if is_async:
            return await rule.throttle.acheck(value, cost, rate=rate)
        return rule.throttle.check(value, cost, rate=rate)
    scope = {charge.rule.name: charge.value for charge in charges}
    rates = {charge.rule.name: charge.rate for charge in charges if charge.rate is not None}
    gate = _gate(tuple(charge.rule for charge in charges))
    if is_async:
        return await gate.aadmit(scope, cost=charges[0].cost, rates=rates)
    return gate.admit(scope, cost=charges[0].cost, rates=rates)


@functools.lru_cache(maxsize=1024)
def _gate(rules: tuple[Rule, ...]) -> _vcache.Gate:
    options = dict(rules[0].limit.policy.options)
    return _vcache.Gate(throttles=[rule.throttle for rule in rules], using=rules[0].throttle.using, **options)


def _decided_together(charges: list[Charge]) -> Iterator[tuple[Policy, list[Charge]]]:
    """Neighbours on the same terms, unless a name among them is there twice: views may share one."""
    for (policy, _), group in itertools.groupby(charges, key=lambda charge: charge.terms):
        together: list[Charge] = []
        for charge in group:
            if any(charge.rule.name == other.rule.name for other in together):
                yield policy, together
                together = []
            together.append(charge)
        yield policy, together


async def _settled(value: Any, source: object, is_async: bool) -> Any:
    """What a callable returned, awaited where that can be done."""
    if not inspect.isawaitable(value):
        return value
    if is_async:
        return await value
    if inspect.iscoroutine(value):
        value.close()
    raise ConfigurationError(f"{source!r}, which a throttle calls, is async, and the view is not")


def _run(coroutine: Coroutine[Any, Any, HttpResponseBase | None]) -> HttpResponseBase | None:
    """The result of a coroutine in which nothing waits."""
    try:
        coroutine.send(None)
    except StopIteration as end:
        result: HttpResponseBase | None = end.value
        return result
    raise RuntimeError("a sync view's throttle waited")
