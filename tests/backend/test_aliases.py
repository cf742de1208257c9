"""`from django_vcache import cache, aliases`: one object for the process, which behaves as `caches[alias]` does."""

from __future__ import annotations

import asyncio
import gc
import inspect
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from unittest import mock

import pytest
from django.core.cache import InvalidCacheBackendError, caches
from django.core.signals import request_finished, request_started
from django.test import override_settings
from django.test.utils import setup_test_environment, teardown_test_environment
from support.caches import cache_setting
from support.driver import LOOPS, open_runner
from support.programs import run_program
from support.server import ValkeyServer, wait_until

from django_vcache import ValkeyCache, _aliases, aliases, cache, embedded
from django_vcache.exceptions import ConfigurationError

LOCMEM = "django.core.cache.backends.locmem.LocMemCache"


class Loud(ValkeyCache):
    """Has what a project may add: its own keys and method, and a state that other backends do not have."""

    def __init__(self, location: object, params: dict[str, Any]) -> None:
        super().__init__(location, params)
        self.asked = 0

    def make_key(self, key: Any, version: int | None = None) -> str:
        return str(key).upper()

    def get(self, key: Any, default: Any = None, version: int | None = None, *, times: int = 1) -> Any:
        self.asked += 1
        found = super().get(key, default, version)
        return found if times == 1 else [found] * times

    def shout(self) -> str:
        return "HEY"


LOUD = f"{__name__}.{Loud.__name__}"


def configured(server: ValkeyServer, **options: Any) -> override_settings:
    """The alias `default` on a server."""
    return override_settings(CACHES={"default": cache_setting(server, **options)})


@pytest.fixture
def default(server: ValkeyServer) -> Iterator[None]:
    with configured(server, KEY_PREFIX="p", VERSION=3, TIMEOUT=50):
        yield


# The same as caches[alias].


@pytest.mark.usefixtures("default")
def test_it_answers_as_caches_does(server: ValkeyServer, drive: Callable[[Any], Any]) -> None:
    ours, django = drive(cache), drive(caches["default"])
    ours.set("k", {"a": 1})
    assert server.keys() == [b"p:3:k"]
    assert 49_000 < int(server.execute("PTTL", "p:3:k")) <= 50_000
    assert django.get("k") == ours.get("k") == {"a": 1}
    assert ours.get("missing", "other") == "other"
    assert ours.get_many(["k", "missing"]) == {"k": {"a": 1}}
    assert ours.get("k", version=4) is None
    assert ours.add("k", 2) is False
    assert ours.get_or_set("n", lambda: 5) == 5
    assert ours.incr("n") == 6
    assert ours.touch("n", timeout=None) is True
    assert server.execute("TTL", "p:3:n") == -1
    assert ours.incr_version("n") == 4
    assert "k" in ours
    assert "missing" not in ours
    assert ours.set_many({"x": 1, "y": 2}) == []
    assert ours.delete("x") is True
    ours.delete_many(["y"])
    assert ours.execute("EXISTS", "p:3:x", "p:3:y") == 0
    ours.clear()
    assert server.keys() == []


@pytest.mark.usefixtures("default")
def test_it_looks_like_the_backend_object() -> None:
    assert isinstance(cache, ValkeyCache)
    assert (cache.key_prefix, cache.version, cache.default_timeout) == ("p", 3, 50)
    assert set(dir(cache)) >= {"get", "aget", "execute", "key_func", "default_timeout"}
    assert inspect.iscoroutinefunction(cache.aget)
    assert inspect.signature(cache.get) == inspect.signature(caches["default"].get)
    assert not hasattr(cache, "no_such_method")
    with pytest.raises(AttributeError, match="'ValkeyCache' object has no attribute 'no_such_method'"):
        cache.no_such_method  # noqa: B018
    assert repr(cache) == "django_vcache.aliases['default']"


@pytest.mark.usefixtures("default")
def test_it_lists_the_aliases() -> None:
    assert list(aliases) == ["default"]
    assert "default" in aliases
    assert "other" not in aliases
    assert [key for key in aliases if aliases[key].get("k") is None] == ["default"]
    with pytest.raises(TypeError, match="a cache alias is a str, not int"):
        aliases[0]


def test_names_that_are_no_aliases_leave_nothing_behind() -> None:
    for number in range(3):
        with pytest.raises(InvalidCacheBackendError):
            aliases[f"none-{number}"].get("k")
    gc.collect()
    assert not [alias for alias in _aliases._shared if alias.startswith("none-")]


def test_an_alias_is_one_object(server: ValkeyServer) -> None:
    assert aliases["default"] is cache
    with override_settings(CACHES={name: cache_setting(server, KEY_PREFIX=name) for name in ("default", "sessions")}):
        sessions = aliases["sessions"]
        assert sessions is aliases["sessions"]
        cache.set("k", 1)
        sessions.set("k", 2)
        assert sorted(server.keys()) == [b"default:1:k", b"sessions:1:k"]
        assert (cache.get("k"), sessions.get("k")) == (1, 2)
    assert sessions is aliases["sessions"]


@pytest.mark.usefixtures("default")
def test_a_key_function_that_is_assigned_is_used_at_once_and_by_all_threads(server: ValkeyServer) -> None:
    cache.set("k", 0)
    cache.key_func = lambda key, prefix, version: f"own/{key}"
    with ThreadPoolExecutor(1) as pool:
        pool.submit(cache.set, "k", 1).result()
        assert pool.submit(lambda: cache.make_key("k")).result() == "own/k"
    assert sorted(server.keys()) == [b"own/k", b"p:3:k"]
    assert cache.get("k") == 1
    cache.key_func = caches["default"].key_func
    assert cache.get("k") == 0
    cache.mark = "mine"  # type: ignore[attr-defined]
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(lambda: cache.mark).result() == "mine"  # type: ignore[attr-defined]
    del cache.mark  # type: ignore[attr-defined]
    assert not hasattr(cache, "mark")


def test_a_subclass_is_called_as_it_is_written(server: ValkeyServer) -> None:
    with override_settings(CACHES={"default": cache_setting(server) | {"BACKEND": LOUD}}):
        assert isinstance(cache, Loud)
        cache.set("k", "v")
        assert server.keys() == [b"K"]
        assert cache.get("k", times=2) == ["v", "v"]
        assert cache.asked == 1
        assert cache.shout() == "HEY"
    with configured(server):
        assert cache.get("K") is None
        assert not hasattr(cache, "shout")


@pytest.mark.usefixtures("default")
def test_what_a_test_patches_is_called() -> None:
    cache.set("k", 1)
    with mock.patch.object(cache, "get", return_value="patched") as patched:
        with ThreadPoolExecutor(1) as pool:
            assert pool.submit(cache.get, "k").result() == "patched"
        patched.assert_called_once_with("k")
    assert cache.get("k") == 1
    with mock.patch.object(ValkeyCache, "get", autospec=True, return_value="patched"):
        assert cache.get("k") == "patched"
    assert cache.get("k") == 1


# Threads and loops.


@pytest.mark.usefixtures("default")
def test_threads_and_loops_use_it_at_once(server: ValkeyServer) -> None:
    """Four threads block, a loop of each kind awaits; all of them begin together and see what is theirs."""
    together = threading.Barrier(4 + len(LOOPS))

    def block(number: int) -> list[Any]:
        together.wait()
        answers = []
        for turn in range(50):
            cache.set(f"t{number}", turn)
            answers.append(cache.get(f"t{number}"))
        return answers

    def on_loop(name: str) -> list[Any]:
        async def one(number: int) -> Any:
            await cache.aset(f"{name}{number}", number)
            return await cache.aget(f"{name}{number}")

        async def many() -> list[Any]:
            return await asyncio.gather(*map(one, range(50)))

        with open_runner(name) as runner:
            together.wait()
            return runner.run(many())

    with ThreadPoolExecutor(4 + len(LOOPS)) as pool:
        running = [pool.submit(block, number) for number in range(4)]
        running += [pool.submit(on_loop, name) for name in LOOPS]
        assert [future.result() for future in running] == [list(range(50))] * (4 + len(LOOPS))
    ours = str(cache.execute("CLIENT", "ID"))
    assert ours in {client["id"] for client in server.clients()}


def test_threads_that_use_it_first_get_the_same_backend_object(server: ValkeyServer) -> None:
    together = threading.Barrier(8)

    def first() -> Any:
        together.wait()
        return cache.get.__self__  # type: ignore[attr-defined]

    with configured(server), ThreadPoolExecutor(8) as pool:
        assert len({id(future.result()) for future in [pool.submit(first) for _ in range(8)]}) == 1


@pytest.mark.usefixtures("default")
def test_the_end_of_a_request_keeps_it() -> None:
    before = cache.get.__self__  # type: ignore[attr-defined]
    request_started.send(object)
    request_finished.send(object)
    assert cache.get.__self__ is before  # type: ignore[attr-defined]


def test_a_forked_child_goes_on_with_it(server: ValkeyServer) -> None:
    source = """
    from django_vcache import cache
    cache.set("k", 1)
    child = os.fork()
    if child == 0:
        os._exit(0 if cache.incr("k") == 2 else 1)
    report([os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), cache.get("k")])
    """
    assert run_program(source, {"default": cache_setting(server)}) == [0, 2]


# Other settings.


def test_it_follows_override_settings(server: ValkeyServer) -> None:
    @configured(server, KEY_PREFIX="decorated")
    def decorated() -> str:
        return cache.make_key("k")

    with configured(server, KEY_PREFIX="outer"):
        assert cache.make_key("k") == "outer:1:k"
        with configured(server, KEY_PREFIX="inner"):
            assert cache.make_key("k") == "inner:1:k"
            assert decorated() == "decorated:1:k"
            assert cache.make_key("k") == "inner:1:k"
        assert cache.make_key("k") == "outer:1:k"


def test_it_follows_to_another_server(server: ValkeyServer, fresh_server: ValkeyServer) -> None:
    with configured(server):
        cache.set("k", "here")
        with configured(fresh_server):
            assert cache.get("k") is None
            cache.set("k", "there")
        assert cache.get("k") == "here"
    assert fresh_server.keys() == [b":1:k"]


def test_other_threads_and_loops_follow(server: ValkeyServer, run: Callable[[Any], Any]) -> None:
    async def key_of(name: str) -> list[bytes]:
        await cache.aset(name, 1)
        return server.keys("*:1:" + name)

    with ThreadPoolExecutor(1) as pool:
        for prefix in ("a", "b"):
            with configured(server, KEY_PREFIX=prefix):
                assert run(key_of("loop")) == [f"{prefix}:1:loop".encode()]
                pool.submit(cache.set, "thread", 1).result()
                assert server.keys("*:thread") == [f"{prefix}:1:thread".encode()]
                server.execute("FLUSHALL")


def test_it_follows_the_secret_key(server: ValkeyServer) -> None:
    value = frozenset({1, 2})  # is pickled, and so signed
    with configured(server):
        with override_settings(SECRET_KEY="the old one"):
            cache.set("k", value)
        with override_settings(SECRET_KEY="the new one"):
            assert cache.get("k") is None
            with override_settings(SECRET_KEY_FALLBACKS=["the old one"]):
                assert cache.get("k") == value


def test_a_call_under_way_in_a_thread_ends_as_it_began(server: ValkeyServer) -> None:
    computing, changed = threading.Event(), threading.Event()

    def compute() -> str:
        computing.set()
        assert changed.wait(60)
        return "computed"

    with configured(server, KEY_PREFIX="old"), ThreadPoolExecutor(1) as pool:
        call = pool.submit(cache.get_or_set, "k", compute)
        assert computing.wait(60)
        with override_settings(CACHES={"default": cache_setting(server) | {"BACKEND": LOUD}}):
            assert cache.get("k") is None
            changed.set()
            assert call.result() == "computed"
    assert server.keys() == [b"old:1:k"]


def test_a_call_under_way_on_a_loop_ends_as_it_began(server: ValkeyServer, run: Callable[[Any], Any]) -> None:
    async def main() -> None:
        computing, changed = asyncio.Event(), asyncio.Event()

        async def compute() -> str:
            computing.set()
            await changed.wait()
            return "computed"

        with configured(server, KEY_PREFIX="old"):
            not_yet_begun = cache.aset("later", 1)
            call = asyncio.ensure_future(cache.aget_or_set("k", compute))
            await computing.wait()
            with configured(server, KEY_PREFIX="new"):
                await cache.aset("k", "other")
                changed.set()
                assert await call == "computed"
                await not_yet_begun

    run(main())
    assert sorted(server.keys()) == [b"new:1:k", b"old:1:k", b"old:1:later"]


def test_settings_that_change_under_threads_are_never_mixed(server: ValkeyServer, fresh_server: ValkeyServer) -> None:
    """Each server gets the keys of its own settings, whatever the moment of the change."""
    stop = threading.Event()
    begun = threading.Barrier(4)
    names = {f"{kind}{number}" for kind in "ko" for number in range(3)}
    here = {f"here:7:{name}".encode() for name in names}
    there = {name.upper().encode() for name in names}

    def use(number: int) -> None:
        begun.wait()
        while not stop.is_set():
            cache.set(f"k{number}", 1)
            assert cache.get_or_set(f"o{number}", "v") == "v"

    def change() -> bool:
        for _ in range(50):
            with override_settings(CACHES={"default": cache_setting(fresh_server) | {"BACKEND": LOUD}}):
                assert cache.get("k") is None
            assert cache.get("k") is None
        return set(server.keys()) >= here and set(fresh_server.keys()) >= there

    with configured(server, KEY_PREFIX="here", VERSION=7), ThreadPoolExecutor(3) as pool:
        calls = [pool.submit(use, number) for number in range(3)]
        begun.wait()
        try:
            wait_until(change, what="every thread was seen with both settings")
        finally:
            stop.set()
        for call in calls:
            call.result()
    assert set(server.keys()) == here
    assert set(fresh_server.keys()) == there


def test_an_embedded_server_that_ended_is_replaced_with_the_next_request(tmp_path: Any) -> None:
    location = f"embedded://{tmp_path}"
    try:
        with override_settings(CACHES={"default": {"BACKEND": "django_vcache.ValkeyCache", "LOCATION": [location]}}):
            cache.set("k", 1)
            embedded.stop()
            request_started.send(object)
            assert cache.get("k") is None
            cache.set("k", 2)
            assert cache.get("k") == 2
    finally:
        embedded.stop()


# What is wrong with an alias is said by the first call.


def test_an_alias_that_is_not_there(server: ValkeyServer) -> None:
    nowhere = aliases["nowhere"]
    with override_settings(CACHES={"default": cache_setting(server), "pages": cache_setting(server)}):
        with pytest.raises(ConfigurationError) as caught:
            nowhere.get("k")
        assert str(caught.value) == (
            "there is no cache alias 'nowhere' in settings.CACHES, which has 'default', 'pages'"
        )
        assert isinstance(caught.value, InvalidCacheBackendError)
    with override_settings(CACHES={"default": cache_setting(server), "nowhere": cache_setting(server)}):
        assert nowhere.get("k") is None


def test_an_alias_of_another_backend(server: ValkeyServer) -> None:
    with override_settings(CACHES={"default": {"BACKEND": LOCMEM}}):
        for _ in range(2):
            with pytest.raises(ConfigurationError) as caught:
                cache.get("k")
            assert str(caught.value) == (
                f"django_vcache was asked for the cache alias 'default', but its BACKEND is {LOCMEM}, "
                "not django_vcache.ValkeyCache: use django.core.cache.caches['default']"
            )
    with configured(server):
        assert cache.get("k") is None


def test_a_backend_that_cannot_be_imported() -> None:
    with (
        override_settings(CACHES={"default": {"BACKEND": "no.such.Cache"}}),
        pytest.raises(InvalidCacheBackendError, match=r"Could not find backend 'no\.such\.Cache'"),
    ):
        cache.get("k")


def test_a_wrong_option_is_named(server: ValkeyServer) -> None:
    with (
        configured(server, CLEAR="all"),
        pytest.raises(ConfigurationError, match=r"cache 'default': OPTIONS\['CLEAR'\]"),
    ):
        cache.get("k")


def test_it_is_imported_without_settings(server: ValkeyServer) -> None:
    source = f"""
    import sys

    import django_vcache
    assert not {{"django", "django_vcache._vcache"}} & set(sys.modules)

    from django.core.exceptions import ImproperlyConfigured
    from django_vcache import aliases, cache
    pages = aliases["pages"]
    try:
        cache.get("k")
    except ImproperlyConfigured as error:
        assert "settings are not configured" in str(error), error
    else:
        raise AssertionError("a cache without settings")

    from django.conf import settings
    setting = {{"BACKEND": "django_vcache.ValkeyCache", "LOCATION": {server.url!r}}}
    settings.configure(SECRET_KEY="s", CACHES={{"default": setting, "pages": setting | {{"KEY_PREFIX": "pages"}}}})
    cache.set("k", 1)
    pages.set("k", 2)
    assert (cache.get("k"), django_vcache.cache.get("k"), pages.get("k")) == (1, 1, 2)
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(source)], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("backend", [LOCMEM, "django.core.cache.backends.dummy.DummyCache"])
def test_a_cache_of_djangos_stands_in_while_tests_are_run(backend: str) -> None:
    with override_settings(CACHES={"default": {"BACKEND": backend, "LOCATION": "stands-in"}}):
        setup_test_environment()
        try:
            cache.set("k", 1)
            assert cache.get("k") == (1 if backend == LOCMEM else None)
            assert asyncio.run(cache.aget("k")) == cache.get("k")
        finally:
            teardown_test_environment()
    with (
        override_settings(CACHES={"default": {"BACKEND": backend}}),
        pytest.raises(ConfigurationError, match="not django_vcache"),
    ):
        cache.get("k")


def test_an_alias_that_is_no_setting_leaves_the_others_alone(server: ValkeyServer) -> None:
    ours = cache_setting(server, CLEAR="prefix") | {"KEY_PREFIX": "shop"}
    namesake = {name: value for name, value in ours.items() if name != "BACKEND"}
    for wrong in ({}, namesake, "redis://localhost", None):
        with override_settings(CACHES={"other": wrong, "default": ours}):
            caches["default"].set("key", 1)
            assert caches["default"].get("key") == 1
            caches["default"].clear()
            assert caches["default"].get("key") is None
