"""`python -m django_vcache new`: which names it takes, and that what it writes is complete and valid."""

import ast
import asyncio
import json
import shutil
import subprocess
import sys
import tarfile
import textwrap
import tomllib
import types
from pathlib import Path
from typing import Any
from unittest.mock import AsyncMock

import pytest

from django_vcache import scaffold
from django_vcache.__main__ import main
from django_vcache.crates import source

CHECKOUT = Path(__file__).parents[2]


def new(*arguments: object) -> int:
    return main(["new", *map(str, arguments)])


@pytest.fixture
def crate(tmp_path: Path) -> Path:
    return scaffold.create("shop_hot", tmp_path)


def test_the_crate_is_complete(crate: Path) -> None:
    files = {str(path.relative_to(crate)) for path in crate.rglob("*") if path.is_file()}
    vendored = {path for path in files if path.startswith("vendored/")}
    assert {"vendored/Cargo.toml", "vendored/vcache/src/lib.rs", "vendored/hotpath-macros/src/lib.rs"} < vendored
    assert files - vendored == {
        ".gitignore",
        "Cargo.lock",
        "Cargo.toml",
        "README.md",
        "pyproject.toml",
        "python/shop_hot/__init__.py",
        "python/shop_hot/_native.pyi",
        "python/shop_hot/py.typed",
        "src/lib.rs",
        "src/spend.lua",
        "tests/conftest.py",
        "tests/test_shop_hot.py",
    }


def test_no_placeholder_is_left(crate: Path) -> None:
    for path in crate.rglob("*"):
        if path.is_file():
            text = path.read_text()
            assert all(f"@{name}@" not in text for name in ("name", "source", "dependency", "exclude", "include")), path


def test_python_files_parse(crate: Path) -> None:
    for path in [*crate.rglob("*.py"), *crate.rglob("*.pyi")]:
        ast.parse(path.read_text(), str(path))


def test_the_package_exports_what_the_stubs_declare(crate: Path) -> None:
    package = crate / "python" / "shop_hot"
    stubs = ast.parse((package / "_native.pyi").read_text())
    declared = sorted(node.name for node in stubs.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))
    source = ast.parse((package / "__init__.py").read_text())
    exported = [ast.literal_eval(node.value) for node in source.body if isinstance(node, ast.Assign)]
    assert exported == [declared]


def test_the_sample_in_the_package_answers_always(crate: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = types.ModuleType("shop_hot")
    monkeypatch.setitem(sys.modules, "shop_hot", package)
    text = ast.get_docstring(ast.parse((crate / "python" / "shop_hot" / "__init__.py").read_text())) or ""
    sample: dict[str, Any] = {}
    exec(textwrap.dedent(text.partition("::\n")[2]), sample)
    for admitted, status in ((True, 200), (False, 429)):
        # Django refuses a view that returns None.
        package.aspend = AsyncMock(return_value=admitted)  # type: ignore[attr-defined]
        assert asyncio.run(sample["view"](None, 1)).status_code == status


def test_manifests_agree_on_names_and_versions(crate: Path) -> None:
    cargo = tomllib.loads((crate / "Cargo.toml").read_text())
    project = tomllib.loads((crate / "pyproject.toml").read_text())
    assert cargo["package"]["name"] == project["project"]["name"] == "shop_hot"
    assert project["tool"]["maturin"]["module-name"] == f"shop_hot.{cargo['lib']['name']}"
    # pip would look for django-vcache on PyPI, where another package has that name.
    assert project["project"]["dependencies"] == []
    own = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())
    server = own["project"]["optional-dependencies"]["embedded"]
    assert project["project"]["optional-dependencies"]["test"] == ["pytest", *server]
    assert project["build-system"] == own["build-system"]
    assert project["project"]["requires-python"] == own["project"]["requires-python"]
    workspace = tomllib.loads((CHECKOUT / "Cargo.toml").read_text())["workspace"]["package"]
    assert {key: cargo["package"][key] for key in ("edition", "rust-version")} == {
        key: workspace[key] for key in ("edition", "rust-version")
    }


def dependencies(crate: Path) -> tuple[object, object]:
    cargo = tomllib.loads((crate / "Cargo.toml").read_text())
    return cargo["dependencies"]["vcache"], cargo["dev-dependencies"]["vcache"]


def test_it_builds_with_the_source_in_it(crate: Path) -> None:
    path = "vendored/vcache"
    assert dependencies(crate) == ({"path": path}, {"path": path, "features": ["testing"]})


def test_it_names_no_path_outside_it(crate: Path) -> None:
    for path in crate.rglob("*"):
        if path.is_file():
            assert str(CHECKOUT) not in path.read_text(), path


@pytest.mark.build
@pytest.mark.skipif(shutil.which("cargo") is None, reason="cargo says whether manifests are right")
def test_cargo_understands_the_manifests_and_the_lock_file(crate: Path, tmp_path: Path) -> None:
    moved = shutil.copytree(crate, tmp_path / "elsewhere" / "shop_hot")
    command = ["cargo", "metadata", "--format-version", "1", "--manifest-path", str(moved / "Cargo.toml")]
    # cargo adds the crate to the lock file, and finds all others in it: nothing is left to choose.
    before = locked_versions(moved)
    found = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    sources = {each["name"]: Path(each["manifest_path"]).parent for each in found["packages"]}
    assert sources["vcache"] == moved / "vendored" / "vcache"
    assert sources["hotpath-macros"] == moved / "vendored" / "hotpath-macros"
    assert locked_versions(moved) - {("shop_hot", "0.1.0")} < before
    # The copy is a workspace of its own, in which cargo can work too.
    command[-1] = str(moved / "vendored" / "Cargo.toml")
    subprocess.run([*command, "--no-deps"], check=True, capture_output=True)


@pytest.mark.build
@pytest.mark.skipif(shutil.which("cargo") is None, reason="cargo lists what is in a source distribution")
def test_its_source_distribution_builds_elsewhere(crate: Path, tmp_path: Path) -> None:
    subprocess.run(
        [sys.executable, "-m", "maturin", "sdist", "--out", str(tmp_path)], cwd=crate, check=True, capture_output=True
    )
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    subprocess.run(["tar", "-xzf", str(tmp_path / "shop_hot-0.1.0.tar.gz")], cwd=elsewhere, check=True)
    unpacked = elsewhere / "shop_hot-0.1.0"
    assert source.problem(unpacked / "vendored") is None
    command = ["cargo", "metadata", "--format-version", "1", "--manifest-path", str(unpacked / "Cargo.toml")]
    subprocess.run(command, check=True, capture_output=True)


def locked_versions(crate: Path) -> set[tuple[str, str]]:
    return {(each["name"], each["version"]) for each in tomllib.loads((crate / "Cargo.lock").read_text())["package"]}


def test_an_install_without_the_source_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(source, "__file__", str(tmp_path / "django_vcache" / "crates" / "source.py"))
    assert new("shop_hot", "--path", tmp_path) == 2
    assert "this django-vcache has no Rust source in it" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
    assert main(["crate-path"]) == 2
    assert new("shop_hot", "--path", tmp_path, "--vcache", CHECKOUT / "vcache") == 0
    assert not (tmp_path / "shop_hot" / "vendored").exists()


def test_the_crate_to_build_with_may_be_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert dependencies(scaffold.create("one_hot", tmp_path, "0.7"))[0] == "0.7"
    odd = tmp_path / 'a "quoted" folder'
    odd.mkdir()
    (odd / "Cargo.toml").write_text('[package]\nname = "vcache"\n')
    monkeypatch.chdir(tmp_path)
    assert dependencies(scaffold.create("two_hot", tmp_path, odd.name))[0] == {"path": str(odd)}


@pytest.mark.parametrize("vcache", ["latest", "0.1.2.3", "nowhere", "."])
def test_a_crate_that_cannot_be_is_refused(
    vcache: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    # The folder "." has a manifest that is not text.
    (tmp_path / "Cargo.toml").write_bytes(b"\xff")
    monkeypatch.chdir(tmp_path)
    assert new("shop_hot", "--path", tmp_path, "--vcache", vcache) == 2
    assert "neither a version, such as 0.1, nor a folder" in capsys.readouterr().err
    assert not (tmp_path / "shop_hot").exists()


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("shop-hot", "not a name for a module"),
        ("Shop", "not a name for a module"),
        ("_shop", "not a name for a module"),
        ("1shop", "not a name for a module"),
        ("größe", "not a name for a module"),
        ("../shop", "not a name for a module"),
        ("shop.hot", "not a name for a module"),
        ("", "not a name for a module"),
        ("import", "a keyword of Python"),
        ("json", "a module of Python's own library"),
        ("self", "a keyword of Rust"),
        ("crate", "a keyword of Rust"),
        ("struct", "a keyword of Rust"),
        ("vcache", "a crate that the new one is built with"),
        ("core", "a crate that the new one is built with"),
        ("django", "there is a module 'django' already, in "),
        ("django_vcache", "there is a module 'django_vcache' already, in "),
    ],
)
def test_names_that_cannot_be_are_refused(
    name: str, why: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert new(name, "--path", tmp_path) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert why in error
    assert not list(tmp_path.iterdir())


def test_nothing_is_overwritten(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "shop_hot").mkdir()
    assert new("shop_hot", "--path", tmp_path) == 2
    assert "exists already: nothing was written" in capsys.readouterr().err
    assert not list((tmp_path / "shop_hot").iterdir())


def test_a_folder_of_that_name_elsewhere_is_in_nobodys_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "shop_hot").mkdir()
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.syspath_prepend(tmp_path)
    assert scaffold.create("shop_hot", tmp_path / "elsewhere").is_dir()


def test_a_folder_that_is_not_there_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert new("shop_hot", "--path", tmp_path / "missing") == 2
    assert "cannot be written" in capsys.readouterr().err


def test_the_command_says_what_comes_next_and_needs_no_settings(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "django_vcache", "new", "shop_hot"], cwd=tmp_path, capture_output=True, text=True
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "pip install ./shop_hot\n" in done.stdout
    assert "await shop_hot.aspend(project_id, 3)" in done.stdout
    assert (tmp_path / "shop_hot" / "Cargo.toml").is_file()


def test_every_file_of_the_template_is_used() -> None:
    folder = CHECKOUT / "python" / "django_vcache" / "template"
    assert {path.name for path in folder.iterdir()} == set(scaffold.FILES)


def test_the_source_distribution_ships_the_template(tmp_path: Path) -> None:
    # The wheel is packed by the same rules, from the same folder, and takes minutes to compile.
    subprocess.run(
        [sys.executable, "-m", "maturin", "sdist", "--out", str(tmp_path)],
        cwd=CHECKOUT,
        check=True,
        capture_output=True,
    )
    (archive,) = tmp_path.iterdir()
    with tarfile.open(archive) as sdist:
        names = {name.partition("/")[2] for name in sdist.getnames()}
    assert {name for name in scaffold.FILES if f"python/django_vcache/template/{name}" not in names} == set()
    # A wheel that is built from it has the source of the crates, once.
    assert {"python/build.rs", "vcache/src/lib.rs", "hotpath-macros/src/lib.rs", "Cargo.lock", "LICENSE"} <= names
    assert not [name for name in names if name.startswith("python/django_vcache/rust")]
