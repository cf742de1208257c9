"""Sentinel as django-redis and django-valkey have it: the name of the primary in LOCATION, the sentinels in OPTIONS. It
becomes a URL as ``redis+sentinel://host1:26379,host2:26379/mymaster/0``, which may stand in LOCATION as well."""

import urllib.parse
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from .exceptions import ConfigurationError

__all__ = ["is_sentinel", "url_of", "without"]

Wrong = Callable[[str], ConfigurationError]

_OPTIONS = ("SENTINELS", "SENTINEL_KWARGS", "CLIENT_CLASS", "CONNECTION_POOL_CLASS", "CONNECTION_FACTORY")
"""What stands in OPTIONS then. The last three choose classes that are not needed here."""

_PORT = 26379
_UNUSED = ("socket_timeout", "socket_connect_timeout", "socket_keepalive", "retry_on_timeout", "decode_responses")
"""Arguments for the connections to sentinels that CONNECT_TIMEOUT replaces, or that change nothing here."""


def is_sentinel(scheme: str) -> bool:
    """Whether a URL's scheme is one of Sentinel's: its hosts are sentinels."""
    return scheme in ("sentinel", "sentinels") or scheme.endswith(("+sentinel", "-sentinel"))


def without(options: Mapping[str, Any]) -> Mapping[str, Any]:
    """OPTIONS without what is in the URL already, if there are SENTINELS."""
    if "SENTINELS" not in options:
        return options
    return {name: value for name, value in options.items() if name not in _OPTIONS}


def url_of(servers: Sequence[str], options: Mapping[str, Any], wrong: Wrong) -> str:
    """The URL for a LOCATION such as ``redis://mymaster/0`` and SENTINELS in OPTIONS.

    Args:
        servers: the URLs in LOCATION. Of several, as django-redis has them for the primary and its replicas, the first.
        options: OPTIONS.
        wrong: makes the error for what is wrong.

    Raises:
        ConfigurationError: there is no name, no sentinel, or an argument that is not known.
    """
    name = servers[0] if servers else ""
    parsed = urllib.parse.urlsplit(name)
    if parsed.scheme not in ("redis", "rediss", "valkey", "valkeys") or not parsed.hostname:
        raise wrong(
            "SENTINELS is set, so LOCATION must name the primary as the sentinels know it, such as redis://mymaster/0"
        )
    query = {
        key: value for key, value in urllib.parse.parse_qsl(parsed.query, keep_blank_values=True) if key != "is_master"
    }
    query |= _arguments(options.get("SENTINEL_KWARGS") or {}, wrong)
    userinfo, at, _ = parsed.netloc.rpartition("@")
    # The host as it was written: `hostname` is in lower case.
    service = parsed.netloc[len(userinfo + at) :].partition(":")[0]
    hosts = ",".join(_host(each, wrong) for each in _listed(options["SENTINELS"], wrong))
    path = f"/{urllib.parse.quote(service, safe='')}/{parsed.path.strip('/')}"
    return f"{parsed.scheme}+sentinel://{userinfo}{at}{hosts}{path}?{urllib.parse.urlencode(query)}"


def _listed(sentinels: object, wrong: Wrong) -> Sequence[object]:
    if not isinstance(sentinels, list | tuple) or not sentinels:
        raise wrong('OPTIONS[\'SENTINELS\'] must be a list such as [("host1", 26379), ("host2", 26379)]')
    return sentinels


def _host(sentinel: object, wrong: Wrong) -> str:
    if isinstance(sentinel, str) and sentinel:
        return sentinel
    if isinstance(sentinel, list | tuple) and sentinel and isinstance(sentinel[0], str):
        host, port = sentinel[0], (sentinel[1] if len(sentinel) > 1 else _PORT)
        if str(port).isdigit():
            return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    raise wrong(f"OPTIONS['SENTINELS'] has {sentinel!r}: write a host and a port, as (\"host1\", 26379)")


def _arguments(given: object, wrong: Wrong) -> dict[str, str]:
    """SENTINEL_KWARGS as parameters of the URL. `sentinel_ssl` is always among them."""
    if not isinstance(given, Mapping):
        raise wrong(f"OPTIONS['SENTINEL_KWARGS'] must be a dict, not {type(given).__name__}")
    query = {"sentinel_ssl": "false"}
    for name, value in given.items():
        if name in _UNUSED or value is None:
            continue
        if name == "ssl":
            query["sentinel_ssl"] = str(bool(value)).lower()
        elif name in ("username", "password") or str(name).startswith("ssl_"):
            query[f"sentinel_{name}"] = str(value).lower() if isinstance(value, bool) else str(value)
        else:
            raise wrong(
                f"OPTIONS['SENTINEL_KWARGS'] has {name!r}: it may have username, password, ssl, and the settings of "
                "TLS (ssl_ca_certs and the like)"
            )
    return query
