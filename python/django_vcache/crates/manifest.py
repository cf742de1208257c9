"""The manifests of a crate, ``Cargo.toml`` and ``pyproject.toml``. People write them, and save them half-written: what
is wrong with one is a :class:`ManifestError` that names the file and the key.
"""

import stat
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from django_vcache.crates import CrateError

__all__ = ["Manifest", "ManifestError", "read"]

_KINDS: dict[type, str] = {
    str: "a string",
    bool: "a boolean",
    int: "a number",
    float: "a number",
    list: "an array",
    dict: "a table",
}


class ManifestError(CrateError):
    """A manifest cannot be read, or holds something else than it should."""


@dataclass(frozen=True)
class Manifest:
    """A file in TOML, and what it holds."""

    path: Path
    content: dict[str, Any]

    def table(self, *keys: str) -> dict[str, Any]:
        """A table; an empty one if it is not there.

        Args:
            keys: Its name, a part each: ``"tool", "maturin"``.

        Raises:
            ManifestError: It is something else than a table.
        """
        found = self.content
        for number, key in enumerate(keys, start=1):
            found = found.get(key, {})
            if not isinstance(found, dict):
                raise ManifestError(f"{self._name(keys[:number])} must be a table, not {_kind(found)}")
        return found

    def text(self, *keys: str) -> str | None:
        """A string; None if it is not there.

        Args:
            keys: Its name, a part each: ``"tool", "maturin", "module-name"``.

        Raises:
            ManifestError: It is something else than a string, has a NUL in it, or is not in a table.
        """
        found = self.table(*keys[:-1]).get(keys[-1])
        if found is None:
            return None
        if not isinstance(found, str):
            raise ManifestError(f"{self._name(keys)} must be a string, not {_kind(found)}")
        if "\0" in found:
            raise ManifestError(f"{self._name(keys)} must have no NUL in it, as {found!r} has")
        return found

    def _name(self, keys: tuple[str, ...]) -> str:
        return f"{'.'.join(keys)} in {self.path}"


def read(path: Path) -> Manifest:
    """A manifest.

    Raises:
        ManifestError: The file cannot be read, or is not TOML.
    """
    try:
        # Reading a pipe would wait for someone who writes into it.
        if not stat.S_ISREG(path.stat().st_mode):
            raise ManifestError(f"{path} cannot be read: it is not a file")
        content = path.read_bytes()
    except OSError as error:
        raise ManifestError(f"{path} cannot be read: {error.strerror or error}") from error
    except ValueError as error:
        raise ManifestError(f"{str(path)!r} cannot be read: a path has no NUL and no lone surrogate in it") from error
    try:
        return Manifest(path, tomllib.loads(content.decode()))
    except UnicodeDecodeError as error:
        raise ManifestError(f"{path} is not UTF-8, which TOML must be: see the byte at {error.start}") from error
    except ValueError as error:
        raise ManifestError(f"{path} is not TOML: {error}") from error
    except RecursionError as error:
        raise ManifestError(f"{path} cannot be read: its arrays or tables are nested too deeply") from error


def _kind(value: object) -> str:
    return _KINDS.get(type(value), "a date or a time")
