"""``python -m django_vcache new NAME``: a crate of hot paths that builds, runs and is tested as it stands.

The files come from the folder ``template`` of this package. It needs neither Django's settings nor Rust.
"""

import importlib.util
import json
import keyword
import re
import sys
from importlib import metadata, resources
from pathlib import Path
from urllib.parse import unquote, urlsplit

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
_VERSION = re.compile(r"\d+(\.\d+){0,2}")


class ScaffoldError(Exception):
    """Why there is no crate. The text is for the person at the terminal."""


def create(name: str, parent: Path, vcache: str | None = None) -> Path:
    """Write a crate of hot paths.

    Args:
        name: Of the crate and of its Python package, such as ``shop_hot``.
        parent: The folder in which the folder ``name`` is made. It must exist.
        vcache: The crate ``vcache`` to build with: a version such as ``0.1``, or the path of its source. None: the
            crate in the checkout that this package comes from.

    Returns:
        The crate's folder.

    Raises:
        ScaffoldError: The name cannot be used, the folder exists, ``vcache`` is neither a version nor a crate, or there
            is no checkout.
    """
    target = parent / name
    _check_name(name, target)
    values = {"name": name, **_dependency(vcache)}
    files = {_fill(path, values): _fill(text, values) for path, text in _template()}
    try:
        target.mkdir()
        for path, text in files.items():
            (target / path).parent.mkdir(parents=True, exist_ok=True)
            (target / path).write_text(text, encoding="utf-8")
    except OSError as error:
        raise ScaffoldError(f"{target} cannot be written: {error}") from error
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
    # Also a dangling link, which `exists` does not see.
    if target.exists() or target.is_symlink():
        raise ScaffoldError(f"{target} exists already: nothing was written. Choose another name or --path")
    spec = importlib.util.find_spec(name)
    # A mere folder of that name, which Python takes for a namespace, is in no one's way.
    if spec is not None and spec.origin is not None:
        raise ScaffoldError(
            f"there is a module {name!r} already, in {spec.origin}, which would hide the new one or be hidden by it: "
            f"choose another name, such as {name}_hot"
        )


def _dependency(vcache: str | None) -> dict[str, str]:
    """How Cargo.toml asks for the crate `vcache`: alone, and beside other keys."""
    if vcache is None:
        crate = checkout_crate()
        if crate is None:
            raise ScaffoldError(
                "the crate vcache is not on crates.io yet, and the checkout of this django-vcache is not here: "
                "name the crate in one, --vcache PATH/vcache"
            )
        source = _path_source(crate)
    elif _VERSION.fullmatch(vcache):
        source = f'version = "{vcache}"'
    elif _is_vcache(Path(vcache)):
        source = _path_source(Path(vcache).resolve())
    else:
        raise ScaffoldError(
            f"--vcache {vcache} is neither a version, such as 0.1, nor a folder with the Cargo.toml of the crate vcache"
        )
    dependency = source.removeprefix("version = ") if source.startswith("version") else f"{{ {source} }}"
    return {"source": source, "dependency": dependency}


def checkout_crate() -> Path | None:
    """The crate ``vcache`` of the checkout that this package is imported from, or was installed from."""
    for checkout in (Path(__file__).resolve().parents[2], _installed_from()):
        if checkout is not None and _is_vcache(checkout / "vcache"):
            return checkout / "vcache"
    return None


def _installed_from() -> Path | None:
    """The folder, if this package was installed by ``pip install FOLDER``."""
    try:
        origin = metadata.distribution("django-vcache").read_text("direct_url.json")
    except metadata.PackageNotFoundError:
        return None
    url = urlsplit(json.loads(origin or "{}").get("url", ""))
    return Path(unquote(url.path)) if url.scheme == "file" else None


def _is_vcache(folder: Path) -> bool:
    try:
        return 'name = "vcache"' in (folder / "Cargo.toml").read_text(encoding="utf-8")
    except OSError:
        return False


def _path_source(folder: Path) -> str:
    # A JSON string is a TOML string.
    return f"path = {json.dumps(str(folder), ensure_ascii=False)}"


def _template() -> list[tuple[str, str]]:
    folder = resources.files(__package__) / "template"
    return [(path, (folder / name).read_text(encoding="utf-8")) for name, path in FILES.items()]


def _fill(text: str, values: dict[str, str]) -> str:
    return re.sub(r"@([a-z]+)@", lambda found: values[found[1]], text)
