"""``@throttle("100/m")`` on a view: a function, a class, or a method, sync or async. What it does for a request is in
``charge.py``; here stand its arguments, and how it finds its way around a view."""

import functools
import inspect
import sys
import weakref
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, NamedTuple, TypeVar

from asgiref.sync import iscoroutinefunction
from django.http import HttpRequest, HttpResponseBase

from django_vcache import _vcache
from django_vcache.admission.views.charge import Later, refusal, refusal_now
from django_vcache.admission.views.limit import Limit, Policy, Rules
from django_vcache.admission.views.misuse import problem_of_call, problem_of_place, problem_of_view
from django_vcache.admission.views.names import name_for
from django_vcache.admission.views.paths import class_of, inside, instance_of, path_of, path_of_class
from django_vcache.admission.views.refusal import hide_names
from django_vcache.admission.views.users import authenticates_late
from django_vcache.exceptions import ConfigurationError

__all__ = ["ViewThrottle", "rules_of", "throttle"]

View = TypeVar("View", bound=Callable[..., Any])


def throttle(
    rate: str | Callable[[HttpRequest], Any],
    *,
    key: str | Callable[[HttpRequest], Any] = "user_or_ip",
    method: str | Iterable[str] | None = None,
    cost: int | Callable[[HttpRequest], Any] = 1,
    burst: int | None = None,
    name: str | None = None,
    block: bool = True,
    response: Callable[[HttpRequest, _vcache.Decision], Any] | None = None,
    deduct: Callable[[Any], Any] | None = None,
    using: str | None = None,
    **options: Any,
) -> "ViewThrottle":
    """Limits how often each client may call a view.

    Several that stand directly on one another, and differ in nothing but rate, key, method, burst and name, are decided
    together in one round trip: what one of them refuses is charged to none. A mistake in the arguments is raised at
    once, when the module of the view is imported.

    Args:
        rate: ``"100/m"``, ``"10/30s"``; or a callable of the request that returns one, or None for no limit.
        key: whom to charge: ``"user_or_ip"``, ``"user"`` (anonymous users together), ``"ip"``, ``"header:<name>"``,
            ``"post:<field>"``, ``"get:<parameter>"``, or a callable of the request that returns an int, a str, a UUID,
            or None for a request that is not to be throttled.
        method: the HTTP methods that count, ``"POST"`` or ``["POST", "PUT"]``; all if left out. With GET goes HEAD.
        cost: units that a request is charged, or a callable of the request that returns them.
        burst: units that may come at once; as many as the rate's limit if left out.
        name: what the budget is called, in headers and on the server. Views with the same name share one, and must have
            the same rate; left out, each view has its own, and clients do not see its name.
        block: False calls the view also when the request is refused; ``decisions_of(request)`` tells it.
        response: makes the response of a refusal, from the request and the decision; ``VCACHE["REFUSAL"]`` if left out.
        deduct: a callable of the view's response: whether the request is charged. The limit is asked before the view
            and charged after it, so requests that come at once may pass together. Of a view that raises it gets an
            empty response with the status that becomes of the exception.
        using: the cache alias whose server counts; ``VCACHE["THROTTLE_ALIAS"]`` if left out.
        options: ``policy``, ``outage``, ``deny_cache``, ``guard``, ``processes``, ``deadline``, ``breaker`` and
            ``prefix``, as for :class:`django_vcache.admission.Throttle`.

    In an async view the callables may be async.

    Raises:
        ConfigurationError: for a mistake in the arguments, without parentheses, and inside of a view.

    >>> @throttle("5/m", key="ip", method="POST")  # doctest: +SKIP
    ... def login(request): ...
    """
    caller = sys._getframe(1)
    where = f"{caller.f_code.co_filename}:{caller.f_lineno}"
    if problem := problem_of_call(rate, caller):
        raise ConfigurationError(f"{where}: {problem}")
    policy = Policy(using, block, response, deduct, tuple(sorted(options.items())))
    return ViewThrottle(rate, key, method, cost, burst, name, policy, where)


class ViewThrottle(Limit):
    """What :func:`throttle` returns: one limit, which decorates any number of views."""

    def __call__(self, view: View) -> View:
        if problem := problem_of_view(view):
            raise self.error(problem)
        if misplaced := problem_of_place(self, view):
            path = path_of_class(view) if isinstance(view, type) else path_of(view)
            self.misplaced[name_for(path, self)] = misplaced
        return _decorated_class(self, view) if isinstance(view, type) else _decorated(self, view)


def rules_of(view: Callable[..., Any]) -> Rules | None:
    """The limits of a view as a URL has it, of its class and of its methods, with their names.

    None if there are some that get their names with the first request: ``method_decorator`` decorates anew for each.
    """
    found: dict[tuple[Limit, str], None] = {}
    view_class: Any = class_of(view)
    names = ("dispatch", *getattr(view_class, "http_method_names", ()))
    parts = [view, *(getattr(view_class, name, None) for name in names)]
    while parts:
        part = parts.pop(0)
        around: _Around | None = getattr(part, "_vcache_around", None)
        if around is not None and around.wrapper() is None:
            return None
        if around is not None and around.wrapper() is part:
            found |= dict.fromkeys(around.rules)
        inner = getattr(part, "__wrapped__", None)
        known = getattr(part, "_vcache_class", None)
        if known and known[0] is inner:
            path = path_of_class(view_class)
            found |= dict.fromkeys((limit, name_for(path, limit)) for limit in known[1])
        if inner is not None:
            parts.append(inner)
    return tuple(found)


class _Around(NamedTuple):
    """What a decorated view says of itself."""

    wrapper: "weakref.ref[Callable[..., Any]]"
    """Whom it is about: other decorators, and ``as_view()``, copy a view's attributes to their own."""
    view: Callable[..., Any]
    """The view inside."""
    rules: Rules
    """The limits directly around it, the outermost first, and their names."""


def _decorated(limit: Limit, view: View) -> View:
    known: _Around | None = getattr(view, "_vcache_around", None)
    rules: Rules = ((limit, name_for(path_of(view), limit)),)
    inner: Callable[..., Any] = view
    if known and known.wrapper() is view:
        rules, inner = rules + known.rules, known.view
    is_dispatch = getattr(inside(inner), "__name__", "") == "dispatch"
    wrapper: Any

    async def awaited(*args: Any, **kwargs: Any) -> Any:
        request = _request_of(args)
        return await _answered(refusal(rules, request, True, _late(args, inner, is_dispatch)), inner, *args, **kwargs)

    if _is_async(inner):

        async def wrapper(*args: Any, **kwargs: Any) -> Any:
            return await awaited(*args, **kwargs)
    else:

        def wrapper(*args: Any, **kwargs: Any) -> Any:
            # Of a `dispatch` in a class's body, only the object knows whether it is awaited.
            if is_dispatch and args and getattr(args[0], "view_is_async", False):
                return awaited(*args, **kwargs)
            found = refusal_now(rules, _request_of(args), _late(args, inner, is_dispatch))
            return _answered_now(found, inner, *args, **kwargs)

    _take_the_place_of(view, inner, wrapper)
    wrapper._vcache_around = _Around(weakref.ref(wrapper), inner, rules)
    decorated: View = wrapper
    return decorated


def _decorated_class(limit: Limit, view_class: Any) -> Any:
    outer = inner = view_class.dispatch
    known: tuple[Any, tuple[Limit, ...]] | None = getattr(outer, "_vcache_class", None)
    limits: tuple[Limit, ...] = (limit,)
    if known and getattr(outer, "__wrapped__", None) is known[0]:
        limits, inner = limits + known[1], known[0]

    def dispatch(self: Any, request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
        # A class that inherits this has its own budget.
        path = path_of_class(type(self))
        rules = tuple((limit, name_for(path, limit)) for limit in limits)
        late = _late((self, request), inner, True)
        if self.view_is_async:
            return _answered(refusal(rules, request, True, late), inner, self, request, *args, **kwargs)
        return _answered_now(refusal_now(rules, request, late), inner, self, request, *args, **kwargs)

    _take_the_place_of(outer, inner, dispatch)
    dispatch._vcache_class = inner, limits  # type: ignore[attr-defined]
    view_class.dispatch = dispatch
    return view_class


def _answered_now(found: HttpResponseBase | Later | None, inner: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """The answer to a request of a sync view: what the limits found, or what the view returns."""
    if found is None:
        response = inner(*args, **kwargs)
    elif isinstance(found, Later):
        response = found.around_now(inner, *args, **kwargs)
    else:
        return found
    hide_names(response)
    return response


async def _answered(
    asked: Awaitable[HttpResponseBase | Later | None], inner: Callable[..., Any], *args: Any, **kwargs: Any
) -> Any:
    """The same for an async view."""
    found = await asked
    if found is None:
        # A sync decorator around a method of an async class hands on what is to be awaited, or answers by itself.
        response = inner(*args, **kwargs)
        if inspect.isawaitable(response):
            response = await response
    elif isinstance(found, Later):
        response = await found.around(inner, *args, **kwargs)
    else:
        return found
    hide_names(response)
    return response


def _late(args: tuple[Any, ...], inner: Callable[..., Any], is_dispatch: bool) -> Any:
    """The object of REST framework's view whose ``dispatch`` is called, which has not yet found the user; or None."""
    if not is_dispatch:
        return None
    view = args[0] if args and not hasattr(args[0], "META") else instance_of(inside(inner))
    return view if authenticates_late(view) else None


def _take_the_place_of(outer: Callable[..., Any], inner: Callable[..., Any], wrapper: Any) -> None:
    """Makes a wrapper of `inner` look like `outer`, which is that itself or a wrapper of ours around it."""
    # Decorators that only set an attribute, such as REST framework's permissions, have set it on the outer one.
    functools.update_wrapper(wrapper, outer)
    wrapper.__wrapped__ = inner
    if "ninja" in sys.modules:
        _spell_out_annotations(wrapper, inner)


def _spell_out_annotations(wrapper: Any, view: Any) -> None:
    """Replaces annotations that are text by what they mean: Ninja would look for the names in this module."""
    try:
        signature = inspect.signature(view)
    except (ValueError, TypeError):
        return
    parameters = list(signature.parameters.values())
    if any(isinstance(each.annotation, str) for each in parameters):
        names = getattr(inspect.unwrap(view), "__globals__", {})
        meant = [each.replace(annotation=_meaning(each.annotation, names)) for each in parameters]
        wrapper.__signature__ = signature.replace(parameters=meant)


def _meaning(annotation: Any, names: dict[str, Any]) -> Any:
    try:
        return eval(annotation, names) if isinstance(annotation, str) else annotation
    # What is imported for type checkers only, or defined later, stays text.
    except Exception:
        return annotation


def _request_of(args: tuple[Any, ...]) -> HttpRequest:
    """The request among a view's arguments: the first, or on a method the one after ``self``."""
    for argument in args[:2]:
        if hasattr(argument, "META"):
            request: HttpRequest = argument
            return request
    raise TypeError("a throttle decorates views: a view's first argument is the request")


def _is_async(view: Callable[..., Any]) -> bool:
    plain: Any = view
    # Before Python 3.12 a partial does not show that what it is of was marked as one.
    while isinstance(plain, functools.partial):
        plain = plain.func
    if iscoroutinefunction(view) or iscoroutinefunction(plain):
        return True
    method = inside(view)
    instance = instance_of(method)
    if getattr(method, "__name__", "") == "dispatch":
        # That of an async class is not async itself, and returns what is to be awaited.
        return bool(getattr(instance, "view_is_async", False))
    # A sync decorator between a method and us: the class awaits what comes out of it all the same.
    return instance is not None and iscoroutinefunction(method)
