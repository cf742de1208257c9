"""The bench of requests: what load generators print is read, the report has every row and its ratios are right, and
each row of ours answers as it must.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from support.guests import ROOT, Guest
from support.server import ValkeyServer

WEB = ROOT / "benches/web"
PATHS = 'import sys; sys.path.append("../django")\n'
GUEST = Guest("bench_guest", ROOT / "benches/guest", "libbench_guest.so", "bench_guest.so")

SERVED = """
from pathlib import Path
import measuring, rows, servers, serving
from server import count_connections, free_port

name, valkey, scratch, guest = sys.argv[1], int(sys.argv[2]), Path(sys.argv[3]), sys.argv[4]
(row,) = [row for row in rows.rows() if row.name == name]
before = count_connections(valkey)
port = free_port()
settings = row.environment(valkey) | {"PYTHONPATH": f"{measuring.SITE}:{guest}"}
with serving.served(servers.command(row, sys.executable, port, scratch), port, scratch, settings, "") as running:
    measuring.prove(row, running, valkey)
    # One request of nginx is less than the clock of processes can tell.
    assert running.usage().cpu > 0 or row.server == "nginx"
    assert running.usage().rss_peak > 2**20
    print(count_connections(valkey) - before)
    pid = running.process.pid
assert not Path(f"/proc/{pid}").exists()
"""


def program(code: str, *arguments: str, given: str = "") -> str:
    """What a program prints that has the bench's modules."""
    command = [sys.executable, "-c", PATHS + code, *arguments]
    done = subprocess.run(command, cwd=WEB, input=given, capture_output=True, text=True, timeout=150, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def our_rows() -> list[Any]:
    code = """
import json, rows
print(json.dumps([[row.name, row.needs_guest, row.backend is rows.NONE] for row in rows.rows()
    if not row.environment_name]))
"""
    marks = {True: (pytest.mark.build,), False: ()}
    return [pytest.param(*row, id=row[0], marks=marks[row[1]]) for row in json.loads(program(code))]


@pytest.fixture(scope="module")
def guest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("guest")
    GUEST.install(folder)
    return folder


@pytest.mark.parametrize(("name", "needs_guest", "is_floor"), our_rows())
def test_a_row_of_ours_answers(
    fresh_server: ValkeyServer,
    tmp_path: Path,
    request: pytest.FixtureRequest,
    name: str,
    needs_guest: bool,
    is_floor: bool,
) -> None:
    if name.endswith("-nginx") and not (shutil.which("nginx") or Path("/usr/sbin/nginx").exists()):
        pytest.skip("nginx is not installed")
    folder = str(request.getfixturevalue("guest")) if needs_guest else ""
    connections = int(program(SERVED, name, str(fresh_server.port), str(tmp_path), folder))
    assert connections <= 1 if is_floor else connections == 1


def test_a_server_that_does_not_start_says_why(fresh_server: ValkeyServer, tmp_path: Path) -> None:
    code = """
from pathlib import Path
import rows, servers, serving
from server import free_port

(row,) = [row for row in rows.rows() if row.name == "hot_check-none-below"]
port, scratch = free_port(), Path(sys.argv[1])
try:
    # The site is not where Python looks for it.
    with serving.served(servers.command(row, sys.executable, port, scratch), port, scratch, row.environment(1), ""):
        pass
except serving.ServingError as error:
    print(error)
"""
    assert "the server did not start: " in (said := program(code, str(tmp_path)))
    assert "site_" in said


def test_the_envelope_is_what_is_sent() -> None:
    from django_vcache._vcache import decoded

    code = "import payloads; sys.stdout.buffer.write(payloads.envelope())"
    compressed = (WEB / "envelope.br").read_bytes()
    envelope = decoded(b"br", compressed, 10_000)
    assert envelope.decode() == program(code)
    assert 2900 < len(envelope) < 3300
    assert len(compressed) < len(envelope)


def load_of(module: str, printed: str) -> dict[str, Any]:
    """What a module reads of what its load generator printed."""
    code = f"""
import dataclasses, json, {module}, loading
try:
    load = {module}.parse(sys.stdin.read())
    print(json.dumps([dataclasses.asdict(load), load.problem]))
except loading.LoadError as error:
    print(json.dumps([{{"error": str(error)}}, None]))
"""
    figures, problem = json.loads(program(code, given=printed))
    return {**figures, "problem": problem}


def test_what_wrk_prints_is_read() -> None:
    printed = "Running 2s test @ http://127.0.0.1:1/\n  2 requests\nRESULT 1200 2000000 1500.5 1400.0 9000.0 0 0\n"
    assert load_of("wrk", printed) == {
        "requests": 1200,
        "seconds": 2.0,
        "mean": 1.5005,
        "p50": 1.4,
        "p99": 9.0,
        "refused": 0,
        "failed": 0,
        "problem": None,
    }
    assert load_of("wrk", "RESULT 9 2000000 1 1 1 3 2\n")["problem"] == (
        "void: 3 of 9 answers are no success, 2 have none"
    )
    assert load_of("wrk", "RESULT 0 2000000 0 0 0 0 0\n")["problem"] is not None
    assert load_of("wrk", "unable to connect")["error"] == "wrk failed: unable to connect"


def oha_printed(statuses: dict[str, int], errors: dict[str, int]) -> str:
    latencies = {"p10": 0.001, "p50": 0.0025, "p99": 0.04} if statuses else {}
    summary = {"successRate": 1.0, "total": 10.0, "average": 0.003 if statuses else None, "requestsPerSec": 100.0}
    return json.dumps(
        {
            "summary": summary,
            "latencyPercentiles": latencies,
            "statusCodeDistribution": statuses,
            "errorDistribution": errors,
        }
    )


def test_what_oha_prints_is_read() -> None:
    assert load_of("oha", oha_printed({"200": 990, "204": 10}, {"aborted due to deadline": 4})) == {
        "requests": 1000,
        "seconds": 10.0,
        "mean": 3.0,
        "p50": 2.5,
        "p99": 40.0,
        "refused": 0,
        "failed": 0,
        "problem": None,
    }
    assert load_of("oha", oha_printed({"200": 8, "503": 2}, {"timeout": 1}))["problem"] == (
        "void: 2 of 10 answers are no success, 1 have none"
    )
    assert load_of("oha", oha_printed({}, {"connection refused": 5}))["problem"] is not None
    assert load_of("oha", "not JSON")["error"] == "oha failed: not JSON"


FACTS = {"title": "At full load", "connections": 300, "seconds": 10.0, "rounds": 3}


def report(cells: list[dict[str, Any]], **parts: dict[str, Any]) -> tuple[list[str], str]:
    """The names of all rows, and the page of a run with these cells."""
    code = """
import json, rows, table
result = json.loads(sys.stdin.read())
names = [row.name for row in rows.rows()]
for part in result["parts"].values():
    part.setdefault("rows", names)
print(json.dumps([names, table.page(result)]))
"""
    machine = {"date": "2026-01-01", "cores": 2, "cpu": "any", "kernel": "Linux", "server": "Valkey"}
    result = {"machine": machine, "quick": False, "latency_ms": 1.0, "parts": parts, "cells": cells}
    names, text = json.loads(program(code, given=json.dumps(result)))
    return names, text


def cell(row: str, rate: float, cpu: float, number: int = 0, part: str = "work", **more: Any) -> dict[str, Any]:
    figures = {"mean_ms": 3, "p50_ms": 2.5, "p99_ms": 9, "rss_peak": 2**26, "connections": 1}
    return {"part": part, "row": row, "round": number, "rate": rate, "cpu": cpu, **figures, **more}


def void(row: str, number: int = 0) -> dict[str, Any]:
    why = "void: 3 of 90 answers are no success, 0 have none"
    return {"part": "work", "row": row, "round": number, "failed": why}


def test_the_report_has_every_row_and_the_ratios_of_medians() -> None:
    names, _ = report([], work=FACTS)
    assert len(set(names)) == len(names)
    ours = ((900, 100e-6), (1000, 90e-6), (1100, 20e-6))
    cells = [cell("nothing-none-ours", rate, cpu, number) for number, (rate, cpu) in enumerate(ours)]
    cells += [cell("nothing-none-django", 100, cpu, number) for number, cpu in enumerate((1e-3, 900e-6, 800e-6))]
    cells += [cell("six-vcache-ours", 800, 150e-6), void("six-vcache-ours", 1), void("six-redis-cache-django")]
    _, text = report(cells, work=FACTS)
    start = "| no cache call | ours | granian |"
    assert f"{start} 1,000 (900-1,100) | 90 | 0.09 | 3 | 2.5 | 9 | 64 | 1 |" in text
    assert "| async view, our handler / Django's, CPU | work | <= 0.2 | 0.1 (0.025-0.1) | yes |" in text
    assert "| six gets / no cache call, our handler, CPU | work | <= 1.4 | 1.67 (1.5-1.5) | no |" in text
    assert "| the mix / no cache call, our handler, CPU | work | <= 1.6 | - | not measured |" in text
    assert "| six gets, ours on our handler, connections | work | <= 1 | 1 (1-1) | yes |" in text
    assert "| 800 (800-800); 1 of 2 rounds void |" in text
    assert "| Django's RedisCache | Django's | granian | void: 3 of 90 answers are no success, 0 have none |" in text
    assert text.count("| not run |") == len(names) - 4


def test_pinned_has_ratios_of_its_own_and_a_slow_network_says_how_slow() -> None:
    rows = ["six-vcache-ours", "six-django-vcache-3.2-django"]
    cells = [
        cell("nothing-none-ours", 100, 25e-5, part="pinned"),
        cell("nothing-none-django", 100, 1e-3, part="pinned"),
    ]
    cells += [cell(rows[0], 1000, 1e-3, part="seed-rate", asked_rate=1000.0)]
    cells += [cell(rows[1], 300, 1e-3, part="seed-rate", asked_rate=1000.0, rss_peak=2**27)]
    slow = {**FACTS, "title": "At one rate", "round_trip_ms": 2.34, "rows": rows}
    _, text = report(cells, pinned=FACTS, **{"seed-rate": slow})
    assert "| async view, our handler / Django's, CPU | pinned | <= 0.3 | 0.25 (0.25-0.25) | yes |" in text
    assert "300 connections, 10 s each, 3 rounds; 1 ms each way between the site and the server, and a measured" in text
    assert "2.34 ms." in text
    assert "| 300 (300-300) of 1,000 |" in text
    assert "peak RSS | seed-rate | <= 1 | 0.5 (0.5-0.5) | yes |" in text
    # The part has only the rows that were asked for.
    assert text.partition("## At one rate")[2].count("| granian |") == len(rows)


def test_a_rate_is_a_share_of_what_the_slowest_row_of_the_group_took() -> None:
    code = """
import json, parts, rows
cells = json.loads(sys.stdin.read())
half = next(part for part in parts.parts() if part.name == "half")
for name in ("six-vcache-ours", "ingest-vcache-ours"):
    row = next(row for row in rows.rows() if row.name == name)
    try:
        print(half.rate_for(row, cells))
    except parts.PartError as error:
        print(error)
"""
    cells = [cell("six-vcache-ours", 4000, 1e-4), void("six-redis-cache-django")]
    cells += [cell("six-django-valkey-django", rate, 1e-3, number) for number, rate in enumerate((100, 300, 200))]
    cells += [cell("nothing-none-django", 5, 1e-3), cell("six-django-redis-ours", 1, 1e-3, part="pinned")]
    assert program(code, given=json.dumps(cells)).splitlines() == [
        "100.0",
        "no capacity of the rows of 'ingest' was measured in the part 'work'",
    ]


def test_a_partial_run_is_not_published() -> None:
    code = """
import bench
for arguments in ([], ["--quick"], ["--parts", "work"], ["--only", "six"]):
    options = bench.parse(arguments)
    print(options.output.name, [part.name for part in options.parts], options.parts[0].rounds)
"""
    parts = ["work", "pinned", "seed", "seed-rate", "half", "most"]
    assert program(code).splitlines() == [
        f"results {parts} 5",
        f"bench-web {[part for part in parts if part != 'pinned']} 1",
        "bench-web ['work'] 5",
        f"bench-web {parts} 5",
    ]


def test_plots_show_what_was_measured(tmp_path: Path) -> None:
    code = """
from pathlib import Path
import table
table.write(Path(sys.argv[1]))
"""
    machine = {"date": "2026-01-01", "cores": 2, "cpu": "any", "kernel": "Linux", "server": "Valkey"}
    facts = {**FACTS, "rows": []}
    cells = [cell("hot_ingest-vcache-below", 9000, 14e-6), cell("hot_ingest-vcache-early", 9000, 45e-6)]
    result = {"machine": machine, "quick": False, "latency_ms": 1.0, "parts": {"work": facts}, "cells": cells}
    (tmp_path / "latest.json").write_text(json.dumps(result))
    (tmp_path / "seed.svg").write_text("of an earlier run")
    program(code, str(tmp_path))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["README.md", "ingest.svg", "latest.json"]
    drawn = (tmp_path / "ingest.svg").read_text()
    assert ">below ASGI, Rust<" in drawn
    assert ">14<" in drawn
    assert "![CPU of ingest](ingest.svg)" in (tmp_path / "README.md").read_text()
