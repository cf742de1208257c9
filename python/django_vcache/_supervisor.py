"""The process that keeps an embedded Valkey server running as long as any process uses it, and a while longer.

`django_vcache.embedded` runs this file by its path (`python -I -S _supervisor.py PROGRAM DIR LINGER`), so it uses the
standard library only. It detaches itself from the process that started it, which may be the first of its users to end.
On its stdout it says `ready`, or why there is no server.

Each process that uses the server holds a shared lock on `USERS_LOCK`, which the system releases when the process ends,
however that comes about. So the exclusive lock is to be had when there is no user, and who holds it keeps new ones out.
"""

import contextlib
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
USERS_LOCK = "valkey.users.lock"
START_LOCK = "valkey.start.lock"
"""Held by a user while it starts a server."""
SERVER_LOCK = "valkey.server.lock"
"""Held by the supervisor, whose process id is in it, as long as it runs."""

TEST_DIRECTORY = "vcache-test-"
"""How the name of a directory begins that is removed with its server."""

READY = "ready"
START_TIMEOUT = 10.0  # seconds: for the server before this one to go and for this one to answer
PING_TIMEOUT = 5.0  # seconds: a server may be busy with a script
POLL_INTERVAL = 0.01  # seconds
LINGER_INTERVAL = 0.1  # seconds between two looks for new users, when there are none

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


def try_lock(path: Path, kind: int = fcntl.LOCK_EX) -> int | None:
    """Take the lock file `path`, without waiting.

    Args:
        path: The file, which is created if it is missing.
        kind: `fcntl.LOCK_EX`, or `fcntl.LOCK_SH` for a lock that several may hold.

    Returns:
        The descriptor that holds the lock until it is closed; None while another process holds it.

    Raises:
        OSError: The file cannot be opened.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        pass
    else:
        # The last holder of a lock file deletes it: a deleted file's lock excludes no process.
        if is_file_at(descriptor, path):
            return descriptor
    os.close(descriptor)
    return None


def is_file_at(descriptor: int, path: Path) -> bool:
    """Whether an open file is still the one at `path`."""
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False


def wait_until(condition: Callable[[], bool], deadline: float) -> bool:
    """Wait for `condition`; False if it does not hold by `deadline` (seconds, monotonic clock)."""
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(POLL_INTERVAL)
    return True


def main(program: str, directory: Path, linger: float) -> None:
    """Run the server in `directory` until it has no users for `linger` seconds, or stops by itself."""
    # The process that started it then need not wait for its end.
    if os.fork():
        os._exit(0)
    deadline = time.monotonic() + START_TIMEOUT
    # Its turn comes when the supervisor before it has cleaned up. The lock is held until the end of this process.
    while (lock := try_lock(directory / SERVER_LOCK)) is None:
        if time.monotonic() > deadline:
            report(f"the previous server in {directory} did not stop in {START_TIMEOUT:g} seconds")
            return
        time.sleep(POLL_INTERVAL)
    os.truncate(lock, 0)
    os.write(lock, b"%d" % os.getpid())
    (directory / SOCKET).unlink(missing_ok=True)
    server = start(program, directory)
    stopped_by_us, unused = threading.Event(), threading.Event()

    def stop(*_: object) -> None:
        stopped_by_us.set()
        server.kill()  # It keeps nothing on disk: a slower stop would save nothing.

    def stop_when_unused() -> None:
        users = wait_until_unused(directory / USERS_LOCK, linger)
        if users is not None:
            unused.set()
        stop()

    signal.signal(signal.SIGTERM, stop)
    wait_until(lambda: server.poll() is not None or answers(directory / SOCKET), deadline)
    if answers(directory / SOCKET):
        threading.Thread(target=stop_when_unused, daemon=True).start()
        report(READY)
    else:
        server.kill()
        log = (directory / LOG).read_text(errors="replace").strip()
        report(f"the Valkey server in {directory} did not start; its log ends with: {log[-500:]}")
    server.wait()
    # The directory may have been removed, and another server may run in a new one.
    if is_file_at(lock, directory / SERVER_LOCK):
        if unused.is_set() or try_lock(directory / USERS_LOCK) is not None:
            remove_locks_of_users(directory)
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
    the process; in a user of the server it may be a short-lived one. That is one reason for a supervisor.
    """
    if sys.platform != "linux":
        return None
    prctl = ctypes.CDLL(None).prctl
    return lambda: prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def wait_until_unused(path: Path, linger: float) -> int | None:
    """Wait until the server has had no users for `linger` seconds.

    Returns:
        The descriptor that holds `USERS_LOCK`, so that no user comes. None if the directory was removed: users who come
        do not find this server.
    """
    try:
        while True:
            users = os.open(path, os.O_RDWR | os.O_NOFOLLOW)
            fcntl.flock(users, fcntl.LOCK_EX)  # It sleeps until the last user has ended.
            if not is_file_at(users, path):
                return None
            if linger == 0 or stays_unused(users, path, linger):
                return users
            os.close(users)
    except FileNotFoundError:
        return None


def stays_unused(users: int, path: Path, linger: float) -> bool:
    """Let users in for `linger` seconds; whether there was none. The lock is held before and, if so, after."""
    seen, deadline = os.fstat(users).st_mtime_ns, time.monotonic() + linger
    while time.monotonic() < deadline and is_file_at(users, path):
        fcntl.flock(users, fcntl.LOCK_UN)
        time.sleep(min(LINGER_INTERVAL, linger))
        try:
            fcntl.flock(users, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        # A user that came and went has left the time at which it came.
        if seen != (seen := os.fstat(users).st_mtime_ns):
            deadline = time.monotonic() + linger
    return True


def report(line: str) -> None:
    """Tell the process that started this how it went; it reads to the end of the pipe."""
    os.write(1, line.encode())
    os.close(1)


def remove_files(directory: Path, *, keep_log: bool) -> None:
    """Remove what the server left in `directory`; its log stays if it stopped by itself."""
    # The directory, or files in it, may have been removed.
    with contextlib.suppress(FileNotFoundError):
        (directory / SOCKET).unlink(missing_ok=True)
        if not keep_log:
            (directory / LOG).unlink(missing_ok=True)
        (directory / SERVER_LOCK).unlink()
        if directory.name.startswith(TEST_DIRECTORY):
            with contextlib.suppress(OSError):
                directory.rmdir()


def remove_locks_of_users(directory: Path) -> None:
    """Remove the locks that users take. The caller holds `USERS_LOCK`, so there are no users."""
    (directory / START_LOCK).unlink(missing_ok=True)
    (directory / USERS_LOCK).unlink(missing_ok=True)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), float(sys.argv[3]))
