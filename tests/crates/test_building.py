"""Building a crate: when it is due, what the compiler's words become, and what is told where a tool is missing. That it
builds is tested where crates are compiled, in `tests/scaffold/test_build.py`.
"""

import errno
import os
import shutil
import sys
import threading
import zipfile
from pathlib import Path

import pytest

from django_vcache import scaffold
from django_vcache.crates import CrateError, building
from django_vcache.crates.project import Crate, load

PATH = str(Path(__file__).parents[2] / "vcache")


@pytest.fixture
def crate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Crate:
    folder = scaffold.create("built_hot", tmp_path, PATH)
    monkeypatch.syspath_prepend(folder / "python")
    return load(folder)


def test_a_module_is_stale_when_its_source_is_newer(crate: Crate) -> None:
    assert building.is_stale(crate)
    crate.extension.write_bytes(b"")
    newest = crate.newest_source()[0]
    os.utime(crate.extension, (newest, newest))
    assert not building.is_stale(crate)
    os.utime(crate.folder / "Cargo.toml", (newest + 1, newest + 1))
    assert building.is_stale(crate)


def test_what_the_compiler_said_is_known_until_the_source_changes(crate: Crate) -> None:
    with building.lock(crate):
        assert building.known_failure(crate) is None
        building._remember_failure(crate, building._fingerprint(crate), "error: no")
        assert building.known_failure(crate) == "error: no"
        os.utime(crate.folder / "src" / "lib.rs", (1e9, 1e9))
        assert building.known_failure(crate) is None
        building._remember_failure(crate, building._fingerprint(crate), "error: again")
        building.forget_failure(crate)
        assert building.known_failure(crate) is None


def test_only_one_builds_at_a_time(crate: Crate) -> None:
    order = []

    def other() -> None:
        with building.lock(crate):
            order.append("other")

    with building.lock(crate):
        thread = threading.Thread(target=other)
        thread.start()
        thread.join(0.2)
        order.append("first")
    thread.join()
    assert order == ["first", "other"]


def test_a_module_is_put_in_place_as_a_new_file(crate: Crate, tmp_path: Path) -> None:
    crate.extension.write_bytes(b"old")
    wheel = tmp_path / "x.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr(f"built_hot/{crate.extension.name}", b"new")
    with crate.extension.open("rb") as mapped:
        building._put(crate, wheel, 1e9)
        assert mapped.read() == b"old"
    assert crate.extension.read_bytes() == b"new"
    assert crate.extension.stat().st_mtime == 1e9
    assert os.access(crate.extension, os.X_OK)
    assert [path.name for path in crate.package.iterdir() if path.name.startswith(".")] == []


def test_a_wheel_without_the_module_says_what_may_be_wrong(crate: Crate, tmp_path: Path) -> None:
    wheel = tmp_path / "x.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("other.so", b"")
    with pytest.raises(CrateError, match="is module-name in its"):
        building._put(crate, wheel, 1e9)


def test_a_module_that_cannot_be_written_leaves_the_old_one(
    crate: Crate, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    crate.extension.write_bytes(b"old")
    wheel = tmp_path / "x.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr(f"built_hot/{crate.extension.name}", b"new")

    def fail(source: object, target: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(shutil, "copyfileobj", fail)
    why = f"built_hot compiles, but {crate.extension} cannot be written: No space left on device"
    with pytest.raises(CrateError, match=why):
        building._put(crate, wheel, 1e9)
    assert crate.extension.read_bytes() == b"old"
    assert [path.name for path in crate.package.iterdir() if path.name.startswith(".")] == []
    monkeypatch.undo()
    crate.extension.unlink()
    crate.extension.mkdir()
    with pytest.raises(CrateError, match=f"{crate.extension} cannot be written: Is a directory"):
        building._put(crate, wheel, 1e9)
    shutil.rmtree(crate.package)
    with pytest.raises(CrateError, match=f"{crate.extension} cannot be written: No such file"):
        building._put(crate, wheel, 1e9)
    wheel.write_bytes(b"cut short")
    with pytest.raises(CrateError, match="cannot be written: File is not a zip file"):
        building._put(crate, wheel, 1e9)


def test_what_maturin_makes_must_be_one_wheel(crate: Crate, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(building, "_maturin", lambda: ["true"])
    with pytest.raises(CrateError, match=f"maturin made 0 wheels of {crate.folder} instead of one"):
        building.rebuild(crate)


def test_a_build_that_cannot_begin_is_told(crate: Crate, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(building, "_maturin", lambda: [str(tmp_path)])
    with pytest.raises(CrateError, match=f"maturin cannot run in {crate.folder}: .*Permission denied"):
        building.rebuild(crate)
    monkeypatch.setenv("CONDA_PREFIX", "/")
    with pytest.raises(CrateError, match=f"maturin cannot run in {crate.folder}: .*Permission denied"):
        building.install(crate)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "nowhere"))
    with pytest.raises(CrateError, match=f"maturin cannot run in {crate.folder}: .*No such file"):
        building.rebuild(crate)


def test_a_module_that_vanishes_is_stale(crate: Crate, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Crate, "installed", lambda self: crate.folder / "gone")
    assert building.is_stale(crate)


def test_the_compilers_text_is_what_it_said_and_no_more() -> None:
    printed = (
        "\N{SNAKE} Found CPython 3.13\r\n"
        "   Compiling built_hot v0.1.0\n"
        "\x1b[1m\x1b[38;5;9merror[E0425]\x1b[0m\x1b[1m: cannot find value `x`\x1b[0m\n"
        "  \x1b]8;;file:///lib.rs\x1b\\--> src/lib.rs:1:2\x1b]8;;\x1b\\\n"
        "error: could not compile `built_hot`\n"
        "\N{COLLISION SYMBOL} maturin failed\n"
        "  Caused by: Failed to build a native library through cargo\n"
    )
    assert building.compiler_text(printed) == (
        "error[E0425]: cannot find value `x`\n  --> src/lib.rs:1:2\nerror: could not compile `built_hot`"
    )
    assert building.compiler_text("\N{COLLISION SYMBOL} maturin failed\n  Caused by: no interpreter\n") == (
        "\N{COLLISION SYMBOL} maturin failed\n  Caused by: no interpreter"
    )


def test_tools_that_are_missing_are_named(crate: Crate, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(CrateError, match="there is no cargo on PATH, which compiles hot paths: install Rust"):
        building.rebuild(crate)
    cargo = tmp_path / "cargo"
    cargo.write_text("#!/bin/sh\n")
    cargo.chmod(0o755)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(CrateError, match="maturin is not installed, which builds hot paths: pip install maturin"):
        building.install(crate)


def test_a_python_without_a_virtual_environment_is_told(crate: Crate, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "prefix", sys.base_prefix)
    monkeypatch.delenv("CONDA_PREFIX", raising=False)
    monkeypatch.setattr(building, "_maturin", lambda: ["false"])
    with pytest.raises(CrateError, match=f"there is no virtual environment.*pip install {crate.folder}"):
        building.install(crate)


def test_a_quick_build_is_optimised_a_little(crate: Crate) -> None:
    # As `new` writes it, the crate says so itself.
    assert "CARGO_PROFILE_DEV_OPT_LEVEL" not in building._environment(crate)
    manifest = crate.folder / "Cargo.toml"
    manifest.write_text(manifest.read_text().replace("opt-level = 1", "debug = 1"))
    assert building._environment(crate)["CARGO_PROFILE_DEV_OPT_LEVEL"] == "1"
