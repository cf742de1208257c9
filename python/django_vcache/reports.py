"""What is not raised is logged, on the logger ``django_vcache``: values that could not be read, with IGNORE_EXCEPTIONS
the errors that were ignored, limits that were decided without the server, and what a consumer of a stream gets over by
itself. A dead server under load fails thousands of times a second, so each kind is logged once a second at most, with
the number of those that were left out."""

import logging
import os
import threading
import time

logger = logging.getLogger("django_vcache")

INTERVAL = 1.0
"""Seconds between two lines of one kind for one alias."""


class _Throttled:
    """Logs at most one line an interval and alias, and counts the rest."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._last: dict[str, float] = {}
        self._left_out: dict[str, int] = {}

    def __call__(self, level: int, alias: str, message: str, *args: object) -> None:
        now = time.monotonic()
        with self._lock:
            if now - self._last.get(alias, -INTERVAL) < INTERVAL:
                self._left_out[alias] = self._left_out.get(alias, 0) + 1
                return
            self._last[alias] = now
            left_out = self._left_out.pop(alias, 0)
        if left_out:
            message += " (and %d more like it)"
            args += (left_out,)
        logger.log(level, message, *args)


_misses = _Throttled()
_errors = _Throttled()
_outages = _Throttled()
_retries = _Throttled()
_burials = _Throttled()
_excuses = _Throttled()


def _renew_locks() -> None:
    """In a forked child, whose parent may have been logging on another thread."""
    for each in (_misses, _errors, _outages, _retries, _burials, _excuses):
        each._lock = threading.Lock()


os.register_at_fork(after_in_child=_renew_locks)


def unreadable(alias: str, key: str, reason: str) -> None:
    """A stored value could not be read; the caller gets a miss."""
    _misses(logging.WARNING, alias, "cache '%s': %s; treated as a miss: key %r", alias, reason, key)


def ignored(alias: str, error: Exception) -> None:
    """IGNORE_EXCEPTIONS is set; the caller gets a miss."""
    _errors(logging.ERROR, alias, "%s (ignored: IGNORE_EXCEPTIONS is set)", error)


def untracked(alias: str) -> None:
    """The server refuses to say when a key changes; a wait for one asks again and again."""
    if alias not in _untracked:
        _untracked.add(alias)
        logger.warning(
            "cache '%s': the server refuses CLIENT TRACKING, so a wait for a key to change asks for it up to 40 times "
            "a second: allow +client|tracking and +client|caching to the user",
            alias,
        )


_untracked: set[str] = set()
"""Aliases of which that was said: once in a process."""


def unscripted(alias: str) -> None:
    """The server refuses scripts; ``incr`` does without, in two steps. The client says it once."""
    logger.warning(
        "cache '%s': the server refuses scripts, so incr() and decr() take two round trips instead of one: allow "
        "+evalsha and +eval to the user",
        alias,
    )


def cold(error: Exception) -> None:
    """The server did not answer when the process began to serve."""
    logger.warning("%s (at the start of this process; the first call tries again)", error)


def unasked(alias: str, reason: str) -> None:
    """A throttle, a quota, a gate or a stream could not ask the server; its outage policy decided."""
    _outages(logging.WARNING, alias, "%s (decided without the server, as the outage policy says)", reason)


def retried(alias: str, what: str, error: Exception) -> None:
    """The server is away or cannot serve; a consumer goes on trying."""
    _retries(logging.WARNING, alias, "%s: %s (trying again)", what, error)


def buried(alias: str, what: str, count: int) -> None:
    """Entries of a stream went to its dead letters."""
    _burials(
        logging.ERROR,
        alias,
        "cache '%s': %s: %d went to the dead letters: see manage.py vcache_stream",
        alias,
        what,
        count,
    )


def excused(alias: str, what: str, failing: int) -> None:
    """Each batch fails, which is not the fault of the entries."""
    _excuses(
        logging.ERROR,
        alias,
        "cache '%s': %s: the last %d batches have failed, and none in between has succeeded: what works on them is "
        "broken, or something that it needs is down. This is not counted against the entries",
        alias,
        what,
        failing,
    )
