"""The mixin for test cases, as `manage.py test` and unittest run them: in one process and in several."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

SETTINGS = """
SECRET_KEY = "tests"
ROOT_URLCONF = "shop_tests"
USE_TZ = True
CACHES = {
    "default": {"BACKEND": "django_vcache.ValkeyCache", "LOCATION": "redis://nowhere.invalid"},
    "pages": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"},
}
"""

TESTS = """
import os
import unittest

from django.core.cache import caches
from django.http import HttpResponse
from django.test import SimpleTestCase
from django.urls import path

from django_vcache import cache
from django_vcache.admission import throttle
from django_vcache.test import VcacheMixin


@throttle("1/d", key="ip", deadline=None)
def page(request):
    return HttpResponse(str(caches["pages"].get("page")))


urlpatterns = [path("", page)]


class First(VcacheMixin, SimpleTestCase):
    def test_each_test_finds_it_empty(self):
        self.assertIsNone(cache.get("k"))
        cache.set("k", 1)
        self.assertEqual([self.client.get("/").status_code for _ in range(2)], [200, 429])

    test_once_more = test_each_test_finds_it_empty

    def test_round_trips(self):
        with self.assertRoundTrips(2):
            self.client.get("/")
        with self.assertRaisesRegex(AssertionError, "1 round trips, 2 expected"), self.assertRoundTrips(2):
            cache.get("k")

    def test_an_outage(self):
        with self.vcacheOutage(using="default"):
            self.assertEqual([self.client.get("/").status_code for _ in range(3)], [200, 200, 200])
        self.assertEqual([self.client.get("/").status_code for _ in range(2)], [200, 429])

    def test_a_crash(self):
        self.vcache_server.kill()
        with self.assertRaises(ConnectionError):
            cache.get("k")

    async def test_awaited(self):
        self.assertIsNone(await cache.aget("k"))
        await cache.aset("k", 1)
        self.assertEqual((await self.async_client.get("/")).status_code, 200)


class Second(First):
    def setUp(self):
        super().setUp()
        print(f"server {os.getpid()} {self.vcache_server.url}", flush=True)


class Plain(VcacheMixin, unittest.TestCase):
    def test_it(self):
        self.assertIsNone(cache.get("k"))
        cache.set("k", 1)


class WithoutTheMixin(SimpleTestCase):
    def test_its_caches_are_those_of_the_settings(self):
        self.assertEqual(type(caches["pages"]).__name__, "LocMemCache")
        with self.assertRaises(ConnectionError):
            cache.get("k")
"""


@pytest.mark.parametrize("options", [[], ["--parallel", "2"], ["--reverse"]], ids=" ".join)
def test_a_projects_tests_pass(tmp_path: Path, options: list[str]) -> None:
    (tmp_path / "shop_settings.py").write_text(textwrap.dedent(SETTINGS))
    (tmp_path / "shop_tests.py").write_text(textwrap.dedent(TESTS))
    done = subprocess.run(
        [sys.executable, "-W", "error::ResourceWarning", "-m", "django", "test", *options, "shop_tests"],
        cwd=tmp_path,
        env={**os.environ, "DJANGO_SETTINGS_MODULE": "shop_settings", "PYTHONPATH": python_path(tmp_path)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "Ran 14 tests" in done.stderr
    servers = {line for line in done.stdout.splitlines() if line.startswith("server ")}
    assert servers, done.stdout
    # One for each process, and none is left.
    assert len(servers) == len({line.split()[1] for line in servers})
    assert not any(Path(line.split("unix://")[1]).parent.exists() for line in servers)


def python_path(tmp_path: Path) -> str:
    return os.pathsep.join(filter(None, [str(tmp_path), os.environ.get("PYTHONPATH", "")]))


def test_a_mixin_behind_the_test_case_is_told() -> None:
    """Its `setUp` would not be called, and the tests would run on the project's own server."""
    from django.test import SimpleTestCase

    from django_vcache.test import VcacheMixin

    with pytest.raises(TypeError, match=r"Wrong: .*behind SimpleTestCase.*class Wrong\(VcacheMixin, SimpleTestCase\)"):
        type("Wrong", (SimpleTestCase, VcacheMixin), {})
    base = type("Base", (VcacheMixin, SimpleTestCase), {})
    other = type("Other", (SimpleTestCase,), {})
    assert issubclass(type("Right", (other, base), {}), VcacheMixin)
