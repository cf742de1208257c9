"""Lookups of projects in the database, for routes that must not wait for it without an end.

A database may accept a connection and then say nothing. A thread that asks it is stuck, and cannot be stopped. So each
lookup has a time by which it must be done. After that its callers are told that there is no answer, and so are all
later ones, at once, until the thread is free: there is one lookup of a project at a time. Lookups have threads for
themselves, so they hold up nothing else.
"""

import asyncio
import logging
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from threading import Lock

from django.conf import settings

logger = logging.getLogger(__name__)

THREADS = 4  # each keeps a connection to the database
MOST = 1000  # lookups at once, of as many projects: clients choose the numbers

Load = Callable[[int], bytes | None]


@dataclass(frozen=True)
class Lookup:
    """A lookup that is under way, and when it must be done, by the clock of `time.monotonic`."""

    until: float
    record: Future[bytes | None] = field(default_factory=Future)


_threads = ThreadPoolExecutor(THREADS, "tracker-lookup")
_lookups: dict[int, Lookup] = {}
_lock = Lock()


async def look_up(project_id: int, load: Load) -> bytes | None:
    """What `load` returns for the project, called in a thread; None if that takes longer than
    `INGEST_LOOKUP_TIMEOUT` seconds, or if too many projects are looked up already."""
    lookup, is_new = _under_way(project_id, load)
    if lookup is None:
        return None
    try:
        async with asyncio.timeout(max(0.0, lookup.until - time.monotonic())):
            return await asyncio.wrap_future(lookup.record)
    except TimeoutError:
        if is_new:
            logger.warning("Project %d cannot be loaded: the database has not answered in time", project_id)
        return None


def _under_way(project_id: int, load: Load) -> tuple[Lookup | None, bool]:
    """The lookup of the project, and whether it begins here. None for a new one where there are too many others."""
    with _lock:
        if lookup := _lookups.get(project_id):
            return lookup, False
        if len(_lookups) >= MOST:
            return None, False
        lookup = Lookup(time.monotonic() + settings.INGEST_LOOKUP_TIMEOUT)
        # It counts as running, so a caller that gives up does not cancel it for the others.
        lookup.record.set_running_or_notify_cancel()
        _threads.submit(_run, project_id, load, lookup)
        _lookups[project_id] = lookup
        return lookup, True


def _run(project_id: int, load: Load, lookup: Lookup) -> None:
    """In a thread: does a lookup."""
    record, failure = None, None
    try:
        # No caller waits any more for a lookup that has waited for a thread for too long.
        if time.monotonic() < lookup.until:
            record = load(project_id)
    except BaseException as error:
        failure = error
    with _lock:
        del _lookups[project_id]
    if failure is None:
        lookup.record.set_result(record)
    else:
        lookup.record.set_exception(failure)
