"""Which processes share the server of an `embedded://` URL, and what ends it."""

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from support.embedded import (
    HOLD,
    STOP_IN_A_CHILD,
    TIMEOUT,
    USE_AND_FORK,
    Process,
    command,
    connect,
    info,
    wait_for_end,
    wait_until_empty,
)

from django_vcache import embedded


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
