"""A development server follows the Rust source of a project's crates: it builds what is older than its source before
the project imports it, and again when a file changes, and starts anew. While the source does not compile, the module
that was there is used, and every page is the compiler's error. Whatever is wrong with a crate, the server starts.

``runserver`` watches the source itself. ``uvicorn --reload`` starts its child anew at changes of ``*.py``, and with
``--reload-include '*.rs'`` at those of Rust; the child builds. Without DEBUG, or without a reloader, nothing of this is
imported.
"""

import contextlib
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from django.conf import settings
from django.utils import autoreload

from django_vcache.admission.settings import current
from django_vcache.crates import CrateError, building, source
from django_vcache.crates.building import HotpathBuildError
from django_vcache.crates.project import Broken, Crate, is_source, survey
from django_vcache.exceptions import ConfigurationError

__all__ = ["failure", "follow"]

MIDDLEWARE = "django_vcache.crates.page.build_error_middleware"

_failures: dict[Path, str] = {}
"""The folders of crates that cannot be built, and why not: what the compiler says, or what is wrong with a manifest."""


def failure() -> str | None:
    """What is wrong with the crates that cannot be built; None if all can."""
    return _printable("\n\n".join(list(_failures.values()))) or None


def follow(is_runserver: bool) -> None:
    """Build the project's crates that are older than their source, and follow changes from now on.

    It is called before the models are imported.

    Args:
        is_runserver: Whether the process is the child of ``runserver``, which watches files; otherwise it is that of
            uvicorn, which has a parent that does.
    """
    try:
        crates, broken = survey(settings, current().hotpaths)
    except CrateError as error:
        _say(str(error))
        return
    except ConfigurationError:
        # The system checks report it.
        return
    for each in broken:
        _say(each.problem)
        # Where the crate's source is absent, its module may be a wheel's: then the pages work.
        if not each.is_absent():
            _failures[each.folder] = each.problem
    crates = [crate for crate in crates if _can_follow(crate)]
    if not crates and not _failures:
        return
    for crate in crates:
        was_imported = crate.module in sys.modules
        if _update(crate) and was_imported:
            _start_anew(crate, is_runserver)
    settings.MIDDLEWARE = [MIDDLEWARE, *settings.MIDDLEWARE]
    if is_runserver:
        follower = _Follower(crates, broken)
        autoreload.autoreload_started.connect(follower.watch, weak=False)
        autoreload.file_changed.connect(follower.changed, weak=False)


class _Follower:
    """Receives what Django's reloader says, in the process that serves."""

    def __init__(self, crates: Sequence[Crate], broken: Sequence[Broken] = ()) -> None:
        self._crates = crates
        self._broken = broken

    def watch(self, sender: Any, **_: object) -> None:
        for crate in self._crates:
            sender.watch_dir(crate.folder, "Cargo.toml")
            sender.watch_dir(crate.folder, "build.rs")
            sender.watch_dir(crate.folder / "src", "**/*.*")
            if crate.vendored is not None:
                sender.watch_dir(crate.vendored, source.STAMP)
        for each in self._broken:
            # Django starts the server anew when one of these has changed. It cannot list what is no folder.
            if os.path.isdir(each.folder):
                sender.watch_dir(each.folder, "Cargo.toml")
                sender.watch_dir(each.folder, "pyproject.toml")

    def changed(self, sender: Any, file_path: Path, **_: object) -> bool | None:
        """Builds a crate whose source has changed. True keeps the reloader from starting the server anew."""
        for crate in self._crates:
            if _belongs_to(file_path, crate):
                # If nothing was built, the server goes on with the module that it has.
                return not (is_source(file_path) and _update(crate))
        return None


def _belongs_to(path: Path, crate: Crate) -> bool:
    beside = {crate.folder, crate.vendored}
    return path.is_relative_to(crate.folder / "src") or (path.parent in beside and path.suffix in (".rs", ".toml"))


def _can_follow(crate: Crate) -> bool:
    if crate.is_editable():
        return True
    how = "is installed as a copy" if crate.installed() else "is not installed"
    _say(f"{crate.name} {how}: run manage.py vcache_hotpath build once, and the server follows its source")
    return False


def _update(crate: Crate) -> bool:
    """Builds a crate if it is older than its source. Whether there is another module now. It does not raise."""
    try:
        # A crate that is built needs no lock, so its folder may be read-only.
        if not building.is_stale(crate):
            _failures.pop(crate.folder, None)
            return False
        with building.lock(crate):
            return _build_if_stale(crate)
    # Also what this package did not foresee: a server that ends, or never starts, shows no page.
    except Exception as error:
        problem = str(error) if isinstance(error, CrateError) else f"{type(error).__name__}: {error}"
        _say(f"{crate.name} was not built: {problem}")
        _failures[crate.folder] = problem
        return False


def _build_if_stale(crate: Crate) -> bool:
    # Another process may have built it while this one waited for the lock.
    if not building.is_stale(crate):
        _failures.pop(crate.folder, None)
        return False
    # Until it is built, the page stays that of the error before.
    problem = building.known_failure(crate)
    if problem is not None:
        _say_compiler(crate, problem)
    else:
        problem = _problem_of_building(crate)
    if problem is not None:
        _failures[crate.folder] = problem
        return False
    _failures.pop(crate.folder, None)
    return True


def _problem_of_building(crate: Crate) -> str | None:
    """Builds a crate, and says on the terminal how that went. What is wrong with it, or None if it is built."""
    _say(f"building {crate.name}")
    started = time.monotonic()
    try:
        building.rebuild(crate)
    except HotpathBuildError as error:
        _say_compiler(crate, str(error))
        return str(error)
    except CrateError as error:
        _say(f"{crate.name} was not built: {error}")
        return str(error)
    _say(f"{crate.name} is built, in {time.monotonic() - started:.1f} s")
    return None


def _start_anew(crate: Crate, is_runserver: bool) -> None:
    """Only a new process sees a new module. Settings, or the package of an application, have imported the old one."""
    is_stale = True
    with contextlib.suppress(CrateError):
        is_stale = building.is_stale(crate)
    # A source that is dated in the future is newer than each module. Starting anew would never end.
    if is_runserver and not is_stale:
        sys.exit(3)  # what Django's reloader ends its child with, to have another one
    _say(f"{crate.module} was imported before it was built: it is used from the next start on")


def _say_compiler(crate: Crate, text: str) -> None:
    _say(f"{crate.name} does not compile:\n{text}")


def _say(text: str) -> None:
    # A log on a full disk, or a terminal that was closed: the page says it as well.
    with contextlib.suppress(OSError, ValueError):
        print(f"vcache: {_printable(text)}", file=sys.stderr, flush=True)


def _printable(text: str) -> str:
    """The text in UTF-8. The name of a folder may hold bytes that are not."""
    return text.encode(errors="backslashreplace").decode()
