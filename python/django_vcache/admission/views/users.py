"""Who the user of a request is: Django's, the one that REST framework finds, or what Ninja's authentication left."""

import hashlib
from typing import Any

from asgiref.sync import sync_to_async
from django.db.models import Model
from django.http import HttpRequest
from django.utils.functional import SimpleLazyObject, empty

from django_vcache.admission.views.bounds import bounded
from django_vcache.exceptions import ConfigurationError

__all__ = ["auth_value", "authenticated", "authenticates_late", "client_of", "present_user", "user_value", "value_of"]


def value_of(user: Any) -> str | None:
    """A user as a value of a key; None for an anonymous one."""
    return user_value(user.pk) if user is not None and user.is_authenticated else None


def user_value(pk: object) -> str:
    return f"user-{bounded(str(pk))}"


async def present_user(request: HttpRequest) -> Any:
    """``request.user`` without blocking the loop."""
    user = getattr(request, "user", None)
    # A lazy one would look for the session in the database now, on the loop.
    if not isinstance(user, SimpleLazyObject) or user._wrapped is not empty:
        return user
    # Of Django's own middleware there is an async form. Another middleware's user may differ from the session's.
    made_by = getattr(user.__dict__.get("_setupfunc"), "__module__", None)
    if made_by == "django.contrib.auth.middleware" and hasattr(request, "auser"):
        return await request.auser()
    await sync_to_async(bool)(user)
    return user


def client_of(request: HttpRequest, user: Any) -> str | None:
    """The user of a request as a value of a key, or what ``request.auth`` says of the client; None for neither.

    Ninja leaves in ``request.auth`` what its authentication returned. A user there goes before that of the session.

    Raises:
        ConfigurationError: ``request.auth`` is something that does not tell one client from another.
    """
    auth = _auth_of(request)
    return (hasattr(auth, "is_authenticated") and value_of(auth)) or value_of(user) or auth_value(auth)


def _auth_of(request: HttpRequest) -> Any:
    # REST framework's request has a property of that name, and says itself who the user is.
    return getattr(request, "__dict__", {}).get("auth")


def auth_value(auth: Any) -> str | None:
    """What Ninja's authentication returned as a value of a key; None for nothing, or only that the request is allowed.

    Raises:
        ConfigurationError: for an object that does not tell one client from another.
    """
    if auth is None or isinstance(auth, bool):
        return None
    if hasattr(auth, "is_authenticated"):
        return value_of(auth)
    if isinstance(auth, Model):
        return _hashed(f"{auth._meta.label}:{auth.pk}")
    # A token's claims have its expiry among them, so that its next token would be another client; and what an object
    # says by default is another with each request.
    if isinstance(auth, dict | list | tuple | set) or not _says_itself(type(auth)):
        raise ConfigurationError(
            f"request.auth is of the type {type(auth).__name__}, which does not tell a throttle who the client is: let "
            "the authentication return a user, a model's object or a str, or give a key such as "
            "key=lambda request: request.auth['sub']"
        )
    return _hashed(str(auth))


def _says_itself(kind: Any) -> bool:
    return kind.__str__ is not object.__str__ or kind.__repr__ is not object.__repr__


def _hashed(text: str) -> str:
    # It may be the token itself.
    return f"auth-{hashlib.blake2s(text.encode('utf-8', 'surrogatepass'), digest_size=16).hexdigest()}"


def authenticates_late(view: Any) -> bool:
    """Whether it is a class of REST framework's views, or an object of one: these find the user in ``dispatch``."""
    return hasattr(view, "perform_authentication") and hasattr(view, "initialize_request")


def authenticated(view: Any, request: HttpRequest) -> Any:
    """The request as a view of REST framework's sees it, once it has found the user.

    The view is given the same one, so that it does not authenticate again: a credential may be good for one time. If
    the credentials are wrong, it is Django's request, and the view finds that out by itself and answers.
    """
    known = vars(view).get("_vcache_request")
    if known is not None:
        return known
    found = view.initialize_request(request, *getattr(view, "args", ()), **getattr(view, "kwargs", {}))
    try:
        # REST framework authenticates here, and with code of the project's.
        found.user  # noqa: B018
    except Exception:
        view._vcache_request = request
        return request

    def once(given: HttpRequest, *args: Any, **kwargs: Any) -> Any:
        del view.initialize_request
        # A `dispatch` of the project's may hand on another.
        return found if given is request else view.initialize_request(given, *args, **kwargs)

    view._vcache_request, view.initialize_request = found, once
    return found
