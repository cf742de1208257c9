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
import tomllib
import zipfile
from collections.abc import Iterator
from pathlib import Path

from django_vcache.crates import CrateError
from django_vcache.crates.project import SUFFIX, Crate

__all__ = ["HotpathBuildError", "forget_failure", "install", "is_stale", "known_failure", "lock", "rebuild"]

_ANSI = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)")
_FOLDER = "vcache-hotpath"
"""Below ``target`` in the crate: the lock, and what the compiler said last."""


class HotpathBuildError(CrateError):
    """A crate does not compile. The text is the compiler's."""


def is_stale(crate: Crate) -> bool:
    """Whether the crate's module, as it is installed, is older than its source, or is not there."""
    installed = crate.installed()
    return installed is None or crate.newest_source()[0] > installed.stat().st_mtime


def install(crate: Crate, *, release: bool = False) -> None:
    """Build a crate and install it into this environment, so that its folder is what is imported: ``maturin develop``.

    What maturin and the compiler say goes to the terminal.

    Args:
        release: Optimised, as pip builds it. Otherwise a quick build, with ``opt-level = 1``.

    Raises:
        CrateError: A tool is missing, there is no virtual environment, or it does not compile.
    """
    command = [*_maturin(), "develop", *(["--release"] if release else [])]
    if sys.prefix == sys.base_prefix and "CONDA_PREFIX" not in os.environ:
        raise CrateError(
            f"there is no virtual environment, which maturin develop needs: make one, or install a copy with pip "
            f"install {crate.folder}"
        )
    with lock(crate):
        started = time.time()
        if subprocess.run(command, cwd=crate.folder, env=_environment(crate), check=False).returncode:
            raise CrateError(f"{crate.name} was not built; the reason is above")
        forget_failure(crate)
        # What is saved while the compiler runs is newer than the module.
        if crate.extension.exists():
            os.utime(crate.extension, (started, started))


def rebuild(crate: Crate) -> None:
    """Build a crate that :func:`install` has installed once more, with ``opt-level = 1``. The caller holds the lock.

    Raises:
        HotpathBuildError: It does not compile. The module that was there still is, and the error is kept for
            :func:`known_failure`.
        CrateError: A tool is missing.
    """
    command = [*_maturin(), "build", "--profile", "dev", "--interpreter", sys.executable, "--auditwheel", "skip"]
    with tempfile.TemporaryDirectory(prefix="vcache-") as out:
        started, sources = time.time(), _fingerprint(crate)
        done = subprocess.run(
            [*command, "--compression-method", "stored", "--color", "never", "--out", out],
            cwd=crate.folder,
            env=_environment(crate),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            check=False,
        )
        if done.returncode:
            text = compiler_text(done.stdout.decode(errors="replace"))
            _remember_failure(crate, sources, text)
            raise HotpathBuildError(text)
        (wheel,) = Path(out).iterdir()
        _put(crate, wheel, started)
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
    """Only one process builds a crate at a time; others wait."""
    path = _folder(crate) / "lock"
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def known_failure(crate: Crate) -> str | None:
    """What the compiler said of the source as it is now; None if it has not seen it."""
    with contextlib.suppress(OSError, ValueError, KeyError):
        kept = json.loads((_folder(crate) / "failure.json").read_text(encoding="utf-8"))
        return str(kept["text"]) if kept["sources"] == _fingerprint(crate) else None
    return None


def forget_failure(crate: Crate) -> None:
    """Forget what the compiler said."""
    (_folder(crate) / "failure.json").unlink(missing_ok=True)


def _remember_failure(crate: Crate, sources: str, text: str) -> None:
    kept = json.dumps({"sources": sources, "text": text})
    (_folder(crate) / "failure.json").write_text(kept, encoding="utf-8")


def _fingerprint(crate: Crate) -> str:
    """Changes with every file that is saved."""
    states = sorted((str(path), state.st_mtime_ns, state.st_size) for path, state in crate.states())
    return hashlib.sha256(json.dumps(states).encode()).hexdigest()


def _folder(crate: Crate) -> Path:
    return crate.folder / "target" / _FOLDER


def _put(crate: Crate, wheel: Path, started: float) -> None:
    """Puts the compiled module of a wheel where it is imported from."""
    name = f"{crate.module.replace('.', '/')}{SUFFIX}"
    # Beside, and then renamed: a process that runs has the old file mapped, and one that starts finds a whole one.
    beside = crate.extension.with_name(f".{crate.extension.name}.new")
    with zipfile.ZipFile(wheel) as archive:
        try:
            content = archive.open(name)
        except KeyError as error:
            raise CrateError(f"{crate.folder} builds no {name}: is module-name in its pyproject.toml right?") from error
        with content, beside.open("wb") as file:
            shutil.copyfileobj(content, file)
    beside.chmod(0o755)
    os.utime(beside, (started, started))
    os.replace(beside, crate.extension)


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
    manifest = tomllib.loads((crate.folder / "Cargo.toml").read_text(encoding="utf-8"))
    if "opt-level" not in manifest.get("profile", {}).get("dev", {}):
        environment["CARGO_PROFILE_DEV_OPT_LEVEL"] = "1"
    return environment
