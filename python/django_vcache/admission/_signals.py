"""SIGTERM and SIGINT as a request to stop, for as long as somebody consumes. It is the same for loops and for threads:
a handler of Python's own, since that, unlike a loop's, can be read before and put back after.
"""

import os
import signal
import threading
from collections.abc import Callable, Iterable
from typing import Any


class Watch:
    """One iteration's wish to be told. Each is a key of its own: what ends late takes nothing from who came after."""

    def __init__(self, signals: Iterable[int], stop: Callable[[], None]) -> None:
        self.signals = frozenset(signals)
        self.stop = stop


_previous: dict[int, Any] = {}
"""The handlers from before, of the signals that are watched."""
_watches: dict[Watch, None] = {}
"""Whom to tell. Only the main thread adds to these two."""
_owner = os.getpid()


def begin(watch: Watch) -> None:
    """Calls `watch.stop` at the first of its signals. After that, and at the :func:`end`, the handlers from before are
    back, so that a second Ctrl-C does what it always did.

    On a thread other than the main one it does nothing: Python lets only that one have handlers.
    """
    if not watch.signals or not _on_the_main_thread():
        return
    _forget_the_parents()
    _watches[watch] = None
    for number in watch.signals - _previous.keys():
        previous = signal.getsignal(number)
        # None is a handler that was not set from Python, and that Python cannot put back.
        if previous is not None:
            _previous[number] = previous
            signal.signal(number, _told)


def end(watch: Watch) -> None:
    """The iteration is over. Saying so twice does no harm."""
    _watches.pop(watch, None)
    # An iteration may be dropped on another thread: the handlers are then put back when a signal comes.
    if _on_the_main_thread():
        _forget_the_parents()
        _put_back_unwatched()


def _told(number: int, frame: Any) -> None:
    told = [watch for watch in _watches if number in watch.signals] if _owner == os.getpid() else []
    if not told:
        # A forked child that does not consume, or nobody does any more: as it would be without us.
        _forget_the_parents()
        _put_back_unwatched()
        signal.raise_signal(number)
        return
    for watch in told:
        _watches.pop(watch, None)
    _put_back_unwatched()
    for watch in told:
        watch.stop()


def _on_the_main_thread() -> bool:
    return threading.current_thread() is threading.main_thread()


def _put_back_unwatched() -> None:
    for number in set(_previous).difference(*(watch.signals for watch in list(_watches))):
        previous = _previous.pop(number)
        # Somebody who set a handler meanwhile keeps it.
        if signal.getsignal(number) is _told:
            signal.signal(number, previous)


def _forget_the_parents() -> None:
    global _owner
    if _owner != os.getpid():
        _owner = os.getpid()
        _watches.clear()
        _put_back_unwatched()
