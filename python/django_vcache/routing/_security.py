"""Hosts, https and the headers of security, by Django's settings: ``ALLOWED_HOSTS``, ``SECURE_PROXY_SSL_HEADER``,
``SECURE_SSL_REDIRECT``, ``SECURE_HSTS_SECONDS`` and what else ``SecurityMiddleware`` sets.

They hold for hot routes whether or not MIDDLEWARE has the classes that apply them elsewhere. What is admitted is
recognised at once; all else is for Django's own code to decide, which also writes the error.
"""

import functools
from typing import Any

from django.conf import settings
from django.core.signals import setting_changed
from django.http import HttpRequest, HttpResponse, HttpResponseBase
from django.middleware.security import SecurityMiddleware

from django_vcache._vcache import HotPolicy

from ._head import Head
from ._response import Pairs

__all__ = ["Security", "security"]

_MOST_HOSTS = 1000
"""Hosts that are remembered: with a wildcard a client could name any number."""


def _no_response(request: HttpRequest) -> HttpResponseBase:
    raise AssertionError("not called")


class Security:
    """What the settings ask for, read once.

    Attributes:
        policy: the same for hot paths below ASGI; None if more than one header says the host.
    """

    def __init__(self) -> None:
        self._middleware: Any = SecurityMiddleware(_no_response)
        self._hosts: set[tuple[bytes | None, bytes | None]] = set()
        self._forwarded_host = bool(settings.USE_X_FORWARDED_HOST)
        self._proxy = _proxy_header()
        self._always = self._headers(secure=False)
        self._if_secure = self._headers(secure=True)
        self.policy: HotPolicy | None = None
        if not self._forwarded_host:
            self.policy = HotPolicy(self._always, self._if_secure, self._middleware.redirect)

    def scheme(self, head: Head) -> str:
        """``"https"`` or ``"http"``, by what a trusted proxy says of it."""
        if self._proxy is not None:
            name, secure = self._proxy
            value = head.get(name)
            if value is not None:
                return "https" if value.split(b",", 1)[0].strip() == secure else "http"
        return head.scheme

    @property
    def names_scheme(self) -> bool:
        """Whether a header may name the scheme."""
        return self._proxy is not None

    def admits(self, head: Head, scheme: str) -> bool:
        """Whether nothing is to be said about the host and the scheme. If not, :meth:`refusal` says it."""
        if self._middleware.redirect and scheme != "https":
            return False
        return self._host(head) in self._hosts

    def refusal(self, head: Head, body: bytes) -> HttpResponseBase | None:
        """What Django answers to such a request, or None if it admits it.

        Raises:
            DisallowedHost: the host is not in ``ALLOWED_HOSTS``.
        """
        request = head.request(body)
        response: HttpResponseBase | None = self._middleware.process_request(request)
        if response is not None:
            return response
        request.get_host()
        if len(self._hosts) >= _MOST_HOSTS:
            self._hosts.clear()
        host = self._host(head)
        self._hosts.add(host)
        if self.policy is not None and host[0] is not None:
            self.policy.admit(host[0])
        return None

    def headers(self, scheme: str) -> Pairs:
        """What the answers carry."""
        return self._if_secure if scheme == "https" else self._always

    def _host(self, head: Head) -> tuple[bytes | None, bytes | None]:
        return head.get(b"host"), head.get(b"x-forwarded-host") if self._forwarded_host else None

    def _headers(self, *, secure: bool) -> Pairs:
        request = HttpRequest()
        request._get_scheme = lambda: "https" if secure else "http"  # type: ignore[attr-defined]
        response = HttpResponse()
        del response["Content-Type"]
        self._middleware.process_response(request, response)
        return [(name.encode("ascii"), value.encode("latin-1")) for name, value in response.items()]


@functools.cache
def security() -> Security:
    """That of this process, by the settings as they are now."""
    return Security()


setting_changed.connect(lambda **kwargs: security.cache_clear(), weak=False)


def _proxy_header() -> tuple[bytes, bytes] | None:
    """The header that says whether a request came by https, and the value that says so."""
    setting = settings.SECURE_PROXY_SSL_HEADER
    if not setting:
        return None
    name, secure = setting
    header = name.removeprefix("HTTP_").replace("_", "-").lower()
    return header.encode("latin-1"), secure.encode("latin-1")
