"""The class inside, the versions of uvicorn, and a site that cannot be made."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from django.core.handlers.asgi import ASGIHandler as DjangosHandler
from django.test import override_settings
from support.hot import routes
from support.hot_server import HotServer, request
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from django_vcache.asgi import ASGIApplication, ASGIHandler
from django_vcache.exceptions import ConfigurationError
from django_vcache.routing import hot
from django_vcache.uvicorn import HotProtocol, _site, _versions
from django_vcache.uvicorn._inner import VARIABLE, inner_class

ROOT = Path(__file__).parents[2]


class Recording(H11Protocol):
    """A class of a project's."""


class Unknown(asyncio.Protocol):
    """Does what the tests need of uvicorn's classes, and is none of them: it has no state that is known."""

    def __init__(self, *args: Any, **keywords: Any) -> None:
        self.real = H11Protocol(*args, **keywords)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.real, name)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.real.connection_made(transport)  # type: ignore[arg-type]

    def connection_lost(self, exc: Exception | None) -> None:
        self.real.connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        self.real.data_received(data)

    def resume_writing(self) -> None:
        self.real.resume_writing()

    def shutdown(self) -> None:
        self.real.shutdown()


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        (None, HttpToolsProtocol),
        ("", HttpToolsProtocol),
        ("auto", HttpToolsProtocol),
        ("httptools", HttpToolsProtocol),
        ("h11", H11Protocol),
        (f"{__name__}:Recording", Recording),
    ],
)
def test_the_variable_names_a_class(monkeypatch: pytest.MonkeyPatch, name: str | None, expected: type) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    if name is not None:
        monkeypatch.setenv(VARIABLE, name)
    assert inner_class() is expected


@pytest.mark.parametrize(
    "name", ["h2", "absent.module:Class", "uvicorn:Absent", "uvicorn:run", "django_vcache.uvicorn:HotProtocol"]
)
def test_a_variable_that_names_none(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv(VARIABLE, name)
    with pytest.raises(ConfigurationError, match=f"{VARIABLE} is '{name}'.*It is one of auto, h11, httptools"):
        inner_class()


@pytest.mark.parametrize("inner", [f"{__name__}:Recording"])
def test_a_subclass_is_known(inner: str, folder: Path) -> None:
    with HotServer(inner=inner) as site, site.client() as client:
        assert client.ask("/cold").text == "cold /cold 0"
        (protocol,) = site.connections
        assert isinstance(protocol, Recording)
        assert isinstance(protocol, HotProtocol)
        assert client.ask("/hot/quick").text == "hot"


def test_a_class_that_is_not_known_keeps_a_connection(folder: Path) -> None:
    with HotServer(inner=f"{__name__}:Unknown") as site, site.client() as client:
        assert client.ask("/hot/quick").text == "hot"
        assert client.ask("/cold").text == "cold /cold 0"
        assert client.ask("/hot/quick").text == "cold /hot/quick 0"
        with site.client() as other:
            assert other.ask("/hot/quick").text == "hot"


def test_a_site_that_cannot_be_made_leaves_all_to_the_application(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, folder: Path
) -> None:
    def fails() -> Any:
        raise LookupError("no site today")

    monkeypatch.setattr("django_vcache.routing._site.site", fails)
    monkeypatch.setattr("django_vcache.uvicorn._server.table", _site.table)
    with override_settings(VCACHE={"BELOW_ASGI": True}), HotServer() as site, site.client() as client:
        client.send(request("/hot/quick") * 2)
        assert [client.answer().text for _ in range(2)] == ["cold /hot/quick 0"] * 2
    assert "no site today" in caplog.text


class Middleware:
    """As most ASGI middleware names what it calls."""

    def __init__(self, app: Any) -> None:
        self.app = app


class Mount:
    """An application that calls others, each for some paths."""

    def __init__(self, app: Any) -> None:
        self.routes = [app]


@pytest.mark.parametrize(
    ("application", "setting", "number", "told"),
    [
        (ASGIHandler(), {}, 1, ""),
        (ASGIApplication(ASGIHandler()), {}, 1, ""),
        (Middleware(Middleware(DjangosHandler())), {}, 1, ""),
        (Mount(ASGIHandler()), {}, 0, "test_hot_inner.Mount object"),
        (Middleware(Mount(ASGIHandler())), {}, 0, "set VCACHE['BELOW_ASGI'] to True"),
        (Mount(ASGIHandler()), {"BELOW_ASGI": True}, 1, ""),
        (ASGIHandler(), {"BELOW_ASGI": False}, 0, ""),
    ],
)
def test_hot_routes_are_answered_before_django_alone(
    application: Any, setting: dict[str, bool], number: int, told: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def target(request: Any) -> bytes:
        return b""

    with routes(hot("a/", target), VCACHE=setting):
        assert len(_site.table(application)) == number
    assert told in caplog.text
    assert bool(told) == bool(caplog.text)


def test_force_script_name_is_taken_away(folder: Path) -> None:
    code = (
        "from support.hot_server import HotServer\n"
        "with HotServer() as site:\n"
        "    print([site.ask(path).text for path in ('/app/hot/quick', '/hot/quick', '/apphot/quick')])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT / "tests",
        env={"VCACHE_TEST_SCRIPT": "/app/"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout == "['hot', 'hot', 'cold /apphot/quick 0']\n", done.stderr


@pytest.mark.parametrize(
    ("version", "old", "new"),
    [
        ("0.39.0", True, False),
        ("0.40.0", False, False),
        ("0.54.1", False, False),
        ("0.55.0", False, True),
        ("1.0", False, True),
        ("main", False, True),
    ],
)
def test_versions_of_uvicorn(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, version: str, old: bool, new: bool
) -> None:
    monkeypatch.setattr(_versions.metadata, "version", lambda name: version)
    if old:
        with pytest.raises(ImportError, match=r"uvicorn>=0\.40.* 0\.39\.0 is older\. Run: pip install"):
            _versions.check()
        return
    _versions.check()
    assert (f"not with uvicorn {version}." in caplog.text) is new


def test_without_uvicorn(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> str:
        raise _versions.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(_versions.metadata, "version", missing)
    with pytest.raises(ImportError, match=r"Run: pip install \"uvicorn>=0.40,<0.55\""):
        _versions.check()


def test_the_extra_is_the_tested_range() -> None:
    text = (ROOT / "pyproject.toml").read_text()
    assert f'uvicorn = ["{_versions.TESTED}"]' in text


def test_the_newest_installed_uvicorn_is_of_the_range() -> None:
    version = _versions.metadata.version("uvicorn")
    assert _versions.too_old(version) == _versions.too_new(version) == ""
