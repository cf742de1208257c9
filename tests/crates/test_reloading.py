"""Following the source in development, without a compiler: which processes do, which files count, and what a page is
while a crate does not compile. With a compiler it is tested in `tests/scaffold/test_build.py`.
"""

import asyncio
import os
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest
from django.test import AsyncClient, Client, override_settings
from django.urls import set_urlconf
from django.utils.autoreload import BaseReloader

from django_vcache import scaffold
from django_vcache.crates import building, reloading
from django_vcache.crates.project import Crate, load

PATH = str(Path(__file__).parents[2] / "vcache")
TEXT = "error[E0425]: cannot find value `x` <in> this scope"


@pytest.fixture
def crate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Crate:
    """A crate that is built from its source as it is."""
    crate = load(scaffold.create("followed_hot", tmp_path, PATH))
    monkeypatch.syspath_prepend(crate.python)
    crate.extension.write_bytes(b"")
    return crate


@pytest.fixture
def failed(crate: Crate, monkeypatch: pytest.MonkeyPatch) -> Iterator[Crate]:
    """Its source changed, and another process found that it does not compile."""
    os.utime(crate.folder / "src" / "lib.rs", (4e9, 4e9))
    with building.lock(crate):
        building._remember_failure(crate, building._fingerprint(crate), TEXT)
    yield crate
    reloading._failures.clear()
    set_urlconf(None)


@override_settings(MIDDLEWARE=[reloading.MIDDLEWARE], DEBUG=True, ROOT_URLCONF="django.contrib.auth.urls")
def test_every_page_is_the_error_until_the_source_compiles(failed: Crate) -> None:
    sync, awaited = Client(raise_request_exception=False), AsyncClient(raise_request_exception=False)

    def pages() -> list[tuple[int, str]]:
        responses = [sync.get("/nowhere"), asyncio.run(awaited.get("/nowhere"))]
        return [(response.status_code, response.content.decode()) for response in responses]

    assert [status for status, _ in pages()] == [404, 404]
    follower = reloading._Follower([failed])
    assert follower.changed(None, failed.folder / "src" / "lib.rs") is True
    for status, text in pages():
        assert status == 500
        assert "HotpathBuildError" in text
        assert "cannot find value `x` &lt;in&gt; this scope" in text
    # The page does not need the URLs, which may import the module that is not there.
    with override_settings(ROOT_URLCONF="nowhere"):
        assert [status for status, _ in pages()] == [500, 500]
    # Another process built it.
    os.utime(failed.extension, (4e9, 4e9))
    follower.changed(None, failed.folder / "src" / "lib.rs")
    assert [status for status, _ in pages()] == [404, 404]


def test_only_source_files_lead_to_a_build(crate: Crate) -> None:
    follower = reloading._Follower([crate])
    # Not a crate's: another receiver, or Django, says what becomes of it.
    assert follower.changed(None, crate.package / "__init__.py") is None
    assert follower.changed(None, crate.folder.parent / "views.py") is None
    # A crate's, but there is nothing to build.
    (crate.folder / "src" / ".lib.rs.swp").write_text("")
    assert follower.changed(None, crate.folder / "src" / ".lib.rs.swp") is True
    assert follower.changed(None, crate.folder / "Cargo.toml") is True


def test_a_tool_that_is_missing_is_told_like_an_error(
    crate: Crate, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(reloading, "_failures", {})
    os.utime(crate.folder / "src" / "lib.rs", (4e9, 4e9))
    assert reloading._Follower([crate]).changed(None, crate.folder / "src" / "lib.rs") is True
    told = capsys.readouterr().err
    assert "vcache: followed_hot was not built: there is no cargo on PATH" in told
    assert str(reloading.failure()).startswith("there is no cargo on PATH")


def test_the_source_is_watched(crate: Crate) -> None:
    class Reloader(BaseReloader):
        def tick(self) -> Iterator[None]:
            yield

    reloader = Reloader()
    reloading._Follower([crate]).watch(reloader)
    watched = set(reloader.watched_files(include_globs=True))
    assert {crate.folder / name for name in ("Cargo.toml", "src/lib.rs", "src/spend.lua")} <= watched


def test_a_crate_that_is_installed_as_a_copy_is_not_followed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    crate = load(scaffold.create("absent_hot", tmp_path, PATH))
    assert not reloading._can_follow(crate)
    assert "absent_hot is not installed: run manage.py vcache_hotpath build once" in capsys.readouterr().err


PROJECT = """
import os, sys
from django.conf import settings
settings.configure(DEBUG={debug}, INSTALLED_APPS=["django_vcache"], BASE_DIR={base!r}, VCACHE={vcache!r}, MIDDLEWARE=[])
import django
django.setup()
print("django_vcache.crates.reloading" in sys.modules, settings.MIDDLEWARE == [{middleware!r}])
"""


@pytest.mark.parametrize(
    ("debug", "run_main", "vcache", "expected"),
    [
        (False, "true", {}, "False False"),
        (True, "", {}, "False False"),
        (True, "true", {}, "True True"),
        # What is wrong with the setting is for the system checks to tell.
        (True, "true", {"HOTPATH": []}, "True False"),
        (True, "true", {"HOTPATHS": []}, "True False"),
    ],
)
def test_only_a_development_server_pays_for_it(
    debug: bool, run_main: str, vcache: dict[str, object], expected: str, crate: Crate
) -> None:
    program = PROJECT.format(debug=debug, base=str(crate.folder.parent), vcache=vcache, middleware=reloading.MIDDLEWARE)
    environment = os.environ | {"RUN_MAIN": run_main, "PYTHONPATH": str(crate.python)}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=False)
    assert (done.stdout.strip(), done.stderr) == (expected, "")


# It stands for maturin, which needs a compiler: all that is looked at here is the file that it makes.
MATURIN = """
import sys, zipfile
from pathlib import Path

out = Path(sys.argv[sys.argv.index("--out") + 1])
with zipfile.ZipFile(out / "x.whl", "w") as wheel:
    wheel.writestr({name!r}, b"")
"""


@pytest.fixture
def tools(crate: Crate, tmp_path: Path) -> dict[str, str]:
    """An environment with the tools to build the crate, whose source is newer than its module."""
    folder = tmp_path / "tools"
    (folder / "maturin").mkdir(parents=True)
    (folder / "maturin" / "__init__.py").write_text("")
    (folder / "maturin" / "__main__.py").write_text(MATURIN.format(name=f"followed_hot/{crate.extension.name}"))
    (folder / "cargo").write_text("#!/bin/sh\n")
    (folder / "cargo").chmod(0o755)
    (folder / "uvicorn.py").write_text("")
    os.utime(crate.extension, (1e9, 1e9))
    return os.environ | {
        "PATH": os.pathsep.join([str(folder), os.environ["PATH"]]),
        "PYTHONPATH": os.pathsep.join([str(folder), str(crate.python)]),
    }


@pytest.mark.parametrize(("imported", "status"), [("", 0), ("sys.modules['followed_hot._native'] = sys\n", 3)])
def test_a_module_that_was_imported_before_it_was_built_needs_another_process(
    imported: str, status: int, crate: Crate, tools: dict[str, str]
) -> None:
    program = PROJECT.format(debug=True, base=str(crate.folder.parent), vcache={}, middleware=reloading.MIDDLEWARE)
    done = subprocess.run(
        [sys.executable, "-c", f"import sys\n{imported}{program}"],
        env=tools | {"RUN_MAIN": "true"},
        capture_output=True,
        text=True,
        check=False,
    )
    # Django's reloader starts a process that ends with 3 anew.
    assert done.returncode == status, done.stderr
    assert "vcache: followed_hot is built, in" in done.stderr
    assert not building.is_stale(crate)


SUPERVISOR = """
import multiprocessing, sys

def child():
    import uvicorn
{project}

if __name__ == "__main__":
    process = multiprocessing.get_context("spawn").Process(target=child)
    process.start()
    process.join()
    sys.exit(process.exitcode)
"""


def test_the_child_of_uvicorn_builds_before_it_serves(crate: Crate, tools: dict[str, str], tmp_path: Path) -> None:
    project = PROJECT.format(debug=True, base=str(crate.folder.parent), vcache={}, middleware=reloading.MIDDLEWARE)
    program = tmp_path / "supervisor.py"
    program.write_text(SUPERVISOR.format(project=textwrap.indent(project, "    ")))
    done = subprocess.run([sys.executable, str(program)], env=tools, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.strip()) == (0, "True True"), done.stderr
    assert "vcache: followed_hot is built, in" in done.stderr
