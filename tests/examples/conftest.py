"""The error tracker of `examples/ingest`, running: one for the tests of a file, on a server of its own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from support.server import ValkeyServer
from support.tracker import Client, Tracker


@pytest.fixture(scope="module")
def tracker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tracker]:
    """The site, without a consumer: events stay on the stream."""
    with ValkeyServer() as server:
        tracker = Tracker(server, Path(tmp_path_factory.mktemp("tracker")))
        try:
            yield tracker.start()
        finally:
            tracker.close()


@pytest.fixture
def client(tracker: Tracker) -> Client:
    """A project of the test's own, without limits."""
    return tracker.client()
