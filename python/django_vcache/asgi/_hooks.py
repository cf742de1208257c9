"""Which hooks of Django's middleware need no thread, and when.

A hook needs none if it does no I/O. For some that depends on the request: the session is written only if it was
changed, and the token of a form is in a body that has to be parsed. Where a hook could run a project's own code, such
as a page for a refusal, it gets its thread.

Classes are named, not imported: a project that has no sessions cannot import their middleware. A subclass is another
class, and its hooks may do anything.
"""

from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple

from django.conf import settings
from django.contrib.sessions.backends.base import SessionBase, UpdateError
from django.core.cache.backends.base import BaseCache

__all__ = ["EVERYWHERE", "NOWHERE", "Hooks", "hooks_of"]

Inline = bool | Callable[..., Any]
"""Whether a hook runs on the loop's thread: yes, no, or a function that says so. It gets the middleware and the hook's
own arguments. For ``process_response`` it may also return a coroutine function that takes the hook's place."""


class Hooks(NamedTuple):
    """For each hook of a middleware class, whether it runs on the loop's thread."""

    request: Inline = False
    view: Inline = False
    response: Inline = False


EVERYWHERE = Hooks(True, True, True)
NOWHERE = Hooks()


def hooks_of(middleware: object) -> Hooks:
    """What is known of the class of a middleware."""
    kind = type(middleware)
    return _DJANGO.get(f"{kind.__module__}.{kind.__qualname__}", NOWHERE)


def _is_loaded(session: Any) -> bool:
    """Whether a session can be read without its store."""
    if not isinstance(session, SessionBase):
        return False
    return "_session_cache" in vars(session) or session.session_key is None


def _is_djangos(kind: type, name: str) -> bool:
    """Whether a method of a class is one that Django has written."""
    return bool(getattr(kind, name).__module__.startswith("django."))


def _session_request(middleware: Any, request: Any) -> bool:
    # It makes the object, and reads nothing; a store of the project's may do more.
    return _is_djangos(middleware.SessionStore, "__init__")


def _session_response(middleware: Any, request: Any, response: Any) -> bool | Callable[[Any, Any, Any], Awaitable[Any]]:
    session = getattr(request, "session", None)
    if session is None:
        return True
    if not isinstance(session, SessionBase):
        return False
    if session.is_empty() or not (session.modified or settings.SESSION_SAVE_EVERY_REQUEST):
        return True
    if response.status_code >= 500:
        # It is not saved then, but its expiry is read.
        return _is_loaded(session)
    return _save_on_loop if _saves_on_loop(session) else False


def _saves_on_loop(session: Any) -> bool:
    """Whether ``asave()`` of a session is more than ``save()`` in a thread."""
    kind = type(session)
    if kind.asave is SessionBase.asave:
        return False
    if not _is_djangos(kind, "asave"):
        return True
    if kind.__module__ == "django.contrib.sessions.backends.cache":
        return type(session._cache).aset is not BaseCache.aset
    return False


async def _save_on_loop(middleware: Any, request: Any, response: Any) -> Any:
    """``SessionMiddleware.process_response()`` for a session that has to be written, with its async store."""
    session = request.session
    failure = None
    # Loads it: the hook asks for the expiry, which is in the session.
    await session.aget_expiry_age()
    try:
        await session.asave()
    except UpdateError as error:
        failure = error

    def is_saved(must_create: bool = False) -> None:
        if failure is not None:
            raise failure

    # All that is left for the hook are the cookie and the header.
    session.save = is_saved
    try:
        return middleware.process_response(request, response)
    finally:
        del session.save


def _csrf_request(middleware: Any, request: Any) -> bool:
    return not settings.CSRF_USE_SESSIONS or _is_loaded(getattr(request, "session", None))


def _csrf_view(middleware: Any, request: Any, callback: Any, args: Any, kwargs: Any) -> bool:
    # What is checked parses the body, and what is refused renders a page that may be the project's.
    return request.method in ("GET", "HEAD", "OPTIONS", "TRACE") or bool(
        getattr(callback, "csrf_exempt", False)
        or getattr(request, "csrf_processing_done", False)
        or getattr(request, "_dont_enforce_csrf_checks", False)
    )


def _csrf_response(middleware: Any, request: Any, response: Any) -> bool:
    return not request.META.get("CSRF_COOKIE_NEEDS_UPDATE") or _csrf_request(middleware, request)


def _login_view(middleware: Any, request: Any, callback: Any, args: Any, kwargs: Any) -> bool:
    return not getattr(callback, "login_required", True)


def _messages_request(middleware: Any, request: Any) -> bool:
    return bool(settings.MESSAGE_STORAGE.startswith("django.contrib.messages.storage."))


def _messages_response(middleware: Any, request: Any, response: Any) -> bool:
    messages = getattr(request, "_messages", None)
    if messages is None:
        return True
    kind = type(messages)
    if not kind.__module__.startswith("django.contrib.messages.storage."):
        return False
    if not (messages.used or messages.added_new):
        return True
    return bool(kind.__name__ == "CookieStorage") or _is_loaded(getattr(request, "session", None))


_DJANGO = {
    "django.contrib.auth.middleware.AuthenticationMiddleware": Hooks(request=True),
    "django.contrib.auth.middleware.LoginRequiredMiddleware": Hooks(view=_login_view),
    "django.contrib.messages.middleware.MessageMiddleware": Hooks(
        request=_messages_request, response=_messages_response
    ),
    "django.contrib.sessions.middleware.SessionMiddleware": Hooks(request=_session_request, response=_session_response),
    "django.middleware.clickjacking.XFrameOptionsMiddleware": EVERYWHERE,
    "django.middleware.common.CommonMiddleware": EVERYWHERE,
    "django.middleware.csp.ContentSecurityPolicyMiddleware": EVERYWHERE,
    "django.middleware.csrf.CsrfViewMiddleware": Hooks(_csrf_request, _csrf_view, _csrf_response),
    "django.middleware.http.ConditionalGetMiddleware": EVERYWHERE,
    "django.middleware.locale.LocaleMiddleware": EVERYWHERE,
    "django.middleware.security.SecurityMiddleware": EVERYWHERE,
}
