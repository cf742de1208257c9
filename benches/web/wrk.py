"""wrk, a closed-loop load generator: a fixed number of connections, each with one request at a time.

It measures capacity and CPU. Its latencies are those of the queue that so many connections make, at full load.
"""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

from loading import Load, LoadError, tool
from payloads import Asked

DONE = """
done = function(summary, latency)
  local e = summary.errors
  io.write(string.format("RESULT %d %d %.1f %.1f %.1f %d %d\\n", summary.requests, summary.duration, latency.mean,
    latency:percentile(50), latency:percentile(99), e.status, e.connect + e.read + e.write + e.timeout))
end
"""


def script(asked: Asked, folder: Path) -> Path:
    """A script for wrk that sends a request and prints what :func:`parse` reads.

    Args:
        asked: the request.
        folder: where the script and the body are written.
    """
    body = folder / "body"
    body.write_bytes(asked.body)
    # A string of JSON without escapes beyond ASCII is one of Lua, too.
    lines = [f"wrk.method = {json.dumps(asked.method)}"]
    lines += [f"wrk.headers[{json.dumps(name)}] = {json.dumps(value)}" for name, value in asked.headers]
    if asked.body:
        lines.append(f'local file = io.open({json.dumps(str(body))}, "rb"); wrk.body = file:read("*a"); file:close()')
    path = folder / "load.lua"
    path.write_text("\n".join([*lines, DONE]))
    return path


def run(url: str, asked: Asked, connections: int, seconds: float, folder: Path) -> Load:
    """Loads a server with one request, again and again.

    Args:
        url: of the server, without a path.
        asked: the request.
        connections: how many at once.
        seconds: how long; wrk knows whole ones.
        folder: for files.

    Raises:
        LoadError: wrk is missing or fails.
    """
    command = [tool("wrk", "make bench-tools installs it; on Debian: apt-get install wrk")]
    command += ["-t", "1", "-c", str(connections), "-d", f"{max(1, round(seconds))}s", "--timeout", "10s"]
    command += ["-s", str(script(asked, folder)), url + asked.path]
    done = subprocess.run(command, capture_output=True, text=True, timeout=seconds + 60)
    return parse(done.stdout, done.stderr)


def parse(printed: str, errors: str = "") -> Load:
    """What wrk printed with :data:`DONE`.

    Raises:
        LoadError: it has no result.
    """
    found = re.search(r"^RESULT (.*)$", printed, re.MULTILINE)
    if found is None:
        raise LoadError(f"wrk failed: {printed[-300:]}{errors[-300:]}")
    requests, microseconds, mean, p50, p99, refused, failed = map(float, found[1].split())
    return Load(int(requests), microseconds / 1e6, mean / 1000, p50 / 1000, p99 / 1000, int(refused), int(failed))
