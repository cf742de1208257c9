"""The bench of requests: its site answers on our cache under each handler, and its table holds every row."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from support.server import ValkeyServer

WEB = Path(__file__).parents[2] / "benches/web"

SERVED = """
import sys
from pathlib import Path

sys.path.insert(0, "../django")
import rows
import serving
from server import count_connections, free_port

handler, port = sys.argv[1], int(sys.argv[2])
views = {"wsgi": ["nothing_sync", "six_sync"]}.get(handler, ["nothing", "nothing_sync", "six", "six_sync", "mix"])
row = rows.Row("nothing", rows.OUR_CACHE, handler, middleware=True)
interface = "wsgi" if handler == "wsgi" else "asgi"
before = count_connections(port)
environment = row.environment(port)
with serving.granian(sys.executable, interface, Path("site"), [], environment, free_port(), "") as running:
    assert running.get("store") == "ok"
    assert [running.get(view) for view in views] == ["ok"] * len(views)
    used = running.usage()
    assert used.cpu > 0
    assert used.rss_peak > 10 * 2**20
    assert count_connections(port) - before == 1
    pid = running.process.pid
assert not Path(f"/proc/{pid}").exists()
"""

TABLE = """
import json, sys
import rows, table
result = json.loads(sys.stdin.read())
print(json.dumps([[row.name for row in rows.rows()], table.write(result, list(rows.rows()))]))
"""


@pytest.mark.parametrize("handler", ["django", "ours", "wsgi"])
def test_the_site_answers_on_our_cache(fresh_server: ValkeyServer, handler: str) -> None:
    command = [sys.executable, "-c", SERVED, handler, str(fresh_server.port)]
    done = subprocess.run(command, cwd=WEB, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stderr


def table(cells: list[dict[str, Any]]) -> tuple[list[str], str]:
    machine = {"date": "2026-01-01", "cores": 2, "cpu": "any", "kernel": "Linux", "server": "Valkey"}
    facts = {"quick": False, "connections": 300, "seconds": 10.0, "latency_ms": 0, "pinned": False}
    result = json.dumps({"machine": machine, **facts, "cells": cells})
    done = subprocess.run(
        [sys.executable, "-c", TABLE], cwd=WEB, input=result, capture_output=True, text=True, check=True
    )
    names, text = json.loads(done.stdout)
    return names, text


def cell(row: str, rate: float, cpu: float) -> dict[str, Any]:
    return {"row": row, "rate": rate, "cpu": cpu, "mean_ms": 3, "p99_ms": 9, "rss_peak": 2**26, "connections": 1}


def test_the_table_has_every_row_and_the_ratios_of_medians() -> None:
    names, _ = table([])
    assert len(set(names)) == len(names)
    cells = [cell("nothing-none-ours", rate, cpu) for rate, cpu in ((900, 100e-6), (1000, 90e-6), (1100, 20e-6))]
    cells += [cell("nothing-none-django", 100, 900e-6)]
    cells += [{"row": "six-redis-cache-django", "failed": "void: 3 of 90 answers are no success, 0 have none"}]
    _, text = table(cells)
    assert "| no cache call | ours | 1,000 (900-1,100) | 90 | 3 | 9 | 64 | 1 |" in text
    assert "| async view, our handler / Django's, CPU | <= 0.2 | 0.10 |" in text
    assert "| Django's RedisCache | Django's | void: 3 of 90 answers are no success, 0 have none |" in text
    assert text.count("| not run |") == len(names) - 3
