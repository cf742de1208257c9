"""What a client is told: the response of a refusal, and the headers of all decisions that were made for a request."""

from collections.abc import Iterable

from django.http import HttpRequest, HttpResponse

from django_vcache import _vcache

__all__ = ["attach", "decisions_of", "headers_of", "refusal"]

_ATTRIBUTE = "_vcache_decisions"


def attach(request: HttpRequest, decision: "_vcache.Decision") -> None:
    """Has the middleware tell the client of a decision that the view made by itself, with a gate or a throttle.

    >>> async def store(request):  # doctest: +SKIP
    ...     decision = await gate.aadmit({"org": 1}, payload=request.body)
    ...     attach(request, decision)
    """
    # A REST framework request wraps Django's, which is the one that the middleware has.
    request = getattr(request, "_request", request)
    attached = getattr(request, _ATTRIBUTE, None)
    if attached is None:
        attached = []
        setattr(request, _ATTRIBUTE, attached)
    attached.append(decision)


def decisions_of(request: HttpRequest) -> "tuple[_vcache.Decision, ...]":
    """What was decided for a request so far, by decorators, REST framework throttles and :func:`attach`."""
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
        for name in ("RateLimit-Policy", "RateLimit"):
            if name in own and own[name] not in joined.setdefault(name, []):
                joined[name].append(own[name])
        if "Retry-After" in own:
            waits.append(int(own["Retry-After"]))
        triple = {name: value for name, value in own.items() if name.startswith("X-RateLimit-")}
        if triple:
            triples.append((decision.allowed, int(triple["X-RateLimit-Remaining"]), triple))
    headers = {name: ", ".join(values) for name, values in joined.items()}
    if waits:
        headers["Retry-After"] = str(max(waits))
    if triples:
        headers |= min(triples, key=lambda triple: triple[:2])[2]
    return headers


def refusal(decision: "_vcache.Decision") -> HttpResponse:
    """The response of a decision that is not one to go on: 429, or 503 if the server could not be asked.

    Raises:
        ValueError: for a decision that was to go on.
    """
    refused = decision.refused_by
    if refused is None:
        raise ValueError("this decision admits the request: only a refusal has a response")
    if refused.kind == "outage":
        text = f"Service unavailable: {refused.rule} could not be checked."
    else:
        text = f"Too many requests: refused by the {refused.kind} {refused.rule!r}."
    wait = decision.retry_after
    text += " It will not be allowed later." if wait is None else ""
    return HttpResponse(
        f"{text}\n", status=decision.status, headers=decision.headers(), content_type="text/plain; charset=utf-8"
    )
