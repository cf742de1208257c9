"""`manage.py vcache_hotpath check`: what is told of a module, one line each. A module in Python stands for a compiled
one.
"""

import io
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from django.core.management import CommandError, call_command
from django.test import override_settings

from django_vcache import scaffold
from django_vcache.crates import project, source

NAME = "checked_hot"


@pytest.fixture
def crate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[project.Crate]:
    """A crate whose module can be imported, is newer than its source, and has the stubs that it says."""
    folder = scaffold.create(NAME, tmp_path)
    crate = project.load(folder)
    # A compiled module needs a compiler: this one has its name, and says of itself what one would.
    monkeypatch.setattr(project, "SUFFIX", ".py")
    (crate.package / "__init__.py").write_text("")
    crate.extension.write_text(f"def __vcache_stub__():\n    return {crate.stubs.read_text()!r}\n")
    monkeypatch.syspath_prepend(crate.python)
    monkeypatch.chdir(tmp_path)
    yield crate
    for name in (NAME, f"{NAME}._native"):
        sys.modules.pop(name, None)


def check(*crates: project.Crate) -> tuple[int, str]:
    """The exit status, and what is printed."""
    printed = io.StringIO()
    with override_settings(VCACHE={"HOTPATHS": [crate.folder for crate in crates]}):
        try:
            call_command("vcache_hotpath", "check", stdout=printed)
        except SystemExit as ended:
            return int(str(ended.code)), printed.getvalue()
    return 0, printed.getvalue()


def test_a_module_that_fits_is_told_so(crate: project.Crate) -> None:
    assert check(crate) == (0, f"{NAME}: built from its source as it is, with the stubs and the Rust source that fit\n")


def test_a_module_that_is_not_built(crate: project.Crate) -> None:
    crate.extension.unlink()
    assert check(crate) == (1, f"{NAME}._native is not built: run manage.py vcache_hotpath build\n")


def test_a_module_that_is_older_than_its_source(crate: project.Crate) -> None:
    os.utime(crate.folder / "src" / "spend.lua", (4e9, 4e9))
    line = f"{NAME}._native is older than {NAME}/src/spend.lua: run manage.py vcache_hotpath build\n"
    assert check(crate) == (1, line)


def test_stubs_that_are_out_of_date(crate: project.Crate) -> None:
    crate.stubs.write_text("")
    line = f"{NAME}/python/{NAME}/_native.pyi is out of date: run manage.py vcache_hotpath stubs\n"
    assert check(crate) == (1, line)
    printed = io.StringIO()
    with override_settings(VCACHE={"HOTPATHS": [crate.folder]}):
        with pytest.raises(SystemExit):
            call_command("vcache_hotpath", "stubs", "--check", stdout=printed)
        assert "+def spend(project: int, cost: int) -> bool:" in printed.getvalue()
        call_command("vcache_hotpath", "stubs", stdout=printed)
    assert f"wrote {crate.stubs}" in printed.getvalue()
    assert check(crate)[0] == 0


def test_a_copy_of_the_source_that_does_not_fit(crate: project.Crate) -> None:
    (crate.folder / "vendored" / source.STAMP).unlink()
    status, line = check(crate)
    assert status == 1
    assert line.startswith(f"{NAME}/vendored is not a copy of the Rust source")
    assert line.endswith(f": run python -m django_vcache vendor {NAME}\n")


def test_a_module_that_does_not_fit_the_wheel(crate: project.Crate) -> None:
    crate.extension.write_text(
        "from django_vcache.exceptions import ABIMismatch\n"
        "raise ABIMismatch('it needs table 9.0, but the installed django-vcache is older')\n"
    )
    line = f"{NAME}._native cannot be imported: it needs table 9.0, but the installed django-vcache is older\n"
    assert check(crate) == (1, line)


def test_a_package_that_raises_as_it_is_imported(crate: project.Crate) -> None:
    (crate.package / "__init__.py").write_text("raise LookupError('odd')\n")
    assert check(crate) == (1, f"{NAME}._native cannot be imported: LookupError: odd\n")


def test_stubs_that_are_not_text(crate: project.Crate) -> None:
    crate.stubs.write_bytes(b"\xff")
    status, line = check(crate)
    assert (status, line.startswith(f"{crate.stubs} cannot be read: ")) == (1, True)


def test_a_module_that_is_no_hot_path_module(crate: project.Crate) -> None:
    crate.extension.write_text("")
    status, line = check(crate)
    assert (status, line.count("\n")) == (1, 1)
    assert "is not a module that #[vcache::module] made" in line


def test_several_lines_for_several_faults(crate: project.Crate) -> None:
    crate.stubs.write_text("")
    os.utime(crate.folder / "src" / "lib.rs", (4e9, 4e9))
    status, lines = check(crate)
    assert (status, lines.count("\n")) == (1, 2)


def test_a_project_without_crates_is_told(tmp_path: Path) -> None:
    with (
        override_settings(BASE_DIR=tmp_path),
        pytest.raises(CommandError, match="there is no crate of hot paths in the"),
    ):
        call_command("vcache_hotpath", "check")
    with (
        override_settings(VCACHE={"HOTPATHS": []}),
        pytest.raises(CommandError, match=r"there is no crate of hot paths in VCACHE\['HOTPATHS'\]"),
    ):
        call_command("vcache_hotpath", "build")
    with override_settings(VCACHE={"HOTPATH": []}), pytest.raises(CommandError, match="Did you mean HOTPATHS"):
        call_command("vcache_hotpath", "stubs")
    with pytest.raises(CommandError, match="cannot be read"):
        call_command("vcache_hotpath", "build", str(tmp_path))


def test_new_is_that_of_the_command_line(tmp_path: Path) -> None:
    printed = io.StringIO()
    call_command("vcache_hotpath", "new", "shop_hot", "--path", str(tmp_path), stdout=printed)
    assert (tmp_path / "shop_hot" / "vendored" / "vcache").is_dir()
    assert f"pip install {tmp_path}/shop_hot\n" in printed.getvalue()
    with pytest.raises(CommandError, match="exists already"):
        call_command("vcache_hotpath", "new", "shop_hot", "--path", str(tmp_path))
