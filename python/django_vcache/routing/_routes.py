"""``hot()``, and the route that it makes: an answer to a request, the same at each level at which it may be given.

A route keeps nothing of a request. It is called on any thread.
"""

import functools
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from asgiref.sync import async_to_sync
from django.conf import settings
from django.core.signals import setting_changed
from django.urls import URLPattern, path
from django.utils.module_loading import import_string

from django_vcache.admission.settings import current
from django_vcache.admission.views.address import warn_of_a_proxy
from django_vcache.exceptions import ConfigurationError, RequestError

from ._cors import Cors
from ._failures import afailed, failed, log_error, not_allowed
from ._head import Head, ViewHead
from ._request import Request
from ._response import Response, response_of
from ._row import Direct
from ._security import Security, security
from ._targets import HotPathTarget, target_of
from ._views import HotView

__all__ = ["Route", "hot"]

Respond = Callable[[Request], Any]


def hot(
    route: str,
    target: Callable[..., Any],
    *,
    name: str | None = None,
    methods: Iterable[str] | None = None,
    limit: int | tuple[int, int] | None = None,
    cors: Cors | str | Iterable[str] | None = None,
    kwargs: dict[str, Any] | None = None,
    middleware: Sequence[str | Callable[[Respond], Respond]] = (),
) -> URLPattern:
    """A URL pattern that is answered early where that can be, for ``urlpatterns``.

    Middleware, signals and ``ATOMIC_REQUESTS`` do not apply to it, and CSRF is not checked: it must not rely on
    cookies. ``ALLOWED_HOSTS`` and the ``SECURE_...`` settings hold.

    Args:
        route: as that of ``path()``. With the converters int, str, slug, uuid and path it can be answered early.
        target: a ``#[hotpath]`` that takes a ``Request`` (either of its forms), or a Python function, sync or async, of
            a :class:`Request`. It gets the parameters of the route by name, and returns an ``HttpResponse``, a
            ``JsonResponse``, a :class:`Response` or bytes.
        name: for ``reverse()``.
        methods: those that the target takes; others get a 405. GET brings HEAD along, and OPTIONS is answered. None
            leaves all methods to the target.
        limit: bytes of the body: on the wire and decoded, or a pair of both. None takes
            ``DATA_UPLOAD_MAX_MEMORY_SIZE``.
        cors: a :class:`Cors`, ``"*"`` or a list of origins: the answers, errors too, say that such pages may read them,
            and preflights are answered.
        kwargs: further arguments of the target.
        middleware: factories, or their dotted paths, each called with the next step and returning a coroutine function
            of a :class:`Request` that returns a :class:`Response`; :mod:`django_vcache.routing.middleware` has some.

    Raises:
        ConfigurationError: one of these cannot be what it is.

    >>> urlpatterns = [  # doctest: +SKIP
    ...     hot("api/<int:project>/store/", _native.store, methods=["POST"], limit=1_000_000, cors="*"),
    ... ]
    """
    made = Route(target, methods=methods, limit=limit, cors=cors, middleware=middleware)
    # Django's function checks the route, and makes what `reverse()` and `include()` know.
    return path(route, HotView(made), kwargs, name)


class Route:
    """What ``hot()`` was told, and how it answers.

    Attributes:
        target: what it calls.
        methods: what the Allow header says, or None for all.
    """

    def __init__(
        self,
        target: Callable[..., Any],
        *,
        methods: Iterable[str] | None,
        limit: int | tuple[int, int] | None,
        cors: Cors | str | Iterable[str] | None,
        middleware: Sequence[str | Callable[[Respond], Respond]],
    ) -> None:
        self.target = target_of(target)
        self.methods = _methods(methods)
        self._limit = _limits(limit)
        self._cors = cors if cors is None or isinstance(cors, Cors) else Cors(cors)
        self._middleware = _middleware(middleware)
        self._is_plain = isinstance(self.target, HotPathTarget) and not middleware

    @property
    def limits(self) -> tuple[int, int]:
        """Bytes of a body on the wire, and decoded."""
        return self._limit or _default_limits()

    @property
    def limit(self) -> int:
        """Bytes of a body on the wire."""
        return self.limits[0]

    @property
    def direct(self) -> Direct | None:
        """How its hot path is called without it, where it would add nothing but what the settings ask for."""
        target = self.target
        headers = [] if self._cors is None else self._cors.constant
        if not isinstance(target, HotPathTarget) or target.awaitable is None or self._middleware or headers is None:
            return None
        return Direct(target.awaitable, self.methods, self.limits[1], headers)

    async def respond(
        self, head: Head, body: bytes, parameters: dict[str, Any], outcome: Callable[[], Any] | None = None
    ) -> Response:
        """The answer to a request.

        Args:
            head: the request without its body.
            body: as it came.
            parameters: those of the URL.
            outcome: returns or raises what its target did, which has been called already.

        Raises:
            asyncio.CancelledError: the client left.
            Exception: what the target raised, with ``DEBUG_PROPAGATE_EXCEPTIONS``.
        """
        secured = security()
        scheme = secured.scheme(head)
        try:
            if outcome is not None:
                response = response_of(outcome(), self.target.name)
            elif (early := self._before(secured, head, body, scheme)) is not None:
                response = early
            elif self._is_plain:
                answer = await self.target.acall(self._packed(head, body, scheme), parameters)
                response = response_of(answer, self.target.name)
            else:
                response = await self._through(self._request(head, body, scheme, parameters))
        except Exception as error:
            response = await afailed(head, body, error)
        return self._finished(secured, head, body, scheme, response)

    def respond_blocking(self, head: Head, body: bytes, parameters: dict[str, Any]) -> Response:
        """The same where there is no event loop."""
        secured = security()
        scheme = secured.scheme(head)
        try:
            response = self._before(secured, head, body, scheme)
            if response is None:
                request = self._request(head, body, scheme, parameters)
                if self._middleware:
                    response = async_to_sync(self._through)(request)
                else:
                    response = response_of(self.target.call(request, parameters), self.target.name)
        except Exception as error:
            response = failed(head, body, error)
        return self._finished(secured, head, body, scheme, response)

    def refused(self, head: Head, error: RequestError) -> Response:
        """The answer to a request whose body was not read."""
        secured = security()
        return self._finished(secured, head, b"", secured.scheme(head), failed(head, b"", error))

    def too_large(self, length: int | None) -> RequestError:
        """The error for a body above the limit on the wire."""
        most = self.limits[0]
        if length is None:
            return RequestError(f"the body has more than {most} bytes, which is the limit", status=413)
        return RequestError(f"the body has {length} bytes, and {most} are the limit", status=413)

    def _before(self, secured: Security, head: Head, body: bytes, scheme: str) -> Response | None:
        """What is answered without the target."""
        if not secured.admits(head, scheme):
            refusal = secured.refusal(head, body)
            if refusal is not None:
                return response_of(refusal)
        if self._cors is not None and head.method == "OPTIONS":
            asked = (head.get(b"access-control-request-method") or b"").decode("latin-1")
            found = self._cors.preflight(head, ", ".join(self.methods) if self.methods else asked)
            if found is not None:
                return Response(200, [*found, (b"Content-Length", b"0")])
        if self.methods is not None and head.method not in self.methods:
            return not_allowed(head, self.methods)
        if self.methods is not None and head.method == "OPTIONS":
            return Response(200, [(b"Allow", ", ".join(self.methods).encode()), (b"Content-Length", b"0")])
        if current().trusted_proxies is None:
            warn_of_a_proxy(head.has)
        return None

    def _packed(self, head: Head, body: bytes, scheme: str) -> Any:
        """The request as a hot path takes it."""
        proxies = current().trusted_proxies or 0
        return (head.method, head.path, head.query, head.headers, body, head.peer, scheme, proxies, self.limits[1])

    def _request(self, head: Head, body: bytes, scheme: str, parameters: dict[str, Any]) -> Request:
        return Request(head, body, scheme, current().trusted_proxies or 0, self.limits[1], parameters)

    async def _through(self, request: Request) -> Response:
        """The target, with the route's middleware around it."""
        if not self._middleware:
            return await self._innermost(request)
        return response_of(await self._steps(request), "middleware of the route")

    async def _innermost(self, request: Request) -> Response:
        as_view = isinstance(request.head, ViewHead)
        answer = await self.target.acall(request, request.parameters, as_view=as_view)
        return response_of(answer, self.target.name)

    @functools.cached_property
    def _steps(self) -> Respond:
        """As Django does, each factory is called once. What it makes is called for every request."""
        step: Respond = self._innermost
        for each in reversed(self._middleware):
            try:
                factory = import_string(each) if isinstance(each, str) else each
                step = factory(step)
            except Exception as error:
                raise ConfigurationError(f"{each!r} in middleware of hot() cannot be made: {error}") from error
            if not callable(step):
                raise ConfigurationError(
                    f"{each!r} in middleware of hot() is called with the next step and must return a coroutine "
                    f"function of a request, not {step!r}"
                )
        return step

    def problem(self, names: Iterable[str]) -> str | None:
        """Why it cannot answer, as far as that can be known before a request comes.

        Args:
            names: those of the parameters of its URL.
        """
        try:
            self._steps  # noqa: B018
        except ConfigurationError as error:
            return str(error)
        return self.target.problem(names)

    def _finished(self, secured: Security, head: Head, body: bytes, scheme: str, response: Response) -> Response:
        """An answer with what every one has: its length, security, CORS; without a body for HEAD."""
        if response.status >= 400 and not response.is_logged:
            log_error(head, body, response)
        headers = response.headers
        there = {name.lower() for name, _ in headers}
        headers += [pair for pair in secured.headers(scheme) if pair[0].lower() not in there]
        if self._cors is not None:
            headers += self._cors.allowed(head)
        if b"content-length" not in there and response.status >= 200 and response.status not in (204, 304):
            headers.append((b"Content-Length", str(len(response.body)).encode()))
        if head.method == "HEAD":
            response.body = b""
        return response


@functools.cache
def _default_limits() -> tuple[int, int]:
    """Django's limit, by the settings as they are now: on the wire and decoded."""
    most = settings.DATA_UPLOAD_MAX_MEMORY_SIZE
    # Django takes None for no limit. A body is held in memory, so there is one.
    most = 1 << 30 if most is None else most
    return most, most


setting_changed.connect(lambda **kwargs: _default_limits.cache_clear(), weak=False)


def _methods(given: Iterable[str] | None) -> tuple[str, ...] | None:
    if given is None:
        return None
    if isinstance(given, str):
        raise ConfigurationError(f"methods of hot() is a list, such as [{given!r}], not the string {given!r}")
    found = list(given)
    for method in found:
        if not isinstance(method, str) or not method.isalpha() or method != method.upper():
            raise ConfigurationError(f"{method!r} in methods of hot() is not a method: write it as 'POST'")
    if not found:
        raise ConfigurationError("methods of hot() is empty, so that the route would answer nothing")
    found += ["HEAD"] * ("GET" in found) + ["OPTIONS"]
    return tuple(dict.fromkeys(found))


def _middleware(given: Any) -> tuple[str | Callable[[Respond], Respond], ...]:
    if isinstance(given, str) or not isinstance(given, Iterable):
        raise ConfigurationError(f"middleware of hot() is a list, such as [access_log], not {given!r}")
    found = tuple(given)
    for each in found:
        if not callable(each) and not (isinstance(each, str) and "." in each):
            raise ConfigurationError(f"{each!r} in middleware of hot() is no factory, nor the dotted path of one")
    return found


def _limits(given: int | tuple[int, int] | None) -> tuple[int, int] | None:
    if given is None:
        return None
    pair = given if isinstance(given, tuple) else (given, given)
    if len(pair) == 2 and all(isinstance(each, int) and not isinstance(each, bool) and each >= 0 for each in pair):
        return pair
    raise ConfigurationError(f"limit of hot() is a number of bytes, or a pair (on the wire, decoded), not {given!r}")
