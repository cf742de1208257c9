"""How often the limits of views admitted and refused, by the names of their budgets, in this process."""

import os
import threading
from collections import Counter
from collections.abc import Iterable

from django_vcache import _vcache

__all__ = ["count", "metrics", "total"]

KINDS = ("admitted", "refused", "deny_cache", "guard", "outages", "outage_open", "outage_closed", "outage_local")

_counts: dict[str, Counter[str]] = {}
_lock = threading.Lock()


def _renew_lock() -> None:
    """In a forked child, whose parent may have been counting on another thread."""
    global _lock
    _lock = threading.Lock()


os.register_at_fork(after_in_child=_renew_lock)


def count(names: Iterable[str], decision: _vcache.Decision) -> None:
    """Counts a decision for the budgets that it is about; a refusal only for the one that refused."""
    source, refused = decision.source, decision.refused_by
    if source == "outage":
        closed = refused is not None and refused.kind == "outage"
        kinds = ["outages", "outage_open" if refused is None else "outage_closed" if closed else "outage_local"]
    elif refused is None:
        kinds = ["admitted"]
    else:
        kinds = [source if source in ("deny_cache", "guard") else "refused"]
        names = (refused.rule,)
    with _lock:
        for name in names:
            counter = _counts.get(name)
            if counter is None:
                counter = _counts[name] = Counter()
            for kind in kinds:
                counter[kind] += 1


def metrics() -> dict[str, dict[str, int]]:
    """What ``@throttle`` and the throttle classes of REST framework and Ninja have decided in this process.

    Returns:
        For the name of each budget that was asked, how often it ``admitted`` and ``refused``; whom the ``deny_cache``
        and the ``guard`` refused; and the ``outages``, of these ``outage_open`` (admitted all the same),
        ``outage_closed`` and ``outage_local`` (refused by a local count). They are the words of ``Throttle.metrics()``.

    >>> metrics()["login"]["refused"]  # doctest: +SKIP
    12
    """
    with _lock:
        return {name: {kind: counter[kind] for kind in KINDS} for name, counter in _counts.items()}


def total(names: Iterable[str]) -> dict[str, int]:
    """The sum of several budgets."""
    with _lock:
        counters = [_counts[name] for name in set(names) if name in _counts]
        return {kind: sum(counter[kind] for counter in counters) for kind in KINDS}
