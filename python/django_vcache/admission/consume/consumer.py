"""The consumer of a stream: batches for your code, in a loop or by a callback, blocking or awaited."""

import asyncio
import contextlib
import inspect
import logging
import math
import os
import queue
import random
import signal
import time
import weakref
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator, Sequence
from typing import TypeVar

from asgiref.sync import iscoroutinefunction

from . import databases, signals
from .batch import Batch
from .group import Group
from .reading import Reader
from .steps import Pause, Steps, adrive, cache_of, drive
from .stream import StreamLike

T = TypeVar("T")

# Seconds to leave a handler alone that has failed: at first, and when it fails again and again.
_SHORTEST_PAUSE = 0.1
_LONGEST_PAUSE = 30.0
# A batch is acknowledged by one command, and these fit into one.
_LARGEST_BATCH = 100_000
_LONGEST = 366 * 86_400.0  # seconds

logger = logging.getLogger("django_vcache")


class Consumer:
    """One member of a consumer group, who takes entries of a stream in batches. Make it with ``Stream.consumer()``::

        async for batch in stream.consumer("billing", batch=500, max_wait=1.0):
            await save(batch)

        for batch in stream.consumer("billing"):  # the same, blocking
            save(batch)

    **A batch is acknowledged when the next one is asked for.** A loop that is left by ``break``, by an exception or by
    cancelling its task acknowledges nothing of the batch in hand. It is delivered again: to this consumer as soon as it
    is iterated over again, otherwise to any consumer of the group after ``reclaim_after`` seconds. ``with batch:``,
    ``batch.ack(ids)`` and ``batch.reject(ids)`` say more, see :class:`.Batch`. So every entry is delivered at least
    once, and now and then twice: work that must not be done twice goes by the entry's id, or by one in its payload.

    The iteration ends only when the consumer is stopped, by :meth:`stop`, or on the main thread by SIGTERM or
    SIGINT: the batch in hand is worked on to its end and acknowledged, and nothing more is fetched. An awaited consumer
    hands the signal on to the handler from before, which may be a web server's. While the server is away it waits and
    tries again; if the stream or the group is deleted, it creates them again.

    Around each batch it closes Django's database connections that are broken or older than ``CONN_MAX_AGE``, as a
    request does: those of its thread, or awaited those of the thread where ``sync_to_async`` works.

    Args:
        stream: what to consume.
        group: the name of the consumer group. It is created if it is missing, from the first entry on that is there. Of
            several groups create all before the first consumer runs: :func:`.streams.create_group`.
        batch: the most entries of a batch, up to 100,000.
        max_wait: seconds after its first entry when a batch is handed out though it is not full. 0 is at once.
        name: of this consumer, unlike any other's of the group that is alive; by default made of the host's name, the
            process's number, and chance.
        reclaim_after: seconds after which an entry that was delivered and not acknowledged is delivered again, to
            the first consumer that asks. Longer than `max_wait` and the work on any batch together, or that is done
            twice, unless the work calls :meth:`.Batch.extend`; at least twice `max_wait`, and up to a year.
        max_deliveries: how often an entry is delivered before it goes to the dead letters; None is no end. Each time
            fewer others come with it, and the last time it comes alone, so that one which fails or kills its consumer
            does not take others along. With 1, all of a batch that fails go to the dead letters.
        delete: whether to delete entries once all the groups there are have acknowledged them. Otherwise the stream is
            yours to trim.
        signals: the signals that stop it. ``()`` leaves them alone.

    Raises:
        ValueError, TypeError: for an argument that makes no sense.
    """

    def __init__(
        self,
        stream: StreamLike,
        group: str,
        *,
        batch: int = 500,
        max_wait: float = 1.0,
        name: str | None = None,
        reclaim_after: float = 60.0,
        max_deliveries: int | None = 5,
        delete: bool = True,
        signals: Sequence[int] = (signal.SIGTERM, signal.SIGINT),
    ) -> None:
        if not stream.keys or len(set(stream.keys)) != len(stream.keys) or len(stream.keys) != len(stream.dead_keys):
            raise ValueError(f"stream {stream.name!r} needs one key a shard, and as many for its dead letters")
        _check_text("group", group)
        if name is not None:
            _check_text("name", name)
        _check_count("batch", batch, _LARGEST_BATCH)
        if max_deliveries is not None:
            _check_count("max_deliveries", max_deliveries)
        _check_seconds("max_wait", max_wait, 0)
        _check_seconds("reclaim_after", reclaim_after, 0.001)
        if max_wait > reclaim_after / 2:
            raise ValueError(
                f"max_wait is {max_wait:g} s and reclaim_after {reclaim_after:g} s: others would take over what "
                "is still being collected, so max_wait is half of reclaim_after at the most"
            )
        self.stream = stream
        self._batch = batch
        self._max_wait = max_wait
        self._signals = tuple(signals)
        self._group = Group(
            stream,
            group,
            name=name,
            batch=batch,
            max_deliveries=max_deliveries,
            reclaim_after=reclaim_after,
            delete=delete,
        )
        self._bell: _Bell | _LoopBell | None = None
        self._turn: _Turn | None = None

    @property
    def group(self) -> str:
        """The name of the group."""
        return self._group.group

    @property
    def name(self) -> str:
        """The name of this consumer in its group. A forked child has another, unless it was given."""
        return self._group.name

    @property
    def stopped(self) -> bool:
        """Whether it was told to stop."""
        return self._group.stopped

    def stop(self) -> None:
        """Ends the iteration after the batch in hand, for good. From any thread, task or signal handler.

        A consumer that waits for entries ends within half a second.
        """
        if self._group.stopped_at is None:
            self._group.stopped_at = time.monotonic()
        # Once: the iteration may end meanwhile on its thread.
        bell = self._bell
        if bell is not None:
            bell.ring()

    def metrics(self) -> dict[str, int]:
        """What this consumer has done so far: entries ``delivered`` for the first time, ``redelivered``,
        ``acknowledged``, moved to the dead letters (``dead``), and ``outages``, the calls that the server did not
        answer or refused."""
        return dict(self._group.counts)

    def __iter__(self) -> Generator[Batch, None, None]:
        turn = _Turn(signals.Watch(self._signals, self.stop, shares=False))
        self._begin(turn, _Bell())
        try:
            reader = Reader(self._group, self._batch, self._max_wait)
            while entries := self._drive(reader.next()):
                with self._kept(reader):
                    databases.refresh()
                batch = Batch(self._group, entries)
                yield batch
                self._go_on(turn)
                self._drive(batch._finish())
                databases.refresh()
            self._drive(self._group.leave())
        finally:
            self._end(turn)

    def __aiter__(self) -> AsyncGenerator[Batch, None]:
        turn = _Turn(signals.Watch(self._signals, self.stop, shares=True))
        batches = self._abatches(turn)
        # NOTE: a loop that is left by `break` or an exception drops the generator, and its event loop closes that some
        # time later, or never. The iteration ends when it is dropped.
        turn.dropped = weakref.ref(batches, lambda _: self._end(turn))
        return batches

    async def _abatches(self, turn: "_Turn") -> AsyncGenerator[Batch, None]:
        self._begin(turn, _LoopBell())
        try:
            reader = Reader(self._group, self._batch, self._max_wait)
            while entries := await self._adrive(reader.next()):
                with self._kept(reader):
                    await databases.arefresh()
                batch = Batch(self._group, entries)
                yield batch
                self._go_on(turn)
                await self._adrive(batch._finish())
                await databases.arefresh()
            await self._adrive(self._group.leave())
        finally:
            self._end(turn)

    def run(self, handler: Callable[[Batch], object]) -> None:
        """Calls `handler` with each batch, until it is stopped.

        The batch is acknowledged when the handler has returned, unless the handler has said something else of it
        (:meth:`.Batch.ack`). If it raises, that is logged, the batch is left to be delivered again, and there is a
        pause, of up to 30 seconds when it happens again and again: what is behind the handler may be down. An entry
        whose last delivery has failed goes to the dead letters, with the exception as the reason. While the handler
        fails on everything, its failures are not counted against the entries.

        Raises:
            TypeError: the handler is a coroutine function, which is for :meth:`arun`, or returns what is still to be
                awaited or iterated over. Nothing is acknowledged.
            VcacheError: the server's errors that waiting does not mend.

        >>> stream.consumer("billing").run(save)  # doctest: +SKIP
        """
        if is_awaited(handler):
            raise TypeError(f"run() calls {handler!r} and does not await it: give it to arun()")
        failures = 0
        with contextlib.closing(self.__iter__()) as batches:
            for batch in batches:
                try:
                    result = handler(batch)
                except Exception as error:
                    failures += 1
                    # Before the pause, which may be long.
                    databases.refresh()
                    self._drive(self._failed(batch, error, failures))
                else:
                    if result is not None and _is_still_to_do(result):
                        raise TypeError(
                            f"{handler!r} returned {result!r}, which run() does not await: nothing is acknowledged; "
                            "give arun() what is awaited"
                        )
                    failures = 0
                    self._drive(batch._finish())

    async def arun(self, handler: Callable[[Batch], Awaitable[object]]) -> None:
        """As :meth:`run`, with a handler that is awaited.

        Raises:
            TypeError: the handler has returned nothing to await. Its batch is not acknowledged.
            VcacheError: as :meth:`run`.

        >>> await stream.consumer("billing").arun(asave)  # doctest: +SKIP
        """
        failures = 0
        async with contextlib.aclosing(self.__aiter__()) as batches:
            async for batch in batches:
                awaited = False
                try:
                    result = handler(batch)
                    awaited = inspect.isawaitable(result)
                    if awaited:
                        await result
                except Exception as error:
                    failures += 1
                    await databases.arefresh()
                    await self._adrive(self._failed(batch, error, failures))
                else:
                    if not awaited:
                        raise TypeError(
                            f"{handler!r} returned {result!r}, which cannot be awaited: nothing is acknowledged; "
                            "give arun() a coroutine function, and others to run()"
                        )
                    failures = 0
                    await self._adrive(batch._finish())

    def __repr__(self) -> str:
        return f"<Consumer {self.name!r} of {self._group}>"

    def _failed(self, batch: Batch, error: Exception, failures: int) -> Steps[None]:
        logger.error(
            "cache '%s': %s: the handler failed on %d entries, which will be delivered again",
            self._group.alias,
            self._group,
            len(batch.pending),
            exc_info=error,
        )
        yield from batch._left(error)
        pause = min(_SHORTEST_PAUSE * 2.0 ** min(failures - 1, 20), _LONGEST_PAUSE)
        yield Pause(pause * random.uniform(0.5, 1.0), until_stopped=True)

    @contextlib.contextmanager
    def _kept(self, reader: Reader) -> Generator[None, None, None]:
        """What is cut short here has handed out nothing: the entries in hand come again, and this is not counted."""
        try:
            yield
        except BaseException:
            self._group.lose(reader.since)
            raise

    def _drive(self, steps: Steps[T]) -> T:
        assert isinstance(self._bell, _Bell)
        return drive(steps, self._group.alias, self._bell.wait)

    async def _adrive(self, steps: Steps[T]) -> T:
        assert isinstance(self._bell, _LoopBell)
        return await adrive(steps, self._group.alias, self._bell.wait)

    def _begin(self, turn: "_Turn", bell: "_Bell | _LoopBell") -> None:
        cache_of(self._group.alias)
        # A forked child does not iterate, though its parent did.
        if self._turn is not None and self._turn.process == os.getpid():
            raise RuntimeError(f"{self!r} is being iterated over: make one for each thread and task")
        self._turn = turn
        self._bell = bell
        if self._group.process != os.getpid():
            self._group.begin()
        if self.stopped:
            bell.ring()
        signals.begin(turn.watch)

    def _go_on(self, turn: "_Turn") -> None:
        """After the work on a batch, which may have forked: the child that goes on with the loop is a consumer of its
        own, whom signals stop too."""
        if self._group.process != os.getpid():
            turn.process = os.getpid()
            self._group.begin()
            signals.begin(turn.watch)

    def _end(self, turn: "_Turn") -> None:
        """An iteration is over; the next one may have begun already."""
        signals.end(turn.watch)
        if self._turn is turn:
            self._turn = self._bell = None


class _Turn:
    """One iteration over a consumer."""

    def __init__(self, watch: signals.Watch) -> None:
        self.process = os.getpid()
        self.watch = watch
        self.dropped: weakref.ref[AsyncGenerator[Batch, None]] | None = None


class _Bell:
    """Wakes a thread that pauses when the consumer is stopped, also from a signal handler of that very thread."""

    def __init__(self) -> None:
        self._rung = False
        # NOTE: an Event may deadlock with a handler on the thread that waits for it; this kind of queue may not.
        self._rings: queue.SimpleQueue[None] = queue.SimpleQueue()

    def ring(self) -> None:
        self._rung = True
        self._rings.put(None)

    def wait(self, seconds: float) -> None:
        if not self._rung:
            with contextlib.suppress(queue.Empty):
                self._rings.get(timeout=seconds)


class _LoopBell:
    """The same for a task of the running loop."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._rung = asyncio.Event()

    def ring(self) -> None:
        # A loop that is closed waits for nothing.
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._rung.set)

    async def wait(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._rung.wait()


def is_awaited(handler: Callable[[Batch], object]) -> bool:
    """Whether a handler is for :meth:`Consumer.arun`: a coroutine function, or an object whose ``__call__`` is one."""
    return iscoroutinefunction(handler) or iscoroutinefunction(getattr(handler, "__call__", None))  # noqa: B004


def _is_still_to_do(result: object) -> bool:
    """Whether a handler has returned its work instead of doing it."""
    if inspect.iscoroutine(result):
        # Or Python warns that it was never awaited, which is what the error says.
        result.close()
        return True
    return inspect.isawaitable(result) or inspect.isgenerator(result) or inspect.isasyncgen(result)


def _check_text(what: str, value: object) -> None:
    if not isinstance(value, str) or not value:
        raise ValueError(f"the consumer's {what} must be a text of at least one letter, not {value!r}")


def _check_count(what: str, value: object, most: int | None = None) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ValueError(f"{what} must be a whole number of at least 1, not {value!r}")
    if most is not None and value > most:
        raise ValueError(f"{what} must be at most {most}, not {value}")


def _check_seconds(what: str, value: object, least: float) -> None:
    usable = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    if not usable or not least <= value:  # type: ignore[operator]
        raise ValueError(f"{what} must be a number of seconds of at least {least:g}, not {value!r}")
    if value > _LONGEST:  # type: ignore[operator]
        raise ValueError(f"{what} must be at most {_LONGEST:.0f} seconds, which is a year, not {value!r}")
