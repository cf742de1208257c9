"""The crates of a project: those that ``VCACHE["HOTPATHS"]`` names, or else those in folders beside ``manage.py``; and
what their manifests say.
"""

import contextlib
import importlib
import importlib.machinery
import os
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from django_vcache.crates import CrateError, manifest

__all__ = ["Broken", "Crate", "configured", "is_source", "load", "project_folder", "survey"]

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
        folders = self.package_folders()
        spec = folders and importlib.machinery.PathFinder.find_spec(self.module.rpartition(".")[2], folders)
        return Path(os.path.realpath(spec.origin)) if spec and spec.origin else None

    def is_editable(self) -> bool:
        """Whether ``import`` finds the package in the crate's folder, and not a copy of it among installed packages."""
        return os.path.realpath(self.package) in map(os.path.realpath, self.package_folders())

    def package_folders(self) -> list[str]:
        """Where the Python package is that ``import`` finds; an empty list if there is none. It imports nothing."""
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
            if os.path.isfile(self.folder / name):
                yield self.folder / name
        for top in filter(None, (self.folder / "src", self.vendored)):
            # It passes over what cannot be listed, which `Path.rglob` does not on each version of Python.
            for folder, _, names in os.walk(top):
                yield from (path for name in names if is_source(path := Path(folder, name)))

    def states(self) -> Iterator[tuple[Path, os.stat_result]]:
        """The files of :meth:`sources`, each with what the system says of it."""
        for path in self.sources():
            # An editor may replace a file at this moment, or another program its folder.
            with contextlib.suppress(OSError):
                yield path, path.stat()

    def newest_source(self) -> tuple[float, Path]:
        """When the source changed last, in seconds since the epoch, and which file did.

        Raises:
            CrateError: There is no source.
        """
        newest = max(((state.st_mtime, path) for path, state in self.states()), default=None)
        if newest is None:
            raise CrateError(f"{self.folder} has no source that can be read: was the folder moved or deleted?")
        return newest


@dataclass(frozen=True)
class Broken:
    """A folder that should hold a crate, and holds no crate that can be built."""

    folder: Path
    problem: str
    """Why not, in a sentence that names the folder, and the setting if that names it."""

    def is_absent(self) -> bool:
        """Whether there is nothing at all at that path."""
        return not os.path.lexists(self.folder)


def is_source(path: Path) -> bool:
    """Whether a file is source, and not what an editor keeps beside one."""
    name = path.name
    # `os.path` takes what cannot be looked at for no file. `Path.is_file` raises, on some versions of Python.
    return not name.startswith((".", "#")) and not name.endswith(("~", ".new", ".tmp", ".swp")) and os.path.isfile(path)


def load(folder: Path) -> Crate:
    """A crate, as its manifests describe it.

    Raises:
        CrateError: It is not a crate of hot paths that maturin builds; the text says what is missing.
    """
    # A loop of links stays as it is, and cannot be read.
    with contextlib.suppress(ValueError):
        folder = Path(os.path.realpath(folder))
    cargo = manifest.read(folder / "Cargo.toml")
    dependency = cargo.table("dependencies").get("vcache")
    if dependency is None:
        raise CrateError(f"{cargo.path} does not depend on the crate vcache: it has no hot paths")
    path = None if isinstance(dependency, str) else cargo.text("dependencies", "vcache", "path")
    python = manifest.read(folder / "pyproject.toml")
    return Crate(
        folder,
        _module(python),
        folder / (python.text("tool", "maturin", "python-source") or ""),
        None if path is None else Path(os.path.normpath(folder / path)),
    )


def _module(python: manifest.Manifest) -> str:
    name = python.text("tool", "maturin", "module-name") or ""
    parts = name.split(".")
    # The parts are names of folders below python-source: a slash or an empty part would lead elsewhere.
    if len(parts) > 1 and all(part.isidentifier() for part in parts):
        return name
    given = f", and {name!r} does not" if name else ""
    raise CrateError(
        f"{python.path} has no module-name in [tool.maturin] that names a module in a package, such as "
        f'"shop_hot._native"{given}'
    )


def project_folder(settings: Any) -> Path:
    """The folder of ``manage.py``: ``BASE_DIR`` of the settings, or the one that the settings' package is in.

    Raises:
        CrateError: There is no such setting, and the current folder was deleted.
    """
    base = getattr(settings, "BASE_DIR", None)
    if isinstance(base, str | os.PathLike):
        return Path(os.fsdecode(base))
    file = getattr(sys.modules.get(os.environ.get("DJANGO_SETTINGS_MODULE", "")), "__file__", None)
    try:
        folder = Path(os.path.realpath(file)).parent if file else Path.cwd()
    except OSError as error:
        raise CrateError(f"the current folder cannot be found, and BASE_DIR is not set: {error}") from error
    while (folder / "__init__.py").is_file() and folder != folder.parent:
        folder = folder.parent
    return folder


def configured(settings: Any, paths: Iterable[str | os.PathLike[str]] | None) -> list[Crate]:
    """The crates of the project with these settings.

    Args:
        settings: ``django.conf.settings``.
        paths: ``VCACHE["HOTPATHS"]``, or None if it is not set. A relative one begins in the folder of ``manage.py``.

    Raises:
        CrateError: One that the settings name is not a crate of hot paths, or a manifest is broken.
    """
    crates, broken = survey(settings, paths)
    for each in broken:
        raise CrateError(each.problem)
    return crates


def survey(settings: Any, paths: Iterable[str | os.PathLike[str]] | None) -> tuple[list[Crate], list[Broken]]:
    """The crates of the project with these settings, and the folders in which one should be.

    Args:
        settings: ``django.conf.settings``.
        paths: ``VCACHE["HOTPATHS"]``, as for :func:`configured`.

    Raises:
        CrateError: The folder of the project cannot be found.
    """
    folder = project_folder(settings)
    if paths is None:
        return _beside(folder)
    crates, broken = [], []
    for given in paths:
        path = os.fspath(given)
        try:
            crates.append(load(folder / path))
        except CrateError as error:
            broken.append(Broken(folder / path, f"VCACHE['HOTPATHS'] names {path!r}, but {error}"))
    return crates, broken


def _beside(folder: Path) -> tuple[list[Crate], list[Broken]]:
    """The crates of hot paths in the folders of one folder, by name, and those with broken manifests. Others are left
    out.

    Raises:
        CrateError: No folder can have this path.
    """
    crates: list[Crate] = []
    broken: list[Broken] = []
    try:
        names = sorted(os.listdir(folder))
    except OSError:
        return crates, broken
    except ValueError as error:
        raise CrateError(f"{str(folder)!r} cannot be looked through for crates of hot paths: {error}") from error
    for name in names:
        try:
            crates.append(load(folder / name))
        except manifest.ManifestError as error:
            if _was_meant(folder / name):
                broken.append(Broken(folder / name, str(error)))
        except CrateError:
            continue
    return crates, broken


def _was_meant(folder: Path) -> bool:
    """Whether a folder with a broken manifest seems to be a crate of hot paths; most folders have no manifest."""
    for name, word in (("Cargo.toml", b"vcache"), ("pyproject.toml", b"maturin")):
        path = folder / name
        try:
            if not os.path.isfile(path) or word not in path.read_bytes():
                return False
        except OSError:
            return False
    return True
