"""Host names of a test's own. A program runs under `names(hosts)` with another /etc/hosts, or under `asks(nameserver)`
with another name server, in a mount namespace that ends with it: nothing outside changes.
"""

from __future__ import annotations

import contextlib
import functools
import shutil
import socket
import struct
import subprocess
import threading
import time
from pathlib import Path
from types import TracebackType

import pytest


def names(folder: Path, hosts: dict[str, list[str]]) -> list[str]:
    """What to run a program under, so that a name stands for these addresses. Skips the test where that cannot be."""
    _need_namespaces()
    lines = [f"{address} {name}" for name, addresses in hosts.items() for address in addresses]
    return _with_files(folder, {"/etc/hosts": "\n".join(lines) + "\n", "/etc/host.conf": "multi on\n"})


def asks(folder: Path, nameserver: SlowNames) -> list[str]:
    """What to run a program under, so that it asks this name server alone."""
    _need_namespaces()
    lines = f"nameserver {nameserver.address}\noptions timeout:30 attempts:1\n"
    return _with_files(folder, {"/etc/resolv.conf": lines, "/etc/hosts": "127.0.0.1 localhost\n"})


def _with_files(folder: Path, files: dict[str, str]) -> list[str]:
    script = []
    for path, text in files.items():
        own = folder / path.strip("/").replace("/", "-")
        own.write_text(text)
        script.append(f"mount --bind {own} {path} && ")
    return ["unshare", "--map-root-user", "--mount", "sh", "-c", "".join(script) + 'exec "$0" "$@"']


@functools.cache
def _namespaces_work() -> bool:
    if shutil.which("unshare") is None:
        return False
    command = ["unshare", "--map-root-user", "--mount", "sh", "-c", "mount --bind /etc/hosts /etc/hosts"]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def _need_namespaces() -> None:
    if not _namespaces_work():
        pytest.skip("a name with addresses of the test's own needs a mount namespace (unshare), not to be had here")


class SlowNames:
    """A name server that says of every name that it is 127.0.0.1, `delay` seconds after it was asked."""

    def __init__(self, delay: float) -> None:
        self.delay = delay
        self.address = "127.0.0.153"
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        try:
            # Resolvers ask this port and no other.
            self._socket.bind((self.address, 53))
        except OSError as error:
            self._socket.close()
            pytest.skip(f"a name server needs the port 53 of {self.address}: {error}")
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def __enter__(self) -> SlowNames:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stopped.set()
        self._thread.join(10)
        self._socket.close()

    def _serve(self) -> None:
        """Asked for several addresses at once, it answers each in its own time."""
        waiting: list[tuple[float, bytes, object]] = []
        while not self._stopped.is_set():
            self._socket.settimeout(0.01)
            with contextlib.suppress(TimeoutError):
                question, sender = self._socket.recvfrom(512)
                waiting.append((time.monotonic() + self.delay, question, sender))
            while waiting and waiting[0][0] <= time.monotonic():
                _, question, sender = waiting.pop(0)
                self._socket.sendto(self._answer(question), sender)  # type: ignore[arg-type]

    @staticmethod
    def _answer(question: bytes) -> bytes:
        end = 12
        while question[end]:
            end += question[end] + 1
        asked = question[12 : end + 5]
        is_v4 = asked[-4:-2] == b"\x00\x01"
        record = b"\xc0\x0c\x00\x01\x00\x01" + struct.pack(">IH", 60, 4) + socket.inet_aton("127.0.0.1")
        # A response, recursion available; one question, and one record or none.
        return question[:2] + b"\x81\x80" + struct.pack(">4H", 1, is_v4, 0, 0) + asked + (record if is_v4 else b"")
