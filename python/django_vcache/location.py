"""LOCATION of a cache becomes the one URL that Rust reads."""

import os
import re
import sys
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from django.conf import settings

from . import sentinel
from .exceptions import ConfigurationError
from .sentinel import is_sentinel

__all__ = ["embedded_url", "project", "url_of"]

Wrong = Callable[[str], ConfigurationError]


def url_of(location: object, options: Mapping[str, Any], wrong: Wrong) -> str:
    """The one URL of a cache: that in LOCATION, with ``embedded://`` resolved to the socket of a running server, or
    that of Sentinel which OPTIONS make.

    Args:
        location: LOCATION.
        options: OPTIONS.
        wrong: makes the error for what is wrong.

    Raises:
        ConfigurationError: there is no URL, or more than one; or the embedded server does not start.
    """
    given: list[Any] = list(location) if isinstance(location, list | tuple) else [location]
    for each in given:
        if each is None:
            raise wrong("LOCATION is None: give the server's URL. Is an environment variable missing?")
        if not isinstance(each, str):
            raise wrong(f"LOCATION must be a URL, not {type(each).__name__}")
    servers = [server for each in given for server in _servers(each)]
    if "SENTINELS" in options:
        return sentinel.url_of(servers, options, wrong)
    if not servers:
        raise wrong("LOCATION is missing: give the server's URL, such as redis://localhost:6379/1")
    location = servers[0] if len(servers) == 1 else _joined(servers, wrong)
    if location.startswith("embedded:"):
        from .embedded import resolve

        try:
            return resolve(location, project())
        except (ValueError, ImportError, OSError, RuntimeError) as error:
            raise wrong(str(error)) from error
    return location


def _joined(servers: list[str], wrong: Wrong) -> str:
    """One URL of several: nodes of a cluster, or a primary and its replicas, which differ in host and port only."""
    first = _Parts.of(servers[0])
    hosts = [first.host]
    for number, server in enumerate(servers[1:], start=2):
        if "://" not in server:
            hosts.append(server)
            continue
        other = _Parts.of(server)
        if other.scheme not in ("redis", "rediss", "valkey", "valkeys"):
            raise wrong(
                f"LOCATION names {len(servers)} servers, and number {number} is a {other.scheme}:// URL: several "
                "must be reached by host and port"
            )
        if other._replace(host="") != first._replace(host=""):
            # Their passwords are not shown.
            raise wrong(
                f"LOCATION names {len(servers)} servers, and number {number} differs from the first in more than host "
                "and port: nodes of a cluster, or a primary and its replicas, have one scheme, user, password and "
                "database"
            )
        hosts.append(other.host)
    return first._replace(host=",".join(hosts)).text()


class _Parts(NamedTuple):
    """A URL, or what may be a host."""

    scheme: str
    """Empty for what has none."""
    user: str
    """With the password and the ``@``."""
    host: str
    rest: str

    @classmethod
    def of(cls, url: str) -> "_Parts":
        scheme, _, rest = url.partition("://") if "://" in url else ("", "", url)
        end = re.search(r"[/?#]|$", rest).start()  # type: ignore[union-attr]
        user, at, host = rest[:end].rpartition("@")
        return cls(scheme, user + at, host, rest[end:])

    def text(self) -> str:
        return (f"{self.scheme}://" if self.scheme else "") + self.user + self.host + self.rest


def embedded_url(location: object) -> str | None:
    """The ``embedded://`` URL in a LOCATION; None for any other."""
    given = location if isinstance(location, list | tuple) else [location]
    urls = [str(each).strip(" \t\r\n,;") for each in given]
    return next((url for url in urls if url.startswith("embedded:")), None)


def project() -> str:
    """The directory that an ``embedded://`` server is one for, wherever a process was started."""
    base = getattr(settings, "BASE_DIR", None)
    if isinstance(base, str | os.PathLike):
        return os.fspath(base)
    module = sys.modules.get(os.environ.get("DJANGO_SETTINGS_MODULE", ""))
    file = getattr(module, "__file__", None)
    return os.path.dirname(file) if file else os.getcwd()


def _servers(text: str) -> list[str]:
    """The servers in a string: other backends split it at commas and semicolons.

    A path, a query and a password may have these too. So only those count that stand before another URL, or among the
    hosts of one.
    """
    servers = []
    for url in re.split(r"[,;\s]+(?=[A-Za-z][A-Za-z0-9+.-]*://)", text):
        url = url.strip(" \t\r\n,;")
        parts = _Parts.of(url)
        # With an @ in the rest there may be a password that is not encoded: then the hosts are not where they seem to
        # be. Those of Sentinel belong together.
        if "@" in parts.rest or is_sentinel(parts.scheme):
            servers.append(url)
            continue
        first, *others = [host for host in re.split(r"[,;]\s*", parts.host) if host] or [""]
        if url:
            servers += [parts._replace(host=first).text(), *others]
    return servers
