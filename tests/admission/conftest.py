"""A default alias on the session's server; limits and streams on it, and the forms in which they are called and
consumed."""

from __future__ import annotations

import asyncio
import sys
import types
from collections.abc import Iterator
from typing import Any

import pytest
from django.test import override_settings
from support.caches import cache_setting
from support.driver import LOOPS, open_runner
from support.limits import be_patient
from support.server import ValkeyServer
from support.streams import FORMS, Form, Shards
from support.views import Call, caller


@pytest.fixture
def default_cache(server: ValkeyServer) -> Iterator[None]:
    """`CACHES["default"]` is on the session's server."""
    with override_settings(CACHES={"default": cache_setting(server)}):
        yield


@pytest.fixture
def default_alias(default_cache: None) -> None:
    """The same, and Rust knows it."""
    from django_vcache.backend import publish_alias

    publish_alias("default")


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Limits wait for a slow machine."""
    be_patient(monkeypatch)


@pytest.fixture(params=LOOPS)
def call(request: pytest.FixtureRequest) -> Iterator[Call]:
    """Calls a view, and awaits what it returns if that has to be."""
    with caller(request.param) as call:
        yield call


class Ask:
    """Calls a method as the parameter says: `ask(throttle, "check", 1)` is `check(1)` or `await acheck(1)`."""

    def __init__(self, runner: asyncio.Runner | None) -> None:
        self.runner = runner

    def __call__(self, of: Any, method: str, *args: Any, **kwargs: Any) -> Any:
        if self.runner is None:
            return getattr(of, method)(*args, **kwargs)

        async def call() -> Any:
            return await getattr(of, f"a{method}")(*args, **kwargs)

        return self.runner.run(call())


@pytest.fixture(params=["sync", *LOOPS])
def ask(request: pytest.FixtureRequest, default_alias: None) -> Iterator[Ask]:
    """Both forms of a call, the awaited one on both loops, on the session's server."""
    if request.param == "sync":
        yield Ask(None)
        return
    with open_runner(request.param) as runner:
        yield Ask(runner)


@pytest.fixture(params=FORMS)
def form(request: pytest.FixtureRequest) -> Iterator[Form]:
    """The consumer's blocking form, then its awaited form on each loop."""
    if request.param == "sync":
        yield Form(None)
        return
    with open_runner(request.param) as runner:
        yield Form(runner)


@pytest.fixture
def quick_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """A handler that fails is called again soon."""
    from django_vcache.admission.consume import consumer

    monkeypatch.setattr(consumer, "_SHORTEST_PAUSE", 0.001)
    monkeypatch.setattr(consumer, "_LONGEST_PAUSE", 0.03)


@pytest.fixture
def single(default_cache: None) -> Shards:
    """A stream of one shard."""
    return Shards()


@pytest.fixture
def stream(default_cache: None) -> Shards:
    """A stream of a few shards."""
    return Shards(count=4)


@pytest.fixture(params=[1, 16], ids=["1 shard", "16 shards"])
def any_stream(request: pytest.FixtureRequest, default_cache: None) -> Shards:
    """A stream of one shard, and one of many."""
    return Shards(count=request.param)


@pytest.fixture
def throttles_as_before(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """REST framework's throttles have refused no client yet, and what its own tests set is set back."""
    from rest_framework.settings import api_settings

    from django_vcache import rest_framework

    kind = rest_framework.SimpleRateThrottle
    scope, proxies = kind.scope, api_settings.NUM_PROXIES
    rest_framework._throttle.cache_clear()
    # A slow machine is no outage.
    monkeypatch.setattr(kind, "deadline", None)
    yield
    kind.scope = scope
    api_settings.NUM_PROXIES = proxies


@pytest.fixture
def module() -> Iterator[types.ModuleType]:
    """An importable module for gates and views."""
    module = types.ModuleType("limits_of_a_test")
    sys.modules[module.__name__] = module
    yield module
    del sys.modules[module.__name__]
