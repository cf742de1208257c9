"""The source of the crates ``vcache`` and ``hotpath-macros``, which every install of django-vcache carries, and copies
of it in crates of hot paths.

A crate has a copy, in its folder ``vendored``, because ``vcache`` is on no registry: with it the crate builds wherever
its folder is. ``vendored/source.toml`` says which django-vcache the copy is from.
"""

import hashlib
import json
import os
import tomllib
from dataclasses import dataclass
from pathlib import Path

from django_vcache.crates import CrateError

__all__ = ["STAMP", "VENDORED", "copy_into", "folder", "lock_file", "problem", "version"]

VENDORED = "vendored"
"""The folder in a crate. Not ``vendor``: ``cargo vendor`` deletes there what it does not know."""

STAMP = "source.toml"
_LIST = "FILES"
# It is the workspace's. The crate has its own lock file, which begins as a copy.
_LOCK = "Cargo.lock"

_STAMP_TEXT = """\
# The source of the crates vcache and hotpath-macros, as django-vcache {version} carries it. Do not edit it: after an
# upgrade, `python -m django_vcache vendor PATH` replaces it.
version = {quoted}
sha256 = "{digest}"
"""


@dataclass(frozen=True)
class _Copy:
    """What the stamp of a vendored copy says, and whether its files still are what was written."""

    version: str
    digest: str
    is_edited: bool


def folder() -> Path:
    """The source in this package: a workspace with the folders ``vcache`` and ``hotpath-macros``.

    Raises:
        CrateError: This install has none, as one that was not built by maturin.
    """
    found = Path(__file__).resolve().parents[1] / "rust"
    if not (found / _LIST).is_file():
        raise CrateError(
            f"this django-vcache has no Rust source in it ({found} is missing): install it with pip or with maturin "
            "develop, maturin 1.12.1 or newer"
        )
    return found


def version() -> str:
    """The version of the source in this package, which is that of the wheel."""
    manifest = tomllib.loads((folder() / "Cargo.toml").read_text(encoding="utf-8"))
    return str(manifest["workspace"]["package"]["version"])


def lock_file() -> str:
    """The text of a Cargo.lock with the versions that this package is tested with."""
    return (folder() / _LOCK).read_text(encoding="utf-8")


def copy_into(target: Path) -> None:
    """Make a folder the copy of the source in this package.

    A file that is the same already is not written, so that cargo compiles only what changed. What the folder holds
    beside the source stays.

    Args:
        target: The folder, such as ``shop_hot/vendored``. It is made if it is missing.

    Raises:
        CrateError: It cannot be written, its list of files names one outside it, or this install has no source.
    """
    source = folder()
    files = _files(source)
    stamp = _STAMP_TEXT.format(version=version(), quoted=json.dumps(version()), digest=_digest(source, files))
    try:
        gone = set(_files(target)) - set(files) if (target / _LIST).is_file() else set()
        for path in (*gone, *files):
            _refuse_links(target, path)
        for path in gone:
            (target / path).unlink(missing_ok=True)
        for path in files:
            _write(target / path, (source / path).read_bytes())
        _write(target / _LIST, ("\n".join(files) + "\n").encode())
        # Last: a copy that was interrupted is not taken for a whole one.
        _write(target / STAMP, stamp.encode())
    except OSError as error:
        raise CrateError(f"{target} cannot be written: {error}") from error


def problem(target: Path) -> str | None:
    """What is wrong with a vendored copy, as a sentence without its subject; None if it is the installed source."""
    try:
        copy = _read(target)
    except _ListError as error:
        return f"is not a copy of vcache's Rust source, because {error}"
    if copy is None:
        return f"is not a copy of the Rust source that django-vcache {version()} carries: it has no {STAMP}"
    if copy.is_edited:
        return f"was edited since django-vcache {copy.version} wrote it: the next copy undoes that"
    source = folder()
    if copy.digest == _digest(source, _files(source)):
        return None
    if copy.version == version():
        return f"is the Rust source of another build of django-vcache {version()} than the installed one"
    return f"is the Rust source of django-vcache {copy.version}, and {version()} is installed"


class _ListError(CrateError):
    """The list of files of a copy is not one that this package wrote. The text says what to do."""


def _read(target: Path) -> _Copy | None:
    try:
        stamp = tomllib.loads((target / STAMP).read_text(encoding="utf-8"))
        copy_version, digest, files = str(stamp["version"]), str(stamp["sha256"]), _files(target)
    except (OSError, ValueError, KeyError, RecursionError):
        return None
    try:
        is_edited = _digest(target, files) != digest
    except OSError:
        is_edited = True
    return _Copy(copy_version, digest, is_edited)


def _files(folder: Path) -> list[str]:
    """The files of the source in a folder, as it lists them; an editable install may have older ones beside them.

    Raises:
        OSError: The list cannot be read.
        CrateError: It names a file that is not below the folder. A copy is in a repository that others write to, and
            what its list names is read, and deleted when the source has it no more.
    """
    try:
        paths = (folder / _LIST).read_text(encoding="utf-8").split("\n")
    except UnicodeDecodeError as error:
        raise _ListError(f"the list {folder / _LIST} is not UTF-8 (delete that list first)") from error
    for path in filter(None, paths):
        if "\0" in path or not {"", ".", ".."}.isdisjoint(path.split("/")):
            raise _ListError(
                f"the list {folder / _LIST} names {path!r}, which is no path below its folder (delete that list first)"
            )
    return [path for path in paths if path and path != _LOCK]


def _refuse_links(target: Path, path: str) -> None:
    """Raises if a file of a copy is in a folder elsewhere, to which a link leads: what is there is not a copy."""
    parent = os.path.realpath((target / path).parent)
    if not Path(parent).is_relative_to(os.path.realpath(target)):
        raise CrateError(
            f"{target / path} would be written to {parent}, to which a link leads: nothing was written. Delete the "
            "link first"
        )


def _digest(folder: Path, files: list[str]) -> str:
    digest = hashlib.sha256()
    for path in files:
        # A device has no end.
        if not (folder / path).is_file():
            raise FileNotFoundError(folder / path)
        content = (folder / path).read_bytes()
        digest.update(f"{path}\n{len(content)}\n".encode() + content)
    return digest.hexdigest()


def _write(path: Path, content: bytes) -> None:
    if path.is_file() and path.read_bytes() == content:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    # Written beside and renamed: a reader finds the old content or the new.
    beside = path.with_name(f"{path.name}.new")
    beside.unlink(missing_ok=True)
    beside.write_bytes(content)
    os.replace(beside, path)
