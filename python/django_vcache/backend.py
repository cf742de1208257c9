"""The cache backend. It is thin: keys, encoding, sending and decoding are Rust, in one call per operation. What users
may want to override (``make_key``, ``validate_key``, ``get_backend_timeout``, any operation) is Python, and is called
as soon as it is overridden."""

import datetime
import inspect
import sys
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any, ClassVar

from django.core.cache.backends.base import DEFAULT_TIMEOUT, BaseCache
from django.core.cache.backends.dummy import DummyCache
from django.core.cache.backends.locmem import LocMemCache
from django.core.signals import setting_changed

from . import _vcache
from ._overrides import follow, overrides
from .exceptions import ConfigurationError
from .options import build, default_timeout
from .sweeping import layouts

__all__ = ["StandInCache", "ValkeyCache", "publish_alias"]

_KEY_METHODS = ("make_key", "validate_key", "make_and_validate_key")
_KEY_PARTS = ("key_prefix", "version", "key_func")


class ValkeyCache(BaseCache):
    """Django's cache on the one Valkey (or Redis) connection of this process.

    Every method is native in both forms: ``get`` blocks with the GIL released, ``await aget`` runs on the loop and
    needs no thread. OPTIONS, all optional:

    ``CONNECT_TIMEOUT`` (2.0), ``RESPONSE_TIMEOUT`` (5.0)
        Seconds, fractions allowed.
    ``USERNAME``, ``PASSWORD``, ``DB``, ``CLIENT_NAME``
        As in the URL; these win.
    ``SERIALIZER`` (``"auto"``)
        ``"auto"``, ``"pickle"``, ``"msgpack"``, ``"json"``, or the dotted path of an object with dumps and loads.
    ``COMPRESS_MIN_LEN`` (1024)
        Bytes from which values are compressed with zstd; None is never.
    ``MAX_VALUE_LEN`` (64 MiB)
        The most bytes of one value, written or read.
    ``CLEAR`` (``"flushdb"``)
        What ``clear()`` does: ``"flushdb"`` empties the database, ``"prefix"`` deletes this KEY_PREFIX's keys.
    ``IGNORE_EXCEPTIONS`` (False)
        A server that cannot be reached is a logged miss instead of an exception.
    """

    _plain_keys: ClassVar[bool] = True
    _plain_timeouts: ClassVar[bool] = True
    _key_start: bytes | None = None
    """What Rust puts before each key, made at the first of them; None when it has to be made anew."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        # Rust makes the keys only as long as they would be made by Django's own methods, from the object's own parts.
        own_methods = all(getattr(cls, name) is getattr(BaseCache, name) for name in _KEY_METHODS)
        cls._plain_keys = own_methods and not any(hasattr(cls, name) for name in _KEY_PARTS)
        cls._plain_timeouts = not overrides(cls, "get_backend_timeout", of=ValkeyCache)
        follow(cls)

    def __setattr__(self, name: str, value: object) -> None:
        super().__setattr__(name, value)
        if name in _KEY_PARTS:
            super().__setattr__("_key_start", None)

    def __init__(self, location: object, params: dict[str, Any]) -> None:
        super().__init__(params)
        alias, self._client, self._clear_by_prefix = build(location, params, type(self))
        self._alias = alias
        # Django's own reading of it turns half a second into none, and a timedelta into five minutes.
        self.default_timeout = default_timeout(alias, params)
        if self._clear_by_prefix and not self.key_prefix:
            raise ConfigurationError(
                f"cache '{alias}': OPTIONS['CLEAR'] is 'prefix', but KEY_PREFIX is empty: give this cache its "
                "own prefix, or clear by 'flushdb'"
            )

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._client!r}>"

    def get_backend_timeout(self, timeout: Any = DEFAULT_TIMEOUT) -> float | None:
        """When a value with this ``timeout`` expires, in seconds from now: None for never, 0 and less for at once.

        Override it to change the timeouts of all methods that store or touch a value, in both forms:

        >>> class Jittered(ValkeyCache):
        ...     def get_backend_timeout(self, timeout=DEFAULT_TIMEOUT):
        ...         seconds = super().get_backend_timeout(timeout)
        ...         return seconds and seconds * random.uniform(0.9, 1.1)

        Args:
            timeout: seconds, a timedelta, None, or ``DEFAULT_TIMEOUT`` for the cache's own.
        """
        if timeout is DEFAULT_TIMEOUT:
            timeout = self.default_timeout
        return timeout.total_seconds() if isinstance(timeout, datetime.timedelta) else timeout

    def add(self, key: Any, value: Any, timeout: Any = DEFAULT_TIMEOUT, version: int | None = None) -> bool:
        """Stores a value if the key is not there; whether it was stored. Only one of many callers is told so.

        The arguments and errors are those of :meth:`set`. With IGNORE_EXCEPTIONS an error is False.

        >>> if cache.add("lock:report", 1, timeout=600):  # doctest: +SKIP
        ...     build_report()
        """
        return self._client.add(self, key, value, timeout, version)

    async def aadd(self, key: Any, value: Any, timeout: Any = DEFAULT_TIMEOUT, version: int | None = None) -> bool:
        """As :meth:`add`, on the running loop."""
        return await self._client.aadd(self, key, value, timeout, version)

    def get(self, key: Any, default: Any = None, version: int | None = None) -> Any:
        """The value under a key, or ``default``.

        A value that cannot be read is a logged miss.

        >>> cache.get("visits", 0)  # doctest: +SKIP
        7

        Args:
            key: a str, or what ``str()`` makes one of.
            default: what a miss is answered with. A stored None is no miss.
            version: of the key; None for the cache's own.

        Raises:
            ConnectionError, TimeoutError: the server is away, or does not answer. With IGNORE_EXCEPTIONS it is a miss.
            ResponseError: the server's error, such as WRONGTYPE for a key that holds a list.
        """
        return self._client.get(self, key, default, version)

    async def aget(self, key: Any, default: Any = None, version: int | None = None) -> Any:
        """As :meth:`get`, on the running loop."""
        return await self._client.aget(self, key, default, version)

    def set(self, key: Any, value: Any, timeout: Any = DEFAULT_TIMEOUT, version: int | None = None) -> None:
        """Stores a value, and forgets the one that was there.

        >>> cache.set("visits", 7, timeout=60)  # doctest: +SKIP

        Args:
            key: as for :meth:`get`.
            value: anything that the SERIALIZER takes.
            timeout: seconds, also a fraction, or a timedelta; None is never, 0 and below is at once, and
                ``DEFAULT_TIMEOUT`` is the cache's TIMEOUT.
            version: of the key; None for the cache's own.

        Raises:
            TypeError, ValueError: a timeout that is no length of time, a value that cannot be encoded or takes more
                than MAX_VALUE_LEN. Nothing was sent.
            ConnectionError, TimeoutError, ResponseError: as for :meth:`get`; it may or may not have been stored.
        """
        self._client.set(self, key, value, timeout, version)

    async def aset(self, key: Any, value: Any, timeout: Any = DEFAULT_TIMEOUT, version: int | None = None) -> None:
        """As :meth:`set`, on the running loop."""
        await self._client.aset(self, key, value, timeout, version)

    def touch(self, key: Any, timeout: Any = DEFAULT_TIMEOUT, version: int | None = None) -> bool:
        """Gives a key another timeout; whether the key is there. The arguments and errors are those of :meth:`set`."""
        return self._client.touch(self, key, timeout, version)

    async def atouch(self, key: Any, timeout: Any = DEFAULT_TIMEOUT, version: int | None = None) -> bool:
        """As :meth:`touch`, on the running loop."""
        return await self._client.atouch(self, key, timeout, version)

    def delete(self, key: Any, version: int | None = None) -> bool:
        """Deletes a key; whether it was there. Raises as :meth:`get`."""
        return self._client.delete(self, key, version)

    async def adelete(self, key: Any, version: int | None = None) -> bool:
        """As :meth:`delete`, on the running loop."""
        return await self._client.adelete(self, key, version)

    def get_many(self, keys: Iterable[Any], version: int | None = None) -> dict[Any, Any]:
        """The values that are there, by their keys as they were given, in one round trip.

        A value that cannot be read is left out, and so is a key that holds no string. Raises as :meth:`get`; with
        IGNORE_EXCEPTIONS an error is an empty dict.
        """
        return self._client.get_many(self, keys, version)

    async def aget_many(self, keys: Iterable[Any], version: int | None = None) -> dict[Any, Any]:
        """As :meth:`get_many`, on the running loop."""
        return await self._client.aget_many(self, keys, version)

    def set_many(
        self, data: Mapping[Any, Any], timeout: Any = DEFAULT_TIMEOUT, version: int | None = None
    ) -> list[Any]:
        """Stores several values in one round trip; the keys that were not stored, which is none unless
        IGNORE_EXCEPTIONS hid an error.

        The arguments and errors are those of :meth:`set`.
        """
        return self._client.set_many(self, data, timeout, version)

    async def aset_many(
        self, data: Mapping[Any, Any], timeout: Any = DEFAULT_TIMEOUT, version: int | None = None
    ) -> list[Any]:
        """As :meth:`set_many`, on the running loop."""
        return await self._client.aset_many(self, data, timeout, version)

    def delete_many(self, keys: Iterable[Any], version: int | None = None) -> None:
        """Deletes several keys in one round trip. Raises as :meth:`get`."""
        self._client.delete_many(self, keys, version)

    async def adelete_many(self, keys: Iterable[Any], version: int | None = None) -> None:
        """As :meth:`delete_many`, on the running loop."""
        await self._client.adelete_many(self, keys, version)

    def has_key(self, key: Any, version: int | None = None) -> bool:
        """Whether a key is there; ``key in cache`` is the same. Raises as :meth:`get`."""
        return self._client.has_key(self, key, version)

    async def ahas_key(self, key: Any, version: int | None = None) -> bool:
        """As :meth:`has_key`, on the running loop."""
        return await self._client.ahas_key(self, key, version)

    def incr(self, key: Any, delta: int = 1, version: int | None = None) -> int:
        """Adds to an integer in one step on the server, and returns the sum. Its time to live stays.

        >>> cache.set("visits", 7)  # doctest: +SKIP
        >>> cache.incr("visits")  # doctest: +SKIP
        8

        Args:
            key: as for :meth:`get`.
            delta: what is added, also below 0.
            version: of the key; None for the cache's own.

        Raises:
            ValueError: the key is not there.
            TypeError: its value is no integer.
            OverflowError: the delta has more than 64 bits.
            ConnectionError, TimeoutError, ResponseError: as for :meth:`get`; it may or may not have been added. A sum
                beyond 64 bits is a ResponseError.
        """
        return self._client.incr(self, key, delta, version)

    async def aincr(self, key: Any, delta: int = 1, version: int | None = None) -> int:
        """As :meth:`incr`, on the running loop."""
        return await self._client.aincr(self, key, delta, version)

    def decr(self, key: Any, delta: int = 1, version: int | None = None) -> int:
        """As :meth:`incr`, and subtracts."""
        return self.incr(key, -delta, version=version)

    async def adecr(self, key: Any, delta: int = 1, version: int | None = None) -> int:
        """As :meth:`decr`, on the running loop."""
        return await self.aincr(key, -delta, version=version)

    async def aget_or_set(
        self,
        key: Any,
        default: Any | Callable[[], Any] | Callable[[], Awaitable[Any]],
        timeout: Any = DEFAULT_TIMEOUT,
        version: int | None = None,
    ) -> Any:
        """As get_or_set; a default that is a coroutine function, or returns an awaitable, is awaited."""
        value = await self.aget(key, self._missing_key, version=version)
        if value is not self._missing_key:
            return value
        if callable(default):
            default = default()
            if inspect.isawaitable(default):
                default = await default
        await self.aadd(key, default, timeout=timeout, version=version)
        # Another process may have added its own first, and that is the value then.
        return await self.aget(key, default, version=version)

    def incr_version(self, key: Any, delta: int = 1, version: int | None = None) -> int:
        """Moves the key to another version in one step; unlike Django's own, it keeps the time to live."""
        version = self.version if version is None else version
        return self._client.move_version(self, key, version, version + delta)

    async def aincr_version(self, key: Any, delta: int = 1, version: int | None = None) -> int:
        """As :meth:`incr_version`, on the running loop."""
        version = self.version if version is None else version
        return await self._client.amove_version(self, key, version, version + delta)

    async def adecr_version(self, key: Any, delta: int = 1, version: int | None = None) -> int:
        """As :meth:`decr_version`, on the running loop."""
        return await self.aincr_version(key, -delta, version)

    def wait_changed(
        self, key: Any, timeout: float | datetime.timedelta | None = None, *, version: int | None = None
    ) -> bool:
        """Waits until the key is set, deleted or expires, and says whether it did.

        The server says so at once, without being asked again and again. A change that came before the wait began is not
        noticed, and now and then a key is said to have changed that did not. So look at the key in a loop, and wait a
        second or so each time:

        >>> while not cache.add("lock:report", 1, timeout=60):  # doctest: +SKIP
        ...     cache.wait_changed("lock:report", timeout=1)

        Args:
            key: as for :meth:`get`.
            timeout: seconds, or a timedelta, to wait at most; None waits for as long as it takes.
            version: of the key; None for the cache's own.

        Raises:
            ConnectionError, TimeoutError: the server is away, or does not answer; also with IGNORE_EXCEPTIONS.
            ResponseError: the server refuses to read the key.
        """
        return self._client.wait_changed(self, key, timeout, version)

    async def await_changed(
        self, key: Any, timeout: float | datetime.timedelta | None = None, *, version: int | None = None
    ) -> bool:
        """As :meth:`wait_changed`, on the running loop.

        >>> while not await cache.aadd("lock:report", 1, timeout=60):  # doctest: +SKIP
        ...     await cache.await_changed("lock:report", timeout=1)
        """
        return await self._client.await_changed(self, key, timeout, version)

    def clear(self) -> None:
        """Empties the cache: the whole database, or with ``CLEAR: "prefix"`` the keys of this KEY_PREFIX.

        By prefix, a key is this cache's if it is what ``make_key`` makes of some key, with any integer for a version or
        with the cache's own version. Keys of other aliases in CACHES stay, whatever theirs look like.

        This process then forgets whom its limits have refused, as their counters may be among what was deleted.

        Raises:
            ConfigurationError: KEY_FUNCTION or ``make_key`` does not put prefix, version and key into the server's key
                as they are, so that the cache's keys cannot be told from others.
        """
        if self._clear_by_prefix:
            self._client.sweep(layouts(self, self._alias), str(self.version))
        else:
            self._client.flush()
        _vcache.forget_refusals()

    async def aclear(self) -> None:
        """As :meth:`clear`, on the running loop."""
        if self._clear_by_prefix:
            await self._client.asweep(layouts(self, self._alias), str(self.version))
        else:
            await self._client.aflush()
        _vcache.forget_refusals()

    def close(self, **kwargs: Any) -> None:
        """Nothing to do: the connection is the process's, and Django calls this after every request."""

    async def aclose(self, **kwargs: Any) -> None:
        """Nothing to do, see :meth:`close`."""

    def execute(self, *command: Any) -> Any:
        """Sends any command over the shared connection and returns its reply as plain Python values.

        Every string of a reply is bytes, at any depth: values, names of fields, ``b"OK"``, the text of INFO. Nothing is
        decoded. Numbers are int or float, and the rest is None, bool, list, dict or set. Keys are taken as they are,
        without prefix and version.

        >>> cache.execute("CLIENT", "ID")  # doctest: +SKIP
        7
        >>> cache.execute("SET", "greeting", "hello", "EX", 60)  # doctest: +SKIP
        b'OK'

        Args:
            command: the command's words: str (sent as UTF-8), bytes, bytearray, memoryview, int or float.

        Raises:
            ResponseError: the server's error.
            TypeError, ValueError: a word that cannot be sent; the message says which.
            ValueError: for commands that would change the connection for everybody (SUBSCRIBE, MULTI, SELECT, ...).
        """
        return self._client.execute(*command)

    async def aexecute(self, *command: Any) -> Any:
        """As :meth:`execute`, on the running loop."""
        return await self._client.aexecute(*command)


class StandInCache(ConfigurationError):
    """A test run has one of Django's own caches in place of a server. Limits admit everything then."""


_published: set[str] = set()
"""The aliases whose connections Rust knows."""


def publish_alias(alias: str, wanted_by: str = "a hot path or limit") -> None:
    """Tells Rust which connection ``CACHES[alias]`` uses, so that hot paths run on it.

    Other settings, by ``override_settings``, make it forget the connection, and it asks here again.

    Args:
        alias: of ``CACHES``.
        wanted_by: who needs it, for the errors.

    Raises:
        ConfigurationError: if there is no such alias, or it is another backend's.
    """
    from django.core.cache import InvalidCacheBackendError, caches

    wanted = f"{wanted_by} wants the cache alias {alias!r}"
    setting = caches.settings.get(alias, {"BACKEND": None})
    # Django has a KeyError or an AttributeError for these.
    if not isinstance(setting, Mapping) or "BACKEND" not in setting:
        raise ConfigurationError(f"{wanted}, but CACHES[{alias!r}] is no dict with a BACKEND")
    try:
        cache = caches[alias]
    except InvalidCacheBackendError as error:
        raise ConfigurationError(f"{wanted}: {error}") from error
    client = getattr(cache, "_client", None)
    if not isinstance(client, _vcache.Client):
        message = f"{wanted}, but its BACKEND is {type(cache).__name__}, not django_vcache.ValkeyCache"
        if is_usable(type(cache)):
            raise StandInCache(f"{message}: run the test on a server, with the fixture vcache_server or VcacheMixin")
        raise ConfigurationError(
            f'{message}. To develop without a server, use LOCATION "embedded://", or switch limits off by '
            'VCACHE = {"ENABLED": False}'
        )
    _published.add(alias)
    client.publish(alias)


def is_usable(backend: object) -> bool:
    """Whether an alias with this class of caches can be used: ours, and in a test run Django's that need no server.

    A test run is what ``django.test.utils.setup_test_environment()`` began, as ``manage.py test`` and pytest-django do.
    A project that forgot CACHES has a LocMemCache too, and outside of tests its limits must not be silently off.
    """
    if not isinstance(backend, type):
        return False
    utils = sys.modules.get("django.test.utils")
    in_tests = utils is not None and hasattr(utils._TestState, "saved_data")
    return issubclass(backend, (ValkeyCache, LocMemCache, DummyCache) if in_tests else ValkeyCache)


def _forget_aliases(*, setting: str, **_others: object) -> None:
    if setting == "CACHES":
        while _published:
            _vcache.forget_alias(_published.pop())
        _vcache.forget_servers()


setting_changed.connect(_forget_aliases)
