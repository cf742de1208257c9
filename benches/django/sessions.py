"""What a client is asked to do and how it does it: one session a client and process, with the operations as methods."""

from __future__ import annotations

import asyncio
import pickle
import socket
import threading
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager, nullcontext
from functools import partial
from importlib import import_module
from types import SimpleNamespace
from typing import Any

from scenarios import BATCH

TIMEOUT_SECONDS = 300
"""How long a value lives: Django's default, given to the raw drivers too."""
OURS_BACKEND = "django_vcache.ValkeyCache"


class Session:
    """One client, opened in this process; a subclass says how it is reached."""

    looks_up = False
    """Whether each call looks its method up again, as a view does; the others keep the method."""

    def company(self) -> AbstractAsyncContextManager[Any]:
        """What goes on in the process beside the load, on its loop or in other threads."""
        return nullcontext()

    def begin(self) -> None:
        """The stretch that is measured begins."""

    def figures(self) -> dict[str, float]:
        """Figures of its own, of the stretch that ends now."""
        return {}

    def request(self) -> AbstractAsyncContextManager[Any]:
        """What the server wraps around one request; Django's ASGI handler gives it a thread."""
        return nullcontext()

    async def asynchronous(self) -> Any:
        """The object with ``aget``, ``aset`` and ``aget_many``, for one task."""
        raise NotImplementedError

    def blocking(self) -> Any:
        """The object with ``get``, ``set`` and ``get_many``, for one thread."""
        raise NotImplementedError

    def encode(self, value: object) -> Any:
        """The value as it is handed over: a raw driver takes only bytes, made before timing."""
        return value

    def decode(self, value: Any) -> object:
        return value


class DjangoCaches(Session):
    """A cache backend behind ``settings.CACHES``; ``async_alias`` names a separate async one."""

    def __init__(self, configuration: dict[str, dict[str, Any]], async_alias: str) -> None:
        from django.conf import settings

        settings.configure(CACHES=configuration, SECRET_KEY="of the bench", USE_TZ=True)
        from django.core.cache import caches

        self.caches = caches
        self.async_alias = async_alias

    def request(self) -> AbstractAsyncContextManager[Any]:
        from asgiref.sync import ThreadSensitiveContext

        return ThreadSensitiveContext()

    async def asynchronous(self) -> Any:
        return self.caches[self.async_alias]

    def blocking(self) -> Any:
        return self.caches["default"]


class ImportedCache(DjangoCaches):
    """The ``cache`` that a module of views imports, from Django or from this project."""

    looks_up = True

    def __init__(self, port: int, module: str) -> None:
        location = f"redis://127.0.0.1:{port}/1"
        super().__init__({"default": {"BACKEND": OURS_BACKEND, "LOCATION": location}}, "default")
        self.cache = import_module(module).cache

    async def asynchronous(self) -> Any:
        return self.cache

    def blocking(self) -> Any:
        return self.cache


def django_cache(backend: str, scheme: str, port: int, async_backend: str = "", query: str = "") -> Session:
    location = f"{scheme}://127.0.0.1:{port}/1{query}"
    configuration = {"default": {"BACKEND": backend, "LOCATION": location}}
    if async_backend:
        configuration["async"] = {"BACKEND": async_backend, "LOCATION": location}
    return DjangoCaches(configuration, "async" if async_backend else "default")


class RawSession(Session):
    """A driver without the Django layer: its values are bytes, pickled outside the timing."""

    def encode(self, value: object) -> bytes:
        return str(value).encode() if isinstance(value, str | int) else pickle.dumps(value)

    def decode(self, value: Any) -> object:
        data = bytes(value)
        return pickle.loads(data) if data.startswith(b"\x80") else data.decode()


class RawVcache(RawSession):
    """The Rust driver inside django-vcache 3.2."""

    def __init__(self, port: int) -> None:
        from django_vcache._driver import RustValkeyDriver

        self.driver = RustValkeyDriver.connect(f"redis://127.0.0.1:{port}/1")

    async def asynchronous(self) -> Any:
        driver = self.driver

        async def five(key: str) -> int:
            owner = (await driver.get(key)).decode()
            plan = (await driver.get(f"bench:plan:{owner}")).decode()
            limit = int(await driver.get(f"bench:limit:{plan}"))
            count: int = await driver.incr_by(f"bench:count:{owner}", 1)
            state = b"over" if count > limit else b"within"
            await driver.set(f"bench:state:{owner}", state, ttl=TIMEOUT_SECONDS)
            return count

        return SimpleNamespace(
            aget=driver.get,
            aset=partial(driver.set, ttl=TIMEOUT_SECONDS),
            aget_many=driver.mget,
            afive=five,
        )

    def blocking(self) -> Any:
        driver = self.driver
        return SimpleNamespace(
            get=driver.get_sync,
            set=partial(driver.set_sync, ttl=TIMEOUT_SECONDS),
            get_many=driver.mget_sync,
        )


class Awaits(RawSession):
    """The guest's five commands as five awaits in Python: by their names, or as one usually asks a cache."""

    def __init__(self, port: int, by_name: bool) -> None:
        self.django = django_cache(OURS_BACKEND, "redis", port)
        self.by_name = by_name

    def request(self) -> AbstractAsyncContextManager[Any]:
        return self.django.request()

    def encode(self, value: object) -> Any:
        return super().encode(value) if self.by_name else value

    async def asynchronous(self) -> Any:
        cache = await self.django.asynchronous()
        if not self.by_name:
            return SimpleNamespace(aset=cache.aset, afive=usual_five(cache))
        execute = cache.aexecute
        return SimpleNamespace(aset=partial(execute, "SET"), afive=five_by_name(execute))


def five_by_name(execute: Callable[..., Awaitable[Any]]) -> Callable[[str], Awaitable[int]]:
    async def five(key: str) -> int:
        owner = await execute("GET", key)
        plan = await execute("GET", b"bench:plan:" + owner)
        limit = int(await execute("GET", b"bench:limit:" + plan))
        count: int = await execute("INCRBY", b"bench:count:" + owner, 1)
        state = b"over" if count > limit else b"within"
        await execute("SETEX", b"bench:state:" + owner, TIMEOUT_SECONDS, state)
        return count

    return five


def usual_five(cache: Any) -> Callable[[str], Awaitable[int]]:
    async def five(key: str) -> int:
        owner = await cache.aget(key)
        plan = await cache.aget(f"bench:plan:{owner}")
        limit = await cache.aget(f"bench:limit:{plan}")
        count: int = await cache.aincr(f"bench:count:{owner}")
        state = "over" if count > limit else "within"
        await cache.aset(f"bench:state:{owner}", state, TIMEOUT_SECONDS)
        return count

    return five


class HotPaths(RawSession):
    """Hot paths on the connection of a Django cache; ``table`` says which function of the module is which operation."""

    def __init__(self, port: int, module: str, table: dict[str, str], arguments: tuple[object, ...] = ()) -> None:
        self.django = django_cache(OURS_BACKEND, "redis", port)
        found = import_module(module)
        self.functions = {operation: getattr(found, name) for operation, name in table.items()}
        for operation, repeated in (("nothing", calls), ("anothing", awaits)):
            if function := self.functions.get(operation):
                self.functions[operation] = repeated(partial(function, *arguments) if arguments else function)

    def request(self) -> AbstractAsyncContextManager[Any]:
        return self.django.request()

    async def asynchronous(self) -> Any:
        cache = await self.django.asynchronous()
        return SimpleNamespace(aset=partial(cache.aexecute, "SET"), **self.functions)

    def blocking(self) -> Any:
        return SimpleNamespace(set=partial(self.django.blocking().execute, "SET"), **self.functions)


def calls(function: Callable[[], object]) -> Callable[[], None]:
    """Calls it so often that the clock and the counting do not matter."""

    def batch() -> None:
        for _ in range(BATCH):
            function()

    return batch


def awaits(function: Callable[[], Awaitable[object]]) -> Callable[[], Awaitable[None]]:
    """As :func:`calls`, and lets the loop have its turn in between: what is awaited may be done already."""

    async def batch() -> None:
        for _ in range(BATCH):
            await function()
        await asyncio.sleep(0)

    return batch


class Empty(Session):
    """What a call costs in Python itself."""

    def __init__(self, _port: int) -> None:
        pass

    async def asynchronous(self) -> Any:
        async def nothing() -> None:
            pass

        return SimpleNamespace(anothing=awaits(nothing))

    def blocking(self) -> Any:
        def nothing() -> None:
            pass

        return SimpleNamespace(nothing=calls(nothing))


class Futures(Session):
    """What a future of the loop's costs, made, completed and awaited: at once, or after a turn of the loop."""

    def __init__(self, _port: int, turn: bool) -> None:
        self.turn = turn

    async def asynchronous(self) -> Any:
        loop = asyncio.get_running_loop()

        async def at_once() -> None:
            for _ in range(BATCH):
                future = loop.create_future()
                future.set_result(None)
                await future
            await asyncio.sleep(0)

        async def after_a_turn() -> None:
            for _ in range(BATCH):
                future = loop.create_future()
                loop.call_soon(future.set_result, None)
                await future

        return SimpleNamespace(anothing=after_a_turn if self.turn else at_once)


class Glide(RawSession):
    """valkey-glide: one multiplexed client a process; its blocking half is a package of its own."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.lock = threading.Lock()
        self.opening = asyncio.Lock()
        self.client: Any = None
        self.kind = "GlideClient"

    async def asynchronous(self) -> Any:
        import glide

        async with self.opening:
            if self.client is None:
                self.client = await getattr(glide, self.kind).create(self._configuration(glide))
        expiry = glide.ExpirySet(glide.ExpiryType.SEC, TIMEOUT_SECONDS)
        return SimpleNamespace(
            aget=self.client.get,
            aset=partial(self.client.set, expiry=expiry),
            aget_many=self.client.mget,
        )

    def blocking(self) -> Any:
        import glide_sync

        with self.lock:
            if self.client is None:
                self.client = getattr(glide_sync, self.kind).create(self._configuration(glide_sync))
        expiry = glide_sync.ExpirySet(glide_sync.ExpiryType.SEC, TIMEOUT_SECONDS)
        return SimpleNamespace(
            get=self.client.get,
            set=partial(self.client.set, expiry=expiry),
            get_many=self.client.mget,
        )

    def _configuration(self, package: Any) -> Any:
        return package.GlideClientConfiguration([package.NodeAddress("127.0.0.1", self.port)], database_id=1)


class Bare(RawSession):
    """The floor: an asyncio future with no I/O, and a blocking socket that writes the bytes."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.values: dict[str, bytes] = {}

    async def asynchronous(self) -> Any:
        loop = asyncio.get_running_loop()

        async def aset(key: str, value: bytes) -> None:
            self.values[key] = value

        async def aget(key: str) -> bytes:
            future: asyncio.Future[bytes] = loop.create_future()
            loop.call_soon(future.set_result, self.values[key])
            return await future

        return SimpleNamespace(aget=aget, aset=aset)

    def blocking(self) -> Any:
        connection = socket.create_connection(("127.0.0.1", self.port))
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

        def call(*words: bytes) -> bytes:
            parts = b"".join(b"$%d\r\n%s\r\n" % (len(word), word) for word in words)
            connection.sendall(b"*%d\r\n%s" % (len(words), parts))
            return connection.recv(65536)

        def get(key: str) -> bytes:
            return call(b"GET", key.encode()).split(b"\r\n")[1]

        def set_(key: str, value: bytes) -> None:
            call(b"SET", key.encode(), value)

        return SimpleNamespace(get=get, set=set_)
