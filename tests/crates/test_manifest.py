"""What is wrong with a manifest is a `CrateError` that names the file and the key, whatever people wrote into it."""

import os
import types
from pathlib import Path

import pytest

from django_vcache import scaffold
from django_vcache.crates import CrateError
from django_vcache.crates.project import load, survey

PATH = str(Path(__file__).parents[2] / "vcache")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return scaffold.create("one_hot", tmp_path, PATH)


@pytest.mark.parametrize(
    ("file", "text", "why"),
    [
        ("Cargo.toml", b"dependencies = 5", "dependencies in {} must be a table, not a number"),
        ("Cargo.toml", b"dependencies = ['vcache']", "dependencies in {} must be a table, not an array"),
        ("Cargo.toml", b"[[dependencies]]\nvcache = 1", "dependencies in {} must be a table, not an array"),
        ("Cargo.toml", b"dependencies = 1979-05-27", "dependencies in {} must be a table, not a date or a time"),
        ("Cargo.toml", b"[dependencies]\nvcache = true", "dependencies.vcache in {} must be a table, not a boolean"),
        ("Cargo.toml", b"[dependencies]\nvcache = {path = 1.5}", "dependencies.vcache.path in {} must be a string"),
        ("Cargo.toml", b"[dependencies]\nvcache = {path = {x = 1}}", "must be a string, not a table"),
        ("Cargo.toml", b'[dependencies]\nvcache = {path = "a\\u0000b"}', "must have no NUL in it, as 'a\\x00b' has"),
        ("Cargo.toml", b"[package]\nname = '\xff'", "{} is not UTF-8, which TOML must be: see the byte at 18"),
        ("Cargo.toml", b"x = " + b"[" * 100_000, "{} cannot be read: its arrays or tables are nested too deeply"),
        ("Cargo.toml", b"[dependencies]\nvcache" + b".a" * 5_000 + b" = 1\nvcache.path = 0x1", "must be a string"),
        ("Cargo.toml", b"x = " + b"1" * 5_000, "{} is not TOML: "),
        ("pyproject.toml", b"tool = 'maturin'", "tool in {} must be a table, not a string"),
        ("pyproject.toml", b"[tool]\nmaturin = []", "tool.maturin in {} must be a table, not an array"),
        ("pyproject.toml", b"[tool.maturin]\nmodule-name = 5", "tool.maturin.module-name in {} must be a string"),
        ("pyproject.toml", b"[tool.maturin]\nmodule-name = ['a.b']", "must be a string, not an array"),
        (
            "pyproject.toml",
            b"[tool.maturin]\nmodule-name = 'a..b'",
            "hot._native\", and 'a..b' does not",
        ),
        ("pyproject.toml", b"[tool.maturin]\nmodule-name = '/etc.x'", "and '/etc.x' does not"),
        ("pyproject.toml", b"[tool.maturin]\nmodule-name = 'a.b/c'", "and 'a.b/c' does not"),
        ("pyproject.toml", b"[tool.maturin]\nmodule-name = 'a.b'\npython-source = 3", "python-source in {} must be a"),
        ("pyproject.toml", b"\xff\xfe", "{} is not UTF-8"),
        ("pyproject.toml", b"x = " + b"{a = " * 100_000, "{} cannot be read: its arrays or tables are nested"),
    ],
)
def test_what_is_wrong_is_told(file: str, text: bytes, why: str, folder: Path) -> None:
    (folder / file).write_bytes(text)
    with pytest.raises(CrateError) as raised:
        load(folder)
    assert why.format(folder / file) in str(raised.value)
    assert str(folder / file) in str(raised.value)


@pytest.mark.parametrize(
    ("cargo", "python", "told"),
    [
        ("[dependencies]\nvcache = 5", None, ["dependencies.vcache in {} must be a table, not a number"]),
        ("# vcache\n[", None, ["{} is not TOML: "]),
        (None, "# maturin\n[", ["pyproject.toml is not TOML: "]),
        # Beside manage.py there may be anything, a Rust program included.
        ("[dependencies]\nserde = 5", None, []),
        ("dependencies = 5", None, []),
        (None, "# setuptools\n[", []),
        (None, "[tool.maturin]\nmodule-name = 'alone'", []),
    ],
)
def test_a_broken_manifest_beside_manage_py_is_told_if_a_crate_was_meant(
    cargo: str | None, python: str | None, told: list[str], folder: Path
) -> None:
    for name, text in (("Cargo.toml", cargo), ("pyproject.toml", python)):
        if text is not None:
            (folder / name).write_text(text)
    (folder.parent / "other").mkdir()
    crates, broken = survey(types.SimpleNamespace(BASE_DIR=folder.parent), None)
    assert crates == []
    assert [each.folder for each in broken] == [folder for _ in told]
    assert [told[0].format(folder / "Cargo.toml") in each.problem for each in broken] == [True for _ in told]


@pytest.mark.parametrize("file", ["Cargo.toml", "pyproject.toml"])
def test_a_manifest_that_is_no_file_is_told(file: str, folder: Path) -> None:
    path = folder / file
    path.unlink()
    path.mkdir()
    with pytest.raises(CrateError, match=f"{path} cannot be read: it is not a file"):
        load(folder)
    path.rmdir()
    # Reading it would never end.
    os.mkfifo(path)
    with pytest.raises(CrateError, match=f"{path} cannot be read: it is not a file"):
        load(folder)
    path.unlink()
    path.symlink_to(path)
    with pytest.raises(CrateError, match=f"{path} cannot be read: Too many levels of symbolic links"):
        load(folder)
