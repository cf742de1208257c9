"""A PostgreSQL cluster for a test run: made by initdb in a temporary folder, on a Unix socket, by a user who is not
root, since PostgreSQL refuses root."""

from __future__ import annotations

import contextlib
import glob
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from support.server import wait_until

MISSING = (
    "There is no PostgreSQL: persistent connections under ASGI, and a database that goes away, were not tested with it."
)


def programs() -> Path | None:
    """The folder with initdb and postgres; Debian has it beside PATH. None if they are not installed."""
    for folder in (
        *os.environ.get("PATH", "").split(os.pathsep),
        *sorted(glob.glob("/usr/lib/postgresql/*/bin"))[::-1],
    ):
        if all(os.access(Path(folder) / name, os.X_OK) for name in ("initdb", "postgres")):
            return Path(folder)
    return None


def _someone() -> dict[str, Any]:
    """Arguments of Popen for a user who is not root."""
    if os.geteuid():
        return {}
    for name in ("postgres", "nobody"):
        with contextlib.suppress(KeyError):
            entry = pwd.getpwnam(name)
            return {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}
    raise AssertionError("there is neither a user postgres nor one nobody")


class Postgres:
    """A running server. `setting(**more)` is an entry for DATABASES."""

    def __init__(self) -> None:
        folder = programs()
        if folder is None:
            assert not os.environ.get("VCACHE_REQUIRE_POSTGRES"), "there is no PostgreSQL, and VCACHE_REQUIRE_POSTGRES"
            pytest.skip("there is no PostgreSQL")
        user = _someone()
        self.folder = tempfile.mkdtemp(prefix="vcache-pg-")
        if user:
            os.chown(self.folder, user["user"], user["group"])
        data = f"{self.folder}/data"
        command = [
            folder / "initdb",
            "-D",
            data,
            "-U",
            "vcache",
            "-A",
            "trust",
            "--no-sync",
            "-E",
            "UTF8",
            "--no-locale",
        ]
        subprocess.run(command, check=True, capture_output=True, cwd=self.folder, **user)
        self._command = [
            *(folder / "postgres", "-D", data),
            *("-c", "listen_addresses=", "-c", "fsync=off", "-k", self.folder),
        ]
        self._user = user
        self.start()

    def start(self) -> None:
        """It may have to be waited for: `execute` does."""
        self._process = subprocess.Popen(
            self._command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd=self.folder,
            **self._user,
        )

    def stop(self) -> None:
        """Connections are cut, and no new one can be made until `start`."""
        self._process.send_signal(signal.SIGINT)
        self._process.wait(20)

    @property
    def url(self) -> str:
        """For DATABASE_URL."""
        return f"postgres://vcache@{quote(self.folder, safe='')}/postgres"

    def setting(self, **more: Any) -> dict[str, Any]:
        return {
            "ENGINE": "django.db.backends.postgresql",
            "NAME": "postgres",
            "USER": "vcache",
            "HOST": self.folder,
            **more,
        }

    def execute(self, query: str) -> list[tuple[Any, ...]]:
        """Runs a query on a separate connection, which may have to wait for the server to be ready."""
        import psycopg

        opened: list[psycopg.Connection[Any]] = []

        def connects() -> bool:
            assert self._process.poll() is None, "PostgreSQL has ended"
            with contextlib.suppress(psycopg.OperationalError):
                opened.append(
                    psycopg.connect(
                        host=self.folder, user="vcache", dbname="postgres", autocommit=True, application_name="test"
                    )
                )
            return bool(opened)

        wait_until(connects, timeout=60)
        with contextlib.closing(opened[0]) as connection:
            return connection.execute(query).fetchall()

    def close(self) -> None:
        try:
            self.stop()
        finally:
            self._process.kill()
            shutil.rmtree(self.folder, ignore_errors=True)
