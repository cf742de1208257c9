"""Processes that use an `embedded://` URL, and what their server answers."""

import socket
import subprocess
import sys
import time
from contextlib import closing, suppress
from pathlib import Path
from urllib.parse import unquote, urlsplit

TIMEOUT = 20.0  # seconds: how long an event may take before its test fails

USE = """
import sys
from django_vcache import embedded
print(embedded.resolve(sys.argv[1]), flush=True)
sys.stdin.read()
"""

HOLD = """
import sys
from django_vcache import embedded
embedded.hold(sys.argv[1])
print("held", flush=True)
sys.stdin.read()
"""

STOP_IN_A_CHILD = """
import os, sys
from django_vcache import embedded
url = embedded.resolve(sys.argv[1])
child = os.fork()
if child == 0:
    embedded.stop()
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
print(url, flush=True)
sys.stdin.read()
"""

USE_AND_FORK = """
import os, sys
from django_vcache import embedded
url = embedded.resolve(sys.argv[1])
child = os.fork()
if child == 0:
    os.close(0)
    if sys.argv[2] == "exit":
        sys.exit()
    os.close(1)
    os.read(int(sys.argv[2]), 1)  # until the test closes its end
    os._exit(0)
if sys.argv[2] == "exit":
    os.waitpid(child, 0)
print(url, flush=True)
sys.stdin.read()
"""


class Process:
    """A process that resolves a URL and then waits to be told to exit."""

    def __init__(self, url: str, code: str = USE, *arguments: str, fds: tuple[int, ...] = ()) -> None:
        self.popen = subprocess.Popen(
            [sys.executable, "-c", code, url, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            pass_fds=fds,
        )

    def url(self) -> str:
        """What `resolve` returned, once it has."""
        return self.popen.stdout.readline().strip()

    def exit(self) -> None:
        self.popen.communicate(timeout=TIMEOUT)
        assert self.popen.returncode == 0

    def kill(self) -> None:
        self.popen.kill()
        self.popen.communicate(timeout=TIMEOUT)


def connect(url: str) -> socket.socket:
    client = socket.socket(socket.AF_UNIX)
    client.settimeout(TIMEOUT)
    client.connect(unquote(urlsplit(url).path))
    return client


def command(url: str, line: str) -> str:
    """The reply to an inline command, as it is on the wire, from a connection of its own."""
    with closing(connect(url)) as client:
        client.sendall(f"{line}\r\nQUIT\r\n".encode())
        return b"".join(iter(lambda: client.recv(65536), b"")).decode()


def info(url: str, field: str) -> str:
    return command(url, "INFO server").split(f"{field}:")[1].split("\r\n")[0]


def wait_for_end(client: socket.socket) -> None:
    """Wait until the connection ends, which the server does only by ending."""
    with suppress(ConnectionResetError):  # It had not come to accept the connection.
        assert client.recv(1) == b""


def wait_until_empty(directory: Path) -> None:
    deadline = time.monotonic() + TIMEOUT
    while left := list(directory.iterdir()):
        assert time.monotonic() < deadline, f"left behind: {left}"
        time.sleep(0.01)
