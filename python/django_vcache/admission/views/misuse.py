"""Ways of writing ``@throttle`` that would limit nothing, or charge the wrong client: each is refused in words."""

import inspect
from collections.abc import Callable
from types import FrameType
from typing import Any

from django.http import HttpRequest

from django_vcache.admission.views.keys import BY_USER
from django_vcache.admission.views.limit import Limit
from django_vcache.admission.views.paths import class_of, inside, instance_of
from django_vcache.admission.views.users import authenticates_late

__all__ = ["problem_of_call", "problem_of_place", "problem_of_view"]

BARE = '@throttle stands without parentheses: write @throttle("100/m")'


def problem_of_call(rate: object, caller: FrameType) -> str | None:
    """What is wrong with how ``throttle(rate, ...)`` is called, or None."""
    if isinstance(rate, type | Limit) or class_of(rate) is not None or _is_decorated(rate, caller):
        return BARE
    if _is_in_a_view(caller):
        return (
            "throttle(...) is called inside a view, so each request would get a fresh budget: decorate the view where "
            "it is defined. A rate that depends on the request is a callable, @throttle(rate_for_request). To ask "
            'inside the view, make a Throttle("name", "100/m") outside and call its check()'
        )
    return None


def _is_decorated(function: object, caller: FrameType) -> bool:
    """Whether it is a ``def`` in the caller's body, and the line that is running is one of its decorators'."""
    inner: Any = function
    while (wrapped := getattr(inner, "__wrapped__", None)) is not None:
        inner = wrapped
    code = getattr(inner, "__code__", None)
    if code is None or code.co_name == "<lambda>" or not any(code is each for each in caller.f_code.co_consts):
        return False
    body = min((line for _, _, line in code.co_lines() if line and line > code.co_firstlineno), default=None)
    return bool(code.co_firstlineno <= caller.f_lineno < (code.co_firstlineno + 1 if body is None else body))


def _is_in_a_view(frame: FrameType | None) -> bool:
    """Whether a function on the stack was given a request. A module may be imported meanwhile, which is no view."""
    while frame is not None and frame.f_code.co_name != "<module>":
        names, rest, _, values = inspect.getargvalues(frame)
        given = [values.get(name) for name in names] + list(values.get(rest, ()) if rest else ())
        if any(_is_request(each) for each in given):
            return True
        frame = frame.f_back
    return False


def _is_request(value: object) -> bool:
    # A lazy object is not asked, which would make it.
    return issubclass(type(value), HttpRequest) or issubclass(
        type(inspect.getattr_static(value, "_request", None)), HttpRequest
    )


def problem_of_view(view: Any) -> str | None:
    """Why something cannot be decorated, or None."""
    if isinstance(view, type):
        if not callable(getattr(view, "dispatch", None)):
            return f"{view.__qualname__} has no dispatch(): a throttle decorates views, and classes of views"
    elif isinstance(view, Limit):
        return 'throttle(...) is given another throttle(...) and no view: write each above the view, @throttle("100/m")'
    elif not callable(view):
        if _is_request(view):
            return f"a URL leads to throttle(...) itself and not to a view: {BARE}"
        return f"a throttle decorates views, not {type(view).__name__}"
    elif inspect.ismethod(view) and view.__name__ == "as_view":
        return f"{view.__qualname__} is not called: write as_view()"
    elif hasattr(view, "_ninja_operation"):
        return (
            "it stands above Ninja's route, which has the function already, so it would never limit: put it directly "
            "above the function, below the route"
        )
    elif inspect.isgeneratorfunction(view) or inspect.isasyncgenfunction(view):
        return (
            "a throttle decorates views that return a response, and this is a generator: for a stream of Ninja's use a "
            "throttle class (django_vcache.ninja)"
        )
    return None


def problem_of_place(limit: Limit, view: Callable[..., Any]) -> str | None:
    """Why a limit by user cannot know the user where it stands, or None.

    REST framework and Ninja find out who the user is inside of the view.
    """
    if limit.key not in BY_USER:
        return None
    if isinstance(view, type):
        if authenticates_late(view) and getattr(view, "view_is_async", False):
            return _where_to_put_it(limit, "an async view of REST framework", "on the method, such as get()")
        return None
    inner = inside(view)
    view_class = class_of(inner)
    if view_class is not None and authenticates_late(view_class) and not _is_by_session(inner, view_class):
        return _where_to_put_it(limit, "REST framework's view", "below @api_view, or on the class or a method of it")
    operation = instance_of(inner)
    if getattr(operation, "auth_callbacks", None) is not None and getattr(inner, "__name__", "") == "run":
        return _where_to_put_it(limit, "decorate_view() of Ninja", "directly above the function, without decorate_view")
    return None


def _where_to_put_it(limit: Limit, what: str, where: str) -> str:
    return (
        f"its key is {limit.key!r}, and it stands around {what}, which finds out only inside who the user is: users "
        f"with a token would be charged by their address, or together. Put it {where}; or use a throttle class of the "
        "framework's (django_vcache.rest_framework, django_vcache.ninja), or key='ip'"
    )


def _is_by_session(view: Any, view_class: Any) -> bool:
    """Whether the users of REST framework's view are those of Django's session, who are known before."""
    from rest_framework.authentication import SessionAuthentication
    from rest_framework.views import APIView

    if view_class.get_authenticators is not APIView.get_authenticators:
        return False
    given = (getattr(view, "initkwargs", None) or {}).get("authentication_classes", view_class.authentication_classes)
    return all(issubclass(each, SessionAuthentication) for each in given)
