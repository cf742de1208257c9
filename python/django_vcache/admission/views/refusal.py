"""What a client sees: the response of a refusal, and the headers of all decisions that were made for a request."""

import functools
import inspect
import math
from collections.abc import Iterable
from typing import Any

from django.dispatch import Signal
from django.http import HttpRequest, HttpResponse, HttpResponseBase, JsonResponse
from django.template.loader import render_to_string
from django.utils.module_loading import import_string

from django_vcache import _vcache
from django_vcache.admission.settings import current
from django_vcache.admission.views.names import told, told_headers, told_to_sentry
from django_vcache.exceptions import ConfigurationError

__all__ = [
    "attach",
    "decisions_of",
    "headers_of",
    "hide_names",
    "limit_exceeded",
    "problem_with",
    "refusal",
    "replace",
    "response_of",
    "status_of",
]

_ATTRIBUTE = "_vcache_decisions"
_NAMING = ("RateLimit-Policy", "RateLimit")
_SENTRY = "X-Sentry-Rate-Limits"

limit_exceeded = Signal()
"""Sent when ``@throttle`` or a throttle class of REST framework or Ninja refuses a request.

Its arguments are ``sender`` (the class of the limit), ``request``, ``decision``, and ``blocked``, which is False if the
view is called all the same. A receiver that raises is logged by Django and changes nothing. For an async view it is
sent with ``asend_robust``, so receivers may be async.

>>> from django.dispatch import receiver
>>> @receiver(limit_exceeded)
... def tell(sender, request, decision, blocked, **kwargs): ...
"""


def attach(request: HttpRequest, decision: "_vcache.Decision") -> None:
    """Has the middleware tell the client of a decision that the view made by itself, with a gate or a throttle.

    >>> async def store(request):  # doctest: +SKIP
    ...     decision = await gate.aadmit({"org": 1}, payload=request.body)
    ...     attach(request, decision)
    """
    _attached(request).append(decision)


def _attached(request: HttpRequest) -> "list[_vcache.Decision]":
    # A REST framework request wraps Django's, which is the one that the middleware has.
    request = getattr(request, "_request", request)
    attached: list[_vcache.Decision] | None = getattr(request, _ATTRIBUTE, None)
    if attached is None:
        attached = []
        setattr(request, _ATTRIBUTE, attached)
    return attached


def replace(request: HttpRequest, old: "_vcache.Decision", new: "Iterable[_vcache.Decision]") -> None:
    """Attaches decisions in the place of one that they have made obsolete."""
    attached = _attached(request)
    place = next(number for number, decision in enumerate(attached) if decision is old)
    attached[place : place + 1] = new


def decisions_of(request: HttpRequest) -> "tuple[_vcache.Decision, ...]":
    """What was decided for a request so far, by decorators, throttle classes and :func:`attach`."""
    return tuple(getattr(getattr(request, "_request", request), _ATTRIBUTE, ()))


def headers_of(decisions: "Iterable[_vcache.Decision]", *, legacy: bool = False) -> dict[str, str]:
    """The headers of several decisions as one set.

    The policies and states are lists, and are joined. ``Retry-After`` is the longest that was told. The X-RateLimit
    triple has room for one rule: that of a refusal, or else the one with the least left.
    """
    joined: dict[str, list[str]] = {}
    waits: list[int] = []
    triples: list[tuple[bool, int, dict[str, str]]] = []
    for decision in decisions:
        own = decision.headers(legacy=legacy)
        for name in _NAMING:
            if name in own and own[name] not in joined.setdefault(name, []):
                joined[name].append(own[name])
        if "Retry-After" in own:
            waits.append(int(own["Retry-After"]))
        triple = {name: value for name, value in own.items() if name.startswith("X-RateLimit-")}
        if triple:
            triples.append((decision.allowed, int(triple["X-RateLimit-Remaining"]), triple))
    headers = {name: told_headers(", ".join(values)) for name, values in joined.items()}
    if waits:
        headers["Retry-After"] = str(max(waits))
    if triples:
        headers |= min(triples, key=lambda triple: triple[:2])[2]
    return headers


def hide_names(response: Any) -> None:
    """Takes the names that are made of views' paths out of the headers of a response, where a view has put them."""
    # What a view of Ninja's returns need not be one. Most have a type and nothing else yet, and to look costs 2 us.
    if isinstance(response, HttpResponseBase) and len(response.headers) > 1:
        for name in _NAMING:
            if name in response.headers:
                response.headers[name] = told_headers(response.headers[name])
        if _SENTRY in response.headers:
            response.headers[_SENTRY] = told_to_sentry(response.headers[_SENTRY])


def status_of(decision: "_vcache.Decision") -> int:
    """The status of a refusal: 503 for an outage and for a full stream, where the client is not to blame; else 429."""
    refused = decision.refused_by
    return 503 if refused is not None and refused.kind in ("outage", "stream") else decision.status


def text_of(decision: "_vcache.Decision") -> str:
    """A refusal in a sentence for its client. A name that is made of a view's path is left out."""
    refused = decision.refused_by
    if refused is None:
        raise ValueError("this decision admits the request: only a refusal has a response")
    name = told(refused.rule)
    if refused.kind == "outage":
        return f"Service unavailable: {name or 'a limit'} could not be checked."
    if refused.kind == "stream":
        return f"Service unavailable: {name} is full."
    text = f"Too many requests: refused by the {refused.kind} {name!r}." if name else "Too many requests."
    return text if decision.retry_after is not None else f"{text} It asks for more than the limit ever allows."


def refusal(decision: "_vcache.Decision") -> HttpResponseBase:
    """The response of a refusal, as ``VCACHE["REFUSAL"]`` says; what ``Decision.response()`` returns.

    Raises:
        ValueError: for a decision that was to go on.
        Exception: that of ``VCACHE["REFUSAL"]``, if it names one.
    """
    response = response_of(None, decision)
    if not isinstance(response, HttpResponseBase):
        if inspect.iscoroutine(response):
            response.close()
        raise ConfigurationError(
            f"VCACHE['REFUSAL'] is {current().refusal!r}, which returned {type(response).__name__} and not a response: "
            "for Decision.response() it must not be async"
        )
    return response


def response_of(request: HttpRequest | None, decision: "_vcache.Decision") -> Any:
    """The same with the request, if it is known. What a callable of the project's returns may have to be awaited."""
    how, text = current().refusal, text_of(decision)
    if how not in ("text", "json") and not how.startswith("template:"):
        made = _imported(how)
        if not isinstance(made, type):
            return made(request, decision)
        error = made(text)
        error.decision = decision
        raise error
    wait = decision.retry_after
    facts: dict[str, Any] = {
        "detail": text,
        "status": status_of(decision),
        "limit": told(decision.refused_by.rule) if decision.refused_by else None,
        "retry_after": None if wait is None else max(1, math.ceil(wait)),
    }
    response: HttpResponse
    if how == "json":
        response = JsonResponse(facts, status=facts["status"])
    elif how == "text":
        response = HttpResponse(f"{text}\n", status=facts["status"], content_type="text/plain; charset=utf-8")
    else:
        page = render_to_string(how.removeprefix("template:"), facts, request)
        response = HttpResponse(page, status=facts["status"])
    for name, value in headers_of([decision]).items():
        response.headers[name] = value
    return response


def problem_with(how: str) -> str | None:
    """What is wrong with the callable, exception or template that a ``VCACHE["REFUSAL"]`` names, or None."""
    try:
        if how.startswith("template:"):
            from django.template.loader import get_template

            get_template(how.removeprefix("template:"))
        elif how not in ("text", "json"):
            made = _imported(how)
            if isinstance(made, type):
                # One that is not made of a message fails here, and not with the first refusal.
                made("Too many requests.")
    # A module may raise anything while it is imported, and a template while it is compiled.
    except Exception as error:
        return f"{how!r}: {type(error).__name__}: {error}"
    return None


@functools.lru_cache(maxsize=16)
def _imported(path: str) -> Any:
    found = import_string(path)
    if not callable(found) or (isinstance(found, type) and not issubclass(found, Exception)):
        raise ConfigurationError(f"VCACHE['REFUSAL'] names {path!r}, which is no callable and no class of exceptions")
    return found
