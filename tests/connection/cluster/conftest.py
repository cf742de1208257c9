"""Clusters for the tests beside this file."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from support.clusters import Cluster


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """Three primaries without replicas. Tests may move slots, and leave all nodes running."""
    with Cluster() as cluster:
        yield cluster


@pytest.fixture(autouse=True)
def _empty(request: pytest.FixtureRequest) -> None:
    if "cluster" in request.fixturenames:
        request.getfixturevalue("cluster").flush()
