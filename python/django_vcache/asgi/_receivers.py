"""What is connected to ``request_started`` and ``request_finished``, and what of it has to run.

Django connects four functions, which look after the database connections of the request's thread, the caches of its
context, and the URLconf. As long as a request has no thread, it has no database connection. Any other receiver may do
anything: then the signal is sent as Django sends it.
"""

import weakref
from collections.abc import Callable
from typing import Any

from django.core.cache import close_caches
from django.core.handlers.base import reset_urlconf
from django.core.signals import request_finished
from django.db import close_old_connections, reset_queries
from django.dispatch import Signal

from django_vcache._aliases import renew_embedded

__all__ = ["after_request", "django_receivers"]

_DJANGO = frozenset((reset_queries, close_old_connections, close_caches, reset_urlconf))
_OURS = frozenset((renew_embedded,))
_OF_DATABASES = frozenset((reset_queries, close_old_connections))


def django_receivers(signal: Signal) -> tuple[Callable[..., Any], ...] | None:
    """The receivers of a signal, in their order, or None if there is one that is not Django's.

    It looks at each request: receivers are connected late, and tests disconnect some. What this package connects is
    quick, and on any thread the same: it is called here, and is not among what is returned.
    """
    found = []
    ours = []
    # A copy, because another thread may connect one. An entry has the receiver second in all versions.
    for entry in tuple(signal.receivers):
        receiver = entry[1]
        if isinstance(receiver, weakref.ReferenceType):
            receiver = receiver()
            if receiver is None:
                continue
        if receiver in _OURS:
            ours.append(receiver)
        elif receiver in _DJANGO:
            found.append(receiver)
        else:
            return None
    for receiver in ours:
        receiver(signal=signal)
    return tuple(found)


def after_request(receivers: tuple[Callable[..., Any], ...], sender: type) -> None:
    """What ``request_finished`` does for a request that had no thread.

    The loop's thread may have database connections, of code that ran before the loop did. They are not the request's,
    and Django's handler would not look at them either.
    """
    for receiver in receivers:
        if receiver not in _OF_DATABASES:
            receiver(signal=request_finished, sender=sender)
