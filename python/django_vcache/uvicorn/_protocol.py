"""The protocol of a connection. It looks at the bytes of each request first. One for a hot route is answered here, on
the loop's thread; all others go on to uvicorn's class, which keeps the connection until it is between two requests.

While a request is under way, what comes after it is kept and answered in order.
"""

import asyncio
import contextvars
import functools
import sys
import urllib.parse
from collections.abc import Callable
from typing import Any, NoReturn, cast

from django.urls import set_script_prefix
from uvicorn.protocols.http.flow_control import HIGH_WATER_LIMIT

from django_vcache._vcache import HotReader, HotRequest

from ._inner import Inner, composed, inner_class
from ._server import STATUS_LINES, Server, server_of
from ._site import head_of, start

__all__ = ["HotProtocol"]

_TEXT = (b"content-type", b"text/plain; charset=utf-8")
_MOST_LINGER = 8 * 1024 * 1024
"""Bytes of a refused body that are read and thrown away, so that the client sees the answer before the end."""

_STARTS_EAGERLY = sys.version_info >= (3, 12)


class HotProtocol(Inner):
    """uvicorn's HTTP protocol, with hot routes answered before ASGI.

        uvicorn --http django_vcache.uvicorn:HotProtocol shop.asgi:application

    It is composed with the class that uvicorn takes by default, or that the environment variable
    ``VCACHE_UVICORN_HTTP`` names, in the words of ``--http``.

    Raises:
        ConfigurationError: ``VCACHE_UVICORN_HTTP`` names no protocol class.
    """

    _hot_routes = True
    _server: Server
    _reader: HotReader
    _context: contextvars.Context

    def __new__(cls, *args: Any, **kwargs: Any) -> "HotProtocol":
        # Not as this module is imported: settings may not be there yet.
        made = super().__new__(composed(cls, inner_class()) if cls is HotProtocol else cls)
        return cast(HotProtocol, made)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A client has connected."""
        # First of all: what the server counts among its connections is whole.
        self._is_foreign = False  # the connection is the inner class's
        self._is_busy = False  # what comes is kept for later
        self._is_partial = False  # a part of a request has come
        self._is_stopping = False
        self._task: asyncio.Future[Any] | None = None
        self._linger: int | None = None
        self._deadline: float | None = None
        self._timer: asyncio.TimerHandle | None = None
        super().connection_made(transport)
        self._server = server_of(self.config, self.server_state)
        self._reader = self._server.reader(self.client, self.server, self.scheme)
        self._context = contextvars.copy_context()

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is over: a request that is under way is cancelled."""
        super().connection_lost(exc)
        self._deadline = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._task is not None:
            self._task.cancel()

    def data_received(self, data: bytes) -> None:
        """Answers what is for hot routes, and hands on what is not."""
        if self._is_foreign:
            if not self._is_idle():
                super().data_received(data)
                return
            self._is_foreign = False
            self._unset_keepalive_if_required()
        if self._is_busy:
            self._hold(data)
        else:
            self._go_on(self._reader.feed(data))

    def resume_writing(self) -> None:
        """The client reads again: requests that were kept are answered."""
        super().resume_writing()
        if self._is_busy and self._task is None and self._linger is None:
            self._is_busy = False
            self._continue_soon()

    def shutdown(self) -> None:
        """The server stops: a request that has begun is answered first."""
        if self._is_foreign or not (self._task is not None or self._reader.is_in_body):
            super().shutdown()
        else:
            self._is_stopping = True

    def _hold(self, data: bytes) -> None:
        """Keeps what comes while a request is under way, and stops reading if it is much."""
        if self._linger is not None:
            self._linger -= len(data)
            if self._linger <= 0:
                self.transport.close()
            return
        self._reader.keep(data)
        if self._reader.kept > HIGH_WATER_LIMIT:
            self.flow.pause_reading()

    def _continue_soon(self) -> None:
        # Not within the task of a request, whose context is no business of the next one.
        self.loop.call_soon(self._continue, context=self._context)

    def _continue(self) -> None:
        """Goes on with what was kept."""
        if self._is_busy or self._is_foreign or self.transport.is_closing():
            return
        self._go_on(self._reader.next())
        if not self._is_foreign and (not self._is_busy or self._reader.kept <= HIGH_WATER_LIMIT):
            self.flow.resume_reading()

    def _go_on(self, step: HotRequest | bytes | None) -> None:
        reader = self._reader
        while step is not None:
            if isinstance(step, bytes):
                self._is_foreign = True
                self._is_partial = False
                self._deadline = None
                self.flow.resume_reading()
                super().data_received(step)
                return
            self._is_partial = False
            self._begin(step)
            if self._is_busy or self.transport.is_closing():
                return
            if not reader.kept:
                self._wait()
                return
            step = reader.next()
        # A body has time as long as something comes of it, a head has it once.
        if reader.is_in_body or not self._is_partial:
            self._wait()
        self._is_partial = reader.kept > 0

    def _begin(self, request: HotRequest) -> None:
        if request.is_forwarded:
            self._server.read_proxy_headers(request)
        limit = self.limit_concurrency
        if limit is not None and (len(self.connections) >= limit or len(self.tasks) >= limit):
            self.logger.warning("Exceeded concurrency limit.")
            request.keep_alive = False
            self._answer(request, 503, [_TEXT], b"Service Unavailable")
            return
        if request.is_too_large:
            self._refuse(request)
            return
        self._is_busy = True
        context = contextvars.Context() if self._server.resets_context else self._context.copy()
        if not self._starts(request, context):
            self._run(request, context)

    def _starts(self, request: HotRequest, context: contextvars.Context) -> bool:
        """Calls a hot path whose route has nothing else to do; False if the route is to be asked. There is no task: the
        loop's future of the answer calls back."""
        try:
            started = context.run(start, request)
        except BaseException as error:
            self._run(request, context, functools.partial(_raise, error))
            return True
        if started is None:
            return False
        answer, future = started
        if future is None:
            self._conclude(request, context, lambda: answer)
        else:
            self._wait_for(future)
            # Not in the request's context, which a task of the route enters.
            future.add_done_callback(functools.partial(self._ended, request, context), context=self._context)
        return True

    def _ended(self, request: HotRequest, context: contextvars.Context, future: asyncio.Future[Any]) -> None:
        """The future of a hot path's answer is done."""
        self.tasks.discard(future)
        if future.cancelled():
            self._fail(request)
            self._end()
        else:
            self._conclude(request, context, future.result)

    def _conclude(self, request: HotRequest, context: contextvars.Context, outcome: Callable[[], Any]) -> None:
        """Answers with what a hot path returned. Errors are the route's to tell."""
        if self._is_stopping:
            request.keep_alive = False
        try:
            answer = outcome()
            response = request.answer(answer, STATUS_LINES, self._default_headers())
        except BaseException:
            response = None
        if response is None:
            self._run(request, context, outcome)
            return
        if not self.transport.is_closing():
            self._send(request, answer[0], response)
        self._end()

    def _run(self, request: HotRequest, context: contextvars.Context, outcome: Callable[[], Any] | None = None) -> None:
        """Has the route answer, in a task of the server's, which waits for it as it stops."""
        # `_task` is set by what began last: a task that ends in its first step has called `_end` already.
        if _STARTS_EAGERLY:
            work = self._serve(request, outcome)
            task = asyncio.Task(work, loop=self.loop, context=context, eager_start=True)
            if task.done():
                return
        else:
            task = self.loop.create_task(self._serve(request, outcome), context=context)
        self._wait_for(task)

    def _wait_for(self, task: asyncio.Future[Any]) -> None:
        self._task = task
        self._deadline = None
        self.tasks.add(task)

    async def _serve(self, request: HotRequest, outcome: Callable[[], Any] | None) -> None:
        """Answers a request. ``outcome`` tells what its hot path did, if it was called already."""
        if self._server.script_name:
            set_script_prefix(self._server.script_name)
        try:
            response = await request.route.respond(head_of(request), request.body, request.params, outcome)
        except asyncio.CancelledError:
            self._fail(request)
            raise
        except BaseException as error:
            # As uvicorn does with an application: a panic in Rust, which is no Exception, is the request's alone.
            self.logger.error("Exception in the hot route of %s\n", _quoted(request), exc_info=error)
            self._fail(request)
        else:
            self._answer(request, response.status, response.headers, response.body)
        finally:
            self._end()

    def _end(self) -> None:
        """A request is over."""
        self._is_busy = self.flow.write_paused
        if self._task is None:
            # It ended in its first step: the caller goes on.
            return
        self.tasks.discard(self._task)
        self._task = None
        if self._is_busy or self.transport.is_closing():
            return
        if self._reader.kept:
            self._continue_soon()
        else:
            self.flow.resume_reading()
            self._wait()

    def _answer(self, request: HotRequest, status: int, headers: list[tuple[bytes, bytes]], body: bytes) -> None:
        if self.transport.is_closing():
            return
        if self._is_stopping:
            request.keep_alive = False
        try:
            response = request.response(status, STATUS_LINES[status], self._default_headers(), headers, body)
        except (ValueError, TypeError, KeyError, OverflowError) as error:
            self.logger.error(
                "The hot route of %s gave no response that can be sent\n", _quoted(request), exc_info=error
            )
            self._fail(request)
        else:
            self._send(request, status, response)

    def _default_headers(self) -> bytes:
        return self._server.default_headers(self.server_state.default_headers)

    def _send(self, request: HotRequest, status: int, response: bytes) -> None:
        if self.access_log:
            self._log(request, status)
        self.transport.write(response)
        self.server_state.total_requests += 1
        if not request.keep_alive and not request.is_too_large:
            self.transport.close()

    def _fail(self, request: HotRequest) -> None:
        request.keep_alive = False
        self._answer(request, 500, [_TEXT], b"Internal Server Error")

    def _refuse(self, request: HotRequest) -> None:
        """Answers a request whose body is too large, and reads on for a while: a client that still writes as the
        connection ends may never see the answer."""
        head, route = head_of(request), request.route
        length = head.get(b"content-length")
        response = route.refused(head, route.too_large(length and int(length)))
        self._answer(request, response.status, response.headers, response.body)
        if request.length <= 0:
            self.transport.close()
            return
        self._is_busy = True
        self._linger = min(request.length, _MOST_LINGER)
        self._wait()

    def _log(self, request: HotRequest, status: int) -> None:
        """A line of the access log, as uvicorn writes it."""
        client = request.client
        target = _quoted(request)
        if request.query:
            target = f"{target}?{request.query.decode('ascii')}"
        address = f"{client[0]}:{client[1]}" if client else ""
        self.access_logger.info('%s - "%s %s HTTP/%s" %d', address, request.method, target, "1.1", status)

    def _wait(self) -> None:
        """Closes the connection if nothing comes for the keep-alive time. One timer stands for many requests."""
        self._deadline = self.loop.time() + self.timeout_keep_alive
        if self._timer is None:
            self._timer = self.loop.call_at(self._deadline, self._look_at_clock)

    def _look_at_clock(self) -> None:
        self._timer = None
        if self._deadline is None:
            return
        if self.loop.time() < self._deadline:
            self._timer = self.loop.call_at(self._deadline, self._look_at_clock)
            return
        self._deadline = None
        self.timeout_keep_alive_handler()


def _raise(error: BaseException) -> NoReturn:
    raise error


def _quoted(request: HotRequest) -> str:
    """The path, with nothing in it that could look like another line."""
    return urllib.parse.quote(request.full_path)
