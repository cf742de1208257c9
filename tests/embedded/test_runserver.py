"""A project on `embedded://`, with real processes: its cache is there after a reload of `runserver`, and for management
commands that are started elsewhere."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
import textwrap
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.server import wait_until

SETTINGS = """
from pathlib import Path

BASE_DIR = Path(__file__).resolve().parent
SECRET_KEY = "tests"
DEBUG = True
ALLOWED_HOSTS = ["*"]
ROOT_URLCONF = "shop_urls"
INSTALLED_APPS = ["django_vcache"]
CACHES = {"default": {"BACKEND": "django_vcache.ValkeyCache", "LOCATION": "embedded://?linger=0"}}
"""

URLS = """
import os

from django.core.cache import cache
from django.http import HttpResponse
from django.urls import path


def view(request):
    cache.get_or_set("first", os.getpid)
    return HttpResponse(f"{os.getpid()} {cache.get('first')} {cache.get('command')}")


urlpatterns = [path("", view)]
"""

MANAGE = """
import os, sys

os.environ["DJANGO_SETTINGS_MODULE"] = "shop_settings"
from django.core.management import execute_from_command_line

execute_from_command_line(sys.argv)
"""


class Project:
    """A folder with a project, whose embedded servers are in a separate folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for name, source in (("shop_settings.py", SETTINGS), ("shop_urls.py", URLS), ("manage.py", MANAGE)):
            self.write(name, source)
        self._opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]

    def write(self, name: str, source: str) -> None:
        (self.folder / name).write_text(textwrap.dedent(source))

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, str(self.folder / "manage.py"), *arguments],
            # Not that of the project: a server is one for a project, not for a working directory.
            cwd="/",
            env={**os.environ, "TMPDIR": str(self.folder / "tmp")},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def run(self, source: str) -> str:
        """What a management command prints."""
        command = self.start("shell", "--no-imports", "-c", f"from django.core.cache import cache; {source}")
        printed, _ = command.communicate(timeout=60)
        assert command.returncode == 0, printed
        return printed.strip()

    def get(self) -> list[str]:
        """The process that answers, the one that answered first, and what a command stored. Empty without an answer."""
        try:
            with self._opener.open(f"http://127.0.0.1:{self.port}/", timeout=60) as response:
                return response.read().decode().split()  # type: ignore[no-any-return]
        except (OSError, urllib.error.URLError):
            return []

    def files(self) -> list[Path]:
        return [path for path in (self.folder / "tmp").rglob("*") if not path.is_dir()]


@pytest.fixture
def project() -> Iterator[Project]:
    with tempfile.TemporaryDirectory(prefix="vc-", dir="/tmp") as folder:
        (Path(folder) / "tmp").mkdir()
        yield Project(Path(folder))


@pytest.fixture
def runserver(project: Project) -> Iterator[subprocess.Popen[str]]:
    process = project.start("runserver", f"127.0.0.1:{project.port}")
    try:
        wait_until(project.get, what="runserver answers")
        yield process
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def test_the_server_survives_a_reload_and_is_shared_by_commands(
    project: Project, runserver: subprocess.Popen[str]
) -> None:
    before = project.get()
    assert before == [before[0], before[0], "None"]
    assert project.run("cache.set('command', 'stored'); print(cache.get('first'))") == before[0]
    project.write("shop_urls.py", URLS + "# changed\n")
    # The next process is another one, on the same server: no other process used it meanwhile, and it does not linger.
    after = wait_until(lambda: (now := project.get()) and now[0] != before[0] and now, what="it is reloaded")
    assert after[1:] == [before[0], "stored"]


def test_the_server_survives_code_that_does_not_start(project: Project, runserver: subprocess.Popen[str]) -> None:
    before = project.get()
    assert project.run("cache.set('command', 'stored')") == ""
    project.write("shop_urls.py", "def view(:\n")
    wait_until(lambda: not project.get(), what="it does not answer")
    project.write("shop_urls.py", URLS)
    after = wait_until(project.get, what="it answers again")
    assert after[1:] == [before[0], "stored"]
    assert after[0] != before[0]


def test_the_server_ends_with_the_last_process(project: Project, runserver: subprocess.Popen[str]) -> None:
    assert len(project.files()) >= 3
    os.killpg(runserver.pid, signal.SIGKILL)
    runserver.wait()
    wait_until(lambda: not project.files(), what="its files are removed")


def test_commands_one_after_the_other_share_a_server_that_lingers(project: Project) -> None:
    project.write("shop_settings.py", SETTINGS.replace("?linger=0", "?linger=3600"))
    project.run("cache.set('command', 'stored')")
    assert project.run("print(cache.get('command'))") == "stored"
    project.run("from django_vcache import embedded; cache.get('k'); embedded.stop()")
    assert project.files() == []
