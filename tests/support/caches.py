"""Builds caches the way Django's CacheHandler does, without going through settings. Names that
Django itself reads (TIMEOUT, KEY_PREFIX, ...) go beside OPTIONS, every other name goes into it.
"""

from __future__ import annotations

from typing import Any

from support.server import ValkeyServer

BACKEND = "django_vcache.ValkeyCache"
DJANGO_PARAMS = frozenset({"TIMEOUT", "KEY_PREFIX", "VERSION", "KEY_FUNCTION"})


def cache_params(options: dict[str, Any]) -> dict[str, Any]:
    """`options` as the `params` of a backend's constructor."""
    params = {name: options[name] for name in DJANGO_PARAMS & options.keys()}
    params["OPTIONS"] = {k: v for k, v in options.items() if k not in DJANGO_PARAMS}
    return params


def cache_setting(server: ValkeyServer, **options: Any) -> dict[str, Any]:
    """One entry of settings.CACHES."""
    return {"BACKEND": BACKEND, "LOCATION": server.url, **cache_params(options)}


def make_cache(server: ValkeyServer | str | list[str], **options: Any) -> Any:
    """A `ValkeyCache` on a server, or on any LOCATION."""
    from django_vcache import ValkeyCache

    location = server.url if hasattr(server, "url") else server
    return ValkeyCache(location, cache_params(options))
