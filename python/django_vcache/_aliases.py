"""``cache`` and ``aliases``: one object for each alias of ``settings.CACHES``, shared by all threads and loops.

``django.core.cache`` makes a backend object for each thread, and for each request under ASGI, and looks for the right
one whenever a method is called. The connection below belongs to the process anyway, and a :class:`ValkeyCache` may be
called from any thread and any loop, so one object is enough.
"""

import os
import threading
import weakref
from collections.abc import Iterator
from types import MethodType
from typing import Any, ClassVar, cast

from django.conf import settings
from django.core.cache import InvalidCacheBackendError, caches
from django.core.signals import request_started, setting_changed

from .backend import ValkeyCache, is_usable
from .exceptions import ConfigurationError
from .location import embedded_url

__all__ = ["Aliases", "aliases", "cache"]

_USED = frozenset({"CACHES", "SECRET_KEY", "SECRET_KEY_FALLBACKS"})
"""The settings that a backend object is made of."""


class UnknownAlias(ConfigurationError, InvalidCacheBackendError):
    """There is no such alias: our error, and also the one that Django's ``caches`` raises."""


class _Shared:
    """What is imported: it stands for the backend object of one alias, which is made on first use.

    An imported name stays the same object for ever, and other settings need another backend object. So every attribute
    is looked up in the backend object of the moment, and a call that is under way keeps the one that it began with.

    NOTE: each alias has its own class, and the backend object's ``getattr`` is placed into it. A look-up is C from
    end to end then. Of the 24,650 instructions that an ``aget`` takes on CPython 3.13 with 300 at once, Django's
    ``ConnectionProxy`` takes 7,150, this look-up 1,100, and one by a method in Python 1,700. Two other ways were
    measured. Bound methods that are kept take 100, but miss what a test patches in the backend's class. An object that
    becomes the backend object, by its ``__class__`` and ``__dict__``, takes 1,050, and changes beneath the calls that
    are under way.
    """

    __slots__ = ()
    alias: ClassVar[str]
    backend: ClassVar[ValkeyCache | None] = None

    def __getattribute__(self, name: str) -> Any:
        return getattr(_backend(type(self)), name)

    def __setattr__(self, name: str, value: object) -> None:
        setattr(_backend(type(self)), name, value)

    def __delattr__(self, name: str) -> None:
        delattr(_backend(type(self)), name)

    def __contains__(self, key: object) -> bool:
        return key in _backend(type(self))

    def __repr__(self) -> str:
        return f"django_vcache.aliases[{type(self).alias!r}]"


class Aliases:
    """The caches of ``settings.CACHES`` by their aliases, each one object for the whole process.

    What an alias stands for is looked up when it is used, so ``sessions = aliases["sessions"]`` may stand at the top of
    a module, and follows ``override_settings``. Its first use raises ConfigurationError if there is no such alias, or
    if it belongs to another backend.
    """

    def __getitem__(self, alias: str) -> ValkeyCache:
        if not isinstance(alias, str):
            raise TypeError(f"a cache alias is a str, not {type(alias).__name__}")
        shared = _shared.get(alias)
        if shared is None:
            made = type("Shared", (_Shared,), {"__slots__": ("__weakref__",), "alias": alias})()
            shared = _shared.setdefault(alias, made)
        return cast(ValkeyCache, shared)

    def __iter__(self) -> Iterator[str]:
        """The aliases of ``settings.CACHES``, as Django's ``caches`` has them."""
        return iter(settings.CACHES)

    def __contains__(self, alias: object) -> bool:
        return alias in settings.CACHES

    def __repr__(self) -> str:
        return "django_vcache.aliases"


_shared: "weakref.WeakValueDictionary[str, _Shared]" = weakref.WeakValueDictionary()
"""Each for as long as it is held somewhere, so that names which are no aliases leave nothing behind."""
_kept: dict[str, _Shared | None] = {}
"""Those that have had a backend object: they stay."""
_lock = threading.RLock()
"""Held while a backend object is put into a class or taken out, never while one is made: that may import modules."""
_changes = 0
"""How often the settings have changed."""


def _backend(shared: type[_Shared]) -> ValkeyCache:
    """The backend object of the moment. If two threads make one at once, both get the one that is there first."""
    backend = shared.backend
    while backend is None:
        seen = _changes
        made = _make(shared.alias)
        with _lock:
            if seen == _changes:
                if shared.backend is None:
                    shared.backend = made
                    _kept[shared.alias] = _shared.get(shared.alias)
                    shared.__getattribute__ = MethodType(getattr, made)  # type: ignore[method-assign]
                backend = shared.backend
    return backend


def _make(alias: str) -> ValkeyCache:
    configured = settings.CACHES
    if alias not in configured:
        known = ", ".join(repr(name) for name in configured)
        raise UnknownAlias(f"there is no cache alias {alias!r} in settings.CACHES, which has {known or 'none'}")
    # Django's own handler may not know new settings yet, as it hears of them in the same way as this module.
    backend = type(caches)(configured).create_connection(alias)
    # In a test run it may be one of Django's own, which has the methods of every cache.
    if not is_usable(type(backend)):
        raise ConfigurationError(
            f"django_vcache was asked for the cache alias {alias!r}, but its BACKEND is "
            f"{configured[alias]['BACKEND']}, not django_vcache.ValkeyCache: use django.core.cache.caches[{alias!r}]"
        )
    if _is_embedded(alias):
        request_started.connect(renew_embedded)
    return cast(ValkeyCache, backend)


def _is_embedded(alias: str) -> bool:
    return embedded_url(settings.CACHES.get(alias, {}).get("LOCATION")) is not None


def _forget(shared: type[_Shared]) -> None:
    with _lock:
        if shared.backend is not None:
            shared.backend = None
            del shared.__getattribute__


def _follow_settings(*, setting: str, **_others: object) -> None:
    global _changes
    if setting in _USED:
        with _lock:
            _changes += 1
            for shared in list(_shared.values()):
                _forget(type(shared))


def renew_embedded(**_others: object) -> None:
    """An embedded server may have been stopped. Making a backend object starts another one, and Django makes one for
    every request."""
    for alias, shared in list(_shared.items()):
        if _is_embedded(alias):
            _forget(type(shared))


setting_changed.connect(_follow_settings)
# A fork waits for another thread's change: the child could not tell the half of it from nothing.
os.register_at_fork(before=_lock.acquire, after_in_parent=_lock.release, after_in_child=_lock.release)

aliases = Aliases()
cache = aliases["default"]
