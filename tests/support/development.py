"""A project under a development server, in a process of its own, and a crate of hot paths that it follows."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from django_vcache.crates.project import Crate
from support.guests import QUICK_BUILD
from support.server import wait_until

# A compiler on a busy machine.
PATIENCE = 300.0


@dataclass
class Served:
    """The project, and where it answers."""

    folder: Path
    crate: Crate
    port: int

    def get(self, path: str) -> tuple[int, str]:
        """The status and the text of a page; 0 without an answer."""
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            with opener.open(f"http://127.0.0.1:{self.port}/{path}", timeout=60) as response:
                return response.status, response.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()
        except OSError:
            return 0, ""

    def wait_for(self, answer: str) -> str:
        """Waits until the page begins with a word; the process that answers then."""

        def answered() -> str:
            words = self.get("")[1].split()
            return words[1] if words[:1] == [answer] else ""

        return wait_until(answered, timeout=PATIENCE, interval=0.2, what=f"the page is {answer}")

    def wait_for_page(self, path: str, status: int) -> str:
        """Waits until a page has a status; its text."""

        def page() -> str:
            found, text = self.get(path)
            return text if found == status else ""

        return wait_until(page, timeout=PATIENCE, interval=0.2, what=f"/{path} has the status {status}")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def serve(served: Served, target: Path, paths: Sequence[Path]) -> Iterator[Served]:
    """Runs `runserver` on the project until the test has ended. What it printed is shown if the test fails."""
    # The embedded server's socket needs a short path.
    temporary = tempfile.mkdtemp(prefix="vc-", dir="/tmp")
    process = subprocess.Popen(
        [sys.executable, str(served.folder / "manage.py"), "runserver", f"127.0.0.1:{served.port}"],
        env=os.environ
        | QUICK_BUILD
        | {
            "CARGO_TARGET_DIR": str(target),
            "PYTHONPATH": os.pathsep.join(map(str, paths)),
            "TMPDIR": temporary,
        },
        stdin=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        yield served
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        # The embedded server removes its files, and may be about to.
        shutil.rmtree(temporary, ignore_errors=True)
