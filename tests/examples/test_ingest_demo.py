"""`examples/ingest`: its demo runs, reports and cleans up."""

from __future__ import annotations

import http.client
import os
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from uuid import uuid4

import pytest
from support.tracker import PROJECT

TIMEOUT = 180.0  # seconds

Demo = Callable[..., subprocess.Popen[str]]


@pytest.fixture
def demo() -> Iterator[Demo]:
    """Starts the demo; afterwards none of its processes and files may be left."""
    mark = uuid4().hex
    with tempfile.TemporaryDirectory(prefix="vc-", dir="/tmp") as temporary:
        started: list[subprocess.Popen[str]] = []

        def start(*arguments: str, **environment: str) -> subprocess.Popen[str]:
            process = subprocess.Popen(
                [sys.executable, str(PROJECT / "demo.py"), *arguments],
                env=os.environ | {"TMPDIR": temporary, "VCACHE_TEST": mark} | environment,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
            started.append(process)
            return process

        yield start
        for process in started:
            if process.poll() is None:
                process.terminate()
            process.communicate(timeout=TIMEOUT)
        assert processes_with(mark) == []
        assert os.listdir(temporary) == []


def processes_with(mark: str) -> list[str]:
    """The command lines of processes with `mark` in their environment; Linux only."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if mark.encode() in (process / "environ").read_bytes():
                found.append((process / "cmdline").read_bytes().replace(b"\0", b" ").decode())
        except OSError:
            continue  # It has ended, or is another user's.
    return found


def test_the_demo_reports_what_happened(demo: Demo) -> None:
    process = demo()
    output, _ = process.communicate(timeout=TIMEOUT)
    assert process.returncode == 0, output
    report = {
        name: int(number.replace(",", ""))
        for name, number in re.findall(r"^  (\S.*?)  +([\d,]+)$", output, re.MULTILINE)
    }
    accepted, limited = report["requests of the load that were accepted (200)"], report["over the limit (429)"]
    assert accepted + limited == 1900
    assert limited > 0
    assert report["no envelopes (400)"] == 20
    assert report["too large (413)"] == 5
    assert report["events in the database"] == report["events accepted, all in all"] == accepted + 1 + 5
    assert report["connections once the consumer has ended"] == 1
    assert "ZeroDivisionError: division by zero" in output
    assert "return sum(prices) / len(prices)" in output
    assert "5 were accepted and 1 was answered with 429" in output
    assert "make serve" in output


def test_the_demo_fails_with_the_reason(demo: Demo) -> None:
    process = demo(UVICORN_BACKLOG="not a number")
    output, _ = process.communicate(timeout=TIMEOUT)
    assert process.returncode == 1
    assert "FAILED: uvicorn did not start:" in output
    assert "'not a number' is not a valid int" in output


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_serve_stays_up_until_it_is_stopped(demo: Demo, number: signal.Signals) -> None:
    process = demo("--serve")
    assert process.stdout is not None
    lines = []
    for line in process.stdout:
        lines.append(line)
        if "Ctrl-C stops everything" in line:
            break
    address = re.search(r"^  http://(\S+)/$", "".join(lines), re.MULTILINE)
    assert address, lines
    web = http.client.HTTPConnection(address[1], timeout=TIMEOUT)
    web.request("GET", "/")
    assert "shop" in web.getresponse().read().decode()
    web.close()
    process.send_signal(number)
    output, _ = process.communicate(timeout=TIMEOUT)
    assert process.returncode == 0, output
    assert "Stopping." in output
