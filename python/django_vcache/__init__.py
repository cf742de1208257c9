"""Django's cache on one Valkey connection per process, and hot paths in Rust beside it.

In settings::

    CACHES = {
        "default": {
            "BACKEND": "django_vcache.ValkeyCache",
            "LOCATION": "redis://localhost:6379/1",
        }
    }

``cache`` stands for the alias ``default`` and ``aliases["sessions"]`` for any other, one object for the whole process::

    from django_vcache import cache

    value = await cache.aget("key")

Names are loaded on first use, so that importing a part of the package (``django_vcache.embedded``) needs neither Django
nor the extension.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ._aliases import aliases, cache
    from ._vcache import __version__
    from ._warming import awarm_up, warm_up
    from .backend import ValkeyCache

__all__ = ["ValkeyCache", "__version__", "aliases", "awarm_up", "cache", "warm_up"]


def __getattr__(name: str) -> Any:
    if name == "ValkeyCache":
        from .backend import ValkeyCache

        return ValkeyCache
    if name in ("aliases", "cache"):
        from . import _aliases

        return getattr(_aliases, name)
    if name in ("awarm_up", "warm_up"):
        from . import _warming

        return getattr(_warming, name)
    if name == "_capi":
        # Extension modules built with the crate vcache find the shared connection here: this name never moves. The
        # import is for what it registers, who configures an alias that is not in use yet.
        from . import hotpaths  # noqa: F401
        from ._vcache import _capi

        return _capi
    if name == "__version__":
        from ._vcache import __version__

        return __version__
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
