"""`examples/ingest` with the client that it is for: the official `sentry-sdk`."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from support.server import wait_until
from support.tracker import Tracker

SHOP = """
import sentry_sdk, sys

sentry_sdk.init(sys.argv[1], release="shop@1.4.2", environment="test", default_integrations=True)


def total(prices):
    return sum(prices) / len(prices)


def checkout(cart):
    customer = "fox"
    return total(cart)


checkout([])
"""


def run(program: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, str(program), *arguments], capture_output=True, text=True, timeout=60)


def test_an_uncaught_exception_arrives_as_a_row_with_its_stack_trace(tracker: Tracker, tmp_path: Path) -> None:
    client = tracker.client()
    program = tmp_path / "shop.py"
    program.write_text(SHOP)
    with tracker.consumer():
        done = run(program, client.dsn)
        assert "ZeroDivisionError" in done.stderr
        [(issue, title, culprit, data)] = wait_until(
            lambda: tracker.query(
                f"SELECT issue_id, title, culprit, data FROM tracker_event WHERE project_id = {client.id}"
            ),
            what="the event is stored",
        )
    assert title == "ZeroDivisionError: division by zero"
    assert culprit == "total in shop.py"
    frames = json.loads(data)["exception"]["values"][0]["stacktrace"]["frames"]
    assert [frame["function"] for frame in frames] == ["<module>", "checkout", "total"]
    page = client.request("GET", f"/issues/{issue}/").text
    assert "return sum(prices) / len(prices)" in page
    assert "customer" in page
    assert "shop@1.4.2" in page
    assert page.index("<code>total</code>") < page.index("<code>checkout</code>"), "the innermost call comes first"


SLOW_DOWN = """
import sentry_sdk, sys

sentry_sdk.init(sys.argv[1], send_client_reports=True)
for number in range(int(sys.argv[2])):
    sentry_sdk.capture_message(f"message {number}")
    # One at a time: the client learns from each answer.
    sentry_sdk.flush(10)
sentry_sdk.get_client().close(10)
"""


def test_a_client_that_is_told_to_slow_down_does(tracker: Tracker, tmp_path: Path) -> None:
    client = tracker.client(rate=3)
    program = tmp_path / "noisy.py"
    program.write_text(SLOW_DOWN)
    done = run(program, client.dsn, "10")
    assert done.returncode == 0, done.stderr
    totals = client.request("GET", f"/projects/{client.id}/live/").json["totals"]
    assert totals["accepted"] == 3
    assert totals["limited"] == 1, "one answer was enough"
    # The one that was refused, and those that the client has not sent.
    assert totals["dropped"] in (6, 7)
