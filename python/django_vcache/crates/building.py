"""Builds a crate of a project by maturin: installed into the environment, or again, where it is imported from.

What runs keeps the module that it has loaded. Only a new process sees a new one.
"""

import contextlib
import fcntl
import hashlib
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path

from django_vcache.crates import CrateError, manifest
from django_vcache.crates.project import SUFFIX, Crate

__all__ = ["HotpathBuildError", "forget_failure", "install", "is_stale", "known_failure", "lock", "rebuild"]

_ANSI = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)")
_FOLDER = "vcache-hotpath"
"""Below ``target`` in the crate: the lock, and what the compiler said last."""


class HotpathBuildError(CrateError):
    """A crate does not compile. The text is the compiler's."""


def is_stale(crate: Crate) -> bool:
    """Whether the crate's module, as it is installed, is older than its source, or is not there.

    Raises:
        CrateError: The crate has no source.
    """
    installed = crate.installed()
    if installed is None:
        return True
    newest, _ = crate.newest_source()
    try:
        return newest > installed.stat().st_mtime
    except OSError:
        # It was there a moment ago.
        return True


def install(crate: Crate, *, release: bool = False) -> None:
    """Build a crate and install it into this environment, so that its folder is what is imported: ``maturin develop``.

    What maturin and the compiler say goes to the terminal.

    Args:
        release: Optimised, as pip builds it. Otherwise a quick build, with ``opt-level = 1``.

    Raises:
        CrateError: A tool is missing, there is no virtual environment, it does not compile, or a file cannot be
            written.
    """
    command = [*_maturin(), "develop", *(["--release"] if release else [])]
    if sys.prefix == sys.base_prefix and "CONDA_PREFIX" not in os.environ:
        raise CrateError(
            f"there is no virtual environment, which maturin develop needs: make one, or install a copy with pip "
            f"install {crate.folder}"
        )
    with lock(crate):
        started = time.time()
        try:
            status = subprocess.run(command, cwd=crate.folder, env=_environment(crate), check=False).returncode
        except OSError as error:
            raise _cannot_run(crate, error) from error
        if status:
            raise CrateError(f"{crate.name} was not built; the reason is above")
        forget_failure(crate)
        # What is saved while the compiler runs is newer than the module. Another user may own the file.
        with contextlib.suppress(OSError):
            os.utime(crate.extension, (started, started))


def rebuild(crate: Crate) -> None:
    """Build a crate that :func:`install` has installed once more, with ``opt-level = 1``. The caller holds the lock.

    Raises:
        HotpathBuildError: It does not compile. The module that was there still is, and the error is kept for
            :func:`known_failure`.
        CrateError: A tool is missing, or a file cannot be written.
    """
    command = [*_maturin(), "build", "--profile", "dev", "--interpreter", sys.executable, "--auditwheel", "skip"]
    environment = _environment(crate)
    try:
        with tempfile.TemporaryDirectory(prefix="vcache-", ignore_cleanup_errors=True) as out:
            started, sources = time.time(), _fingerprint(crate)
            done = subprocess.run(
                [*command, "--compression-method", "stored", "--color", "never", "--out", out],
                cwd=crate.folder,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                check=False,
            )
            if done.returncode:
                text = compiler_text(done.stdout.decode(errors="replace"))
                _remember_failure(crate, sources, text)
                raise HotpathBuildError(text)
            _put(crate, _wheel(crate, Path(out)), started)
    except OSError as error:
        raise _cannot_run(crate, error) from error
    forget_failure(crate)


def compiler_text(output: str) -> str:
    """What the compiler says, out of all that maturin printed; without colours."""
    lines = _ANSI.sub("", output).replace("\r", "").splitlines()
    end = next((number for number, line in enumerate(lines) if "maturin failed" in line), len(lines))
    begin = next((number for number, line in enumerate(lines) if line.startswith(("error", "warning"))), end)
    # If the compiler said nothing, it is maturin that has something to say.
    told = lines[begin:end] if begin < end else lines
    return "\n".join(told).strip()


@contextlib.contextmanager
def lock(crate: Crate) -> Iterator[None]:
    """Only one process builds a crate at a time; others wait.

    Raises:
        CrateError: The folder ``target`` of the crate cannot be written to.
    """
    path = _folder(crate) / "lock"
    with contextlib.ExitStack() as opened:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            file = opened.enter_context(path.open("a"))
            fcntl.flock(file, fcntl.LOCK_EX)
        except OSError as error:
            raise CrateError(
                f"{path} cannot be written, without which {crate.name} is not built: {error.strerror or error}. Make "
                f"{crate.folder / 'target'} a folder that this user may write to"
            ) from error
        yield


def known_failure(crate: Crate) -> str | None:
    """What the compiler said of the source as it is now; None if it has not seen it."""
    try:
        kept = json.loads(_record(crate).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    # The file may be cut short, or another version's: then the compiler is asked again.
    if not isinstance(kept, dict) or kept.get("sources") != _fingerprint(crate):
        return None
    text = kept.get("text")
    return text if isinstance(text, str) else None


def forget_failure(crate: Crate) -> None:
    """Forget what the compiler said."""
    # One that stays is not read: it is of a source that has changed, or of one whose module is not stale.
    with contextlib.suppress(OSError):
        _record(crate).unlink(missing_ok=True)


def _remember_failure(crate: Crate, sources: str, text: str) -> None:
    kept = json.dumps({"sources": sources, "text": text})
    # On a full disk the compiler's words are what counts. Without a record the next process asks it again.
    with contextlib.suppress(OSError):
        _record(crate).write_text(kept, encoding="utf-8")


def _fingerprint(crate: Crate) -> str:
    """Changes with every file that is saved."""
    states = sorted((str(path), state.st_mtime_ns, state.st_size) for path, state in crate.states())
    return hashlib.sha256(json.dumps(states).encode()).hexdigest()


def _folder(crate: Crate) -> Path:
    return crate.folder / "target" / _FOLDER


def _record(crate: Crate) -> Path:
    return _folder(crate) / "failure.json"


def _wheel(crate: Crate, out: Path) -> Path:
    wheels = list(out.glob("*.whl"))
    if len(wheels) != 1:
        raise CrateError(
            f"maturin made {len(wheels)} wheels of {crate.folder} instead of one: are [tool.maturin] in its "
            "pyproject.toml and the environment variables of maturin right?"
        )
    return wheels[0]


def _put(crate: Crate, wheel: Path, started: float) -> None:
    """Puts the compiled module of a wheel where it is imported from.

    Raises:
        CrateError: The wheel has no such module, or the file cannot be written.
    """
    name = f"{crate.module.replace('.', '/')}{SUFFIX}"
    # Beside, and then renamed: a process that runs has the old file mapped, and one that starts finds a whole one.
    beside = crate.extension.with_name(f".{crate.extension.name}.new")
    try:
        with zipfile.ZipFile(wheel) as archive, archive.open(name) as content, beside.open("wb") as file:
            shutil.copyfileobj(content, file)
        beside.chmod(0o755)
        os.utime(beside, (started, started))
        os.replace(beside, crate.extension)
    except KeyError as error:
        raise CrateError(f"{crate.folder} builds no {name}: is module-name in its pyproject.toml right?") from error
    except (OSError, zipfile.BadZipFile) as error:
        with contextlib.suppress(OSError):
            beside.unlink(missing_ok=True)
        why = getattr(error, "strerror", None) or error
        raise CrateError(f"{crate.name} compiles, but {crate.extension} cannot be written: {why}") from error


def _cannot_run(crate: Crate, error: OSError) -> CrateError:
    return CrateError(f"maturin cannot run in {crate.folder}: {error}")


def _maturin() -> list[str]:
    if shutil.which("cargo") is None:
        raise CrateError("there is no cargo on PATH, which compiles hot paths: install Rust, see https://rustup.rs")
    if importlib.util.find_spec("maturin") is not None:
        return [sys.executable, "-m", "maturin"]
    if found := shutil.which("maturin"):
        return [found]
    raise CrateError("maturin is not installed, which builds hot paths: pip install maturin")


def _environment(crate: Crate) -> dict[str, str]:
    # The interpreter that runs is meant, also if its environment was not activated.
    environment = os.environ | {"PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])}
    if sys.prefix != sys.base_prefix:
        environment["VIRTUAL_ENV"] = sys.prefix
    if "opt-level" not in manifest.read(crate.folder / "Cargo.toml").table("profile", "dev"):
        environment["CARGO_PROFILE_DEV_OPT_LEVEL"] = "1"
    return environment
