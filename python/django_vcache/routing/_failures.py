"""What goes wrong in a hot route, answered and logged as Django does it, by Django's own code."""

from http import HTTPStatus
from typing import Any

from asgiref.sync import sync_to_async
from django.core.handlers.exception import response_for_exception
from django.http import HttpResponse, HttpResponseNotAllowed
from django.utils.functional import SimpleLazyObject
from django.utils.log import log_response

from django_vcache.exceptions import RequestError

from ._head import Head
from ._response import Response, response_of

__all__ = ["afailed", "failed", "log_error", "not_allowed", "refused"]


def failed(head: Head, body: bytes, error: Exception) -> Response:
    """The answer to an error; to be called where it is handled. In DEBUG it is Django's page of it.

    Raises:
        Exception: the error itself, with ``DEBUG_PROPAGATE_EXCEPTIONS``.
    """
    if isinstance(error, RequestError):
        return refused(head, body, error)
    return response_of(response_for_exception(head.request(body), error))


async def afailed(head: Head, body: bytes, error: Exception) -> Response:
    """The same in a thread: error pages have templates, and those may do anything."""
    if isinstance(error, RequestError):
        return refused(head, body, error)
    return response_of(await sync_to_async(response_for_exception, thread_sensitive=False)(head.request(body), error))


def refused(head: Head, body: bytes, error: RequestError) -> Response:
    """The answer to a request that is at fault, with a line that says why."""
    response = HttpResponse(str(error), status=error.status, content_type="text/plain; charset=utf-8")
    # The reason instead of a traceback: clients are at fault, and any number of them.
    _log(head, body, response, "%s: %s (%s)", _phrase(error.status), head.full_path, str(error))
    return response_of(response)


def log_error(head: Head, body: bytes, response: Response) -> None:
    """Logs an answer above 399 that is not logged yet, as Django's handler does with that of a view."""
    made = HttpResponse(status=response.status)
    _log(head, body, made, "%s: %s", _phrase(response.status), head.full_path)
    response.is_logged = True


def not_allowed(head: Head, methods: tuple[str, ...]) -> Response:
    """The answer to a method that the route does not have."""
    response = HttpResponseNotAllowed(methods)
    _log(head, b"", response, "Method Not Allowed (%s): %s", head.method, head.full_path)
    return response_of(response)


def _log(head: Head, body: bytes, response: HttpResponse, message: str, *args: str) -> None:
    # Few handlers look at the request, and it costs more than the record.
    request: Any = SimpleLazyObject(lambda: head.request(body))
    log_response(message, *args, response=response, request=request)


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "Refused"
