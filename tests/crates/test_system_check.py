"""`vcache.W004`: a crate of hot paths whose compiled module this Python does not find. Nothing is imported for it."""

import io
import sys
from pathlib import Path

import pytest
from django.core.management import call_command
from django.test import override_settings
from support.checks import found

from django_vcache import scaffold
from django_vcache.crates.project import SUFFIX, Crate, load

pytestmark = pytest.mark.usefixtures("no_other_limits")

PATH = str(Path(__file__).parents[2] / "vcache")


@pytest.fixture
def crate(tmp_path: Path) -> Crate:
    return load(scaffold.create("told_hot", tmp_path, PATH))


def told(*paths: object, **settings: object) -> str | None:
    """What the check says of crates."""
    return found(VCACHE={"HOTPATHS": list(paths)}, **settings).get("vcache.W004")


def test_a_crate_that_is_not_installed(crate: Crate) -> None:
    build = f"Run python manage.py vcache_hotpath build, or pip install {crate.folder}."
    assert told(crate.folder) == f"told_hot._native is not built. {build}"
    assert told(str(crate.folder)) == told(crate.folder)
    # Without the setting, it is a crate beside manage.py.
    assert found(BASE_DIR=crate.folder.parent)["vcache.W004"] == told(crate.folder)
    assert found(BASE_DIR=crate.folder) == {}


def test_the_crates_folder_that_python_takes_for_a_package(crate: Crate, monkeypatch: pytest.MonkeyPatch) -> None:
    # As it is beside manage.py, whose folder is the first on the path.
    monkeypatch.syspath_prepend(crate.folder.parent)
    text = str(told(crate.folder))
    assert f"told_hot._native is not built, and import told_hot finds the folder {crate.folder}, without a" in text
    assert "Run python manage.py vcache_hotpath build" in text
    assert "told_hot" not in sys.modules


def test_a_crate_that_is_installed_and_not_built(crate: Crate, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(crate.python)
    assert str(told(crate.folder)).startswith("told_hot._native is not built. Run")
    crate.extension.write_bytes(b"")
    assert told(crate.folder) is None
    # That it is old is no matter of the check: a development server builds it, and a checkout has no dates.
    (crate.folder / "src" / "lib.rs").touch()
    assert told(crate.folder) is None


def test_a_module_for_another_python(crate: Crate, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(crate.python)
    (crate.package / "_native.cpython-39-x86_64-linux-gnu.so").write_bytes(b"")
    assert str(told(crate.folder)).startswith(
        "told_hot._native is built for another Python: there is _native.cpython-39-x86_64-linux-gnu.so, and no "
        f"_native{SUFFIX}. Run python manage.py vcache_hotpath build"
    )


def test_a_folder_that_is_no_crate(crate: Crate) -> None:
    (crate.folder / "Cargo.toml").write_text("dependencies = 5")
    assert told(crate.folder) == (
        f"VCACHE['HOTPATHS'] names '{crate.folder}', but dependencies in {crate.folder}/Cargo.toml must be a table, "
        "not a number. Mend that, or leave the folder out of VCACHE['HOTPATHS']."
    )


def test_a_folder_that_is_absent_is_told_in_development_only(tmp_path: Path) -> None:
    path = tmp_path / "nowhere"
    assert f"{path}/Cargo.toml cannot be read: No such file or directory" in str(told(path, DEBUG=True))
    assert told(path, DEBUG=False) is None


def test_a_wrong_setting_is_an_error_and_no_warning() -> None:
    assert list(found(VCACHE={"HOTPATHS": [""]})) == ["vcache.E001"]


def test_a_project_folder_that_cannot_be_one_is_told() -> None:
    assert "Set BASE_DIR to the folder of manage.py." in found(BASE_DIR="a\0b")["vcache.W004"]


def test_manage_py_check_says_it_and_succeeds(crate: Crate) -> None:
    printed = io.StringIO()
    with override_settings(VCACHE={"HOTPATHS": [crate.folder]}):
        call_command("check", "--tag", "vcache", stdout=printed, stderr=printed)
    assert "(vcache.W004) told_hot._native is not built." in printed.getvalue()
