"""The Rust source that the package carries, and the copies of it in crates: what is in one, when it is renewed, and how
one that does not fit is told.
"""

import tomllib
from pathlib import Path

import pytest

from django_vcache import scaffold
from django_vcache.__main__ import main
from django_vcache.crates import CrateError, source

CHECKOUT = Path(__file__).parents[2]


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    target = tmp_path / "vendored"
    source.copy_into(target)
    return target


def is_of_another_version(copy: Path) -> None:
    """What an upgrade of django-vcache leaves behind: a whole copy, of a source that is not the installed one."""
    file = copy / "vcache" / "src" / "lib.rs"
    file.write_text(file.read_text() + "// older\n")
    stamp = copy / source.STAMP
    digest = tomllib.loads(stamp.read_text())["sha256"]
    files = source._files(copy)
    text = stamp.read_text().replace(digest, source._digest(copy, files))
    stamp.write_text(text.replace(f'version = "{source.version()}"', 'version = "0.0.9"'))


def test_the_source_is_that_of_the_checkout_without_tests() -> None:
    folder = source.folder()
    # As it was when the extension was built: a checkout that was edited since is built anew by every make target.
    listed = set((folder / "FILES").read_text().split())
    here = {
        str(path.relative_to(CHECKOUT))
        for crate in ("vcache", "hotpath-macros")
        for path in (CHECKOUT / crate / "src").rglob("*")
        if path.is_file()
    }
    made = {"Cargo.toml", "Cargo.lock", "LICENSE", "rustfmt.toml", "vcache/Cargo.toml", "hotpath-macros/Cargo.toml"}
    assert listed == here | made
    for path in here:
        assert (folder / path).read_bytes() == (CHECKOUT / path).read_bytes(), path
    for crate in ("vcache", "hotpath-macros"):
        ours = tomllib.loads((CHECKOUT / crate / "Cargo.toml").read_text())
        theirs = tomllib.loads((folder / crate / "Cargo.toml").read_text())
        assert theirs == {key: value for key, value in ours.items() if key not in ("test", "dev-dependencies")}


def test_the_workspace_gives_what_its_crates_inherit() -> None:
    ours = tomllib.loads((CHECKOUT / "Cargo.toml").read_text())["workspace"]
    theirs = tomllib.loads((source.folder() / "Cargo.toml").read_text())["workspace"]
    assert theirs["package"] == ours["package"]
    assert theirs["dependencies"] == ours["dependencies"]
    assert theirs["members"] == ["vcache", "hotpath-macros"]
    assert source.version() == ours["package"]["version"]


def test_a_copy_is_the_source_without_its_lock_file(copy: Path) -> None:
    assert source.problem(copy) is None
    assert {str(path.relative_to(copy)) for path in copy.rglob("*") if path.is_file()} == {
        *(set((source.folder() / "FILES").read_text().split()) - {"Cargo.lock"}),
        "FILES",
        source.STAMP,
    }


def test_a_copy_that_is_renewed_has_only_changed_files_written(copy: Path) -> None:
    changed, same = copy / "vcache" / "src" / "lib.rs", copy / "vcache" / "src" / "error.rs"
    before = same.stat()
    changed.write_text("// edited\n")
    (copy / "notes.txt").write_text("mine")
    assert source.problem(copy) == (
        f"was edited since django-vcache {source.version()} wrote it: the next copy undoes that"
    )
    source.copy_into(copy)
    assert source.problem(copy) is None
    assert changed.read_bytes() == (source.folder() / "vcache" / "src" / "lib.rs").read_bytes()
    assert (same.stat().st_mtime_ns, same.stat().st_ino) == (before.st_mtime_ns, before.st_ino)
    assert (copy / "notes.txt").read_text() == "mine"


def test_a_file_that_the_source_has_no_more_goes(copy: Path) -> None:
    (copy / "vcache" / "src" / "gone.rs").write_text("")
    with (copy / "FILES").open("a") as files:
        files.write("vcache/src/gone.rs\n")
    source.copy_into(copy)
    assert not (copy / "vcache" / "src" / "gone.rs").exists()


def test_a_copy_of_another_version_is_told(copy: Path) -> None:
    is_of_another_version(copy)
    assert source.problem(copy) == f"is the Rust source of django-vcache 0.0.9, and {source.version()} is installed"


def test_a_copy_of_another_build_is_told(copy: Path) -> None:
    is_of_another_version(copy)
    stamp = copy / source.STAMP
    stamp.write_text(stamp.read_text().replace("0.0.9", source.version()))
    assert source.problem(copy) == (
        f"is the Rust source of another build of django-vcache {source.version()} than the installed one"
    )


@pytest.mark.parametrize("stamp", [None, "", "version = 1", "version ="])
def test_a_folder_without_a_stamp_is_no_copy(stamp: str | None, copy: Path) -> None:
    (copy / source.STAMP).unlink()
    if stamp is not None:
        (copy / source.STAMP).write_text(stamp)
    assert "is not a copy of the Rust source" in str(source.problem(copy))


def test_a_file_that_is_missing_is_an_edit(copy: Path) -> None:
    (copy / "vcache" / "Cargo.toml").unlink()
    assert "was edited" in str(source.problem(copy))


def test_crate_path_prints_where_the_source_is(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["crate-path"]) == 0
    folder = Path(capsys.readouterr().out.strip())
    assert (folder / "vcache" / "src" / "lib.rs").is_file()


def test_vendor_renews_the_copy_in_a_crate(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    crate = scaffold.create("shop_hot", tmp_path)
    is_of_another_version(crate / "vendored")
    assert main(["vendor", str(crate)]) == 0
    assert f"vendored is the Rust source of django-vcache {source.version()}\n" in capsys.readouterr().out
    assert source.problem(crate / "vendored") is None
    assert main(["vendor", str(crate)]) == 0
    assert "as it was before" in capsys.readouterr().out


def test_vendor_refuses_a_crate_without_a_copy(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    crate = scaffold.create("shop_hot", tmp_path, "0.7")
    assert main(["vendor", str(crate)]) == 2
    assert 'vcache = { path = "vendored/vcache" }' in capsys.readouterr().err
    assert main(["vendor", str(tmp_path)]) == 2
    assert "Cargo.toml cannot be read: No such file or directory" in capsys.readouterr().err


@pytest.mark.parametrize(
    "path", ["../lib.rs", "/etc/passwd", "vcache/../../x", "vcache//lib.rs", "./lib.rs", "..", "a\0b", "vcache/src/"]
)
def test_a_list_that_leads_out_of_the_copy_is_refused(path: str, copy: Path) -> None:
    outside = copy.parent / "lib.rs"
    outside.write_text("mine")
    with (copy / "FILES").open("a") as files:
        files.write(f"{path}\n")
    why = f"the list {copy}/FILES names {path!r}, which is no path below its folder (delete that list first)"
    assert source.problem(copy) == f"is not a copy of vcache's Rust source, because {why}"
    with pytest.raises(CrateError) as raised:
        source.copy_into(copy)
    assert str(raised.value) == why
    assert outside.read_text() == "mine"
    (copy / "FILES").unlink()
    source.copy_into(copy)
    assert source.problem(copy) is None


def test_a_list_that_is_not_text_is_refused(copy: Path) -> None:
    (copy / "FILES").write_bytes(b"vcache/\xff.rs\n")
    assert f"the list {copy}/FILES is not UTF-8 (delete that list first)" in str(source.problem(copy))
    with pytest.raises(CrateError, match="is not UTF-8"):
        source.copy_into(copy)


def test_a_path_in_the_list_that_no_file_can_have_is_told(copy: Path) -> None:
    with (copy / "FILES").open("a") as files:
        files.write("x" * 5000 + "\n")
    assert "was edited" in str(source.problem(copy))
    with pytest.raises(CrateError, match=f"{copy} cannot be written: .*File name too long"):
        source.copy_into(copy)


def test_a_link_out_of_the_copy_is_not_followed(copy: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "checkout"
    (copy / "vcache").rename(elsewhere)
    (copy / "vcache").symlink_to(elsewhere)
    (elsewhere / "src" / "lib.rs").write_text("mine")
    with pytest.raises(CrateError, match=f"would be written to {elsewhere}.*, to which a link leads"):
        source.copy_into(copy)
    assert (elsewhere / "src" / "lib.rs").read_text() == "mine"
    (copy / "vcache").unlink()
    # A file that is a link is replaced, and what it led to stays.
    (copy / "LICENSE").unlink()
    (copy / "LICENSE").symlink_to(elsewhere / "src" / "lib.rs")
    (copy / "LICENSE.new").symlink_to(elsewhere / "src" / "lib.rs")
    source.copy_into(copy)
    assert source.problem(copy) is None
    assert (elsewhere / "src" / "lib.rs").read_text() == "mine"


def test_a_device_in_a_copy_is_an_edit(copy: Path) -> None:
    (copy / "LICENSE").unlink()
    (copy / "LICENSE").symlink_to("/dev/zero")
    assert "was edited" in str(source.problem(copy))


def test_a_stamp_that_nests_too_deeply_is_no_stamp(copy: Path) -> None:
    (copy / source.STAMP).write_text("version = " + "[" * 100_000)
    assert "is not a copy of the Rust source" in str(source.problem(copy))
