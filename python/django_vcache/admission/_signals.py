"""SIGTERM and SIGINT as a request to stop, for as long as somebody consumes. It is the same for loops and for threads:
a handler of Python's own, since that, unlike a loop's, can be read before and put back after.
"""

import contextlib
import os
import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Any

_Stop = Callable[[], None]

_previous: dict[int, Any] = {}
"""The handlers from before, of the signals that are watched."""
_stops: dict[_Stop, frozenset[int]] = {}
"""Whom to tell of which signals. Only the main thread reads and writes these two."""
_owner = os.getpid()


@contextlib.contextmanager
def stopping_on(signals: Iterable[int], stop: _Stop) -> Iterator[None]:
    """Calls `stop` at the first of these signals. After that, and at the end of the block, the handlers from before are
    back, so that a second Ctrl-C does what it always did.

    On a thread other than the main one it does nothing: Python lets only that one have handlers.
    """
    watched = frozenset(signals)
    if not watched or threading.current_thread() is not threading.main_thread():
        yield
        return
    _forget_the_parents()
    _stops[stop] = watched
    for number in watched - _previous.keys():
        previous = signal.getsignal(number)
        # None is a handler that was not set from Python, and that Python cannot put back.
        if previous is not None:
            _previous[number] = previous
            signal.signal(number, _told)
    try:
        yield
    finally:
        _stops.pop(stop, None)
        _put_back(set(_previous).difference(*_stops.values()))


def _told(number: int, frame: Any) -> None:
    if _owner != os.getpid():
        # A forked child that does not consume: it takes the signal as it would have without us.
        _forget_the_parents()
        signal.raise_signal(number)
        return
    told = [stop for stop, watched in _stops.items() if number in watched]
    for stop in told:
        del _stops[stop]
    _put_back(set(_previous).difference(*_stops.values()))
    for stop in told:
        stop()


def _put_back(numbers: set[int]) -> None:
    for number in numbers:
        previous = _previous.pop(number)
        # Somebody who set a handler meanwhile keeps it.
        if signal.getsignal(number) is _told:
            signal.signal(number, previous)


def _forget_the_parents() -> None:
    global _owner
    if _owner != os.getpid():
        _owner = os.getpid()
        _stops.clear()
        _put_back(set(_previous))
