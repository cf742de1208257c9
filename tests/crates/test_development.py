"""A development server starts, whatever is wrong with a crate: the terminal says what it is, and so does each page."""

import errno
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from django.test import Client, override_settings
from django.urls import set_urlconf
from django.utils.autoreload import BaseReloader

from django_vcache import scaffold
from django_vcache.crates import building, reloading
from django_vcache.crates.project import Crate, load

PATH = str(Path(__file__).parents[2] / "vcache")


@pytest.fixture
def stale(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Crate:
    """A crate whose source is newer than its module."""
    crate = load(scaffold.create("broken_hot", tmp_path, PATH))
    monkeypatch.syspath_prepend(crate.python)
    crate.extension.write_bytes(b"")
    os.utime(crate.extension, (1e9, 1e9))
    return crate


@pytest.fixture(autouse=True)
def _no_failures(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(reloading, "_failures", {})
    yield
    set_urlconf(None)


def page_after_start(*paths: object) -> tuple[int, str]:
    """The status and the text of a page of a development server that has just started."""
    settings: dict[str, Any] = {
        "VCACHE": {"HOTPATHS": list(paths)},
        "MIDDLEWARE": [],
        "DEBUG": True,
        "ROOT_URLCONF": "django.contrib.auth.urls",
    }
    with override_settings(**settings):
        reloading.follow(is_runserver=False)
        response = Client(raise_request_exception=False).get("/nowhere")
    return response.status_code, response.content.decode()


def is_a_file(target: Path) -> None:
    target.write_text("")


def is_a_dangling_link(target: Path) -> None:
    target.symlink_to("nowhere")


def holds_a_folder_for_the_lock(target: Path) -> None:
    (target / "vcache-hotpath" / "lock").mkdir(parents=True)


@pytest.mark.parametrize("spoil", [is_a_file, is_a_dangling_link, holds_a_folder_for_the_lock])
def test_a_target_that_cannot_be_written_to_is_told(
    spoil: Callable[[Path], None], stale: Crate, capsys: pytest.CaptureFixture[str]
) -> None:
    target = stale.folder / "target"
    spoil(target)
    status, text = page_after_start(stale.folder)
    assert status == 500
    for told in (text, capsys.readouterr().err):
        assert f"{target}/vcache-hotpath/lock cannot be written, without which broken_hot is not built: " in told
        assert f"Make {target} a folder that this user may write to" in told


def test_a_crate_in_a_read_only_folder_is_served_as_long_as_it_is_built(
    stale: Crate, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*args: object, **keywords: object) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    # The tests may run as root, whom no permission stops.
    monkeypatch.setattr(Path, "mkdir", refuse)
    status, text = page_after_start(stale.folder)
    assert (status, "Read-only file system. Make " in text) == (500, True)
    newest = stale.newest_source()[0]
    os.utime(stale.extension, (newest, newest))
    assert page_after_start(stale.folder)[0] == 404


@pytest.mark.parametrize(
    "record",
    [
        b"",
        b"[]",
        b"5",
        b'"text"',
        b"{",
        b'{"sources": "x',
        b"\xff\xfe",
        b"[" * 100_000,
        b'{"sources": SOURCES}',
        b'{"sources": SOURCES, "text": null}',
        b'{"sources": SOURCES, "text": 5}',
        b'{"sources": [SOURCES], "text": "x"}',
    ],
)
def test_a_record_that_is_no_record_is_not_read(record: bytes, stale: Crate) -> None:
    with building.lock(stale):
        sources = f'"{building._fingerprint(stale)}"'.encode()
        building._record(stale).write_bytes(record.replace(b"SOURCES", sources))
    assert building.known_failure(stale) is None


def test_a_record_that_cannot_be_written_keeps_no_error_from_the_page(stale: Crate) -> None:
    with building.lock(stale):
        building._record(stale).mkdir()
        building._remember_failure(stale, building._fingerprint(stale), "error: no")
        assert building.known_failure(stale) is None
        building.forget_failure(stale)


def test_what_is_remembered_is_told_again(stale: Crate, capsys: pytest.CaptureFixture[str]) -> None:
    with building.lock(stale):
        building._remember_failure(stale, building._fingerprint(stale), "error: no \udcff")
    status, text = page_after_start(stale.folder)
    assert (status, "error: no \\udcff" in text) == (500, True)
    assert "vcache: broken_hot does not compile:\nerror: no" in capsys.readouterr().err


def test_what_nothing_foresees_is_told_like_an_error(
    stale: Crate, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(crate: Crate) -> None:
        raise LookupError("odd")

    monkeypatch.setattr(building, "rebuild", fail)
    assert page_after_start(stale.folder)[0] == 500
    assert "vcache: broken_hot was not built: LookupError: odd\n" in capsys.readouterr().err
    assert reloading._Follower([stale]).changed(None, stale.folder / "Cargo.toml") is True


@pytest.mark.parametrize(
    ("file", "text", "why"),
    [
        ("Cargo.toml", "dependencies = 5", "dependencies in {} must be a table, not a number"),
        ("Cargo.toml", "[dependencies", "{} is not TOML"),
        ("pyproject.toml", "tool = []", "tool in {} must be a table, not an array"),
    ],
)
def test_a_crate_with_a_broken_manifest_is_told_and_watched(
    file: str, text: str, why: str, stale: Crate, capsys: pytest.CaptureFixture[str]
) -> None:
    (stale.folder / file).write_text(text)
    status, page = page_after_start("broken_hot", stale.folder)
    assert status == 500
    told = capsys.readouterr().err
    assert f"vcache: VCACHE['HOTPATHS'] names '{stale.folder}', but {why.format(stale.folder / file)}" in told
    assert why.format(stale.folder / file) in page


def test_a_broken_manifest_that_is_mended_starts_the_server_anew(stale: Crate, tmp_path: Path) -> None:
    class Reloader(BaseReloader):
        def tick(self) -> Iterator[None]:
            yield

    (stale.folder / "pyproject.toml").write_text("")
    with override_settings(BASE_DIR=tmp_path):
        _, broken = reloading.survey(reloading.settings, ["broken_hot", "nowhere", "x" * 5000])
    assert [each.is_absent() for each in broken] == [False, True, True]
    follower, reloader = reloading._Follower([], broken), Reloader()
    follower.watch(reloader)
    watched = set(reloader.watched_files(include_globs=True))
    assert {stale.folder / "Cargo.toml", stale.folder / "pyproject.toml"} <= watched
    # Django's reloader decides, as for any other file.
    assert follower.changed(None, stale.folder / "pyproject.toml") is None


def test_a_manifest_that_breaks_while_the_server_runs_is_told(
    stale: Crate, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(building, "_maturin", lambda: ["true"])
    follower = reloading._Follower([stale])
    (stale.folder / "Cargo.toml").write_text("[package")
    assert follower.changed(None, stale.folder / "Cargo.toml") is True
    assert str(reloading.failure()).startswith(f"{stale.folder}/Cargo.toml is not TOML: ")
    (stale.folder / "Cargo.toml").write_text("profile = 5")
    assert follower.changed(None, stale.folder / "Cargo.toml") is True
    assert reloading.failure() == f"profile in {stale.folder}/Cargo.toml must be a table, not a number"


def test_a_crate_that_is_deleted_while_the_server_runs_is_told(stale: Crate) -> None:
    for name in ("Cargo.toml", "src"):
        (stale.folder / name).rename(stale.folder / f"old-{name}")
    assert not reloading._update(stale)
    assert reloading.failure() == f"{stale.folder} has no source that can be read: was the folder moved or deleted?"


@pytest.mark.parametrize(
    ("path", "why"),
    [
        ("nowhere", "{}/nowhere/Cargo.toml cannot be read: No such file or directory"),
        ("x" * 5000, "cannot be read: File name too long"),
        ("a/" * 3000, "cannot be read: File name too long"),
    ],
)
def test_a_folder_that_is_absent_is_told_in_the_terminal(
    path: str, why: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with override_settings(BASE_DIR=tmp_path):
        # Its module may be a wheel's.
        assert page_after_start(path)[0] == 404
    told = capsys.readouterr().err
    assert told.startswith(f"vcache: VCACHE['HOTPATHS'] names '{path}', but ")
    assert why.format(tmp_path) in told


@pytest.mark.parametrize(
    ("links", "why"),
    [
        ({"loop_hot": "loop_hot"}, "Too many levels of symbolic links"),
        ({"loop_hot": "other", "other": "loop_hot"}, "Too many levels of symbolic links"),
        ({"loop_hot": "nowhere"}, "No such file or directory"),
    ],
)
def test_a_link_that_leads_nowhere_is_told(
    links: dict[str, str], why: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, target in links.items():
        (tmp_path / name).symlink_to(target)
    status, text = page_after_start(tmp_path / "loop_hot")
    assert (status, why in text) == (500, True)
    assert f"vcache: VCACHE['HOTPATHS'] names '{tmp_path}/loop_hot', but " in capsys.readouterr().err


def test_one_broken_crate_does_not_keep_another_from_being_followed(
    stale: Crate, monkeypatch: pytest.MonkeyPatch
) -> None:
    built = []
    monkeypatch.setattr(building, "rebuild", lambda crate: built.append(crate.name))
    (stale.folder.parent / "empty").mkdir()
    assert page_after_start(stale.folder.parent / "empty", stale.folder)[0] == 500
    assert built == ["broken_hot"]


def test_the_name_of_a_folder_may_be_no_utf8(tmp_path: Path) -> None:
    folder = Path(os.fsdecode(os.fsencode(tmp_path) + b"/shop\xff"))
    try:
        folder.mkdir()
    except OSError:
        pytest.skip("the file system takes names in UTF-8 only")
    status, text = page_after_start(folder)
    assert (status, "shop\\udcff/Cargo.toml cannot be read" in text) == (500, True)


def test_a_terminal_that_was_closed_stops_nothing(stale: Crate, monkeypatch: pytest.MonkeyPatch) -> None:
    (stale.folder / "target").write_text("")
    with open("/dev/full", "w") as full:
        monkeypatch.setattr(sys, "stderr", full)
        assert page_after_start(stale.folder)[0] == 500
        monkeypatch.undo()
        with pytest.raises(OSError, match="No space left"):
            full.flush()
        os.dup2(os.open(os.devnull, os.O_WRONLY), full.fileno())


PROJECT = """
import sys
from django.conf import settings
settings.configure(
    DEBUG=True, INSTALLED_APPS=["django_vcache"], BASE_DIR={base!r}, VCACHE={{"HOTPATHS": {paths!r}}}, MIDDLEWARE=[]
)
import django
{before}
django.setup()
print("started", settings.MIDDLEWARE)
"""


def run(base: Path, paths: list[str], python: Path, before: str = "") -> subprocess.CompletedProcess[str]:
    """Starts the project as the child of `runserver`."""
    return subprocess.run(
        [sys.executable, "-c", PROJECT.format(base=str(base), paths=paths, before=before)],
        env=os.environ | {"RUN_MAIN": "true", "PYTHONPATH": str(python)},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize(
    ("path", "text"),
    [("target", ""), ("Cargo.toml", "dependencies = 5"), ("pyproject.toml", "tool = 5"), ("Cargo.toml", "[" * 9_999)],
)
def test_the_application_is_made_whatever_is_broken(path: str, text: str, stale: Crate) -> None:
    (stale.folder / path).write_text(text)
    done = run(stale.folder.parent, ["broken_hot"], stale.python)
    assert (done.returncode, done.stdout) == (0, f"started ['{reloading.MIDDLEWARE}']\n"), done.stderr
    assert f"{stale.folder / path}" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("paths", [[""], ["a\0b"], [5], ["\ud800"]])
def test_a_wrong_setting_is_left_to_the_system_checks(paths: list[str], stale: Crate) -> None:
    done = run(stale.folder.parent, paths, stale.python)
    assert (done.returncode, done.stdout, done.stderr) == (0, "started []\n", "")


def test_a_source_that_is_dated_in_the_future_does_not_start_the_server_for_ever(stale: Crate) -> None:
    os.utime(stale.folder / "src" / "lib.rs", (4e9, 4e9))
    before = (
        "from django_vcache.crates import building\n"
        "building.rebuild = lambda crate: crate.extension.touch()\n"
        "sys.modules['broken_hot._native'] = sys"
    )
    done = run(stale.folder.parent, ["broken_hot"], stale.python, before)
    assert done.returncode == 0, done.stderr
    assert "broken_hot._native was imported before it was built" in done.stderr
