"""Guests: extension modules that are compiled apart from the wheel and share its connection. They are built here for
the interpreter that runs the tests, each with its own lock file, and one of them by another compiler than the wheel's
where there is one.
"""

from __future__ import annotations

import asyncio
import faulthandler
import fcntl
import functools
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from support.caches import cache_setting
from support.fake import FakeServer
from support.server import ValkeyServer

ROOT = Path(__file__).parents[2]
PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"


# Nothing that is built here is measured. A crate's own profile would take minutes to optimize it.
QUICK_BUILD = {
    "CARGO_INCREMENTAL": "0",
    "CARGO_PROFILE_DEV_DEBUG": "line-tables-only",
    "CARGO_PROFILE_DEV_OPT_LEVEL": "0",
}

# What is built for the interpreter to import: crates that depend on the same share what was compiled for one. It is
# apart from the workspace's own folder, where pyo3 is built to embed the interpreter. What maturin sets for pyo3 is set
# here too: if it changed, pyo3 would be built anew.
EXTENSIONS = ROOT / ".build" / "extensions" / PYTHON
EXTENSION_BUILD = QUICK_BUILD | {
    "CARGO_TARGET_DIR": str(EXTENSIONS),
    "PYO3_BUILD_EXTENSION_MODULE": "1",
    "PYO3_ENVIRONMENT_SIGNATURE": f"cpython-{PYTHON}-{sys.maxsize.bit_length() + 1}bit",
    "PYO3_PYTHON": sys.executable,
}


@dataclass(frozen=True)
class Guest:
    """A crate and where its library goes, relative to a folder on `sys.path`."""

    name: str
    crate: Path
    library: str
    extension: str
    sources: Path | None = None
    another_compiler: bool = False

    def build(self, *features: str) -> Path:
        """The compiled library; AssertionError with what cargo said if it cannot be."""
        # A compiler may need longer than any test that hangs.
        faulthandler.cancel_dump_traceback_later()
        environment = os.environ | EXTENSION_BUILD
        if self.another_compiler and (compiler := another_compiler()):
            environment["RUSTUP_TOOLCHAIN"] = compiler
        command = ["cargo", "build", "--locked", "--quiet"]
        if features:
            command += ["--features", ",".join(features)]
        built = subprocess.run(command, cwd=self.crate, env=environment, stderr=subprocess.PIPE, text=True, check=False)
        assert built.returncode == 0, f"{' '.join(command)} failed in {self.crate}:\n{built.stderr}"
        return EXTENSIONS / "debug" / self.library

    def install(self, folder: Path, *features: str) -> None:
        """Build it and put it into a folder, to be imported from there."""
        if self.sources is not None:
            shutil.copytree(
                self.sources, folder / self.sources.name, ignore=shutil.ignore_patterns("__pycache__", "*.so")
            )
        EXTENSIONS.mkdir(parents=True, exist_ok=True)
        # Another process may build it with other features, whose library is at the same place.
        with open(EXTENSIONS / f"{self.name}.lock", "a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            shutil.copyfile(self.build(*features), folder / self.extension)


QUOTA = Guest(
    name="quota_guest",
    crate=ROOT / "examples" / "quota_guest",
    library="lib_native.so",
    extension="quota_guest/_native.so",
    sources=ROOT / "examples" / "quota_guest" / "python" / "quota_guest",
)
PROBE = Guest(
    name="probe_guest",
    crate=ROOT / "tests" / "guests" / "probe_guest",
    library="libprobe_guest.so",
    extension="probe_guest.so",
    another_compiler=True,
)


@functools.cache
def another_compiler() -> str | None:
    """The toolchain of another compiler than cargo takes by itself, preferably a nightly one; None if there is none."""
    if shutil.which("rustup") is None:
        return None
    oldest = re.search(r'^rust-version = "([\d.]+)"', (ROOT / "Cargo.toml").read_text(), re.MULTILINE)
    assert oldest is not None
    usual = _output("rustc", "--version")
    toolchains = [line.split()[0] for line in _output("rustup", "toolchain", "list").splitlines() if line.strip()]
    versions = {name: _output("rustc", f"+{name}", "--version") for name in toolchains}
    others = [
        name
        for name, version in versions.items()
        if version != usual and (found := re.match(r"rustc ([\d.]+)", version)) and _newer(found[1], oldest[1])
    ]
    return max(others, key=lambda name: name.startswith("nightly"), default=None)


def _newer(version: str, oldest: str) -> bool:
    return [int(part) for part in version.split(".")] >= [int(part) for part in oldest.split(".")]


def _output(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()


@contextmanager
def default_on(server: ValkeyServer | FakeServer, **options: Any) -> Iterator[Any]:
    """`CACHES["default"]` is on a server; the cache."""
    from django.core.cache import caches
    from django.test import override_settings

    from django_vcache.backend import publish_alias

    with override_settings(CACHES={"default": cache_setting(server, **options)}):
        publish_alias("default")
        yield caches["default"]


class Driven:
    """A guest whose hot paths are called in their blocking form, or awaited on `runner`."""

    def __init__(self, guest: ModuleType, runner: asyncio.Runner | None) -> None:
        self._guest = guest
        self._runner = runner

    def __getattr__(self, name: str) -> Callable[..., Any]:
        if self._runner is None:
            return getattr(self._guest, name)
        return functools.partial(self._await, getattr(self._guest, f"a{name}"))

    def _await(self, form: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        async def call() -> Any:
            return await form(*args, **kwargs)

        assert self._runner is not None
        return self._runner.run(call())


def plain_key(key: str, key_prefix: str, version: int) -> str:
    """A KEY_FUNCTION: it makes the cache call Python for its keys."""
    return key
