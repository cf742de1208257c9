"""Streams on the session's server, and the forms in which they are consumed."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from django.test import override_settings
from support.caches import cache_setting
from support.driver import open_runner
from support.server import ValkeyServer
from support.streams import FORMS, Form, Shards


@pytest.fixture(params=FORMS)
def form(request: pytest.FixtureRequest) -> Iterator[Form]:
    """The consumer's blocking form, then its awaited form on each loop."""
    if request.param == "sync":
        yield Form(None)
        return
    with open_runner(request.param) as runner:
        yield Form(runner)


@pytest.fixture
def default_cache(server: ValkeyServer) -> Iterator[None]:
    """`CACHES["default"]` is on the session's server."""
    with override_settings(CACHES={"default": cache_setting(server)}):
        yield


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
