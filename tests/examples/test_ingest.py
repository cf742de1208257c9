"""`examples/ingest`: what its views answer, and that its demo runs, reports and cleans up."""

import http.client
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple
from uuid import uuid4

import pytest
from support.server import ValkeyServer

PROJECT = Path(__file__).parents[2] / "examples" / "ingest"
CLIENT = Path(__file__).with_name("ingest_client.py")
TIMEOUT = 180.0  # seconds

# KEY_PREFIX, and the key of the gate's stream.
STREAM = "ingest:vcache:2:{v00}:s:events"
EVENT = '{"message": "it broke", "tags": {"release": "1.4"}}'


class Answer(NamedTuple):
    """What a view answered."""

    status: int
    headers: dict[str, str]
    text: str

    @property
    def json(self) -> Any:
        return json.loads(self.text)


Call = Callable[..., list[Answer]]


@pytest.fixture
def server(fresh_server: ValkeyServer) -> ValkeyServer:
    """A server of the test's own, because its connections are counted."""
    return fresh_server


@pytest.fixture
def call(server: ValkeyServer) -> Call:
    """Sends (method, path, body) requests to the project, in one process, with these settings."""

    def call(*requests: tuple[str, str, str], **environment: str) -> list[Answer]:
        environment |= {
            "DJANGO_SETTINGS_MODULE": "ingest.settings",
            "PYTHONPATH": os.pathsep.join([str(PROJECT), os.environ.get("PYTHONPATH", "")]),
            "VCACHE_URL": server.url,
        }
        client = subprocess.run(
            [sys.executable, str(CLIENT)],
            input=json.dumps(requests),
            env=os.environ | environment,
            stdout=subprocess.PIPE,
            text=True,
            check=True,
            timeout=TIMEOUT,
        )
        return [Answer(*answer) for answer in json.loads(client.stdout)]

    return call


@pytest.fixture(params=["store", "store-sync"])
def view(request: pytest.FixtureRequest) -> str:
    """The path of a view, async or sync, that takes the events of project 1."""
    return f"/api/1/{request.param}/"


def test_a_good_event_goes_on_the_stream(call: Call, server: ValkeyServer, view: str) -> None:
    [answer] = call(("POST", view, EVENT))
    assert answer.status == 200
    [[_, fields]] = server.execute("XRANGE", STREAM, "-", "+")
    [payload] = [json.loads(field) for field in fields if field.startswith(b"{")]
    assert payload == {"id": answer.json["id"], "project": 1, "event": json.loads(EVENT)}


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("", "the body is not JSON: Expecting value"),
        ('{"message": ', "the body is not JSON: Expecting value"),
        ('{"value": NaN}', "the body is not JSON: NaN"),
        ("[" * 100_000, "the body is not JSON"),
        ("[]", "the body is not a JSON object"),
        ('"text"', "the body is not a JSON object"),
    ],
    ids=["empty", "cut-off", "nan", "deep", "list", "string"],
)
def test_a_bad_body_is_refused_with_the_reason(
    call: Call, server: ValkeyServer, view: str, body: str, reason: str
) -> None:
    [answer] = call(("POST", view, body))
    assert answer.status == 400
    assert answer.json["error"].startswith(reason)
    assert server.keys() == []


def test_a_body_above_the_limit_is_refused(call: Call, server: ValkeyServer, view: str) -> None:
    largest = '{"m": "' + "x" * (200 * 1024 - 9) + '"}'
    fits, too_large = call(("POST", view, largest), ("POST", view, largest + " "))
    assert fits.status == 200
    assert too_large.status == 413
    assert "at most 204800 bytes" in too_large.json["error"]
    assert server.execute("XLEN", STREAM) == 1


def test_a_project_above_its_limit_is_told_when_to_come_again(call: Call, server: ValkeyServer, view: str) -> None:
    other = view.replace("/1/", "/2/")
    *accepted, throttled, unaffected = call(*[("POST", view, EVENT)] * 4, ("POST", other, EVENT), INGEST_LIMIT="3")
    assert [answer.status for answer in accepted] == [200] * 3
    assert throttled.status == 429
    assert "too many events" in throttled.json["error"]
    assert 1 <= int(throttled.headers["Retry-After"]) <= 60
    assert unaffected.status == 200
    assert server.execute("XLEN", STREAM) == 4


def test_a_project_without_a_budget_is_told_to_come_again_in_a_period(call: Call, view: str) -> None:
    [answer] = call(("POST", view, EVENT), INGEST_LIMIT="0")
    assert answer.status == 429
    assert answer.headers["Retry-After"] == "60"


def test_a_full_stream_is_told_as_such(call: Call, server: ValkeyServer, view: str) -> None:
    server.execute("XADD", STREAM, "*", "payload", "x")
    [answer] = call(("POST", view, EVENT), INGEST_STREAM_MAXLEN="1")
    assert answer.status == 503
    assert "no room" in answer.json["error"]
    assert answer.headers["Retry-After"] == "1"
    assert server.execute("XLEN", STREAM) == 1


def test_only_a_post_is_an_event(call: Call, view: str) -> None:
    [answer] = call(("GET", view, ""))
    assert answer.status == 405


def test_stats_count_the_cache_the_stream_and_the_connection(call: Call, view: str) -> None:
    *_, answer = call(*[("POST", view, EVENT)] * 3, ("GET", "/stats/", ""))
    assert answer.json == {
        "cache_hits": 2,
        "cache_misses": 1,
        "stream_length": 3,
        "connections": 1,
    }


@pytest.fixture
def demo() -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Starts the demo; afterwards none of its processes and files may be left."""
    pytest.importorskip("granian")
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


def test_the_demo_reports_what_happened(demo: Callable[..., subprocess.Popen[str]]) -> None:
    process = demo()
    output, _ = process.communicate(timeout=TIMEOUT)
    assert process.returncode == 0, output
    report = {
        name: int(number.replace(",", ""))
        for name, number in re.findall(r"^  (\S.*?)  +([\d,]+)$", output, re.MULTILINE)
    }
    accepted, throttled = report["events accepted (200)"], report["events throttled (429)"]
    assert accepted + throttled == 2000
    assert throttled > 0
    assert report["events in the stream, on the server"] == accepted
    assert report["bodies that are not JSON objects (400)"] == 20
    assert report["bodies that are too large (413)"] == 5
    assert report["cache hits"] + report["cache misses"] == 2000
    assert report["cache hits"] > report["cache misses"]
    assert report["connections of the worker, on the server"] == 1
    assert "make serve" in output


def test_the_demo_fails_with_the_reason(demo: Callable[..., subprocess.Popen[str]]) -> None:
    process = demo(GRANIAN_BACKLOG="not a number")
    output, _ = process.communicate(timeout=TIMEOUT)
    assert process.returncode == 1
    assert "FAILED: granian did not start:" in output
    assert "'not a number' is not a valid integer" in output


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_serve_stays_up_until_it_is_stopped(demo: Callable[..., subprocess.Popen[str]], number: signal.Signals) -> None:
    process = demo("--serve")
    lines = []
    for line in process.stdout:
        lines.append(line)
        if "Ctrl-C stops everything" in line:
            break
    address = re.search(r"curl http://(\S+)/stats/", "".join(lines))
    assert address, lines
    web = http.client.HTTPConnection(address[1], timeout=TIMEOUT)
    web.request("GET", "/stats/")
    assert web.getresponse().status == 200
    web.close()
    process.send_signal(number)
    output, _ = process.communicate(timeout=TIMEOUT)
    assert process.returncode == 0, output
    assert "Stopping." in output
