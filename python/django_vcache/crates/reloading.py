"""A development server follows the Rust source of a project's crates: it builds what is older than its source before
the project imports it, and again when a file changes, and starts anew. While the source does not compile, the module
that was there is used, and every page is the compiler's error.

``runserver`` watches the source itself. ``uvicorn --reload`` starts its child anew at changes of ``*.py``, and with
``--reload-include '*.rs'`` at those of Rust; the child builds. Without DEBUG, or without a reloader, nothing of this is
imported.
"""

import sys
import time
from pathlib import Path
from typing import Any

from django.conf import settings
from django.utils import autoreload

from django_vcache.admission.settings import current
from django_vcache.crates import CrateError, building, source
from django_vcache.crates.building import HotpathBuildError
from django_vcache.crates.project import Crate, configured, is_source
from django_vcache.exceptions import ConfigurationError

__all__ = ["failure", "follow"]

MIDDLEWARE = "django_vcache.crates.page.build_error_middleware"

_failures: dict[Path, str] = {}
"""The crates that do not compile, and what the compiler says."""


def failure() -> str | None:
    """What the compiler says of the crates that do not compile; None if all do."""
    return "\n\n".join(list(_failures.values())) or None


def follow(is_runserver: bool) -> None:
    """Build the project's crates that are older than their source, and follow changes from now on.

    It is called before the models are imported.

    Args:
        is_runserver: Whether the process is the child of ``runserver``, which watches files; otherwise it is that of
            uvicorn, which has a parent that does.
    """
    try:
        crates = configured(settings, current().hotpaths)
    except CrateError as error:
        _say(str(error))
        return
    except ConfigurationError:
        # The system checks report it.
        return
    crates = [crate for crate in crates if _can_follow(crate)]
    if not crates:
        return
    for crate in crates:
        was_imported = crate.module in sys.modules
        if _update(crate) and was_imported:
            _start_anew(crate, is_runserver)
    settings.MIDDLEWARE = [MIDDLEWARE, *settings.MIDDLEWARE]
    if is_runserver:
        follower = _Follower(crates)
        autoreload.autoreload_started.connect(follower.watch, weak=False)
        autoreload.file_changed.connect(follower.changed, weak=False)


class _Follower:
    """Receives what Django's reloader says, in the process that serves."""

    def __init__(self, crates: list[Crate]) -> None:
        self._crates = crates

    def watch(self, sender: Any, **_: object) -> None:
        for crate in self._crates:
            sender.watch_dir(crate.folder, "Cargo.toml")
            sender.watch_dir(crate.folder, "build.rs")
            sender.watch_dir(crate.folder / "src", "**/*.*")
            if crate.vendored is not None:
                sender.watch_dir(crate.vendored, source.STAMP)

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
    """Builds a crate if it is older than its source. Whether there is another module now."""
    with building.lock(crate):
        if not building.is_stale(crate):
            _failures.pop(crate.folder, None)
            return False
        # Until it is built, the page stays that of the error before.
        problem = building.known_failure(crate) or _problem_of_building(crate)
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
        _say(f"{crate.name} does not compile:\n{error}")
        return str(error)
    except (CrateError, OSError) as error:
        _say(f"{crate.name} was not built: {error}")
        return str(error)
    _say(f"{crate.name} is built, in {time.monotonic() - started:.1f} s")
    return None


def _start_anew(crate: Crate, is_runserver: bool) -> None:
    """Only a new process sees a new module. Settings, or the package of an application, have imported the old one."""
    if is_runserver:
        sys.exit(3)  # what Django's reloader ends its child with, to have another one
    _say(f"{crate.module} was imported before it was built: it is used from the next start on")


def _say(text: str) -> None:
    print(f"vcache: {text}", file=sys.stderr, flush=True)
