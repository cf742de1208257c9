"""The interpreters of the rows: each peer's own environment, this project's, and what is built for a row."""

from __future__ import annotations

import re
import subprocess
from functools import cache
from pathlib import Path

import environments
import rows

ROOT = Path(__file__).parents[2]


class Peers:
    """Where the packages of a row are. What has to be installed or built for it is, once.

    Args:
        ours: the interpreter of this project's environment.
        python: what other environments are made with.
        folder: where they are.
        guest: where the crate of hot paths is built.
    """

    def __init__(self, ours: Path, python: str, folder: Path, guest: Path) -> None:
        self.ours = ours
        self.python = python
        self.folder = folder
        self.guest = guest

    def of(self, row: rows.Row) -> tuple[str, list[Path]]:
        """The interpreter of a row, and more places for its imports.

        Raises:
            InstallError: it cannot be installed.
        """
        name = row.environment_name
        if not name:
            if not _has_ours(self.ours):
                raise environments.InstallError(f"{self.ours} has no django_vcache: run make setup")
            return str(self.ours), [self._guest()] if row.needs_guest else []
        python = environments.ensure(name, self.python, self.folder, rows.ENVIRONMENTS[name])
        if row.handler != "ours":
            return python, []
        paths = [ROOT / "python"]
        if row.needs_renamed:
            paths.append(self._renamed(python))
        return python, paths

    def _guest(self) -> Path:
        if isinstance(made := _built(self.ours, self.guest), environments.InstallError):
            raise made
        return made

    def _renamed(self, python: str) -> Path:
        """A copy of django-vcache 3.2 under another name, so that our handler can be imported beside it."""
        target = self.folder / rows.RENAMED
        package = target / rows.RENAMED
        if not package.exists():
            code = "import django_vcache, os; print(os.path.dirname(django_vcache.__file__))"
            found = subprocess.run([python, "-c", code], capture_output=True, text=True, check=True)
            for path in sorted(Path(found.stdout.strip()).rglob("*")):
                copy = package / path.relative_to(found.stdout.strip())
                if path.is_dir() or "__pycache__" in path.parts:
                    continue
                copy.parent.mkdir(parents=True, exist_ok=True)
                content = path.read_bytes()
                if path.suffix == ".py":
                    content = re.sub(rb"\bdjango_vcache\b", rows.RENAMED.encode(), content)
                copy.write_bytes(content)
        return target


@cache
def _has_ours(python: Path) -> bool:
    return environments.importable(python, "django_vcache._vcache", "granian")


@cache
def _built(python: Path, target: Path) -> Path | environments.InstallError:
    """The hot paths in Rust, or why they cannot be built: it is tried once in a run."""
    try:
        return environments.build_guest(python, ROOT / "benches" / "guest", target)
    except environments.InstallError as error:
        return environments.InstallError(f"the hot paths of benches/guest: {error}")
