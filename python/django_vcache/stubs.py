"""``python -m django_vcache stubs MODULE``: the type stubs of a compiled module of hot paths, for editors and mypy.

The module carries them: ``#[vcache::module]`` writes them from the Rust signatures. It needs no Django settings.
"""

import difflib
import importlib
import sysconfig
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import cast

from django_vcache.crates import CrateError

# What `#[vcache::module]` puts into every module.
HOOK = "__vcache_stub__"


class StubError(CrateError):
    """Why there are no stubs."""


def text(module: str) -> str:
    """The stubs of a compiled module, as the text of a ``.pyi`` file.

    Args:
        module: Its full name, such as ``shop_hot._native``.

    Raises:
        StubError: It cannot be imported, or was not made by ``#[vcache::module]``.
    """
    hook = getattr(_imported(module), HOOK, None)
    if callable(hook):
        return cast("Callable[[], str]", hook)().rstrip("\n") + "\n"
    native = f"{module}._native"
    hint = f" Did you mean {native}?" if _has_hook(native) else ""
    raise StubError(f"{module} is not a module that #[vcache::module] made: it has no {HOOK}.{hint}")


def path_for(module: str) -> Path:
    """Where the stubs of a module belong: beside its Python package's source.

    That is looked for below the current folder, which may be the crate's or the one above it, and then where the module
    was imported from, unless it was installed there.

    Raises:
        StubError: There is only an installed copy.
    """
    *package, name = module.split(".")
    if package:
        for source in (Path("python", *package), Path(package[0], "python", *package)):
            if (source / "__init__.py").is_file():
                return source / f"{name}.pyi"
    folder = Path(_imported(module).__file__ or "").resolve().parent
    if any(folder.is_relative_to(Path(path).resolve()) for path in _site_packages()):
        raise StubError(
            f"the source of {module} is not below this folder: go to its crate, or say --output FILE for where to write"
        )
    return folder / f"{name}.pyi"


def write(module: str, output: Path | None = None) -> Path:
    """Write the stubs of a module to `output`, or to where they belong. The path written.

    Raises:
        StubError: There are no stubs, or the file cannot be written.
    """
    stubs = text(module)
    path = output or path_for(module)
    try:
        path.write_text(stubs, encoding="utf-8")
    except OSError as error:
        raise StubError(f"{path} cannot be written: {error}") from error
    return path


def difference(module: str, output: Path | None = None) -> str:
    """The difference between the file and the stubs of a module, as a unified diff; empty if there is none.

    Raises:
        StubError: There are no stubs, or the file cannot be read.
    """
    stubs = text(module)
    path = output or path_for(module)
    try:
        found = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        found = ""
    except (OSError, UnicodeDecodeError) as error:
        raise StubError(f"{path} cannot be read: {error}") from error
    return "".join(
        difflib.unified_diff(found.splitlines(True), stubs.splitlines(True), str(path), f"{module}, as compiled")
    )


def _imported(module: str) -> ModuleType:
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise StubError(
            f"{module} cannot be imported: {error}. Build it first, with pip install or maturin develop"
        ) from error


def _has_hook(module: str) -> bool:
    try:
        return hasattr(importlib.import_module(module), HOOK)
    except ImportError:
        return False


def _site_packages() -> set[str]:
    paths = sysconfig.get_paths()
    return {paths["purelib"], paths["platlib"]}
