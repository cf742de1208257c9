"""SIGTERM and SIGINT as a request to stop, while there is a consumer. It is the same for loops and for threads:
a handler set from Python, since that, unlike a loop's, can be read before and put back after.

A loop that a web server runs has the server's handlers: they are called as well, or the server would not stop. Those of
``loop.add_signal_handler`` are called by the loop itself, whatever handler Python has.
"""

import os
import signal
import threading
from collections.abc import Callable, Iterable
from typing import Any


class Watch:
    """One iteration that a signal stops. Each has its own: one that ends late takes nothing from later ones.

    Args:
        shares: others who want the signal share this thread, such as the server that runs the loop: the handler from
            before is called too.
    """

    def __init__(self, signals: Iterable[int], stop: Callable[[], None], *, shares: bool) -> None:
        self.signals = frozenset(signals)
        self.stop = stop
        self.shares = shares


class _Handler:
    """A handler of ours, and the one that was there before it.

    Each time it is another one: a handler that is set meanwhile may hand on to ours for good, also when we have
    long set another one before theirs, and each then knows what comes after it.
    """

    def __init__(self, previous: Any) -> None:
        self.previous = previous

    def __call__(self, number: int, frame: Any) -> None:
        _forget_the_parents()
        told = [watch for watch in _watches if number in watch.signals]
        for watch in told:
            _watches.pop(watch, None)
        _put_back_unwatched()
        for watch in told:
            watch.stop()
        if not told:
            # A forked child that does not consume, or no consumer is left: as it would be without us.
            self._hand_on(number, frame)
        elif any(watch.shares for watch in told) and not _breaks_off(self.previous):
            self._hand_on(number, frame)

    def _hand_on(self, number: int, frame: Any) -> None:
        if callable(self.previous):
            self.previous(number, frame)
        elif self.previous == signal.SIG_DFL:
            current = signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)
            # It did not end the process.
            signal.signal(number, current)


_handlers: dict[int, _Handler] = {}
"""The handlers that we have set, of the signals that are watched."""
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
    for number in watch.signals - _handlers.keys():
        previous = signal.getsignal(number)
        # None is a handler that was not set from Python, and that Python cannot put back.
        if previous is not None:
            _handlers[number] = handler = _Handler(previous)
            signal.signal(number, handler)


def end(watch: Watch) -> None:
    """The iteration is over. Saying so twice does no harm."""
    _watches.pop(watch, None)
    # An iteration may be dropped on another thread: the handlers are then put back when a signal comes.
    if _on_the_main_thread():
        _forget_the_parents()
        _put_back_unwatched()


def _breaks_off(handler: Any) -> bool:
    """Whether a handler is one that Python sets itself, and that would end the work on the batch in hand: the default
    ones, and that of ``asyncio.run``, which cancels the main task."""
    if not callable(handler) or handler is signal.default_int_handler:
        return True
    # A partial function of a method.
    return getattr(getattr(handler, "func", handler), "__module__", None) == "asyncio.runners"


def _on_the_main_thread() -> bool:
    return threading.current_thread() is threading.main_thread()


def _put_back_unwatched() -> None:
    for number in set(_handlers).difference(*(watch.signals for watch in list(_watches))):
        handler = _handlers.pop(number)
        previous = handler.previous
        # A handler that was set meanwhile stays.
        if signal.getsignal(number) is handler:
            signal.signal(number, previous)


def _forget_the_parents() -> None:
    global _owner
    if _owner != os.getpid():
        _owner = os.getpid()
        _watches.clear()
        _put_back_unwatched()
