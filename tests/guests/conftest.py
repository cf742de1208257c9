"""The guests, built once a session and importable, here and in the programs that a test starts."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from support.driver import LOOPS, open_runner
from support.guests import PROBE, QUOTA, Driven, default_on
from support.server import ValkeyServer


@pytest.fixture(scope="session")
def guests(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that both guests are in."""
    folder = tmp_path_factory.mktemp("guests")
    for guest in (QUOTA, PROBE):
        guest.install(folder)
    return folder


@pytest.fixture(scope="session")
def variant(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Other builds of the tests' guest: the folder that one is in, by the feature of its crate."""

    @functools.cache
    def build(feature: str) -> Path:
        folder = tmp_path_factory.mktemp(feature)
        PROBE.install(folder, feature)
        return folder

    return build


@pytest.fixture(autouse=True)
def _importable(guests: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(guests)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, [str(guests), os.environ.get("PYTHONPATH")])))


@pytest.fixture
def programs_import(
    variant: Callable[[str], Path], _importable: None, monkeypatch: pytest.MonkeyPatch
) -> Callable[[str], None]:
    """Has the programs that a test starts import another build of the tests' guest, by the feature of its crate."""

    def prepend(feature: str) -> None:
        monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(variant(feature)), os.environ["PYTHONPATH"]]))

    return prepend


@pytest.fixture
def probe(_importable: None) -> ModuleType:
    """The guest of the tests."""
    import probe_guest

    return probe_guest


@pytest.fixture
def quota(_importable: None) -> ModuleType:
    """The example."""
    import quota_guest

    return quota_guest


@pytest.fixture
def cache(server: ValkeyServer) -> Iterator[Any]:
    """`CACHES["default"]`, on the session's server."""
    with default_on(server) as cache:
        yield cache


@pytest.fixture
def fresh_cache(fresh_server: ValkeyServer) -> Iterator[Any]:
    """`CACHES["default"]`, on a server of the test's own."""
    with default_on(fresh_server) as cache:
        yield cache


@pytest.fixture(params=["blocking", *LOOPS])
def way(request: pytest.FixtureRequest) -> Iterator[Callable[[ModuleType], Driven]]:
    """Wraps a guest so that its hot paths are called in each of their forms."""
    if request.param == "blocking":
        yield lambda guest: Driven(guest, None)
        return
    with open_runner(request.param) as runner:
        yield lambda guest: Driven(guest, runner)
