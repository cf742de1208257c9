"""A subclass that overrides one form of an operation is asked by the other forms too; a class that overrides nothing
keeps every native method.
"""

from __future__ import annotations

import datetime
from collections.abc import Callable
from typing import Any

import pytest
from django.core.cache.backends.base import DEFAULT_TIMEOUT
from support.caches import cache_params
from support.driver import AsyncDriven, open_runner
from support.server import ValkeyServer

from django_vcache import ValkeyCache

Log = list[str]


class Logging(ValkeyCache):
    """What was asked, in order."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.log: Log = []


def make(cls: type[Any], server: ValkeyServer, **options: Any) -> Any:
    return cls(server.url, cache_params(options))


def test_a_subclass_that_overrides_nothing_keeps_every_method() -> None:
    class Plain(ValkeyCache):
        extra = 1

    for name in dir(ValkeyCache):
        if not name.startswith("__") and callable(getattr(ValkeyCache, name)):
            own, theirs = getattr(Plain, name), getattr(ValkeyCache, name)
            assert getattr(own, "__func__", own) is getattr(theirs, "__func__", theirs), name


class Singles(Logging):
    """Overrides the sync form of every operation on one key, and notes it."""

    def get(self, key: Any, default: Any = None, version: int | None = None) -> Any:
        self.log.append(f"get {key}")
        return super().get(f"own:{key}", default, version)

    def set(self, key: Any, value: Any, timeout: Any = DEFAULT_TIMEOUT, version: int | None = None) -> None:
        self.log.append(f"set {key}")
        super().set(f"own:{key}", value, timeout, version)

    def add(self, key: Any, value: Any, timeout: Any = DEFAULT_TIMEOUT, version: int | None = None) -> bool:
        self.log.append(f"add {key}")
        return super().add(f"own:{key}", value, timeout, version)

    def touch(self, key: Any, timeout: Any = DEFAULT_TIMEOUT, version: int | None = None) -> bool:
        self.log.append(f"touch {key}")
        return super().touch(f"own:{key}", timeout, version)

    def delete(self, key: Any, version: int | None = None) -> bool:
        self.log.append(f"delete {key}")
        return super().delete(f"own:{key}", version)

    def has_key(self, key: Any, version: int | None = None) -> bool:
        self.log.append(f"has_key {key}")
        return super().has_key(f"own:{key}", version)

    def incr(self, key: Any, delta: int = 1, version: int | None = None) -> int:
        self.log.append(f"incr {key}")
        return super().incr(f"own:{key}", delta, version)

    def incr_version(self, key: Any, delta: int = 1, version: int | None = None) -> int:
        self.log.append(f"incr_version {key}")
        return super().incr_version(f"own:{key}", delta, version)

    def wait_changed(self, key: Any, timeout: Any = None, *, version: int | None = None) -> bool:
        self.log.append(f"wait_changed {key}")
        return super().wait_changed(f"own:{key}", timeout, version=version)

    def execute(self, *command: Any) -> Any:
        self.log.append(f"execute {command[0]}")
        return super().execute(*command)

    def clear(self) -> None:
        self.log.append("clear")
        super().clear()

    def close(self, **kwargs: Any) -> None:
        self.log.append("close")


def test_every_form_asks_what_is_overridden(server: ValkeyServer, drive: Callable[[Any], Any]) -> None:
    plain = make(Singles, server)
    cache = drive(plain)

    def logged(call: Callable[[], Any]) -> Any:
        plain.log.clear()
        return call(), plain.log[:]

    assert logged(lambda: cache.set("k", 1)) == (None, ["set k"])
    assert server.keys() == [b":1:own:k"]
    assert logged(lambda: cache.get("k")) == (1, ["get k"])
    assert logged(lambda: cache.add("k", 2)) == (False, ["add k"])
    assert logged(lambda: cache.touch("k", 60)) == (True, ["touch k"])
    assert logged(lambda: cache.has_key("k")) == (True, ["has_key k"])
    assert logged(lambda: cache.incr("k")) == (2, ["incr k"])
    assert logged(lambda: cache.decr("k")) == (1, ["incr k"])
    assert logged(lambda: cache.set_many({"a": 1, "b": None})) == ([], ["set a", "set b"])
    assert logged(lambda: cache.get_many(["a", "b", "c"])) == ({"a": 1, "b": None}, ["get a", "get b", "get c"])
    assert logged(lambda: cache.get_or_set("a", 5)) == (1, ["get a"])
    assert logged(lambda: cache.get_or_set("d", 5)) == (5, ["get d", "add d", "get d"])
    assert logged(lambda: cache.incr_version("a")) == (2, ["incr_version a"])
    assert logged(lambda: cache.decr_version("a", version=2)) == (1, ["incr_version a"])
    assert logged(lambda: cache.delete("a")) == (True, ["delete a"])
    assert logged(lambda: cache.delete_many(["b", "d"])) == (None, ["delete b", "delete d"])
    assert server.keys() == [b":1:own:k"]
    assert logged(lambda: cache.execute("DBSIZE")) == (1, ["execute DBSIZE"])
    assert logged(lambda: cache.clear()) == (None, ["clear"])
    assert server.keys() == []
    assert logged(lambda: cache.close()) == (None, ["close"])


def test_the_awaited_wait_asks_the_blocking_one(server: ValkeyServer, run: Any) -> None:
    cache = make(Singles, server)
    assert run(cache.await_changed("k", 0.001)) is False
    assert cache.log == ["wait_changed k"]


class Reads(Logging):
    def get_many(self, keys: Any, version: int | None = None) -> dict[Any, Any]:
        self.log.append("get_many")
        return super().get_many(keys, version)

    def get_or_set(self, key: Any, default: Any, timeout: Any = DEFAULT_TIMEOUT, version: int | None = None) -> Any:
        self.log.append("get_or_set")
        return super().get_or_set(key, default, timeout, version)

    def decr(self, key: Any, delta: int = 1, version: int | None = None) -> int:
        self.log.append("decr")
        return super().decr(key, delta, version)


def test_forms_of_many_keys_are_asked_by_their_awaited_ones(server: ValkeyServer, run: Any) -> None:
    cache = make(Reads, server)
    cache.set("k", 1)
    assert run(cache.aget_many(["k"])) == {"k": 1}
    assert run(cache.aget_or_set("l", lambda: 2)) == 2
    assert run(cache.adecr("k")) == 0
    assert cache.log == ["get_many", "get_or_set", "decr"]
    # What is not overridden stays native.
    assert Reads.aget is ValkeyCache.aget
    assert Reads.aset_many is ValkeyCache.aset_many


class Awaited(Logging):
    async def aget(self, key: Any, default: Any = None, version: int | None = None) -> Any:
        self.log.append(f"aget {key}")
        return await super().aget(key, default, version)


def test_an_awaited_form_is_asked_by_the_awaited_form_of_many_keys_only(server: ValkeyServer, run: Any) -> None:
    cache = make(Awaited, server)
    assert cache.get_many(["k"]) == {}
    assert cache.log == []
    assert run(cache.aget_many(["k", "l"])) == {}
    assert cache.log == ["aget k", "aget l"]
    assert Awaited.get_many is ValkeyCache.get_many


def test_the_most_derived_class_counts(server: ValkeyServer, run: Any) -> None:
    class Mixin:
        def get(self, key: Any, default: Any = None, version: int | None = None) -> Any:
            self.log.append("mixin")  # type: ignore[attr-defined]
            return super().get(key, default, version)  # type: ignore[misc]

    class Mixed(Mixin, Logging):  # type: ignore[misc]
        pass

    class Both(Mixed):
        async def aget(self, key: Any, default: Any = None, version: int | None = None) -> Any:
            self.log.append("aget")
            return await super().aget(key, default, version)

    class Again(Both):
        def get(self, key: Any, default: Any = None, version: int | None = None) -> Any:
            self.log.append("again")
            return super().get(key, default, version)

    for cls, expected in [
        (Mixed, ["mixin"]),
        (Both, ["aget", "mixin"]),
        (Again, ["again", "mixin"]),
    ]:
        cache = make(cls, server)
        run(cache.aget("k"))
        assert cache.log == expected, cls


class Doubled(ValkeyCache):
    """Every timeout twice as long."""

    def get_backend_timeout(self, timeout: Any = DEFAULT_TIMEOUT) -> float | None:
        seconds = super().get_backend_timeout(timeout)
        return seconds and seconds * 2


@pytest.mark.parametrize(
    ("timeout", "seconds"),
    [((), 600), ((100,), 200), ((datetime.timedelta(minutes=1),), 120), ((None,), None), ((0,), 0)],
    ids=str,
)
def test_get_backend_timeout_is_asked_by_all_that_store(
    server: ValkeyServer, drive: Callable[[Any], Any], timeout: tuple[Any, ...], seconds: int | None
) -> None:
    cache = drive(make(Doubled, server))

    def check() -> None:
        left = server.execute("PTTL", ":1:k")
        assert isinstance(left, int)
        if seconds is None:
            assert left == -1
        elif seconds == 0:
            assert left == -2
        else:
            assert (seconds - 10) * 1000 < left <= seconds * 1000
        server.execute("FLUSHALL")

    cache.set("k", 1, *timeout)
    check()
    cache.add("k", 1, *timeout)
    check()
    cache.set_many({"k": 1}, *timeout)
    check()
    cache.get_or_set("k", 1, *timeout)
    check()
    server.execute("SET", ":1:k", "1")
    cache.touch("k", *timeout)
    check()


def test_get_backend_timeout_says_what_is_done() -> None:
    with ValkeyServer() as server:
        cache = make(ValkeyCache, server, TIMEOUT=datetime.timedelta(hours=1))
        assert cache.get_backend_timeout() == 3600
        assert cache.get_backend_timeout(5) == 5
        assert cache.get_backend_timeout(None) is None
        assert cache.get_backend_timeout(datetime.timedelta(milliseconds=1500)) == 1.5


def test_overriding_through_the_shared_object(server: ValkeyServer) -> None:
    from django.test import override_settings
    from support.caches import cache_setting

    from django_vcache import aliases

    setting = {**cache_setting(server), "BACKEND": f"{__name__}.Singles"}
    with override_settings(CACHES={"default": setting}), open_runner("asyncio") as runner:
        shared = aliases["default"]
        AsyncDriven(shared, runner).set("k", 1)
        assert shared.log == ["set k"]  # type: ignore[attr-defined]
