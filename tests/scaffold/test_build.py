"""What `new` writes builds, passes its own tests and lint, runs on the cache's connection, and is followed by a
development server. It is compiled once in a session, in `.build/` of the checkout. What it depends on is compiled in
the folders that other crates are compiled in, which makes this and the next session's build short.
"""

from __future__ import annotations

import faulthandler
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from support.development import Served, free_port, serve
from support.guests import QUICK_BUILD
from support.snippets import blocks

from django_vcache import scaffold
from django_vcache.crates import project, source

CHECKOUT = Path(__file__).parents[2]
NAME = "probe_hot"
# Not the folder of the guests: its library has the name that one of theirs has, and they are built at the same time.
TARGET = CHECKOUT / ".build" / "scaffold" / "target"

pytestmark = [
    pytest.mark.build,
    pytest.mark.skipif(shutil.which("cargo") is None, reason="a hot path of one's own needs Rust"),
]


@dataclass(frozen=True)
class Built:
    """A crate, and where it was installed; not into the interpreter's own packages."""

    crate: Path
    site: Path

    def run(self, *command: str, **environment: str) -> str:
        """Run a command in the crate's folder, which must end well. What it printed."""
        # Its Rust tests embed the interpreter, as those of examples/ingest do.
        target = CHECKOUT / "target"
        return _run(self.crate, target, *command, PYTHONPATH=os.pathsep.join(map(str, self.paths)), **environment)

    @property
    def paths(self) -> list[Path]:
        # This package is found as it is here, also if the checkout is not the one that is installed.
        return [self.site, CHECKOUT / "python"]


@pytest.fixture(scope="session")
def built() -> Built:
    # The time limit on a test is for one that hangs; a first build takes minutes.
    faulthandler.cancel_dump_traceback_later()
    folder = CHECKOUT / ".build" / "scaffold" / (sys.implementation.cache_tag or "python")
    built = Built(folder / NAME, folder / "site")
    wheels = folder / "wheels"
    for old in (built.crate, built.site, wheels):
        shutil.rmtree(old, ignore_errors=True)
    folder.mkdir(parents=True, exist_ok=True)
    scaffold.create(NAME, folder)
    # As old as the source that it is a copy of: what did not change since the last session is not compiled again.
    for path in (built.crate / source.VENDORED).rglob("*.*"):
        original = source.folder() / path.relative_to(built.crate / source.VENDORED)
        if original.is_file():
            shutil.copystat(original, path)
    maturin = [sys.executable, "-m", "maturin", "build", "--interpreter", sys.executable, "--out", str(wheels)]
    _run(built.crate, TARGET, *maturin)
    (wheel,) = wheels.iterdir()
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--target", str(built.site)]
    _run(built.crate, TARGET, *pip, str(wheel))
    return built


def _run(folder: Path, target: Path, *command: str, **environment: str) -> str:
    # Nothing that a user's shell would not have: no server that is named, no libpython that is pointed at.
    named = {"VCACHE_SERVER", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH"}
    inherited = {name: value for name, value in os.environ.items() if name not in named}
    done = subprocess.run(
        command,
        cwd=folder,
        env=inherited | QUICK_BUILD | {"CARGO_TARGET_DIR": str(target), "PYO3_PYTHON": sys.executable} | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=1800,
    )
    assert done.returncode == 0, f"{' '.join(command)}:\n{done.stdout}"
    return done.stdout


def test_its_python_tests_pass(built: Built) -> None:
    printed = built.run(sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider")
    assert "passed" in printed


GUIDE = """
import asyncio
import tempfile
from types import SimpleNamespace

import django
from django.conf import settings

folder = tempfile.TemporaryDirectory(prefix="vcache-", dir="/tmp")
location = f"embedded://{folder.name}?linger=0"
settings.configure(
    SECRET_KEY="tests", CACHES={"default": {"BACKEND": "django_vcache.ValkeyCache", "LOCATION": location}}
)
django.setup()

from django.http import HttpResponse
"""

CALLS = """
async def auser():
    return user


user = SimpleNamespace(is_authenticated=True, pk=7)
request = SimpleNamespace(user=user, auser=auser)


async def calls():
    for _ in range(333):
        assert (await item(request, 1, "tea")).status_code == 200
    assert (await item(request, 1, "tea")).status_code == 429
    assert (await view(request, 1)).status_code == 429
    assert (await view(request, 2)).status_code == 200
    for key, value in {"token:t": 1, "team:1": 2, "contract:2": 3, "plan:3": 4, "limit:4": 500}.items():
        await cache.aset(key, value)
    assert await limit_of("t") == 500
    assert await limit_of("other") is None


asyncio.run(calls())
assert item_sync(request, 3, "tea").status_code == 200
print("done")
"""


def snippet(page: str, start: str) -> str:
    """The snippet of a page that begins so, for this crate."""
    (found,) = [source for _, source in blocks(page) if source.startswith(start)]
    return found.replace("shop_hot", NAME)


def test_the_python_of_the_guide_runs_on_it(built: Built) -> None:
    page = "docs/topics/hotpaths.md"
    views, limits = snippet(page, "# shop/views.py"), snippet(page, "# shop/limits.py")
    connection = snippet(page, "from django.core.cache import cache\nfrom django_vcache import hotpaths")
    view = snippet("README.md", "import shop_hot\nfrom django.http import HttpResponse")
    script = built.crate / "guide.py"
    script.write_text(GUIDE + views + limits + connection + view + CALLS)
    *clients, numbers, done = built.run(sys.executable, "guide.py").splitlines()
    assert done == "done"
    assert [("lib-name=vcache" in client) for client in clients] == [True]
    assert len(set(numbers.split())) == 1


def test_the_tests_of_the_guide_pass_on_it(built: Built) -> None:
    tests = built.crate / "tests" / "test_guide.py"
    tests.write_text(snippet("docs/topics/testing.md", "import asyncio"))
    printed = built.run(sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(tests))
    tests.unlink()
    assert "2 passed" in printed


def test_its_rust_tests_pass(built: Built) -> None:
    faulthandler.cancel_dump_traceback_later()
    printed = built.run("cargo", "test", "--quiet")
    assert "4 passed" in printed


def test_its_rust_is_clean(built: Built) -> None:
    faulthandler.cancel_dump_traceback_later()
    built.run("cargo", "fmt", "--check")
    # As `cargo clippy --all-targets -- -D warnings` does it, with the dependencies as the tests have compiled them:
    # those would be read anew, which takes a minute.
    lint = {"RUSTC_WORKSPACE_WRAPPER": "clippy-driver", "CLIPPY_ARGS": "-D__CLIPPY_HACKERY__warnings__CLIPPY_HACKERY__"}
    built.run("cargo", "build", "--quiet", "--all-targets", **lint)


def test_its_stubs_are_those_of_the_compiled_module(built: Built) -> None:
    built.run(sys.executable, "-m", "django_vcache", "stubs", f"{NAME}._native", "--check")


def test_its_stubs_type_check(built: Built) -> None:
    use = built.crate / "use.py"
    use.write_text(
        f"import {NAME}\n\n"
        "async def view() -> None:\n"
        f"    spent: bool = await {NAME}.aspend(42, 3)\n"
        f"    items: list[tuple[str, int]] = {NAME}.remember(7, 'tea', keep=2)\n"
        "    print(spent, items)\n"
    )
    source = built.crate / "python"
    _run(built.crate, TARGET, sys.executable, "-m", "mypy", "--strict", "use.py", MYPYPATH=str(source))
    settings = {"include": ["use.py"], "extraPaths": [str(source)], "typeCheckingMode": "strict"}
    (built.crate / "pyrightconfig.json").write_text(json.dumps(settings))
    # The PyPI build of pyright brings its own Node, so that it needs no other registry.
    _run(built.crate, TARGET, str(Path(sys.executable).with_name("basedpyright")), "--level", "error")


SETTINGS = """
from pathlib import Path

BASE_DIR = Path(__file__).resolve().parent
SECRET_KEY = "tests"
DEBUG = True
ALLOWED_HOSTS = ["*"]
ROOT_URLCONF = "project_urls"
INSTALLED_APPS = ["django_vcache"]
CACHES = {"default": {"BACKEND": "django_vcache.ValkeyCache", "LOCATION": "embedded://?linger=0"}}
VCACHE = {"HOTPATHS": ["followed_hot"]}
"""

URLS = """
import os

import followed_hot
from django.http import HttpResponse
from django.urls import path


def view(request):
    return HttpResponse(f"{followed_hot.answer()} {os.getpid()}")


async def aview(request):
    return HttpResponse(f"{await followed_hot.aanswer()} {os.getpid()}")


urlpatterns = [path("", view), path("async/", aview)]
"""

MANAGE = """
import os, sys

os.environ["DJANGO_SETTINGS_MODULE"] = "project_settings"
from django.core.management import execute_from_command_line

execute_from_command_line(sys.argv)
"""

SOURCE = """
#[vcache::module]
mod _native {
    use vcache::prelude::*;

    #[hotpath]
    pub async fn answer(conn: &mut Connection) -> vcache::Result<u64> {
        let _: () = conn.set("k", 40).await?;
        Ok(conn.incr("k", 1).await?)
    }
}
"""


@pytest.fixture
def served(built: Built) -> Iterator[Served]:
    """A project under `runserver`, and a crate beside its manage.py that no one has built yet."""
    faulthandler.cancel_dump_traceback_later()
    # Always at the same place: cargo would keep what it compiled elsewhere for ever.
    folder = built.crate.with_name("project")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    # Compiled with the same source at the same place, so that only the crate itself is compiled here.
    crate = project.load(scaffold.create("followed_hot", folder, str(built.crate / "vendored" / "vcache")))
    shutil.copy(built.crate / "Cargo.lock", crate.folder)
    (crate.folder / "src" / "lib.rs").write_text(SOURCE)
    (crate.package / "__init__.py").write_text("from ._native import aanswer, answer\n")
    for file, text in (("project_settings.py", SETTINGS), ("project_urls.py", URLS), ("manage.py", MANAGE)):
        (folder / file).write_text(text)
    # As an editable install has it.
    paths = [crate.python, CHECKOUT / "python"]
    yield from serve(Served(folder, crate, free_port()), TARGET, paths)


def test_runserver_follows_the_rust_source(served: Served) -> None:
    # It is built before the URLs are imported.
    first = served.wait_for("41")
    rust = served.crate.folder / "src" / "lib.rs"

    rust.write_text(SOURCE.replace('"k", 1', '"k", 2'))
    second = served.wait_for("42")
    assert second != first

    before = served.crate.extension.read_bytes()
    rust.write_text(SOURCE.replace("conn.incr", "con.incr"))
    for path in ("", "async/", "nowhere/"):
        page = served.wait_for_page(path, 500)
        assert "HotpathBuildError" in page
        assert "error[E0425]: cannot find value `con` in this scope" in page
        assert "\x1b" not in page
    # The module that was there is still there, for a process that starts now.
    assert served.crate.extension.read_bytes() == before

    rust.write_text(SOURCE.replace('"k", 1', '"k", 3'))
    assert served.wait_for("43") != second
    assert served.get("async/")[1].split()[0] == "43"
