"""Lanes: the threads that run the blocking code of requests, one request on one thread at a time.

Under asgiref all blocking calls of a request run on one thread, because database connections belong to threads. It
makes that thread for the request and ends it afterwards. A :class:`Lane` is an executor that takes its place: it
borrows a thread from :class:`Lanes` at the first call and gives it back at the end of the request, so that threads and
their database connections live on.

The state of all lanes and threads is guarded by the one lock of ``Lanes``. ``submit`` and ``end`` are called on any
thread, nearly always that of an event loop. A thread that no request uses for some time closes its database connections
and ends.
"""

import atexit
import contextlib
import logging
import os
import queue
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Executor, Future
from typing import Any

from django.db import connections

from django_vcache.admission.settings import current

__all__ = ["Lane", "Lanes", "lanes"]

logger = logging.getLogger("django_vcache")

_Call = tuple["Lane", Future[Any], Callable[..., Any], tuple[Any, ...], dict[str, Any]]


class Lane(Executor):
    """What stands for the thread of one request; it takes one at the first call."""

    def __init__(self, pool: "Lanes") -> None:
        self.is_used = False
        """Whether there was a call."""
        self.first: tuple[Callable[[], object], ...] = ()
        """What the thread has to do before the first call."""
        self._pool = pool
        # These three are guarded by the pool's lock.
        self._thread: _Thread | None = None
        self._calls = 0
        self._is_over = False

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Runs a call after the earlier ones, on the same thread."""
        future: Future[Any] = Future()
        self._pool._submit((self, future, fn, args, kwargs))
        return future

    def end(self) -> None:
        """Gives the thread back, once the last call has ended: the call of a cancelled request may still run."""
        self._pool._end(self)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """As an executor's, but nothing is waited for: the thread is not this lane's to end."""
        self.end()


class _Thread(threading.Thread):
    """A kept thread. It runs the calls of the lane that has it."""

    def __init__(self, pool: "Lanes", number: int, idle: float) -> None:
        # Daemon, so that the interpreter's end does not wait for idle ones to expire: `drain` waits for those at work.
        super().__init__(name=f"vcache-lane-{number}", daemon=True)
        self.pool = pool
        self.idle = idle
        """Seconds without a lane after which it ends."""
        self.calls: queue.SimpleQueue[_Call | None] = queue.SimpleQueue()
        self.among = pool._threads
        """The threads of this process, as they were when it started."""

    def run(self) -> None:
        while True:
            try:
                call = self.calls.get(timeout=self.idle)
            except queue.Empty:
                if self.pool._expire(self):
                    break
                continue
            if call is None:
                break
            _execute(self.pool, *call)
            # What is over is kept by nothing while this thread waits.
            del call
            if self.pool._threads is not self.among:
                # The call has forked, and this is the child, in which the pool has begun anew.
                break
        with contextlib.suppress(Exception):
            connections.close_all()


def _execute(
    pool: "Lanes",
    lane: Lane,
    future: Future[Any],
    fn: Callable[..., Any],
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
) -> None:
    # The lane knows that its call is over before the request does. So the thread is free at the moment in which the
    # request ends, and the next request needs no other.
    if not future.set_running_or_notify_cancel():
        pool._ran(lane)
        return
    try:
        first, lane.first = lane.first, ()
        for each in first:
            each()
        result = fn(*args, **kwargs)
    except BaseException as error:
        pool._ran(lane)
        future.set_exception(error)
        # The traceback has this frame, which would keep the error in a circle.
        del future
    else:
        pool._ran(lane)
        future.set_result(result)


class Lanes:
    """The threads of a process, and the lanes that wait for one.

    Handlers use the one object :data:`lanes`: the bound is that of the process, and so of its database connections.
    """

    def __init__(self) -> None:
        self._begin()

    def _begin(self) -> None:
        """An empty pool. In a fork's child the parent's threads are not there, and its lock may be held."""
        # Re-entrant: the collector may end the lane of a forgotten request while this thread holds it.
        self._lock = threading.RLock()
        self._threads: set[_Thread] = set()
        self._idle: list[_Thread] = []
        self._waiting: dict[Lane, deque[_Call]] = {}
        self._started = 0
        self._most = 0
        self._warned = False

    def lane(self) -> Lane:
        """A lane without a thread yet."""
        return Lane(self)

    @property
    def state(self) -> dict[str, int]:
        """How many threads there are, how many of them have nothing to do, and how many requests wait for one.

        >>> lanes.state  # doctest: +SKIP
        {'threads': 4, 'idle': 3, 'waiting': 0}
        """
        with self._lock:
            return {"threads": len(self._threads), "idle": len(self._idle), "waiting": len(self._waiting)}

    def drain(self) -> None:
        """Ends the threads, each after the calls that it has already, and blocks until they have ended.

        The pool can be used on: a later call starts a new thread, also one of a request that had another before.
        """
        with self._lock:
            leaving = list(self._threads)
            self._idle.clear()
            for thread in leaving:
                self._dismiss(thread)
            self._renew()
        for thread in leaving:
            if thread is not threading.current_thread():
                thread.join()

    def _submit(self, call: _Call) -> None:
        lane = call[0]
        with self._lock:
            thread = lane._thread
            if thread is not None and thread in self._threads:
                thread.calls.put(call)
            elif lane in self._waiting:
                self._waiting[lane].append(call)
            else:
                self._begin_lane(lane, call)
            lane.is_used = True
            lane._calls += 1

    def _begin_lane(self, lane: Lane, call: _Call) -> None:
        """Finds a thread for a first call, or has it wait for one."""
        # The one that was used last: the others may expire, and its connections are the warmest.
        thread = self._idle.pop() if self._idle else self._start()
        if thread is None:
            self._waiting[lane] = deque([call])
            self._warn()
        else:
            lane._thread = thread
            thread.calls.put(call)

    def _start(self) -> _Thread | None:
        """A new thread, or None if there may be no more."""
        settings = current()
        self._most = settings.lanes
        if len(self._threads) >= self._most:
            return None
        self._started += 1
        thread = _Thread(self, self._started, settings.lane_idle)
        try:
            thread.start()
        except RuntimeError:
            # The system has no thread left. One of ours may be free soon.
            if not self._threads:
                raise
            return None
        self._threads.add(thread)
        return thread

    def _end(self, lane: Lane) -> None:
        with self._lock:
            lane._is_over = True
            if (calls := self._waiting.get(lane)) is not None:
                # A task that outlives the request may still want its call; that of a cancelled one is gone.
                wanted = deque(call for call in calls if not call[1].cancelled())
                lane._calls = len(wanted)
                self._waiting[lane] = wanted
                if not wanted:
                    del self._waiting[lane]
            if not lane._calls:
                self._release(lane)

    def _ran(self, lane: Lane) -> None:
        with self._lock:
            lane._calls -= 1
            if lane._is_over and not lane._calls:
                self._release(lane)

    def _release(self, lane: Lane) -> None:
        """Takes the thread from a lane, for the one that has waited longest."""
        thread, lane._thread = lane._thread, None
        if thread is None or thread not in self._threads:
            return
        if len(self._threads) > self._most:
            self._dismiss(thread)
        else:
            self._hand(thread)

    def _renew(self) -> None:
        """Threads for those that wait, as far as there may be any."""
        # None can be started while the interpreter ends.
        with contextlib.suppress(RuntimeError):
            while self._waiting and (thread := self._start()) is not None:
                self._hand(thread)

    def _hand(self, thread: _Thread) -> None:
        while self._waiting:
            lane = next(iter(self._waiting))
            calls = self._waiting.pop(lane, None)
            if calls is not None:
                lane._thread = thread
                for call in calls:
                    thread.calls.put(call)
                return
        self._idle.append(thread)

    def _dismiss(self, thread: _Thread) -> None:
        self._threads.discard(thread)
        thread.calls.put(None)

    def _expire(self, thread: _Thread) -> bool:
        """Whether a thread that had nothing to do for a while may end."""
        with self._lock:
            if thread not in self._idle:
                return False
            self._idle.remove(thread)
            self._threads.discard(thread)
            return True

    def _warn(self) -> None:
        if not self._warned:
            self._warned = True
            logger.warning(
                "all %d lanes are taken, so a request waits until another one ends. VCACHE['LANES'] sets how many "
                "there are. This is said once",
                self._most,
            )


lanes = Lanes()
"""The lanes of this process."""

os.register_at_fork(after_in_child=lanes._begin)
# A call that runs is not cut off, as it is not with the threads that asgiref makes.
atexit.register(lanes.drain)
