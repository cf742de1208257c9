"""What the limits around a view do for one request. It is written once, as a coroutine: for an async view it is
awaited, and for a sync view it is run to its end at once, since nothing in it waits then."""

import functools
import inspect
import itertools
from collections.abc import Callable, Coroutine, Iterator
from typing import Any, NamedTuple, TypeVar

from django.core.exceptions import BadRequest, PermissionDenied, SuspiciousOperation
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseBase

from django_vcache import _vcache
from django_vcache.admission.settings import current
from django_vcache.admission.views.counts import count
from django_vcache.admission.views.keys import BY_USER, Value, checked
from django_vcache.admission.views.limit import Limit, Policy, Rule, Rules
from django_vcache.admission.views.refusal import attach, hide_names, limit_exceeded, replace, response_of
from django_vcache.admission.views.users import authenticated
from django_vcache.exceptions import ConfigurationError

__all__ = ["Later", "refusal", "refusal_now"]

T = TypeVar("T")

_GLOBAL = object()
"""Stands for what ``VCACHE["REFUSAL"]`` names, among the callables of limits."""


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


class Later:
    """What is charged when the view has answered, if ``deduct`` says so then."""

    def __init__(self, request: HttpRequest, charges: list[tuple[_vcache.Decision, list[Charge]]]) -> None:
        self.request = request
        self.charges = charges

    def around_now(self, view: Callable[..., T], *args: Any, **kwargs: Any) -> T:
        """Calls a sync view, and charges."""
        try:
            response = view(*args, **kwargs)
        except Exception as error:
            _run(self._settle(_response_of(error), False))
            raise
        _run(self._settle(response, False))
        return response

    async def around(self, view: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Calls a view and awaits what it returns, if that has to be, and charges."""
        try:
            response = view(*args, **kwargs)
            if inspect.isawaitable(response):
                response = await response
        except Exception as error:
            await self._settle(_response_of(error), True)
            raise
        await self._settle(response, True)
        return response

    async def _settle(self, response: Any, is_async: bool) -> None:
        for asked, together in self.charges:
            deduct = together[0].rule.limit.policy.deduct
            if deduct is None or not await _settled(deduct(response), deduct, is_async):
                continue
            # One by one: what another request has used up meanwhile keeps none of the others from being charged.
            decisions = [await _ask(charge, charge.cost, is_async) for charge in together]
            if all(decisions):
                replace(self.request, asked, decisions)


def refusal_now(rules: Rules, request: HttpRequest, view: Any = None) -> HttpResponseBase | Later | None:
    """As :func:`refusal`, for a sync view."""
    return _run(refusal(rules, request, False, view))


async def refusal(
    rules: Rules, request: HttpRequest, is_async: bool, view: Any = None
) -> HttpResponseBase | Later | None:
    """The response of the first limit that refuses a request, or None if the view is to be called.

    Args:
        rules: the limits around a view, the outermost first, with the names that they have there.
        request: the request that came.
        is_async: whether the view is.
        view: the object of REST framework's view whose ``dispatch`` the limits are around.

    Returns:
        A response, or what is to call the view if something is charged after it, or None.

    Raises:
        ConfigurationError: if what the callables of a limit return is wrong.
    """
    charges = []
    for limit, name in rules:
        if name in limit.misplaced:
            raise limit.error(limit.misplaced[name])
        if limit.methods is None or request.method in limit.methods:
            charge = await _charge(limit.rule(name), request, is_async, view)
            if charge is not None:
                charges.append(charge)
    later = []
    for policy, together in _decided_together(charges):
        decision = await _decide(together, is_async)
        attach(request, decision)
        count([charge.rule.name for charge in together], decision)
        if decision.allowed:
            if policy.deduct is not None:
                later.append((decision, together))
            continue
        await _send(together[0].rule.limit, request, decision, is_async)
        if policy.block:
            response: HttpResponseBase = await _response(policy, request, decision, is_async)
            return response
    return Later(request, later) if later else None


async def _response(policy: Policy, request: HttpRequest, decision: _vcache.Decision, is_async: bool) -> Any:
    source: object
    if policy.response is None:
        made, source = response_of(request, decision), _GLOBAL
    else:
        made, source = policy.response(request, decision), policy.response
    response = await _settled(made, source, is_async)
    hide_names(response)
    return response


async def _send(limit: Limit, request: HttpRequest, decision: _vcache.Decision, is_async: bool) -> None:
    told = {"request": request, "decision": decision, "blocked": limit.policy.block}
    if is_async:
        await limit_exceeded.asend_robust(type(limit), **told)
    else:
        limit_exceeded.send_robust(type(limit), **told)


async def _charge(rule: Rule, request: HttpRequest, is_async: bool, view: Any) -> Charge | None:
    """What a rule charges a request, or None if it does not concern it."""
    limit = rule.limit
    find = rule.key.aget if is_async else rule.key.get
    asked = request
    if view is not None and limit.key in BY_USER:
        if is_async:
            raise limit.error(
                f"its key is {limit.key!r}, and it stands around an async view of REST framework, which finds out only "
                "inside who the user is: put it on the method, such as get()"
            )
        asked = authenticated(view, request)
    value = checked(await _settled(find(asked), limit.key, is_async), limit.key)
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
    # What is charged after the view is only asked for now.
    cost = charges[0].cost if charges[0].rule.limit.policy.deduct is None else 0
    if len(charges) == 1:
        return await _ask(charges[0], cost, is_async)
    scope = {charge.rule.name: charge.value for charge in charges}
    rates = {charge.rule.name: charge.rate for charge in charges if charge.rate is not None}
    gate = _gate(tuple(charge.rule for charge in charges))
    if is_async:
        return await gate.aadmit(scope, cost=cost, rates=rates)
    return gate.admit(scope, cost=cost, rates=rates)


async def _ask(charge: Charge, cost: int, is_async: bool) -> _vcache.Decision:
    if is_async:
        return await charge.rule.throttle.acheck(charge.value, cost, rate=charge.rate)
    return charge.rule.throttle.check(charge.value, cost, rate=charge.rate)


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


def _response_of(error: Exception) -> HttpResponse:
    """A response with the status that Django or a framework makes of a view's exception, for ``deduct`` to look at."""
    status = getattr(error, "status_code", None)
    if not isinstance(status, int):
        known = ((Http404, 404), (PermissionDenied, 403), (SuspiciousOperation, 400), (BadRequest, 400))
        status = next((code for kind, code in known if isinstance(error, kind)), 500)
    return HttpResponse(status=status)


async def _settled(value: Any, source: object, is_async: bool) -> Any:
    """What a callable returned, awaited where that can be done."""
    if not inspect.isawaitable(value):
        return value
    if is_async:
        return await value
    if inspect.iscoroutine(value):
        value.close()
    name = f"VCACHE['REFUSAL'] ({current().refusal})" if source is _GLOBAL else repr(source)
    raise ConfigurationError(f"{name}, which a throttle calls, is async, and the view is not")


def _run(coroutine: Coroutine[Any, Any, T]) -> T:
    """The result of a coroutine in which nothing waits."""
    try:
        coroutine.send(None)
    except StopIteration as end:
        result: T = end.value
        return result
    raise RuntimeError("a sync view's throttle waited")
