"""What is wrong with the compiled module of a crate, in a sentence each: ``manage.py vcache_hotpath check``."""

import importlib
import os

from django_vcache import stubs
from django_vcache.crates import source
from django_vcache.crates.building import is_stale
from django_vcache.crates.project import Crate

__all__ = ["problems"]

_BUILD = "run manage.py vcache_hotpath build"


def problems(crate: Crate) -> list[str]:
    """What is wrong with a crate, with what to do about it; an empty list if nothing is.

    It imports the module.

    Raises:
        CrateError: This install of django-vcache has no Rust source to compare with.
    """
    found = []
    vendored = crate.vendored
    if vendored is not None and (problem := source.problem(vendored)):
        folder = os.path.relpath(crate.folder)
        found.append(f"{os.path.relpath(vendored)} {problem}: run python -m django_vcache vendor {folder}")
    if crate.installed() is None:
        return [*found, f"{crate.module} is not built: {_BUILD}"]
    if is_stale(crate):
        newest = os.path.relpath(crate.newest_source()[1])
        found.append(f"{crate.module} is older than {newest}: {_BUILD}")
    try:
        importlib.import_module(crate.module)
    except ImportError as error:
        # Also ABIMismatch, which says what to install.
        return [*found, f"{crate.module} cannot be imported: {error}"]
    try:
        outdated = stubs.difference(crate.module, crate.stubs)
    except stubs.StubError as error:
        found.append(str(error))
    else:
        if outdated:
            found.append(f"{os.path.relpath(crate.stubs)} is out of date: run manage.py vcache_hotpath stubs")
    return found
