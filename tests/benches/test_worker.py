"""The benches measure what is there: each client of ours goes through its scenarios once, and proves that it limits."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from support.server import ValkeyServer

BENCHES = Path(__file__).parents[2] / "benches/django"

# Scenarios of each kind; those with few callers are quick.
NAMES = {
    "aget-50",
    "anothing",
    "aset-50",
    "five-50",
    "gate-1",
    "gate-blocking",
    "get-8",
    "get_many-1",
    "nothing",
    "refused-300",
    "throttle-300",
    "throttle-blocking",
}
_LIST = f"""
NAMES = {NAMES!r}
import json
from clients import CLIENTS
from scenarios import SCENARIOS
print(json.dumps([
    (client.name, scenario.name)
    for client in CLIENTS
    for scenario in SCENARIOS
    if not client.environment and client.name != "guest" and client.takes_part(scenario) and not scenario.late
    and scenario.name in NAMES
]))
"""


def cells() -> list[tuple[str, str]]:
    listed = subprocess.run([sys.executable, "-c", _LIST], cwd=BENCHES, capture_output=True, text=True, check=True)
    return [(client, scenario) for client, scenario in json.loads(listed.stdout)]


@pytest.mark.parametrize(("client", "scenario"), cells())
def test_a_cell_is_measured(fresh_server: ValkeyServer, client: str, scenario: str) -> None:
    port = str(fresh_server.port)
    arguments = ["--client", client, "--scenario", scenario, "--port", port, "--admin-port", port]
    command = [sys.executable, str(BENCHES / "worker.py"), *arguments, "--warmup", "0.01", "--seconds", "0.05"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
    answer = json.loads(done.stdout.splitlines()[-1])
    assert "failed" not in answer, answer
    assert answer["ops"] > 0
