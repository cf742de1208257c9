"""Descriptors are numbers, and numbers are used again. No program that the process starts inherits ours. When a daemon
has closed them all, the files that have their numbers then are not touched.
"""

from __future__ import annotations

import functools
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from support.caches import cache_setting
from support.driver import LOOPS
from support.programs import Program, run_program
from support.server import ValkeyServer

HELPERS = """
import warnings
warnings.simplefilter("ignore", DeprecationWarning)

def check(name):
    cache.set(name, name)
    assert cache.get(name) == name

async def acheck(name):
    await cache.aset(name, name)
    assert await cache.aget(name) == name

def use(name):
    "Every kind of descriptor that there is: a connection, one for a command that blocks, loops, threads."
    check(name)
    cache.execute("BLPOP", "empty", 0.001)
    for turn in range(3):
        run(acheck(f"{name}{turn}"))
        gc.collect()
    in_threads(3, lambda number: run(acheck(f"{name} {number}".replace(" ", "-"))))
    check(name)

def close_all():
    os.closerange(3, 4096)

def open_files():
    files = []
    for number in range(12):
        fd = os.open(f"{folder}/{number}", os.O_RDWR | os.O_CREAT | os.O_TRUNC)
        os.write(fd, b"first %d\\n" % number)
        files.append((number, fd, os.fstat(fd).st_ino))
    return files

def what_became_of(files):
    "Of those that are not as they should be, what they are instead."
    wrong = []
    for number, fd, inode in files:
        try:
            if os.fstat(fd).st_ino != inode:
                wrong.append([number, "another file"])
                continue
            os.write(fd, b"second %d\\n" % number)
        except OSError as error:
            wrong.append([number, str(error)])
            continue
        with open(f"{folder}/{number}", "rb") as file:
            found = file.read()
        if found != b"first %d\\nsecond %d\\n" % (number, number):
            wrong.append([number, repr(found)])
    return wrong
"""

DAEMON = """
use("parent")
pid = os.fork()
if pid == 0:
    close_all()
    files = open_files()
    use("child")
    gc.collect()
    use("child-again")
    report(what_became_of(files))
    os._exit(0)
report(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
use("parent-again")
report(cache.execute("CLIENT", "LIST").count(b"cmd=blpop"))
"""


@pytest.mark.parametrize(("loop", "address"), [("asyncio", "tcp_url"), ("uvloop", "url")])
def test_a_daemon_that_closed_all_descriptors_keeps_its_own_files(
    fresh_server: ValkeyServer, tmp_path: Path, loop: str, address: str
) -> None:
    """What python-daemon does: fork, close everything, open files of its own. The cache connects anew."""
    setting = {**cache_setting(fresh_server), "LOCATION": getattr(fresh_server, address)}
    source = HELPERS + f"folder = {str(tmp_path)!r}\n" + DAEMON
    wrong, code, dedicated = run_program(source, {"default": setting}, loop)
    assert wrong == []
    assert code == 0
    assert dedicated == 1, "the parent's connections were disturbed"


CLOSED = """
use("before")
close_all()
files = open_files()
outcomes = []
for turn in range(10):
    for attempt in (lambda: check("after"), lambda: run(acheck("after")), lambda: use("after")):
        try:
            attempt()
        except Exception as error:
            outcomes.append(repr(error))
        else:
            outcomes.append("works")
    gc.collect()
report([outcomes, what_became_of(files)])
"""


@pytest.mark.parametrize("loop", LOOPS)
def test_a_process_that_closed_all_descriptors_keeps_its_own_files(
    server: ValkeyServer, tmp_path: Path, loop: str
) -> None:
    """Without a fork, so that nothing says that our numbers are not ours any more. Calls may fail or work, but what
    they find under those numbers is not theirs."""
    source = HELPERS + f"folder = {str(tmp_path)!r}\n" + CLOSED
    setting = cache_setting(server, RESPONSE_TIMEOUT=0.5, CONNECT_TIMEOUT=0.5)
    outcomes, wrong = run_program(source, {"default": setting}, loop)
    assert len(outcomes) == 30
    assert wrong == [], outcomes


FORKED = """
use("before")
close_all()
files = open_files()
pid = os.fork()
if pid == 0:
    report(what_became_of(files))
    os._exit(0)
report(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
"""


@pytest.mark.parametrize("address", ["tcp_url", "url"])
def test_the_child_of_a_process_that_closed_all_descriptors_keeps_its_files(
    server: ValkeyServer, tmp_path: Path, address: str
) -> None:
    """A child closes the sockets that it inherits: by their numbers, which may be files of the user's by now.
    (On asyncio: libuv itself closes descriptors by number in the child of every fork.)"""
    source = HELPERS + f"folder = {str(tmp_path)!r}\n" + FORKED
    setting = {**cache_setting(server), "LOCATION": getattr(server, address)}
    wrong, code = run_program(source, {"default": setting}, "asyncio")
    assert wrong == []
    assert code == 0


INHERITED = """
import fcntl

use("warm")
open_runner(_request["loop"]).get_loop().run_until_complete(acheck("k"))
inherited = []
for name in os.listdir("/proc/self/fd"):
    try:
        if int(name) > 2 and not fcntl.fcntl(int(name), fcntl.F_GETFD) & fcntl.FD_CLOEXEC:
            inherited.append(os.readlink(f"/proc/self/fd/{name}"))
    except OSError:
        # The folder itself, which is closed by now.
        continue
report(inherited)
"""


@pytest.mark.parametrize(("loop", "address"), [("asyncio", "tcp_url"), ("uvloop", "url")])
def test_programs_that_the_process_starts_inherit_no_descriptor(server: ValkeyServer, loop: str, address: str) -> None:
    setting = {**cache_setting(server), "LOCATION": getattr(server, address)}
    assert run_program(HELPERS + INHERITED, {"default": setting}, loop) == []


@functools.cache
def can_trace() -> bool:
    if shutil.which("strace") is None:
        return False
    return subprocess.run(["strace", "-qq", "true"], capture_output=True, check=False).returncode == 0


# What makes a descriptor and can make it so that no other program inherits it.
CREATES = ("socket", "socketpair", "pipe", "pipe2", "epoll_create", "epoll_create1", "eventfd", "eventfd2")
CREATES += ("timerfd_create", "accept", "accept4", "signalfd4", "inotify_init1", "memfd_create", "dup")


@pytest.mark.parametrize("address", ["url", "tcp_url"])
def test_no_descriptor_can_be_inherited_for_even_a_moment(server: ValkeyServer, tmp_path: Path, address: str) -> None:
    """A thread may start a program between two system calls, so the one that makes a descriptor says that it is not to
    be inherited."""
    if not can_trace():
        pytest.skip("strace is needed, and allowed to trace")
    log = tmp_path / "calls"
    under = ["strace", "-f", "-qq", "-o", str(log), "-e", f"trace={','.join(CREATES)}"]
    setting: dict[str, Any] = {**cache_setting(server), "LOCATION": getattr(server, address)}
    with Program(HELPERS + 'use("k")', {"default": setting}, under=under) as program:
        program.end()
    calls = [line for line in log.read_text().splitlines() if re.search(r" = (?!-1)\d+", line)]
    assert any("epoll_create1" in call for call in calls)
    open_to_others = [call for call in calls if "CLOEXEC" not in call and "resumed" not in call]
    assert open_to_others == []
