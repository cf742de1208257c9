"""The process that keeps an embedded Valkey server running exactly as long as its owner.

`django_vcache.embedded` runs this file by its path (`python -I -S _supervisor.py PROGRAM DIR`), so
it uses the standard library only. Its stdin is a pipe that the owner holds open and never writes
to: the end of that pipe is the end of the owner, however it came about. On its stdout it says
`ready`, or why there is no server.
"""

import ctypes
import fcntl
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

SOCKET = "valkey.sock"
LOG = "valkey.log"
OWNER_LOCK = "valkey.owner.lock"
SERVER_LOCK = "valkey.server.lock"

READY = "ready"
START_TIMEOUT = 10.0  # seconds: for the server before this one to go and for this one to answer
PING_TIMEOUT = 5.0  # seconds: a server may be busy with a script
POLL_INTERVAL = 0.01  # seconds

_PR_SET_PDEATHSIG = 1


def answers(path: Path) -> bool:
    """Whether a server behind the Unix socket `path` answers a PING."""
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(PING_TIMEOUT)
        try:
            client.connect(str(path))
            client.sendall(b"PING\r\n")
            return client.recv(16) != b""
        except OSError:
            return False


def try_lock(path: Path) -> int | None:
    """Take the lock file `path`, without waiting.

    Returns:
        The descriptor that holds the lock until it is closed; None while another process holds it.

    Raises:
        OSError: The file cannot be opened.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # Holders delete their lock file when they are done: a deleted file's lock excludes nobody.
        if os.path.samestat(os.fstat(descriptor), path.stat()):
            return descriptor
    except (BlockingIOError, FileNotFoundError):
        pass
    os.close(descriptor)
    return None


def wait_until(condition: Callable[[], bool], deadline: float) -> bool:
    """Wait for `condition`; False if it does not hold by `deadline` (seconds, monotonic clock)."""
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(POLL_INTERVAL)
    return True


def main(program: str, directory: Path) -> None:
    """Run the server in `directory` until the owner is gone or the server stops by itself."""
    deadline = time.monotonic() + START_TIMEOUT
    # Its turn comes when the supervisor of the previous owner has cleaned up. The descriptor stays
    # open, and the lock held, until the end of this process.
    if not wait_until(lambda: try_lock(directory / SERVER_LOCK) is not None, deadline):
        report(f"the previous server in {directory} did not stop in {START_TIMEOUT:g} seconds")
        return
    (directory / SOCKET).unlink(missing_ok=True)
    server = start(program, directory)
    stopped_by_us = threading.Event()

    def stop(*_: object) -> None:
        stopped_by_us.set()
        server.kill()  # It keeps nothing on disk: a slower stop would save nothing.

    signal.signal(signal.SIGTERM, stop)
    threading.Thread(target=stop_with_owner, args=(stop,), daemon=True).start()
    wait_until(lambda: server.poll() is not None or answers(directory / SOCKET), deadline)
    if answers(directory / SOCKET):
        report(READY)
    else:
        server.kill()
        log = (directory / LOG).read_text(errors="replace").strip()
        report(f"the Valkey server in {directory} did not start; its log ends with: {log[-500:]}")
    server.wait()
    remove_files(directory, keep_log=not stopped_by_us.is_set())


def start(program: str, directory: Path) -> subprocess.Popen[bytes]:
    """Start the server on a Unix socket in `directory`, without persistence."""
    options = {
        "--port": "0",
        "--unixsocket": str(directory / SOCKET),
        "--unixsocketperm": "700",
        "--save": "",
        "--appendonly": "no",
        "--dir": str(directory),
    }
    arguments = [text for option in options.items() for text in option]
    with open(directory / LOG, "wb") as log:
        return subprocess.Popen(
            [program, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            preexec_fn=death_pact(),
        )


def death_pact() -> Callable[[], object] | None:
    """What the server calls before its exec, to die also when this process is killed (Linux only).

    Linux ties this to the thread that forked. Here that is the main thread, which lives as long as
    the process; in the owner it may be a short-lived one. That is why there is a supervisor.
    """
    if sys.platform != "linux":
        return None
    prctl = ctypes.CDLL(None).prctl
    return lambda: prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def stop_with_owner(stop: Callable[[], None]) -> None:
    """Wait for the end of the owner, then call `stop`."""
    while os.read(0, 1):
        pass
    stop()


def report(line: str) -> None:
    """Tell the owner how the start went; it reads to the end of the pipe."""
    os.write(1, line.encode())
    os.close(1)


def remove_files(directory: Path, *, keep_log: bool) -> None:
    """Remove what the server left in `directory`; its log stays if it stopped by itself."""
    try:
        (directory / SOCKET).unlink(missing_ok=True)
        if not keep_log:
            (directory / LOG).unlink()
        remove_owner_lock(directory / OWNER_LOCK)
        (directory / SERVER_LOCK).unlink()
    except FileNotFoundError:
        pass  # Somebody has removed the directory, or files in it.


def remove_owner_lock(path: Path) -> None:
    """Remove the owner's lock file, unless there is a new owner.

    The system closes the files of an owner that ends one after the other: its lock may be the last.
    A new owner, who is waiting for this server to go, has emptied the file.
    """
    deadline = time.monotonic() + 1.0
    while try_lock(path) is None:
        if path.stat().st_size == 0 or time.monotonic() > deadline:
            return
        time.sleep(POLL_INTERVAL)
    path.unlink()


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
