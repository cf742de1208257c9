"""The snippets of the page on testing pass, in a project whose settings name no server that is there."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import textwrap
from importlib.metadata import entry_points
from pathlib import Path

PAGE = (Path(__file__).parents[2] / "docs" / "topics" / "testing.md").read_text(encoding="utf-8")
SNIPPETS = re.findall(r"^```python\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)

SETTINGS = """
SECRET_KEY = "tests"
ROOT_URLCONF = "shop_urls"
USE_TZ = True
CACHES = {
    "default": {
        "BACKEND": "django_vcache.ValkeyCache",
        "LOCATION": "redis://nowhere.invalid",
        "OPTIONS": {"IGNORE_EXCEPTIONS": True},
    }
}
"""

URLS = """
from django.core.cache import cache
from django.http import HttpResponse
from django.urls import path

urlpatterns = [path("", lambda request: HttpResponse(cache.get("page")))]
"""

CONFTEST = """
import django
import pytest

django.setup()


@pytest.fixture
def client():
    from django.test import Client

    return Client()
"""


def snippet(start: str) -> str:
    [found] = [source for source in SNIPPETS if start in source]
    return str(found)


def run(folder: Path, *command: str, **files: str) -> str:
    """What a command prints in a project with these modules. It ends well."""
    for name, source in {"shop_settings": SETTINGS, "shop_urls": URLS, **files}.items():
        (folder / f"{name}.py").write_text(textwrap.dedent(source))
    paths = filter(None, [str(folder), os.environ.get("PYTHONPATH", "")])
    environment = {"DJANGO_SETTINGS_MODULE": "shop_settings", "PYTHONPATH": os.pathsep.join(paths)}
    done = subprocess.run(
        [sys.executable, *command],
        cwd=folder,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_the_tests_for_pytest_pass(tmp_path: Path) -> None:
    installed = any(each.name == "vcache" for each in entry_points(group="pytest11"))
    plugin = [] if installed else ["-p", "django_vcache.pytest_plugin"]
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    tests = snippet("def test_the_front_page_after_a_crash(client")
    printed = run(tmp_path, "-m", "pytest", "-p", "no:cacheprovider", *plugin, conftest=CONFTEST, test_shop=tests)
    assert "4 passed" in printed


def test_the_tests_for_unittest_pass(tmp_path: Path) -> None:
    printed = run(tmp_path, "-m", "django", "test", "shop_tests", shop_tests=snippet("class PageTests"))
    assert "Ran 4 tests" in printed


def test_the_context_managers_do_what_they_say(tmp_path: Path) -> None:
    strict = SETTINGS.replace('"IGNORE_EXCEPTIONS": True', "")
    script = "import django\ndjango.setup()\n" + snippet("with on_server() as server")
    printed = run(tmp_path, "shop_script.py", shop_settings=strict, shop_script=script)
    assert printed.splitlines() == ["default: GET on :1:a", "away"]


def test_the_conftest_of_a_package_configures_django(tmp_path: Path) -> None:
    script = snippet("# tests/conftest.py") + "print(settings.CACHES['default']['LOCATION'])\n"
    assert run(tmp_path, "shop_script.py", shop_script=script) == "embedded://\n"
