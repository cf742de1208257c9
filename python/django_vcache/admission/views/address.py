"""The client's address, as the outermost of your proxies saw it, and warnings where all clients would be one."""

import ipaddress
import logging
from collections.abc import Callable

from django.http import HttpRequest

from django_vcache.admission.settings import current

__all__ = ["client_ip", "client_of", "normal", "warn_of_a_proxy", "warn_of_no_address"]

logger = logging.getLogger("django_vcache")

_PROXY_HEADERS = {
    "HTTP_X_FORWARDED_FOR": "X-Forwarded-For",
    "HTTP_FORWARDED": "Forwarded",
    "HTTP_X_REAL_IP": "X-Real-IP",
}
"""What proxies write, by the names that ``request.META`` has for them."""


def client_ip(request: HttpRequest, proxies: int | None = None) -> str | None:
    """The client's address, as the outermost of your proxies saw it; an IPv6 client's as its /64 network.

    The default is the peer of this server's socket, ``REMOTE_ADDR``. With ``VCACHE["TRUSTED_PROXIES"]`` = n it is the
    n-th entry of X-Forwarded-For from the right: each proxy appends the address that it saw, so what a client writes
    there itself stands further left and is not looked at. A header with fewer entries did not come by that way, and is
    not believed.

    Where the headers say that a proxy is there and the setting does not fit, a warning is logged once in a process: all
    clients behind it would be one.

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
        if proxies is None:
            warn_of_a_proxy(request.META.__contains__)
    return client_of(request.META.get("REMOTE_ADDR") or None, request.META.get("HTTP_X_FORWARDED_FOR"), proxies)


def client_of(peer: str | None, forwarded: str | None, proxies: int | None) -> str | None:
    """The same of the socket's other end and the header X-Forwarded-For."""
    if proxies:
        entries = forwarded.split(",") if forwarded else []
        if len(entries) < proxies:
            _warn_of_fewer_proxies(len(entries), proxies)
        elif address := _network(entries[-proxies]):
            return address
    return peer and normal(peer)


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
    # A client that has one address of a /64 has all of them.
    return str(ipaddress.IPv6Network((int(address) >> 64 << 64, 64)))


def normal(address: str) -> str:
    """An address in the form that identifies a client."""
    return _network(address) or address


_warned: dict[str, object] = {}
"""What was warned of in this process."""


def _warn_once(what: str, text: str, *args: object) -> None:
    mine = object()
    # One operation, so that of several threads one warns.
    if _warned.setdefault(what, mine) is mine:
        logger.warning(text, *args)


def warn_of_no_address() -> None:
    """Warns that all clients share one budget, because the server tells no address."""
    _warn_once(
        "no address",
        "REMOTE_ADDR is empty (the server listens on a Unix socket?), so a throttle by address sees all clients as "
        "one: set VCACHE['TRUSTED_PROXIES'] to the number of proxies in front of it",
    )


def warn_of_a_proxy(has: Callable[[str], object]) -> None:
    """Warns if a request has a header that a proxy writes, asked for by its name in ``request.META``."""
    if "proxy" in _warned:
        return
    for key, header in _PROXY_HEADERS.items():
        if has(key):
            _warn_once(
                "proxy",
                "a request has the header %s, so there seems to be a proxy in front of this server, but "
                "VCACHE['TRUSTED_PROXIES'] is not set: a throttle by address sees all clients of the proxy as one. Set "
                "it to the number of your proxies that append to X-Forwarded-For, or to 0 if there is no proxy",
                header,
            )
            return


def _warn_of_fewer_proxies(entries: int, proxies: int) -> None:
    _warn_once(
        "fewer proxies",
        "X-Forwarded-For of a request has fewer entries (%d) than there are trusted proxies (%d), by "
        "VCACHE['TRUSTED_PROXIES'] or NUM_PROXIES of REST framework or Ninja: such a request is charged to the address "
        "that connected to this server. If that is a proxy, a throttle by address sees all its clients as one: let it "
        "append to X-Forwarded-For, or lower the number",
        entries,
        proxies,
    )
