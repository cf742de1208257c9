"""The benches measure what is there: each client of ours goes through its scenarios once, and proves that it limits."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from support.server import ValkeyServer, server_binary, tls_binary

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


def measured(client: str, scenario: str, port: int, admin_port: int, **environment: str) -> dict[str, Any]:
    arguments = ["--client", client, "--scenario", scenario, "--port", str(port), "--admin-port", str(admin_port)]
    command = [sys.executable, str(BENCHES / "worker.py"), *arguments, "--warmup", "0.01", "--seconds", "0.05"]
    environment = {**os.environ, **environment}
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False, env=environment)
    answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    assert "failed" not in answer, answer
    assert answer["ops"] > 0
    return answer


@pytest.mark.parametrize(("client", "scenario"), cells())
def test_a_cell_is_measured(fresh_server: ValkeyServer, client: str, scenario: str) -> None:
    measured(client, scenario, fresh_server.port, fresh_server.port)


# Servers as the bench itself starts them, until the program's input ends.
_START = """
import sys, tempfile
from pathlib import Path
import fleet
folder = Path(tempfile.mkdtemp(dir=sys.argv[3]))
kind = fleet.with_tls(folder) if sys.argv[1] == "tls" else fleet.cluster(sys.argv[2], folder)
with kind as ports:
    print(ports, fleet.certificate_of(folder), flush=True)
    sys.stdin.read()
"""


@pytest.mark.parametrize(
    "scenario", ["tls-aget-50", "tls-get-1", "cluster-aget-50", "cluster-get-1", "cluster-aget_many-50"]
)
def test_tls_and_a_cluster_are_measured(tmp_path: Path, scenario: str) -> None:
    over = scenario.partition("-")[0]
    if over == "tls":
        tls_binary()
    command = [sys.executable, "-c", _START, over, server_binary(), str(tmp_path)]
    with subprocess.Popen(command, cwd=BENCHES, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as started:
        assert started.stdout is not None
        *ports, certificate = started.stdout.readline().translate(str.maketrans("(,)", "   ")).split()
        answer = measured(f"vcache-{over}", scenario, int(ports[0]), int(ports[-1]), BENCH_CA=certificate)
        started.communicate()
    assert answer["connections"] == (1 if over == "tls" else 3)
