"""Servers of these tests: on both loops, with both of uvicorn's parsers inside."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from support import hot_site
from support.hot_server import HotServer

from django_vcache.uvicorn import _protocol, _server

# The last one starts tasks as CPython 3.11 does, where none can start at once.
KINDS = [("asyncio", "httptools", True), ("uvloop", "httptools", True), ("uvloop", "h11", False)]


@pytest.fixture(autouse=True)
def _routes_of_the_site(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_server, "table", hot_site.table)


@pytest.fixture(params=KINDS, ids=lambda kind: f"{kind[0]}-{kind[1]}")
def kind(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> tuple[str, str]:
    """A loop, and the parser inside."""
    loop, inner, is_eager = request.param
    if not is_eager:
        monkeypatch.setattr(_protocol, "_STARTS_EAGERLY", False)
    return loop, inner


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where routes say what a client cannot see."""
    monkeypatch.setattr(hot_site, "FOLDER", tmp_path)
    return tmp_path


@pytest.fixture
def serve(kind: tuple[str, str], folder: Path) -> Iterator[Callable[..., HotServer]]:
    """Starts a server with options of `uvicorn.Config`."""
    with ExitStack() as stack:

        def start(**options: Any) -> HotServer:
            return stack.enter_context(HotServer(*kind, **options))

        yield start


@pytest.fixture
def site(serve: Callable[..., HotServer]) -> HotServer:
    return serve(access_log=False)


@pytest.fixture(scope="session")
def tls_files(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A certificate for localhost, and its key."""
    folder = tmp_path_factory.mktemp("tls")
    certificate, key = folder / "certificate.pem", folder / "key.pem"
    command = "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost"
    command += f" -addext subjectAltName=DNS:localhost -keyout {key} -out {certificate}"
    subprocess.run(command.split(), check=True, capture_output=True)
    return certificate, key
