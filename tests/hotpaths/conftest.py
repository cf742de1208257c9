"""The shipped hot paths on a server of the test, through their blocking and their awaited form."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
from django.test import override_settings
from support.caches import cache_setting
from support.driver import LOOPS, open_runner
from support.server import ValkeyServer


class Hot:
    """`allow` and `enqueue`, called as the parameter says."""

    def __init__(self, runner: asyncio.Runner | None) -> None:
        self.runner = runner

    def allow(self, *args: Any, **kwargs: Any) -> Any:
        return self._call("allow", args, kwargs)

    def enqueue(self, *args: Any, **kwargs: Any) -> Any:
        return self._call("enqueue", args, kwargs)

    def _call(self, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        from django_vcache import hotpaths

        if self.runner is None:
            return getattr(hotpaths, name)(*args, **kwargs)

        async def call() -> Any:
            return await getattr(hotpaths, f"a{name}")(*args, **kwargs)

        return self.runner.run(call())


@pytest.fixture
def default_alias(server: ValkeyServer) -> Iterator[None]:
    """`CACHES["default"]` is on the session's server, and hot paths know it."""
    from django_vcache.backend import publish_alias

    with override_settings(CACHES={"default": cache_setting(server)}):
        publish_alias("default")
        yield


@pytest.fixture(params=["sync", *LOOPS])
def hot(request: pytest.FixtureRequest, default_alias: None) -> Iterator[Hot]:
    if request.param == "sync":
        yield Hot(None)
        return
    with open_runner(request.param) as runner:
        yield Hot(runner)
