"""The crates of a project: those that ``VCACHE["HOTPATHS"]`` names, or else those in folders beside ``manage.py``; and
what their manifests say.
"""

import contextlib
import importlib
import importlib.machinery
import os
import sys
import tomllib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from django_vcache.crates import CrateError

__all__ = ["Crate", "configured", "crates_beside", "is_source", "load", "project_folder"]

SUFFIX = importlib.machinery.EXTENSION_SUFFIXES[0]
"""What the file of an extension module ends with on this interpreter: ``.cpython-313-x86_64-linux-gnu.so``."""


@dataclass(frozen=True)
class Crate:
    """A crate of hot paths."""

    folder: Path
    """It holds ``Cargo.toml`` and ``pyproject.toml``."""
    module: str
    """The compiled module's full name: ``shop_hot._native``."""
    python: Path
    """The folder below which its Python package is, ``python`` in one that ``new`` wrote."""
    vcache: Path | None
    """The folder of the crate ``vcache`` that it is built with; None if that comes from a registry."""

    @property
    def name(self) -> str:
        """What a project imports: ``shop_hot``."""
        return self.module.partition(".")[0]

    @property
    def vendored(self) -> Path | None:
        """The copy of the Rust source that it has; None if its ``vcache`` is elsewhere."""
        if self.vcache is None:
            return None
        # A folder for it alone: the crate's own, or one above it, is not replaced by a copy.
        parent = self.vcache.parent
        return parent if parent != self.folder and parent.is_relative_to(self.folder) else None

    @property
    def package(self) -> Path:
        """The folder of the Python package that the compiled module is a part of."""
        return self.python.joinpath(*self.module.split(".")[:-1])

    @property
    def extension(self) -> Path:
        """Where an editable install has the compiled module. It need not be there."""
        return self.package / f"{self.module.rpartition('.')[2]}{SUFFIX}"

    @property
    def stubs(self) -> Path:
        """The file with its type stubs, which need not be there."""
        return self.package / f"{self.module.rpartition('.')[2]}.pyi"

    def installed(self) -> Path | None:
        """The compiled module that ``import`` finds; None if there is none. It imports nothing."""
        folders = self._package_folders()
        spec = folders and importlib.machinery.PathFinder.find_spec(self.module.rpartition(".")[2], folders)
        return Path(spec.origin).resolve() if spec and spec.origin else None

    def is_editable(self) -> bool:
        """Whether ``import`` finds the package in the crate's folder, and not a copy of it among installed packages."""
        return self.package.resolve() in map(Path.resolve, map(Path, self._package_folders()))

    def _package_folders(self) -> list[str]:
        """Where the Python package is that ``import`` finds."""
        importlib.invalidate_caches()  # another process may just have built it
        folders: list[str] | None = None
        for name in self.module.split(".")[:-1]:
            spec = importlib.machinery.PathFinder.find_spec(name, folders)
            if spec is None:
                return []
            folders = list(spec.submodule_search_locations or [])
        return folders or []

    def sources(self) -> Iterator[Path]:
        """The files that the module is compiled from."""
        for name in ("Cargo.toml", "build.rs"):
            if (self.folder / name).is_file():
                yield self.folder / name
        for folder in filter(None, (self.folder / "src", self.vendored)):
            yield from (path for path in folder.rglob("*") if is_source(path))

    def states(self) -> Iterator[tuple[Path, os.stat_result]]:
        """The files of :meth:`sources`, each with what the system says of it."""
        for path in self.sources():
            # An editor may replace a file at this moment.
            with contextlib.suppress(FileNotFoundError):
                yield path, path.stat()

    def newest_source(self) -> tuple[float, Path]:
        """When the source changed last, in seconds since the epoch, and which file did."""
        return max((state.st_mtime, path) for path, state in self.states())


def is_source(path: Path) -> bool:
    """Whether a file is source, and not what an editor keeps beside one."""
    name = path.name
    return not name.startswith((".", "#")) and not name.endswith(("~", ".new", ".tmp", ".swp")) and path.is_file()


def load(folder: Path) -> Crate:
    """A crate, as its manifests describe it.

    Raises:
        CrateError: It is not a crate of hot paths that maturin builds; the text says what is missing.
    """
    folder = folder.resolve()
    dependency = _dependency(folder)
    if dependency is None:
        raise CrateError(f"{folder}/Cargo.toml does not depend on the crate vcache: it has no hot paths")
    maturin = _manifest(folder / "pyproject.toml").get("tool", {}).get("maturin", {})
    module = maturin.get("module-name")
    if not isinstance(module, str) or "." not in module:
        raise CrateError(
            f"{folder}/pyproject.toml has no module-name in [tool.maturin] that names a module in a package, such as "
            '"shop_hot._native"'
        )
    path = dependency.get("path")
    return Crate(
        folder,
        module,
        folder / maturin.get("python-source", ""),
        None if path is None else Path(os.path.normpath(folder / path)),
    )


def crates_beside(folder: Path) -> list[Crate]:
    """The crates of hot paths in the folders of one folder, by name. Others are left out."""
    found = []
    for manifest in sorted(folder.glob("*/Cargo.toml")):
        try:
            found.append(load(manifest.parent))
        except CrateError:
            continue
    return found


def project_folder(settings: Any) -> Path:
    """The folder of ``manage.py``: ``BASE_DIR`` of the settings, or the one that the settings' package is in."""
    base = getattr(settings, "BASE_DIR", None)
    if isinstance(base, str | os.PathLike):
        return Path(base)
    file = getattr(sys.modules.get(os.environ.get("DJANGO_SETTINGS_MODULE", "")), "__file__", None)
    folder = Path(file).resolve().parent if file else Path.cwd()
    while (folder / "__init__.py").is_file():
        folder = folder.parent
    return folder


def configured(settings: Any, paths: Iterable[str | os.PathLike[str]] | None) -> list[Crate]:
    """The crates of the project with these settings.

    Args:
        settings: ``django.conf.settings``.
        paths: ``VCACHE["HOTPATHS"]``, or None if it is not set. A relative one begins in the folder of ``manage.py``.

    Raises:
        CrateError: One that the settings name is not a crate of hot paths.
    """
    folder = project_folder(settings)
    return crates_beside(folder) if paths is None else [load(folder / path) for path in paths]


def _dependency(folder: Path) -> dict[str, Any] | None:
    """How Cargo.toml asks for the crate vcache; None if it does not."""
    found = _manifest(folder / "Cargo.toml").get("dependencies", {}).get("vcache")
    return {"version": found} if isinstance(found, str) else found


def _manifest(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise CrateError(f"{path} cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise CrateError(f"{path} is not TOML: {error}") from error
