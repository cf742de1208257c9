"""A default alias on a server of the test, and the two forms of every call."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
from django.test import override_settings
from support.caches import cache_setting
from support.driver import LOOPS, open_runner
from support.limits import be_patient
from support.server import ValkeyServer


@pytest.fixture
def default_alias(server: ValkeyServer) -> Iterator[None]:
    """`CACHES["default"]` is on the session's server, and Rust knows it."""
    from django_vcache.backend import publish_alias

    with override_settings(CACHES={"default": cache_setting(server)}):
        publish_alias("default")
        yield


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Limits wait for a slow machine."""
    be_patient(monkeypatch)


class Form:
    """Calls a method as the parameter says: `form(throttle, "check", 1)` is `check(1)` or `await acheck(1)`."""

    def __init__(self, runner: asyncio.Runner | None) -> None:
        self.runner = runner

    def __call__(self, of: Any, method: str, *args: Any, **kwargs: Any) -> Any:
        if self.runner is None:
            return getattr(of, method)(*args, **kwargs)

        async def call() -> Any:
            return await getattr(of, f"a{method}")(*args, **kwargs)

        return self.runner.run(call())


@pytest.fixture(params=["sync", *LOOPS])
def form(request: pytest.FixtureRequest, default_alias: None) -> Iterator[Form]:
    """Both forms of a call, the awaited one on both loops, on the session's server."""
    if request.param == "sync":
        yield Form(None)
        return
    with open_runner(request.param) as runner:
        yield Form(runner)
