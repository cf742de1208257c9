"""Whom a request is charged to: the client's address, the user, a header or a field of a form, or what a callable says.

A value goes into a key on the server, so it is bounded in length; what a client sends may be a secret and is hashed.
"""

import hashlib
import json
import re
import unicodedata
from collections.abc import Callable
from typing import Any, NamedTuple
from uuid import UUID

from django.http import HttpRequest, RawPostDataException

from django_vcache.admission.views.address import client_ip, normal, warn_of_no_address
from django_vcache.admission.views.bounds import bounded
from django_vcache.admission.views.users import client_of, present_user, user_value
from django_vcache.exceptions import ConfigurationError

__all__ = ["BY_ADDRESS", "BY_USER", "Key", "Value", "charged", "checked", "key_for"]

Value = str | int
"""Names one client."""

BY_ADDRESS = frozenset({"ip", "user_or_ip"})
BY_USER = frozenset({"user", "user_or_ip"})

ANONYMOUS = "anonymous"
NO_ADDRESS = "unknown"


class Key(NamedTuple):
    """Names the client of a request. None is one that is not to be throttled."""

    get: Callable[[HttpRequest], Any]
    """For a sync view."""
    aget: Callable[[HttpRequest], Any]
    """For an async view; what it returns may have to be awaited."""


def key_for(key: object) -> Key:
    """What the ``key`` of a decorator stands for.

    Args:
        key: ``"ip"``, ``"user"``, ``"user_or_ip"``, ``"header:<name>"``, ``"post:<field>"``, ``"get:<parameter>"``, or
            a callable of the request that returns an int, a str, a UUID, or None for a request that is not to be
            throttled.

    Raises:
        ConfigurationError: for anything else.
    """
    if callable(key):
        return Key(key, key)
    if isinstance(key, str):
        if key in _NAMED:
            return _NAMED[key]
        kind, _, name = key.partition(":")
        if kind in _SENT and name.strip():
            return _SENT[kind](name.strip())
    raise ConfigurationError(
        "a throttle's key is 'ip', 'user', 'user_or_ip', 'header:<name>', 'post:<field>', 'get:<parameter>' or a "
        f"callable of the request, not {key!r}"
    )


def _by_header(name: str) -> Key:
    def get(request: HttpRequest) -> Value:
        return _hash_of(request.headers.get(name, ""))

    return Key(get, get)


def _by_parameter(name: str) -> Key:
    def get(request: HttpRequest) -> Value:
        return _hash_of(_folded(request.GET.get(name, "")))

    return Key(get, get)


def _by_field(name: str) -> Key:
    def get(request: HttpRequest) -> Value | None:
        # They have no body: the page with the form would share one budget among all who open it.
        if request.method in ("GET", "HEAD", "OPTIONS", "TRACE"):
            return None
        return _hash_of(_folded(_field_of(request, name)))

    return Key(get, get)


def _field_of(request: Any, name: str) -> str:
    """A field of the body, which is a form or a JSON object; empty if it is not there."""
    # REST framework's requests know more formats.
    if hasattr(request, "_request"):
        fields = request.data
    elif re.fullmatch(r"application/(.+\+)?json", request.content_type or ""):
        try:
            fields = json.loads(request.body)
        # What is wrong with it is for the view to say, and what has read it already has the fields.
        except (ValueError, RecursionError, RawPostDataException):
            fields = None
    else:
        fields = request.POST
    value = fields.get(name) if hasattr(fields, "get") else None
    return "" if value is None else str(value)


def _folded(value: str) -> str:
    """The value without what views often overlook, so that "Anna" and "anna " are no two budgets."""
    return unicodedata.normalize("NFKC", value).strip().casefold()


def _hash_of(sent: str) -> str:
    return hashlib.blake2s(sent.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()


def checked(value: object, key: object) -> Value | None:
    """What a callable key returned, if it names a client.

    Raises:
        ConfigurationError: for a value of another type.
    """
    if isinstance(value, str | UUID):
        return bounded(str(value))
    if value is None or (isinstance(value, int) and not isinstance(value, bool)):
        return value
    raise ConfigurationError(
        f"the throttle's key {key!r} returned {type(value).__name__}: return a str, an int, a UUID, or None for a "
        "request that is not to be throttled"
    )


def _ip(request: HttpRequest) -> Value:
    address = client_ip(request)
    if address is None:
        warn_of_no_address()
    return _ip_value(address or NO_ADDRESS)


def _user(request: HttpRequest) -> Value:
    _needs_users(request)
    return client_of(request, getattr(request, "user", None)) or ANONYMOUS


async def _auser(request: HttpRequest) -> Value:
    _needs_users(request)
    return client_of(request, await present_user(request)) or ANONYMOUS


def _user_or_ip(request: HttpRequest) -> Value:
    return client_of(request, getattr(request, "user", None)) or _ip(request)


async def _auser_or_ip(request: HttpRequest) -> Value:
    return client_of(request, await present_user(request)) or _ip(request)


def _needs_users(request: HttpRequest) -> None:
    if not hasattr(request, "user") and not hasattr(request, "auth"):
        raise ConfigurationError(
            "a throttle's key is 'user', but requests have none: add AuthenticationMiddleware to MIDDLEWARE, or use "
            "'user_or_ip'"
        )


def _ip_value(address: str) -> str:
    return f"ip-{bounded(address)}"


def charged(key: object, user: Value | None, address: Value | None) -> Value | None:
    """Whom a key charges for a request of a user from an address, None for what is not known or not by that.

    >>> charged("user_or_ip", 5, "192.0.2.1"), charged("ip", 5, "2001:db8::1"), charged("user", None, "192.0.2.1")
    ('user-5', 'ip-2001:db8::/64', None)
    """
    if key in BY_USER and user is not None:
        return user_value(user)
    return _ip_value(normal(str(address))) if key in BY_ADDRESS and address is not None else None


_NAMED = {
    "ip": Key(_ip, _ip),
    "user": Key(_user, _auser),
    "user_or_ip": Key(_user_or_ip, _auser_or_ip),
}

_SENT = {"header": _by_header, "post": _by_field, "get": _by_parameter}
"""What is made of a key that names something which the client sends."""
