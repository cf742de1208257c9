"""A directory for a server, and processes that use it."""

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support.embedded import Process

from django_vcache import embedded


@pytest.fixture
def directory() -> Iterator[Path]:
    """A directory with a short path: pytest's own may be too long for a socket."""
    with tempfile.TemporaryDirectory(prefix="vc-", dir="/tmp") as name:
        yield Path(name).resolve()
        embedded.stop()


@pytest.fixture
def start() -> Iterator[Callable[..., Process]]:
    """Starts a `Process`, and kills it at the end of the test."""
    started: list[Process] = []

    def start(url: str, *arguments: str, **options: tuple[int, ...]) -> Process:
        started.append(Process(url, *arguments, **options))
        return started[-1]

    yield start
    for process in started:
        process.kill()
