"""``@throttle("100/m")`` on a view: a function, a class, or a method, sync or async. What it does for a request is in
``limits.py``; here stand its arguments, and how it finds its way around a view."""

import functools
import hashlib
import inspect
import re
import sys
import weakref
from collections.abc import Callable, Iterable
from http import HTTPMethod
from typing import Any, NamedTuple, TypeVar

from asgiref.sync import iscoroutinefunction
from django.core.signals import setting_changed
from django.http import HttpRequest

from django_vcache import _vcache
from django_vcache.admission.keys import Key, key_for
from django_vcache.admission.limits import refusal, refusal_now
from django_vcache.admission.settings import current
from django_vcache.exceptions import ConfigurationError

__all__ = ["Policy", "Rule", "ViewThrottle", "all_throttles", "path_of", "rules_of", "throttle"]

View = TypeVar("View", bound=Callable[..., Any])
Rules = tuple[tuple["ViewThrottle", str], ...]

LONGEST_NAME = 64
_METHODS = frozenset(method.value for method in HTTPMethod)

_all: "weakref.WeakSet[ViewThrottle]" = weakref.WeakSet()


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
    using: str | None = None,
    **options: Any,
) -> "ViewThrottle":
    """Limits how often each client may call a view.

    Several that stand directly on one another, and differ in nothing but rate, key, method, burst and name, are decided
    together in one round trip: what one of them refuses is charged to none. A mistake in the arguments is reported by
    ``manage.py check``, and raised by the first request.

    Args:
        rate: ``"100/m"``, ``"10/30s"``; or a callable of the request that returns one, or None for no limit.
        key: whom to charge: ``"user_or_ip"``, ``"user"`` (anonymous users together), ``"ip"``, ``"header:<name>"``, or
            a callable of the request that returns an int, a str, or None for a request that is not to be throttled.
        method: the HTTP methods that count, ``"POST"`` or ``["POST", "PUT"]``; all if left out. With GET goes HEAD.
        cost: units that a request is charged, or a callable of the request that returns them.
        burst: units that may come at once; as many as the rate's limit if left out.
        name: what the budget is called, in headers and on the server. Views with the same name share one; left out,
            each view has its own.
        block: False calls the view also when the request is refused; ``decisions_of(request)`` tells it.
        response: makes the response of a refusal, from the request and the decision.
        using: the cache alias whose server counts; ``VCACHE["THROTTLE_ALIAS"]`` if left out.
        options: ``outage``, ``deny_cache``, ``guard``, ``processes``, ``deadline``, ``breaker`` and ``prefix``, as for
            :class:`django_vcache.admission.Throttle`.

    In an async view the callables may be async.

    >>> @throttle("5/m", key="ip", method="POST")  # doctest: +SKIP
    ... def login(request): ...
    """
    caller = sys._getframe(1)
    return ViewThrottle(
        rate,
        key,
        None if method is None else frozenset([method] if isinstance(method, str) else method),
        cost,
        burst,
        name,
        Policy(using, block, response, tuple(sorted(options.items()))),
        f"{caller.f_code.co_filename}:{caller.f_lineno}",
    )


class Policy(NamedTuple):
    """What must be the same for limits to be decided together."""

    using: str | None
    block: bool
    response: Callable[[HttpRequest, _vcache.Decision], Any] | None
    options: tuple[tuple[str, Any], ...]


class Rule(NamedTuple):
    """A limit under the name that it has for a view, ready to be asked."""

    limit: "ViewThrottle"
    name: str
    throttle: _vcache.Throttle
    key: Key


class ViewThrottle:
    """What :func:`throttle` returns: one limit, which decorates any number of views."""

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

    def __call__(self, view: View) -> View:
        return _decorated_class(self, view) if isinstance(view, type) else _decorated(self, view)

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

    def forget_rules(self) -> None:
        """The settings have changed that the rules were made of: the next request makes them anew."""
        self._rules.clear()

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


def all_throttles() -> list[ViewThrottle]:
    """Every limit that was made in this process and still decorates a view, for the system checks."""
    return sorted(_all, key=lambda limit: limit.where)


def _follow_settings(*, setting: str, **_others: object) -> None:
    if setting == "VCACHE":
        for limit in all_throttles():
            limit.forget_rules()


setting_changed.connect(_follow_settings)


def rules_of(view: Callable[..., Any]) -> Rules | None:
    """The limits of a view as a URL has it, of its class and of its methods, with their names.

    None if there are some that get their names with the first request: ``method_decorator`` decorates anew for each.
    """
    found: dict[tuple[ViewThrottle, str], None] = {}
    view_class: Any = _class_of(view)
    names = ("dispatch", *getattr(view_class, "http_method_names", ()))
    parts = [view, *(getattr(view_class, name, None) for name in names)]
    while parts:
        part = parts.pop(0)
        around: _Around | None = getattr(part, "_vcache_around", None)
        if around is not None and around.wrapper() is None:
            return None
        if around is not None and around.wrapper() is part:
            found |= dict.fromkeys(around.rules)
        inside = getattr(part, "__wrapped__", None)
        known = getattr(part, "_vcache_class", None)
        if known and known[0] is inside:
            path = _path_of_class(view_class)
            found |= dict.fromkeys((limit, limit.name or _name_for(path, limit)) for limit in known[1])
        if inside is not None:
            parts.append(inside)
    return tuple(found)


class _Around(NamedTuple):
    """What a decorated view says of itself."""

    wrapper: "weakref.ref[Callable[..., Any]]"
    """Whom it is about: other decorators, and ``as_view()``, copy a view's attributes to their own."""
    view: Callable[..., Any]
    """The view inside."""
    rules: Rules
    """The limits directly around it, the outermost first, and their names."""


def _decorated(limit: ViewThrottle, view: View) -> View:
    known: _Around | None = getattr(view, "_vcache_around", None)
    rules: Rules = ((limit, limit.name or _name_for(path_of(view), limit)),)
    inner: Callable[..., Any] = view
    if known and known.wrapper() is view:
        rules, inner = rules + known.rules, known.view
    wrapper: Any

    if _is_async(inner):

        async def wrapper(*args: Any, **kwargs: Any) -> Any:
            response = await refusal(rules, _request_of(args), True)
            return await _settled(inner(*args, **kwargs)) if response is None else response
    else:

        async def awaited(*args: Any, **kwargs: Any) -> Any:
            response = await refusal(rules, _request_of(args), True)
            return await _settled(inner(*args, **kwargs)) if response is None else response

        def wrapper(*args: Any, **kwargs: Any) -> Any:
            # Of a `dispatch` in a class's body, only the object knows whether it is awaited.
            if getattr(inner, "__name__", "") == "dispatch" and args and getattr(args[0], "view_is_async", False):
                return awaited(*args, **kwargs)
            response = refusal_now(rules, _request_of(args))
            return inner(*args, **kwargs) if response is None else response

    _take_the_place_of(view, inner, wrapper)
    wrapper._vcache_around = _Around(weakref.ref(wrapper), inner, rules)
    decorated: View = wrapper
    return decorated


def _decorated_class(limit: ViewThrottle, view_class: Any) -> Any:
    outer = inner = view_class.dispatch
    known: tuple[Any, tuple[ViewThrottle, ...]] | None = getattr(outer, "_vcache_class", None)
    limits: tuple[ViewThrottle, ...] = (limit,)
    if known and getattr(outer, "__wrapped__", None) is known[0]:
        limits, inner = limits + known[1], known[0]

    def dispatch(self: Any, request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
        # A class that inherits this has a budget of its own.
        rules = tuple((limit, limit.name or _name_for(_path_of_class(type(self)), limit)) for limit in limits)
        if self.view_is_async:
            return awaited(rules, self, request, *args, **kwargs)
        response = refusal_now(rules, request)
        return inner(self, request, *args, **kwargs) if response is None else response

    async def awaited(rules: Rules, self: Any, request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
        response = await refusal(rules, request, True)
        return await _settled(inner(self, request, *args, **kwargs)) if response is None else response

    _take_the_place_of(outer, inner, dispatch)
    dispatch._vcache_class = inner, limits  # type: ignore[attr-defined]
    view_class.dispatch = dispatch
    return view_class


def _take_the_place_of(outer: Callable[..., Any], inner: Callable[..., Any], wrapper: Any) -> None:
    """Makes a wrapper of `inner` look like `outer`, which is that itself or a wrapper of ours around it."""
    # Decorators that only set an attribute, such as REST framework's permissions, have set it on the outer one.
    functools.update_wrapper(wrapper, outer)
    wrapper.__wrapped__ = inner


def _request_of(args: tuple[Any, ...]) -> HttpRequest:
    """The request among a view's arguments: the first, or on a method the one after ``self``."""
    for argument in args[:2]:
        if hasattr(argument, "META"):
            request: HttpRequest = argument
            return request
    raise TypeError("a throttle decorates views: a view's first argument is the request")


async def _settled(answer: Any) -> Any:
    # A sync decorator around a method of an async class hands on what is to be awaited, or returns a response itself.
    return await answer if inspect.isawaitable(answer) else answer


def _is_async(view: Callable[..., Any]) -> bool:
    plain: Any = view
    # Before Python 3.12 a partial does not show that what it is of was marked as one.
    while isinstance(plain, functools.partial):
        plain = plain.func
    if iscoroutinefunction(view) or iscoroutinefunction(plain):
        return True
    method = _inside(view)
    instance = _instance_of(method)
    if getattr(method, "__name__", "") == "dispatch":
        # That of an async class is not async itself, and returns what is to be awaited.
        return bool(getattr(instance, "view_is_async", False))
    # A sync decorator between a method and us: the class awaits what comes out of it all the same.
    return instance is not None and iscoroutinefunction(method)


def _inside(view: Callable[..., Any]) -> Callable[..., Any]:
    """What other decorators, and ours, stand around: the first thing inside that tells its class, or else the last."""
    inside: Callable[..., Any] = inspect.unwrap(view, stop=_tells_its_class)
    return inside


def _tells_its_class(view: Callable[..., Any]) -> bool:
    return _class_of(view) is not None or _instance_of(view) is not None


def _instance_of(view: Callable[..., Any]) -> Any:
    """The object whose method a view is. What ``method_decorator`` decorates is a ``partial`` of one."""
    return getattr(getattr(view, "func", view), "__self__", None)


def _class_of(view: Callable[..., Any]) -> type | None:
    """The class whose ``as_view()`` returned a view, Django's or REST framework's."""
    found = getattr(view, "view_class", None) or getattr(view, "cls", None)
    return found if isinstance(found, type) else None


_named: dict[str, dict["weakref.ref[ViewThrottle]", int]] = {}
"""The limits of the view at an import path, each with its number.

No lock guards it, which a forked child might inherit taken: each step is one operation, and threads that name the
limits of one view do so in the same order.
"""


def _name_for(path: str, limit: ViewThrottle) -> str:
    """A name for a limit of the view at an import path: the path, with a number from the second limit on."""
    limits = _named.setdefault(path, {})
    number = limits.setdefault(weakref.ref(limit), len(limits))
    full = path + (f".{number + 1}" if number else "")
    name = re.sub(r"[^A-Za-z0-9_.-]", "_", full)
    # Of what is cut off or replaced, but for `<locals>`, the hash tells one from another.
    if len(name) <= LONGEST_NAME and re.fullmatch(r"[A-Za-z0-9_.<>-]*", full):
        return name
    digest = hashlib.blake2s(full.encode(), digest_size=5).hexdigest()
    return f"{digest}.{name[len(digest) + 1 - LONGEST_NAME :]}"


def path_of(view: Callable[..., Any]) -> str:
    """The import path of a view, as budgets are named by it."""
    view = _inside(view)
    # What `as_view()` returns has the same name for every class.
    if view_class := _class_of(view):
        return _path_of_class(view_class)
    name = getattr(view, "__name__", "")
    if not name and isinstance(view, functools.partial):
        return path_of(view.func)
    instance = _instance_of(view)
    if instance is not None:
        # Not the class that defines the method, which is Django's as often as not.
        path = _path_of_class(instance if isinstance(instance, type) else type(instance))
        return path if name in ("", "dispatch") else f"{path}.{name}"
    named = view if name else type(view)
    return f"{named.__module__}.{named.__qualname__}"


def _path_of_class(view_class: type) -> str:
    # The classes that REST framework makes of functions are all of one qualified name.
    qualified = view_class.__qualname__.endswith(view_class.__name__)
    return f"{view_class.__module__}.{view_class.__qualname__ if qualified else view_class.__name__}"
