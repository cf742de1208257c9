"""`python -m django_vcache stubs`: what a module says of itself becomes a file, or is compared with one."""

import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

from django_vcache.__main__ import main

STUBS = "def spend(project: int, cost: int) -> bool: ...\n"

MakePackage = Callable[[Path], Path]


@pytest.fixture
def package(monkeypatch: pytest.MonkeyPatch) -> MakePackage:
    """Makes an importable package `shop_hot` whose module `_native` stands for a compiled one."""

    def make(folder: Path) -> Path:
        source = folder / "shop_hot"
        source.mkdir(parents=True)
        (source / "__init__.py").write_text("")
        (source / "_native.py").write_text(f"def __vcache_stub__():\n    return {STUBS!r}\n")
        monkeypatch.syspath_prepend(folder)
        return source

    for name in ("shop_hot", "shop_hot._native"):
        # Whatever is imported in the test is forgotten after it.
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
        monkeypatch.delitem(sys.modules, name)
    return make


def stubs(*arguments: object) -> int:
    return main(["stubs", "shop_hot._native", *map(str, arguments)])


def test_stubs_go_beside_the_module(package: MakePackage, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = package(tmp_path)
    assert stubs() == 0
    assert (source / "_native.pyi").read_text() == STUBS
    assert capsys.readouterr().out == f"wrote {source / '_native.pyi'}\n"


@pytest.mark.parametrize("where", ["crate", "."])
def test_stubs_go_to_the_source_and_not_to_the_installed_copy(
    where: str, package: MakePackage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    installed = package(tmp_path / "site-packages")
    source = tmp_path / "shop_hot" / "python" / "shop_hot"
    source.mkdir(parents=True)
    (source / "__init__.py").write_text("")
    monkeypatch.chdir(tmp_path / "shop_hot" if where == "crate" else tmp_path)
    assert stubs() == 0
    assert (source / "_native.pyi").read_text() == STUBS
    assert not (installed / "_native.pyi").exists()


def test_an_installed_copy_alone_is_not_written_to(
    package: MakePackage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    installed = package(tmp_path / "site-packages")
    paths = {"purelib": str(installed.parent), "platlib": str(installed.parent)}
    monkeypatch.setattr("sysconfig.get_paths", lambda: paths)
    monkeypatch.chdir(tmp_path)
    assert stubs() == 2
    assert "--output FILE" in capsys.readouterr().err


def test_stubs_go_where_they_are_told(package: MakePackage, tmp_path: Path) -> None:
    source = package(tmp_path)
    assert stubs("--output", tmp_path / "other.pyi") == 0
    assert (tmp_path / "other.pyi").read_text() == STUBS
    assert not (source / "_native.pyi").exists()


def test_check_is_silent_if_nothing_differs(
    package: MakePackage, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (package(tmp_path) / "_native.pyi").write_text(STUBS)
    assert stubs("--check") == 0
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("found", [None, "def spend(project: int) -> bool: ...\n"])
def test_check_shows_what_differs_and_writes_nothing(
    found: str | None, package: MakePackage, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = package(tmp_path) / "_native.pyi"
    if found is not None:
        path.write_text(found)
    assert stubs("--check") == 1
    difference = capsys.readouterr().out
    assert f"+{STUBS}" in difference
    if found is None:
        assert not path.exists()
    else:
        assert f"-{found}" in difference
        assert path.read_text() == found


def test_a_module_of_another_kind_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["stubs", "json"]) == 2
    assert "json is not a module that #[vcache::module] made" in capsys.readouterr().err


def test_the_package_is_told_from_its_compiled_module(
    package: MakePackage, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    package(tmp_path)
    assert main(["stubs", "shop_hot"]) == 2
    assert "Did you mean shop_hot._native?" in capsys.readouterr().err


def test_a_module_that_is_not_there_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["stubs", "no_such_hot._native"]) == 2
    assert "no_such_hot._native cannot be imported: No module named 'no_such_hot'" in capsys.readouterr().err
