"""The reference of the API is what the code says, and each public name has a docstring."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

pytest.importorskip("griffe")

CHECKOUT = Path(__file__).parents[2]
PACKAGE = CHECKOUT / "python" / "django_vcache"
SCRIPT = CHECKOUT / "scripts" / "reference.py"


def run(script: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, str(script), *arguments], capture_output=True, text=True, check=False)


@pytest.fixture
def reference() -> ModuleType:
    spec = importlib.util.spec_from_file_location("reference", SCRIPT)
    assert spec
    assert spec.loader
    sys.modules["reference"] = module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A checkout to change."""
    for folder in ("scripts", "docs/reference/api", "python/django_vcache"):
        shutil.copytree(CHECKOUT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__", "*.so"))
    return tmp_path


def test_the_pages_are_up_to_date() -> None:
    done = run(SCRIPT, "--check")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_a_page_that_is_stale_is_named_and_written(copy: Path) -> None:
    page, script = copy / "docs/reference/api/exceptions.md", copy / "scripts/reference.py"
    wanted = page.read_text(encoding="utf-8")
    page.write_text("other", encoding="utf-8")
    (page.parent / "gone.md").write_text("of a module that is gone", encoding="utf-8")
    done = run(script, "--check")
    assert done.returncode == 1
    assert "exceptions.md, gone.md. Run: python scripts/reference.py" in done.stdout
    assert run(script).returncode == 0
    assert page.read_text(encoding="utf-8") == wanted
    assert run(script, "--check").returncode == 0


@pytest.mark.parametrize(
    ("file", "docstring", "name"),
    [
        ("exceptions.py", '"""A URL, an option or an alias is wrong. Nothing was sent."""', "ConfigurationError"),
        ("backend.py", '"""As :meth:`get`, on the running loop."""', "ValkeyCache.aget"),
        ("_vcache.pyi", '"""The cache alias on whose server it is."""', "Stream.using"),
    ],
)
def test_a_public_name_without_a_docstring_is_an_error(copy: Path, file: str, docstring: str, name: str) -> None:
    path = copy / "python/django_vcache" / file
    source = path.read_text(encoding="utf-8")
    assert docstring in source
    path.write_text(source.replace(docstring, "..."), encoding="utf-8")
    done = run(copy / "scripts/reference.py", "--check")
    assert done.returncode == 2
    assert f".{name}" in done.stderr


# Modules without an underscore that only the package itself uses, and those whose names another module exports.
NOT_SHOWN = {"foreign", "backend", "options", "reports", "scaffold", "stubs", "sweeping", "apps", "warming"}
NOT_SHOWN |= {"checks", "credentials", "location", "sentinel", "tls"}
NOT_SHOWN |= {f"admission.{name}" for name in ("batch", "checks", "gates", "settings")}


def test_every_public_module_has_a_page(reference: ModuleType) -> None:
    shown = {part.module for page in reference.PAGES for part in page.parts}
    modules = {
        ".".join(path.relative_to(PACKAGE).with_suffix("").parts).removesuffix("__init__").rstrip(".")
        for folder in ("", "admission", "asgi", "routing", "test", "uvicorn")
        for path in (PACKAGE / folder).glob("*.py")
        if not path.name.startswith("_") or path.name == "__init__.py"
    }
    helpers = {module for module in modules if module.startswith("test.")}
    assert {f"django_vcache.{module}".rstrip(".") for module in modules - helpers - NOT_SHOWN} == shown


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("``a`` and :func:`b.c`", "`a` and `b.c`"),
        (
            "Such as::\n\n    import a\n\n    a.b()\n\nand so on",
            "Such as:\n\n```python\nimport a\n\na.b()\n```\n\nand so on",
        ),
        (">>> a(1)  # doctest: +SKIP\n2\n\nMore.", "```pycon\n>>> a(1)\n2\n```\n\nMore."),
        ("``NAME`` (1)\n    What it\n    is.", "- `NAME` (1): What it\n  is."),
        ("```python\na()\n```", "```python\na()\n```"),
    ],
)
def test_docstrings_become_markdown(reference: ModuleType, text: str, shown: str) -> None:
    assert reference.prose(text) == shown
