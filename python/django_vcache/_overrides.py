"""Which methods of a backend class follow those that a subclass overrides.

:class:`~django_vcache.backend.ValkeyCache` has a native method for each form of an operation: ``get``, ``aget``,
``get_many``, ``aget_many``. A subclass that overrides ``get`` means all four. So where a class overrides one form, the
forms that it does not override call that one, as they do in Django's own backends. This is decided once for each class,
when it is made. A class that overrides nothing keeps every native method.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from asgiref.sync import sync_to_async
from django.core.cache.backends.base import DEFAULT_TIMEOUT, BaseCache

__all__ = ["follow", "overrides"]

Method = Callable[..., Any]


def overrides(cls: type, name: str, of: type) -> bool:
    """Whether ``cls`` has another method of that name than ``of``."""
    return getattr(cls, name) is not getattr(of, name)


def follow(cls: type[BaseCache]) -> None:
    """Gives ``cls`` methods that call what it or a mixin of it overrides."""
    # The forms of one key come first: those of many keys look at what became of them.
    for name, sources in _FOLLOWS.items():
        source = min(sources, key=lambda source: _rank(cls, source))
        if _rank(cls, source) < _rank(cls, name):
            setattr(cls, name, sources[source])


def _rank(cls: type, name: str) -> int:
    """How far from ``cls`` the class is that has the method."""
    return next(rank for rank, each in enumerate(cls.__mro__) if name in vars(each))


def _in_thread(name: str, like: str = "") -> Method:
    """The async form that calls the sync one in a thread, as Django's own do."""

    async def method(self: BaseCache, *args: Any, **kwargs: Any) -> Any:
        return await sync_to_async(getattr(self, name), thread_sensitive=True)(*args, **kwargs)

    method.__name__ = method.__qualname__ = like or f"a{name}"
    return method


async def aget_many(self: Any, keys: Iterable[Any], version: int | None = None) -> dict[Any, Any]:
    found = {}
    for key in keys:
        value = await self.aget(key, self._missing_key, version=version)
        if value is not self._missing_key:
            found[key] = value
    return found


async def aset_many(
    self: Any, data: Mapping[Any, Any], timeout: Any = DEFAULT_TIMEOUT, version: int | None = None
) -> list[Any]:
    for key, value in data.items():
        await self.aset(key, value, timeout=timeout, version=version)
    return []


async def adelete_many(self: Any, keys: Iterable[Any], version: int | None = None) -> None:
    for key in keys:
        await self.adelete(key, version=version)


_FOLLOWS: Mapping[str, Mapping[str, Method]] = {
    **{
        f"a{name}": {name: _in_thread(name)}
        for name in (
            *("get", "set", "add", "touch", "delete", "has_key", "incr", "decr", "get_or_set"),
            *("incr_version", "decr_version", "clear", "close", "execute"),
        )
    },
    "await_changed": {"wait_changed": _in_thread("wait_changed", "await_changed")},
    "get_many": {"get": BaseCache.get_many},
    "set_many": {"set": BaseCache.set_many},
    "delete_many": {"delete": BaseCache.delete_many},
    # If both are overridden in one class, the first of these counts.
    "aget_many": {"get_many": _in_thread("get_many"), "aget": aget_many},
    "aset_many": {"set_many": _in_thread("set_many"), "aset": aset_many},
    "adelete_many": {"delete_many": _in_thread("delete_many"), "adelete": adelete_many},
}
"""A method, what it follows, and what it becomes then."""
