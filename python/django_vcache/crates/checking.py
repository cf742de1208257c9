"""What is wrong with the compiled modules of crates, in a sentence each: all of it for
``manage.py vcache_hotpath check``, and for the system check what keeps a module from being imported.
"""

import importlib
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from django_vcache import stubs
from django_vcache.crates import CrateError, source
from django_vcache.crates.building import is_stale
from django_vcache.crates.project import Crate, survey

__all__ = ["missing", "problems", "unusable"]

_BUILD = "run manage.py vcache_hotpath build"


def unusable(settings: Any, paths: Iterable[str | os.PathLike[str]] | None) -> list[tuple[str, str]]:
    """What keeps the project's hot paths from being imported: a sentence each, and what to do about it.

    Args:
        settings: ``django.conf.settings``.
        paths: ``VCACHE["HOTPATHS"]``, or None if it is not set.
    """
    try:
        crates, broken = survey(settings, paths)
    except CrateError as error:
        return [(f"{error}.", "Set BASE_DIR to the folder of manage.py.")]
    # In production a crate is a wheel, and its source need not be there.
    told = [each for each in broken if settings.DEBUG or not each.is_absent()]
    found = [(f"{each.problem}.", "Mend that, or leave the folder out of VCACHE['HOTPATHS'].") for each in told]
    for crate in crates:
        if problem := missing(crate):
            hint = f"Run python manage.py vcache_hotpath build, or pip install {crate.folder}."
            found.append((f"{problem}.", hint))
    return found


def missing(crate: Crate) -> str | None:
    """Why ``import`` finds no compiled module of a crate, as a sentence without its dot; None if it finds one."""
    if crate.installed() is not None:
        return None
    folders = [Path(folder) for folder in crate.package_folders()]
    stem = crate.module.rpartition(".")[2]
    if others := sorted(path.name for folder in folders for path in folder.glob(f"{stem}.*.so")):
        return (
            f"{crate.module} is built for another Python: there is {', '.join(others)}, and no {crate.extension.name}"
        )
    # Python takes each folder on its path for a package, also the crate's, which is beside manage.py.
    if folders and not crate.is_editable() and not any(os.path.isfile(folder / "__init__.py") for folder in folders):
        return f"{crate.module} is not built, and import {crate.name} finds the folder {folders[0]}, without a function"
    return f"{crate.module} is not built"


def problems(crate: Crate) -> list[str]:
    """What is wrong with a crate, with what to do about it; an empty list if nothing is.

    It imports the module.

    Raises:
        CrateError: This install of django-vcache has no Rust source to compare with, or the crate has none.
    """
    found = []
    vendored = crate.vendored
    if vendored is not None and (problem := source.problem(vendored)):
        folder = os.path.relpath(crate.folder)
        found.append(f"{os.path.relpath(vendored)} {problem}: run python -m django_vcache vendor {folder}")
    if why := missing(crate):
        return [*found, f"{why}: {_BUILD}"]
    if is_stale(crate):
        newest = os.path.relpath(crate.newest_source()[1])
        found.append(f"{crate.module} is older than {newest}: {_BUILD}")
    try:
        importlib.import_module(crate.module)
    except ImportError as error:
        # Also ABIMismatch, which says what to install.
        return [*found, f"{crate.module} cannot be imported: {error}"]
    except Exception as error:
        # The Python package is the project's: anything may go wrong in it.
        return [*found, f"{crate.module} cannot be imported: {type(error).__name__}: {error}"]
    try:
        outdated = stubs.difference(crate.module, crate.stubs)
    except stubs.StubError as error:
        found.append(str(error))
    else:
        if outdated:
            found.append(f"{os.path.relpath(crate.stubs)} is out of date: run manage.py vcache_hotpath stubs")
    return found
