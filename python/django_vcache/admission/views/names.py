"""What the budgets of views are called: each limit of a view that has no name is named by the view's import path and by
what tells it from its neighbours. Such a name is for the server and for you; clients see another."""

import functools
import hashlib
import re
import weakref
from collections.abc import Callable

from django.utils.crypto import salted_hmac

from django_vcache import _vcache
from django_vcache.admission.views.limit import Limit

__all__ = ["internal", "name_for", "told", "told_headers", "told_to_sentry"]

_named: dict[str, dict["weakref.ref[Limit]", int]] = {}
"""The limits that have the same name but for a number, each with its number.

No lock guards it, which a forked child might inherit taken: each step is one operation, and threads that name the
limits of one view do so in the same order.
"""

_internal: set[str] = set()
"""Names that clients do not see."""


def name_for(path: str, limit: Limit) -> str:
    """A name for a limit of the view at an import path: the path, the rate's period, and what is not the default.

    So a decorator that is added or moved does not rename the others. Those that are alike in all of that have a number
    from the second on.
    """
    if limit.name is not None:
        return limit.name
    if (known := limit.names.get(path)) is not None:
        return known
    alike = ".".join([path, *_marks(limit)])
    limits = _named.setdefault(alike, {})
    number = limits.setdefault(weakref.ref(limit), len(limits))
    name = limit.names[path] = internal(alike + (f".{number + 1}" if number else ""))
    return name


def internal(full: str) -> str:
    """A name that was made of an import path, as the server takes it. Clients see another."""
    name = _vcache.as_name(full)
    # Of what is cut off or replaced, but for `<locals>`, the hash tells one from another.
    if len(name) > _vcache.LONGEST_NAME or name != full.replace("<", "_").replace(">", "_"):
        digest = hashlib.blake2s(full.encode(), digest_size=5).hexdigest()
        name = f"{digest}.{name[len(digest) + 1 - _vcache.LONGEST_NAME :]}"
    _internal.add(name)
    return name


def _marks(limit: Limit) -> list[str]:
    marks = [_called(limit.rate) if callable(limit.rate) else period_of(limit.rate)]
    if limit.key != "user_or_ip":
        marks.append(_called(limit.key) if callable(limit.key) else limit.key.replace(":", "-"))
    if limit.methods is not None:
        marks += sorted(limit.methods)
    if limit.cost != 1:
        marks.append(f"cost-{_called(limit.cost) if callable(limit.cost) else limit.cost}")
    if limit.policy.deduct is not None:
        marks.append("deduct")
    return marks


def _called(function: Callable[..., object]) -> str:
    name = getattr(function, "__name__", type(function).__name__)
    return "lambda" if name == "<lambda>" else name


def period_of(rate: str) -> str:
    """A rate's period in its largest unit: ``1m`` of "100/60s"."""
    seconds = _vcache.parse_rate(rate)[1]
    for unit, length in (("d", 86400), ("h", 3600), ("m", 60)):
        if seconds % length == 0:
            return f"{seconds // length:.0f}{unit}"
    return f"{seconds:g}s"


def told(name: str) -> str | None:
    """A budget's name for clients: the one that the decorator gives it, or None."""
    return None if name in _internal else name


def told_headers(value: str) -> str:
    """The value of RateLimit or RateLimit-Policy with names for clients only."""
    return re.sub(r'"([^"]*)"', lambda quoted: f'"{_label(quoted[1])}"', value)


def told_to_sentry(value: str) -> str:
    """The value of X-Sentry-Rate-Limits, which ends with the name of the rule that refused, in the same way."""
    before, colon, name = value.rpartition(":")
    return before + colon + _label(name)


def _label(name: str) -> str:
    return _opaque(name) if name in _internal else name


@functools.lru_cache(maxsize=4096)
def _opaque(name: str) -> str:
    """Tells a budget from others, and not where the view is: without the secret it cannot be guessed and compared."""
    return f"limit-{salted_hmac('django_vcache.limits', name, algorithm='sha256').hexdigest()[:8]}"
