"""Which crates a project has, and what their manifests say."""

import os
import shutil
import sys
import types
from pathlib import Path

import pytest

from django_vcache import scaffold
from django_vcache.admission.settings import problems
from django_vcache.crates import CrateError
from django_vcache.crates.project import SUFFIX, Crate, configured, is_source, load, project_folder, survey

PATH = str(Path(__file__).parents[2] / "vcache")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return scaffold.create("one_hot", tmp_path, PATH)


def test_a_crate_is_what_its_manifests_say(folder: Path) -> None:
    crate = load(folder)
    assert (crate.name, crate.module) == ("one_hot", "one_hot._native")
    assert crate.package == folder / "python" / "one_hot"
    assert crate.extension == crate.package / f"_native{SUFFIX}"
    assert crate.stubs == crate.package / "_native.pyi"
    assert crate.vendored is None
    assert load(scaffold.create("two_hot", folder.parent)).vendored == folder.parent / "two_hot" / "vendored"
    assert load(scaffold.create("six_hot", folder.parent, "0.7")).vendored is None


@pytest.mark.parametrize(
    ("file", "text", "why"),
    [
        ("Cargo.toml", "[package]\nname = 'x'\n", "does not depend on the crate vcache"),
        ("Cargo.toml", "[package\n", "Cargo.toml is not TOML"),
        ("Cargo.toml", None, "Cargo.toml cannot be read: No such file"),
        ("pyproject.toml", "[project]\nname = 'x'\n", "has no module-name in [tool.maturin]"),
        ("pyproject.toml", "[tool.maturin]\nmodule-name = 'alone'\n", "has no module-name in [tool.maturin]"),
        ("pyproject.toml", None, "pyproject.toml cannot be read: No such file"),
    ],
)
def test_what_is_missing_is_told(file: str, text: str | None, why: str, folder: Path) -> None:
    if text is None:
        (folder / file).unlink()
    else:
        (folder / file).write_text(text)
    with pytest.raises(CrateError) as raised:
        load(folder)
    assert why in str(raised.value)
    assert str(folder) in str(raised.value)


def test_the_crates_beside_manage_py_are_found(folder: Path, tmp_path: Path) -> None:
    scaffold.create("two_hot", tmp_path, PATH)
    other = tmp_path / "tool"
    other.mkdir()
    (other / "Cargo.toml").write_text("[package]\nname = 'tool'\n")
    assert [crate.name for crate in configured(types.SimpleNamespace(BASE_DIR=tmp_path), None)] == [
        "one_hot",
        "two_hot",
    ]


def test_the_settings_name_crates(folder: Path, tmp_path: Path) -> None:
    project = types.SimpleNamespace(BASE_DIR=str(tmp_path / "site"))
    for path in (folder, str(folder), "../one_hot"):
        assert [crate.folder for crate in configured(project, (path,))] == [folder]
    assert configured(project, ()) == []
    with pytest.raises(CrateError, match="cannot be read"):
        configured(project, ("nowhere",))


def test_without_base_dir_the_settings_module_says_where(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "shop"
    package.mkdir()
    (package / "__init__.py").write_text("")
    module = types.ModuleType("shop_settings")
    module.__file__ = str(package / "settings.py")
    monkeypatch.setitem(os.environ, "DJANGO_SETTINGS_MODULE", "shop_settings")
    monkeypatch.setitem(sys.modules, "shop_settings", module)
    assert project_folder(types.SimpleNamespace()) == tmp_path
    module.__file__ = None
    monkeypatch.chdir(package)
    assert project_folder(types.SimpleNamespace()) == tmp_path


def test_an_installed_module_is_found_without_importing_it(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    crate = load(folder)
    assert (crate.installed(), crate.is_editable()) == (None, False)
    # A copy among installed packages, which nothing builds again.
    copy = tmp_path / "site" / "one_hot"
    copy.mkdir(parents=True)
    (copy / "__init__.py").write_text("raise RuntimeError('it was imported')\n")
    (copy / f"_native{SUFFIX}").write_bytes(b"")
    monkeypatch.syspath_prepend(tmp_path / "site")
    assert (crate.installed(), crate.is_editable()) == (copy / f"_native{SUFFIX}", False)
    # An editable install, not built yet; then built.
    monkeypatch.syspath_prepend(folder / "python")
    assert (crate.installed(), crate.is_editable()) == (None, True)
    crate.extension.write_bytes(b"")
    assert (crate.installed(), crate.is_editable()) == (crate.extension, True)


def test_sources_are_what_is_compiled(folder: Path) -> None:
    crate = load(folder)
    for name in (".lib.rs.swp", "#lib.rs#", "lib.rs~", "4913.tmp"):
        (folder / "src" / name).write_text("")
        assert not is_source(folder / "src" / name)
    (folder / "src" / "more").mkdir()
    (folder / "src" / "more" / "words.json").write_text("{}")
    assert {str(path.relative_to(folder)) for path in crate.sources()} == {
        "Cargo.toml",
        "src/lib.rs",
        "src/spend.lua",
        "src/more/words.json",
    }
    os.utime(folder / "src" / "spend.lua", (2e9, 2e9))
    assert crate.newest_source() == (2e9, folder / "src" / "spend.lua")
    vendored = set(load(scaffold.create("two_hot", folder.parent)).sources())
    assert folder.parent / "two_hot" / "vendored" / "vcache" / "src" / "lib.rs" in vendored


def test_sources_that_cannot_be_looked_at_are_left_out(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    crate = load(folder)
    (folder / "src" / "loop.rs").symlink_to("loop.rs")
    (folder / "src" / "dangling.rs").symlink_to("nowhere")
    (folder / "src" / "again").symlink_to(".")
    names = {"Cargo.toml", "src/lib.rs", "src/spend.lua"}
    assert {str(path.relative_to(folder)) for path in crate.sources()} == names
    # An editor replaces a file, or another program a folder, after it was listed.
    gone = [folder / "src" / "gone.rs", folder / "src" / "lib.rs" / "gone.rs", folder / "src" / "loop.rs"]
    monkeypatch.setattr(Crate, "sources", lambda self: iter([*gone, folder / "src" / "lib.rs"]))
    assert [path for path, _ in crate.states()] == [folder / "src" / "lib.rs"]
    monkeypatch.setattr(Crate, "sources", lambda self: iter(gone))
    with pytest.raises(CrateError, match=f"{folder} has no source that can be read: was the folder moved or deleted?"):
        crate.newest_source()


def test_a_package_in_a_loop_of_links_is_not_installed(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    crate = load(folder)
    monkeypatch.syspath_prepend(crate.python)
    shutil.rmtree(crate.package)
    crate.package.symlink_to(crate.package)
    assert (crate.installed(), crate.is_editable()) == (None, False)


def test_a_path_that_no_file_can_have_is_told(tmp_path: Path) -> None:
    with pytest.raises(CrateError, match="cannot be read: a path has no NUL and no lone surrogate in it"):
        load(tmp_path / "a\0b")
    with pytest.raises(CrateError, match="cannot be looked through for crates of hot paths"):
        survey(types.SimpleNamespace(BASE_DIR=tmp_path / "a\0b"), None)


def test_base_dir_may_be_bytes_of_a_path(folder: Path) -> None:
    project = types.SimpleNamespace(BASE_DIR=OddPath(os.fsencode(folder.parent)))
    assert [crate.name for crate in configured(project, None)] == ["one_hot"]


class OddPath:
    """What is a path by its type, and what `open` need not take."""

    def __init__(self, path: object) -> None:
        self.path = path

    def __fspath__(self) -> object:
        return self.path


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        ({"HOTPATH": []}, "VCACHE has an unknown setting 'HOTPATH'. Did you mean HOTPATHS?"),
        ({"HOTPATHS": "shop_hot"}, "VCACHE['HOTPATHS'] must be a list of folders"),
        ({"HOTPATHS": {"shop_hot"}}, "VCACHE['HOTPATHS'] must be a list of folders"),
        ({"HOTPATHS": [1]}, "VCACHE['HOTPATHS'][0] must be the path of a folder, such as BASE_DIR / 'shop_hot', not 1"),
        ({"HOTPATHS": [Path("a"), ""]}, "VCACHE['HOTPATHS'][1] must be the path of a folder, such as"),
        ({"HOTPATHS": ["a", None]}, "VCACHE['HOTPATHS'][1] must be the path of a folder, such as"),
        ({"HOTPATHS": ["a\0b"]}, "VCACHE['HOTPATHS'][0] must be the path of a folder, such as"),
        ({"HOTPATHS": [Path("a\0b")]}, "VCACHE['HOTPATHS'][0] must be the path of a folder, such as"),
        ({"HOTPATHS": ["\ud800"]}, "VCACHE['HOTPATHS'][0] must be the path of a folder, such as"),
        ({"HOTPATHS": [b"shop_hot"]}, "VCACHE['HOTPATHS'][0] must be the path of a folder, such as"),
        ({"HOTPATHS": [OddPath(b"shop_hot")]}, "VCACHE['HOTPATHS'][0] must be the path of a folder, such as"),
        ({"HOTPATHS": [OddPath(5)]}, "VCACHE['HOTPATHS'][0] must be the path of a folder, such as"),
    ],
)
def test_a_wrong_setting_is_told(given: dict[str, object], problem: str) -> None:
    assert [each.startswith(problem) for each in problems(given)] == [True]
