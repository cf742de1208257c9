"""oha, an open-loop load generator: requests come at a fixed rate, whether the server keeps up or not.

It measures latency. A request that had to wait for a connection counts from when it was due, so that a server that
stalls does not hide it (``--latency-correction``).
"""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

from loading import Load, LoadError, tool
from payloads import Asked

UNDER_WAY = "aborted due to deadline"
"""What oha says of requests that were under way at the end: they are no errors of the server."""


def run(url: str, asked: Asked, connections: int, seconds: float, rate: float, folder: Path) -> Load:
    """Loads a server with one request at a fixed rate.

    Args:
        url: of the server, without a path.
        asked: the request.
        connections: how many there are at the most.
        seconds: how long; oha knows whole ones.
        rate: requests a second.
        folder: for files.

    Raises:
        LoadError: oha is missing or fails.
    """
    command = [tool("oha", "make bench-tools builds it with cargo")]
    command += [
        "--no-tui",
        "--no-color",
        "--output-format",
        "json",
        "-z",
        f"{max(1, round(seconds))}s",
        "-c",
        str(connections),
    ]
    command += ["-q", f"{max(1, round(rate))}", "--latency-correction", "-t", "10s", "-m", asked.method]
    for name, value in asked.headers:
        # oha sends a type by an option, which a header would only add to.
        command += ["-T", value] if name == "Content-Type" else ["-H", f"{name}: {value}"]
    if asked.body:
        body = folder / "body"
        body.write_bytes(asked.body)
        command += ["-D", str(body)]
    done = subprocess.run([*command, url + asked.path], capture_output=True, text=True, timeout=seconds + 60)
    return parse(done.stdout, done.stderr)


def parse(printed: str, errors: str = "") -> Load:
    """What oha printed as JSON.

    Raises:
        LoadError: it is not what oha prints.
    """
    try:
        found: dict[str, Any] = json.loads(printed)
        summary, latencies = found["summary"], found["latencyPercentiles"]
        answers = {int(status): int(number) for status, number in found["statusCodeDistribution"].items()}
        failures = {str(why): int(number) for why, number in found["errorDistribution"].items()}
        # It has no latencies if no request was answered.
        mean, p50, p99 = (
            1000 * (each or 0) for each in (summary["average"], latencies.get("p50"), latencies.get("p99"))
        )
        seconds = float(summary["total"])
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise LoadError(f"oha failed: {printed[-300:]}{errors[-300:]}") from error
    return Load(
        requests=sum(answers.values()),
        seconds=seconds,
        mean=mean,
        p50=p50,
        p99=p99,
        refused=sum(number for status, number in answers.items() if not 200 <= status < 300),
        failed=sum(number for why, number in failures.items() if why != UNDER_WAY),
    )
