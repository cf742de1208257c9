"""``python -m django_vcache new NAME``: a crate of hot paths that builds, runs and is tested as it stands.

The files come from the folder ``template`` of this package, and the source of the crate ``vcache`` from its folder
``rust``. It needs neither Django's settings nor Rust.
"""

import importlib.util
import json
import keyword
import os
import re
import sys
from importlib import resources
from pathlib import Path

from django_vcache.crates import CrateError, source

# What is in the template, and where it goes in the crate. The names in the template say nothing to tools that look for
# a Cargo.toml or for tests.
FILES = {
    "Cargo.toml.tmpl": "Cargo.toml",
    "README.md.tmpl": "README.md",
    "conftest.py.tmpl": "tests/conftest.py",
    "gitignore.tmpl": ".gitignore",
    "init.py.tmpl": "python/@name@/__init__.py",
    "lib.rs.tmpl": "src/lib.rs",
    "native.pyi.tmpl": "python/@name@/_native.pyi",
    "py.typed.tmpl": "python/@name@/py.typed",
    "pyproject.toml.tmpl": "pyproject.toml",
    "spend.lua.tmpl": "src/spend.lua",
    "test_hotpaths.py.tmpl": "tests/test_@name@.py",
}

_NAME = re.compile(r"[a-z][a-z0-9_]*")
# Rust's keywords, and the crates that a crate of this name would hide: cargo refuses them, or takes one for the other.
_RUST_WORDS = (
    "abstract as async await become box break const continue crate do dyn else enum extern false final fn for gen if "
    "impl in let loop macro match mod move mut override priv pub ref return self static struct super trait true try "
    "type typeof unsafe unsized use virtual where while yield"
)
_RUST_KEYWORDS = frozenset(_RUST_WORDS.split())
_CRATES = frozenset({"alloc", "core", "proc_macro", "pyo3", "redis", "std", "vcache"})
# maturin puts the crates of the copy into a source distribution, and not what they inherit from their workspace.
_INCLUDE = f'include = [{{ path = "{source.VENDORED}/*", format = "sdist" }}]\n'
_EXCLUDE = f'exclude = ["{source.VENDORED}"]\n'
_VERSION = re.compile(r"\d+(\.\d+){0,2}")


class ScaffoldError(CrateError):
    """Why there is no crate."""


def create(name: str, parent: Path, vcache: str | None = None) -> Path:
    """Write a crate of hot paths.

    Args:
        name: Of the crate and of its Python package, such as ``shop_hot``.
        parent: The folder in which the folder ``name`` is made. It must exist.
        vcache: The crate ``vcache`` to build with: a version such as ``0.1``, or the path of its source. None: the
            source that this package carries, of which the crate gets a copy.

    Returns:
        The crate's folder.

    Raises:
        ScaffoldError: The name cannot be used, the folder exists, or ``vcache`` is neither a version nor a crate.
        CrateError: This package carries no source, as an install that was not built by maturin.
    """
    target = parent / name
    _check_name(name, target)
    values = {"name": name, **_dependency(vcache)}
    files = {_fill(path, values): _fill(text, values) for path, text in _template()}
    if vcache is None:
        # The versions that this package is tested with. cargo leaves out what the crate does not need.
        files["Cargo.lock"] = source.lock_file()
    try:
        target.mkdir()
        for path, text in files.items():
            (target / path).parent.mkdir(parents=True, exist_ok=True)
            (target / path).write_text(text, encoding="utf-8")
    except OSError as error:
        raise ScaffoldError(f"{target} cannot be written: {error}") from error
    if vcache is None:
        source.copy_into(target / source.VENDORED)
    return target


def _check_name(name: str, target: Path) -> None:
    if not _NAME.fullmatch(name):
        raise ScaffoldError(
            f"{name!r} is not a name for a module: use lower-case letters, digits and underscores, "
            "and a letter first, such as shop_hot"
        )
    if keyword.iskeyword(name):
        raise ScaffoldError(f"{name!r} is a keyword of Python, which cannot be imported: choose another name")
    if name in _RUST_KEYWORDS:
        raise ScaffoldError(f"{name!r} is a keyword of Rust, which no crate can be called: choose another name")
    if name in _CRATES:
        raise ScaffoldError(
            f"{name!r} is a crate that the new one is built with, and would be hidden by it: choose another name, such "
            f"as {name}_hot"
        )
    if name in sys.stdlib_module_names:
        raise ScaffoldError(f"{name!r} is a module of Python's own library: choose another name, such as {name}_hot")
    # Also a dangling link.
    if os.path.lexists(target):
        raise ScaffoldError(f"{target} exists already: nothing was written. Choose another name or --path")
    spec = importlib.util.find_spec(name)
    # A mere folder of that name, which Python takes for a namespace, is in no one's way.
    if spec is not None and spec.origin is not None:
        raise ScaffoldError(
            f"there is a module {name!r} already, in {spec.origin}, which would hide the new one or be hidden by it: "
            f"choose another name, such as {name}_hot"
        )


def _dependency(vcache: str | None) -> dict[str, str]:
    """How Cargo.toml asks for the crate `vcache`: alone, and beside other keys; and what manifests say of a copy."""
    if vcache is None:
        key = f'path = "{source.VENDORED}/vcache"'
    elif _VERSION.fullmatch(vcache):
        return {"source": f'version = "{vcache}"', "dependency": f'"{vcache}"', "exclude": "", "include": ""}
    elif _is_vcache(Path(vcache)):
        # A JSON string is a TOML string.
        key = f"path = {json.dumps(str(Path(vcache).resolve()), ensure_ascii=False)}"
    else:
        raise ScaffoldError(
            f"--vcache {vcache} is neither a version, such as 0.1, nor a folder with the Cargo.toml of the crate vcache"
        )
    exclude, include = (_EXCLUDE, _INCLUDE) if vcache is None else ("", "")
    return {"source": key, "dependency": f"{{ {key} }}", "exclude": exclude, "include": include}


def _is_vcache(folder: Path) -> bool:
    try:
        return 'name = "vcache"' in (folder / "Cargo.toml").read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return False


def _template() -> list[tuple[str, str]]:
    folder = resources.files(__package__) / "template"
    return [(path, (folder / name).read_text(encoding="utf-8")) for name, path in FILES.items()]


def _fill(text: str, values: dict[str, str]) -> str:
    return re.sub(r"@([a-z]+)@", lambda found: values[found[1]], text)
