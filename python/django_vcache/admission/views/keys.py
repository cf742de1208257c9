"""Whom a request is charged to: the client's address, the user, a header, or what a callable says.

A value goes into a key on the server, so it is bounded in length; what a client sends in a header may be a secret and
is hashed.
"""

import hashlib
import ipaddress
import logging
import threading
from collections.abc import Callable
from typing import Any, NamedTuple

from asgiref.sync import sync_to_async
from django.http import HttpRequest
from django.utils.functional import SimpleLazyObject, empty

from django_vcache.admission.settings import current
from django_vcache.exceptions import ConfigurationError

__all__ = ["Key", "Value", "bounded", "charged", "checked", "client_ip", "key_for"]

logger = logging.getLogger("django_vcache")

Value = str | int
"""Names one client."""

LONGEST = 128
"""Bytes of a value that stands in a key as it is."""

ANONYMOUS = "anonymous"
NO_ADDRESS = "unknown"


def client_ip(request: HttpRequest, proxies: int | None = None) -> str | None:
    """The client's address, as the outermost of your proxies saw it; an IPv6 client's as its /64 network.

    The default is the peer of this server's socket, ``REMOTE_ADDR``. With ``VCACHE["TRUSTED_PROXIES"]`` = n it is the
    n-th entry of X-Forwarded-For from the right: each proxy appends the address that it saw, so what a client writes
    there itself stands further left and is not looked at. A header with fewer entries did not come by that way, and is
    not believed.

    Args:
        request: Django's request, or one that wraps it.
        proxies: instead of ``VCACHE["TRUSTED_PROXIES"]``.

    Returns:
        The address, or None if the server tells none (it listens on a Unix socket) and no proxy does.

    >>> from django.test import RequestFactory
    >>> request = RequestFactory().get("/", headers={"x-forwarded-for": "6.6.6.6, 192.0.2.7"}, REMOTE_ADDR="10.0.0.1")
    >>> client_ip(request, proxies=0), client_ip(request, proxies=1)
    ('10.0.0.1', '192.0.2.7')
    """
    if proxies is None:
        proxies = current().trusted_proxies
    peer = request.META.get("REMOTE_ADDR") or None
    if proxies > 0:
        entries = request.META.get("HTTP_X_FORWARDED_FOR", "").split(",")
        if len(entries) >= proxies and (address := _network(entries[-proxies])):
            return address
    return peer and _normal(peer)


_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
"""IPv4 clients, as a network of IPv6 alone sees them (RFC 6052): the last 32 bits are theirs."""


def _network(entry: str) -> str | None:
    """The address in an entry of X-Forwarded-For, which some proxies write with a port; None if it is not one."""
    text = entry.strip()
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    if isinstance(address, ipaddress.IPv4Address):
        return str(address)
    if address.ipv4_mapped:
        return str(address.ipv4_mapped)
    if address in _NAT64:
        return str(ipaddress.IPv4Address(int(address) & 0xFFFF_FFFF))
    # Whoever has one address of a /64 has all of them.
    return str(ipaddress.IPv6Network((int(address) >> 64 << 64, 64)))


def _normal(address: str) -> str:
    return _network(address) or address


def bounded(value: str) -> str:
    """The value if it is short and can be encoded, and a hash of it otherwise, also of an empty one."""
    data = value.encode("utf-8", "surrogatepass")
    if value and len(data) <= LONGEST and value.isprintable():
        return value
    return hashlib.blake2s(data, digest_size=16).hexdigest()


class Key(NamedTuple):
    """Names the client of a request. None is one that is not to be throttled."""

    get: Callable[[HttpRequest], Any]
    """For a sync view."""
    aget: Callable[[HttpRequest], Any]
    """For an async view; what it returns may have to be awaited."""


def key_for(key: object) -> Key:
    """What the ``key`` of a decorator stands for.

    Args:
        key: ``"ip"``, ``"user"``, ``"user_or_ip"``, ``"header:<name>"``, or a callable of the request that returns an
            int, a str, or None for a request that is not to be throttled.

    Raises:
        ConfigurationError: for anything else.
    """
    if callable(key):
        return Key(key, key)
    if isinstance(key, str):
        if key in _NAMED:
            return _NAMED[key]
        kind, _, name = key.partition(":")
        if kind == "header" and name.strip():
            return _by_header(name.strip())
    raise ConfigurationError(
        f"a throttle's key is 'ip', 'user', 'user_or_ip', 'header:<name>' or a callable of the request, not {key!r}"
    )


def _by_header(name: str) -> Key:
    def get(request: HttpRequest) -> Value:
        sent = request.headers.get(name, "").encode("utf-8", "surrogatepass")
        return hashlib.blake2s(sent, digest_size=16).hexdigest()

    return Key(get, get)


def checked(value: object, key: object) -> Value | None:
    """What a callable key returned, if it names a client.

    Raises:
        ConfigurationError: for a value of another type.
    """
    if isinstance(value, str):
        return bounded(value)
    if value is None or (isinstance(value, int) and not isinstance(value, bool)):
        return value
    raise ConfigurationError(
        f"the throttle's key {key!r} returned {type(value).__name__}: return a str, an int, or None for a request that "
        "is not to be throttled"
    )


def _ip(request: HttpRequest) -> Value:
    address = client_ip(request)
    if address is None:
        warn_of_no_address()
    return _ip_value(address or NO_ADDRESS)


def _user(request: HttpRequest) -> Value:
    _needs_users(request)
    return _name_of(request.user) or ANONYMOUS


async def _auser(request: HttpRequest) -> Value:
    _needs_users(request)
    return _name_of(await _present_user(request)) or ANONYMOUS


def _user_or_ip(request: HttpRequest) -> Value:
    return _name_of(getattr(request, "user", None)) or _ip(request)


async def _auser_or_ip(request: HttpRequest) -> Value:
    return _name_of(await _present_user(request)) or _ip(request)


async def _present_user(request: HttpRequest) -> Any:
    user = getattr(request, "user", None)
    # A lazy one would look for the session in the database now, on the loop.
    if not isinstance(user, SimpleLazyObject) or user._wrapped is not empty:
        return user
    # Of Django's own middleware there is an async form. Another's may be somebody else than that one finds.
    made_by = getattr(user.__dict__.get("_setupfunc"), "__module__", None)
    if made_by == "django.contrib.auth.middleware" and hasattr(request, "auser"):
        return await request.auser()
    await sync_to_async(bool)(user)
    return user


def _needs_users(request: HttpRequest) -> None:
    if not hasattr(request, "user"):
        raise ConfigurationError(
            "a throttle's key is 'user', but requests have none: add AuthenticationMiddleware to MIDDLEWARE, or use "
            "'user_or_ip'"
        )


def _name_of(user: Any) -> str | None:
    if user is None or not user.is_authenticated:
        return None
    return _user_value(user.pk)


def _user_value(pk: object) -> str:
    return f"user-{bounded(str(pk))}"


def _ip_value(address: str) -> str:
    return f"ip-{bounded(address)}"


def charged(key: object, user: Value | None, address: Value | None) -> Value | None:
    """Whom a key charges for a request of a user from an address, None for what is not known or not by that.

    >>> charged("user_or_ip", 5, "192.0.2.1"), charged("ip", 5, "2001:db8::1"), charged("user", None, "192.0.2.1")
    ('user-5', 'ip-2001:db8::/64', None)
    """
    if key in ("user", "user_or_ip") and user is not None:
        return _user_value(user)
    return _ip_value(_normal(str(address))) if key in ("ip", "user_or_ip") and address is not None else None


_warned = threading.Event()


def warn_of_no_address() -> None:
    """Once a process: all clients then share one budget, and somebody has to be told why."""
    if not _warned.is_set():
        _warned.set()
        logger.warning(
            "REMOTE_ADDR is empty (the server listens on a Unix socket?), so a throttle by address sees all clients as "
            "one: set VCACHE['TRUSTED_PROXIES'] to the number of proxies in front of it"
        )


_NAMED = {
    "ip": Key(_ip, _ip),
    "user": Key(_user, _auser),
    "user_or_ip": Key(_user_or_ip, _auser_or_ip),
}
