"""`manage.py vcache_serve`."""

from __future__ import annotations

import contextlib
import http.client
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from django.core.management import CommandError, call_command
from django.test import override_settings
from support.development import free_port
from support.server import wait_until

from django_vcache.management.commands import vcache_serve
from django_vcache.management.serving import Unserved, application, place
from django_vcache.uvicorn import _versions

TESTS = Path(__file__).parents[1]


class Executed(Exception):
    """The process would have become another one."""


@pytest.fixture
def executed(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """What the process would have become."""
    words: list[str] = []

    def execve(program: str, command: list[str], environment: dict[str, str]) -> None:
        words.extend(command)
        words.extend(f"{name}={environment[name]}" for name in ("VCACHE_UVICORN_HTTP",) if name in environment)
        raise Executed

    monkeypatch.setattr(vcache_serve.os, "execve", execve)  # type: ignore[attr-defined]
    monkeypatch.delenv("VCACHE_UVICORN_HTTP", raising=False)
    # Other tests put folders first.
    monkeypatch.setattr(sys, "path", [END[1], *sys.path])
    yield words
    os.environ.pop("VCACHE_UVICORN_HTTP", None)


def run(*arguments: str) -> None:
    with pytest.raises(Executed):
        call_command("vcache_serve", *arguments)


BEGIN = [sys.executable, "-m", "uvicorn", "--http", "django_vcache.uvicorn:HotProtocol"]
END = ["--app-dir", sys.path[0] or os.getcwd()]


@override_settings(ASGI_APPLICATION="shop.asgi.site")
def test_the_plain_form(executed: list[str]) -> None:
    run()
    assert executed == [*BEGIN, *END, "shop.asgi:site"]


def test_options(executed: list[str]) -> None:
    run("0.0.0.0:80", "--app", "a:b", "--workers", "2", "--log-level", "debug", "--no-access-log", "--reload")
    options = ["--host", "0.0.0.0", "--port", "80", "--workers", "2", "--reload", "--log-level", "debug"]
    assert executed == [*BEGIN, *options, "--no-access-log", *END, "a:b"]


@pytest.mark.parametrize("before", [[], ["8001"]])
def test_further_options_go_to_uvicorn(executed: list[str], before: list[str]) -> None:
    run("--app", "a:b", *before, "--", "--timeout-keep-alive", "20", "--proxy-headers")
    where = ["--port", "8001"] if before else []
    assert executed == [*BEGIN, *where, *END, "--timeout-keep-alive", "20", "--proxy-headers", "a:b"]


def test_the_class_inside(executed: list[str]) -> None:
    run("--app", "a:b", "--http", "h11")
    assert executed[-2:] == ["a:b", "VCACHE_UVICORN_HTTP=h11"]


def test_a_class_inside_that_is_none(executed: list[str]) -> None:
    with pytest.raises(CommandError, match="--http is 'h4'"):
        call_command("vcache_serve", "--app", "a:b", "--http", "h4")
    assert executed == []


def test_uvicorn_is_too_old(executed: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.startswith("django_vcache.uvicorn")]:
        if name != "django_vcache.uvicorn._versions":
            monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(_versions.metadata, "version", lambda name: "0.30.0")
    with pytest.raises(CommandError, match=r'uvicorn 0\.30\.0 is older\. Run: pip install "uvicorn>=0\.40,<0\.55"'):
        call_command("vcache_serve", "--app", "a:b")


@pytest.mark.parametrize(
    ("setting", "value", "found"),
    [
        ("ASGI_APPLICATION", "support.hot_site.application", "support.hot_site:application"),
        ("WSGI_APPLICATION", "served.wsgi.application", "served.asgi:application"),
        ("ROOT_URLCONF", "served.urls", "served.asgi:application"),
    ],
)
def test_the_application_is_found_by_settings(
    monkeypatch: pytest.MonkeyPatch, project: Path, setting: str, value: str, found: str
) -> None:
    monkeypatch.delenv("DJANGO_SETTINGS_MODULE", raising=False)
    monkeypatch.syspath_prepend(project)
    with override_settings(**{setting: value}):
        assert application() == found


def test_the_application_is_found_beside_settings(monkeypatch: pytest.MonkeyPatch, project: Path) -> None:
    monkeypatch.setenv("DJANGO_SETTINGS_MODULE", "served.settings.production")
    monkeypatch.syspath_prepend(project)
    assert application() == "served.asgi:application"


def test_no_application(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DJANGO_SETTINGS_MODULE", "absent.settings")
    with (
        override_settings(WSGI_APPLICATION="gone.wsgi.application", ROOT_URLCONF="away.urls"),
        pytest.raises(Unserved, match=r"no module gone\.asgi or absent\.asgi or asgi or away\.asgi\. Set ASGI_APPLICA"),
    ):
        application()
    with override_settings(ASGI_APPLICATION="application"), pytest.raises(Unserved, match="must be a dotted path"):
        application()


@pytest.mark.parametrize(
    ("listen", "expected"),
    [
        ("8000", ["--port", "8000"]),
        (":8000", ["--port", "8000"]),
        ("localhost", ["--host", "localhost"]),
        ("localhost:0", ["--host", "localhost", "--port", "0"]),
        ("[::1]:80", ["--host", "::1", "--port", "80"]),
        ("[::1]", ["--host", "::1"]),
    ],
)
def test_places(listen: str, expected: list[str]) -> None:
    assert place(listen, None, None, None) == expected


def test_a_unix_socket() -> None:
    assert place(None, None, None, "/run/site") == ["--uds", "/run/site"]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (("a:b", None, None, None), "is no address and port"),
        (("::1:80", None, None, None), "is no address and port"),
        (("65536", None, None, None), "no port 65536"),
        (("8000", "a", None, None), "given twice"),
        (("8000", None, 0, None), "given twice"),
        ((None, "a", None, "b"), "not on both"),
    ],
)
def test_places_that_are_none(given: tuple[str | None, str | None, int | None, str | None], said: str) -> None:
    with pytest.raises(Unserved, match=said):
        place(*given)


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project whose application is that of these tests."""
    package = tmp_path / "served"
    (package / "settings").mkdir(parents=True)
    for name in ("__init__.py", "settings/__init__.py", "settings/production.py", "urls.py", "wsgi.py"):
        (package / name).touch()
    (package / "settings" / "production.py").write_text(
        "SECRET_KEY = 'x'\nINSTALLED_APPS = ['django_vcache']\nROOT_URLCONF = 'served.urls'\n"
    )
    (package / "asgi.py").write_text("from support.hot_site import application\n")
    (tmp_path / "manage.py").write_text(
        "import os, sys\n"
        "os.environ.setdefault('DJANGO_SETTINGS_MODULE', 'served.settings.production')\n"
        "from django.core.management import execute_from_command_line\n"
        "execute_from_command_line(sys.argv)\n"
    )
    return tmp_path


def test_a_project_is_served(project: Path) -> None:
    port = free_port()
    process = subprocess.Popen(
        [sys.executable, str(project / "manage.py"), "vcache_serve", str(port), "--", "--lifespan", "off"],
        # Not where manage.py is.
        cwd=TESTS,
        env={**os.environ, "PYTHONPATH": str(TESTS)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    answers = []

    def ask(path: str) -> bytes:
        with contextlib.closing(http.client.HTTPConnection("127.0.0.1", port, timeout=30)) as connection:
            connection.request("GET", path)
            return connection.getresponse().read()

    def answered() -> bool:
        assert process.poll() is None, process.communicate()[0]
        try:
            answers.append(ask("/hot/quick"))
        except OSError:
            return False
        return True

    try:
        wait_until(answered)
        assert answers == [b"hot"]
        assert ask("/cold") == b"cold /cold 0"
    finally:
        process.send_signal(signal.SIGTERM)
        output = process.communicate(timeout=60)[0]
    assert '"GET /hot/quick HTTP/1.1" 200' in output
    assert process.returncode in (0, -signal.SIGTERM)
