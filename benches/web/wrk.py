"""wrk, a closed-loop load generator: a fixed number of connections, each with one request at a time.

It measures capacity and CPU. Its latencies are those of the queue that so many connections make, at full load.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from dataclasses import dataclass

SCRIPT = """
done = function(summary, latency)
  local e = summary.errors
  io.write(string.format("RESULT %d %d %.1f %.1f %.1f %d %d\\n", summary.requests, summary.duration, latency.mean,
    latency:percentile(50), latency:percentile(99), e.status, e.connect + e.read + e.write + e.timeout))
end
"""


class LoadError(Exception):
    """wrk is not there, or its answer is not understood."""


@dataclass(frozen=True)
class Load:
    """What a run of wrk saw. Latencies are in milliseconds."""

    requests: int
    seconds: float
    mean: float
    p50: float
    p99: float
    refused: int
    """Answers that were no success."""
    failed: int
    """Requests without an answer: time-outs, and connections that broke."""


def run(url: str, connections: int, seconds: float, script: str, cores: str = "") -> Load:
    """Loads a URL.

    Args:
        url: what is asked.
        connections: how many at once.
        seconds: how long; wrk knows whole ones.
        script: the path of a file with :data:`SCRIPT`.
        cores: the cores that wrk is pinned to, as taskset writes them; empty for all.

    Raises:
        LoadError: wrk is missing or fails.
    """
    if shutil.which("wrk") is None:
        raise LoadError("wrk was not found; on Debian: apt-get install wrk")
    command = ["wrk", "-t", "1", "-c", str(connections), "-d", f"{max(1, round(seconds))}s", "--timeout", "10s"]
    command += ["-s", script, url]
    if cores:
        command = ["taskset", "-c", cores, *command]
    done = subprocess.run(command, capture_output=True, text=True, timeout=seconds + 60)
    found = re.search(r"^RESULT (.*)$", done.stdout, re.MULTILINE)
    if found is None:
        raise LoadError(f"wrk failed: {done.stdout[-300:]}{done.stderr[-300:]}")
    requests, microseconds, mean, p50, p99, refused, failed = map(float, found[1].split())
    return Load(int(requests), microseconds / 1e6, mean / 1000, p50 / 1000, p99 / 1000, int(refused), int(failed))
