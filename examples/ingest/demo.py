"""Runs the tracker for real, and shows what it does (`make demo`, `make serve`).

It starts an embedded Valkey server, the site and the consumer. The official client reports an exception of a script,
and has to slow down; a second process sends load. Then it compares what clients were told with what was stored.
With `--serve` it stays up until Ctrl-C instead.
"""

import argparse
import json
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from urllib.parse import urlsplit

from running import (
    HERE,
    STEP_TIMEOUT,
    STOP_SIGNALS,
    Failure,
    Server,
    Site,
    hold_signals,
    release_signals,
    run,
    start_server,
    stop,
)

LIMIT = 350  # events a minute of the project that sends too much
SLOW = 5  # events a minute of the project whose client has to slow down
MESSAGES = 20  # that it wants to send
STREAM = "ingest:vcache:2:{v00}:s:events"


@contextmanager
def step(text: str) -> Iterator[None]:
    """Say what is going on, and how long it took."""
    print(f"  {text}:", end=" ", flush=True)
    started = time.monotonic()
    yield
    print(f"{time.monotonic() - started:.1f} s", flush=True)


def demo(stack: ExitStack, directory: Path) -> None:
    """Run the tracker, send it events, and report."""
    print("\nvcache: an error tracker for Sentry's clients, under load\n")
    with step("starting a Valkey server on a private socket"):
        url = start_server(stack, directory)
        server = stack.enter_context(closing(Server(url)))
    site = Site(stack, directory, url, is_loud=False)
    with step("making a database and projects"):
        site.manage("migrate", "--verbosity", "0")
        *calm, noisy, slow = site.projects("shop", "web", "mobile", "jobs", f"noisy:{LIMIT}", f"slow:{SLOW}")
    with step("starting the site, one process, and the consumer"):
        site.start_web()
        consumer = site.start_consumer()
    with step("a script raises an exception"):
        raised = run("shop.py", calm[0])
        if "ZeroDivisionError" not in raised.stderr:
            raise Failure(f"the script did not fail as it should:\n{raised.stderr}")
        trace = wait_for_trace(site)
    print(trace)
    with step(f"a client sends {MESSAGES} messages for a project that may send {SLOW} a minute"):
        sent = run("shop.py", slow, "--many", str(MESSAGES))
        if sent.returncode:
            raise Failure(f"the client failed:\n{sent.stderr}")
        held = site.live(urlsplit(slow).path.strip("/"))
    print(
        f"""
      {held["accepted"]} were accepted and {held["limited"]} was answered with 429. The client held back the rest:
      its report says that it has dropped {held["dropped"]}
"""
    )
    with step("sending requests from a second process"):
        statuses = send_load([*calm, noisy])
    with step("waiting until all is stored"):
        wait_for_rows(site, site.live()["accepted"])
    report(server, site, statuses, consumer)
    print(
        "\nEvery event that was accepted is a row, and each process had one connection.\n"
        "Next: `make serve` keeps it up, to open in a browser. The code: examples/ingest"
    )


def rows(site: Site, query: str) -> list[tuple[object, ...]]:
    """Rows of the database."""
    with closing(sqlite3.connect(site.database, timeout=20)) as database:
        return database.execute(query).fetchall()


def wait_for_rows(site: Site, expected: int) -> None:
    """Until so many events are stored."""
    deadline = time.monotonic() + STEP_TIMEOUT
    while (stored := rows(site, "SELECT count(*) FROM tracker_event")[0][0]) != expected:
        if time.monotonic() > deadline:
            raise Failure(f"{expected} events were accepted, and {stored} are stored")
        time.sleep(0.05)


def wait_for_trace(site: Site) -> str:
    """The first event, once it is stored, as a text."""
    wait_for_rows(site, 1)
    [(title, culprit, data)] = rows(site, "SELECT title, culprit, data FROM tracker_event")
    lines = [f"\n      {title}   ({culprit})"]
    for frame in json.loads(str(data))["exception"]["values"][0]["stacktrace"]["frames"]:
        lines.append(f"        {frame['filename']}:{frame['lineno']:<4}{frame['context_line'].strip()}")
    return "\n".join([*lines, ""])


def send_load(dsns: list[str]) -> Counter[int]:
    """Send events from a second process: how many answers came with each status."""
    load = subprocess.run(
        [sys.executable, str(HERE / "load.py"), *dsns],
        stdout=subprocess.PIPE,
        timeout=STEP_TIMEOUT,
        start_new_session=True,
        check=False,
    )
    if load.returncode:
        raise Failure("the load generator failed: its output is above")
    return Counter({int(status): n for status, n in json.loads(load.stdout)["statuses"].items()})


def report(server: Server, site: Site, statuses: Counter[int], consumer: subprocess.Popen[bytes]) -> None:
    """Print what happened; a Failure if it does not add up."""
    counted = site.live()
    stored = int(str(rows(site, "SELECT count(*) FROM tracker_event")[0][0]))
    issues = int(str(rows(site, "SELECT count(*) FROM tracker_issue")[0][0]))
    summed = int(str(rows(site, "SELECT sum(count) FROM tracker_issue")[0][0]))
    of_load = statuses[200]
    before = counted["accepted"] - of_load  # of the script and of the slow client
    # A consumer that waits does so on a connection for that alone.
    shared = [each for each in server.connections() if "b" not in each["flags"]]
    stop(consumer)
    left = server.connections()
    lines = {
        "requests of the load that were accepted (200)": of_load,
        "over the limit (429)": statuses[429],
        "no envelopes (400)": statuses[400],
        "too large (413)": statuses[413],
        "events accepted, all in all": counted["accepted"],
        "events in the database": stored,
        "issues that they are": issues,
        "events that still wait on the stream": int(server.ask(f"XLEN {STREAM}")),
        "connections of the site and the consumer": len(shared),
        "connections once the consumer has ended": len(left),
    }
    print(f"\n  Valkey {server.version()}, the database and the clients agree on this:\n")
    for name, value in lines.items():
        print(f"  {name:<48}{value:>8,}")
    others = {status: number for status, number in statuses.items() if status not in (200, 400, 413, 429)}
    checks = {
        f"there were other answers: {others}": not others,
        "not every accepted event is a row": stored == summed == counted["accepted"] > before > 0,
        "events are left on the stream": lines["events that still wait on the stream"] == 0,
        "the site and the consumer do not have one connection each": len(shared) <= 2,
        "the site does not have one connection": len(left) == 1,
        "no event was over the limit": statuses[429] > 0,
        "a bad request was not refused": statuses[400] > 0 and statuses[413] > 0,
    }
    if problems := [problem for problem, fine in checks.items() if not fine]:
        raise Failure("; ".join(problems))


def serve(stack: ExitStack, directory: Path) -> None:
    """Run the tracker until Ctrl-C."""
    site = Site(stack, directory, start_server(stack, directory), is_loud=True)
    site.manage("migrate", "--verbosity", "0")
    shop, slow = site.projects("shop:600", f"slow:{SLOW}")
    web = site.start_web()
    site.start_consumer()
    run("shop.py", shop)
    try:
        print(f"""
The tracker is up, with a private Valkey and a new database. Open

  {site.address}/

and send it events:

  {sys.executable} {HERE / "shop.py"} {shop}
  {sys.executable} {HERE / "shop.py"} {slow} --many {MESSAGES}
  {sys.executable} {HERE / "load.py"} {shop} {slow}

The project shop may send 600 events a minute, slow {SLOW}. Ctrl-C stops everything, and forgets it.
""")
        web.wait()
    except KeyboardInterrupt:
        print("\nStopping.")
    else:
        raise Failure("uvicorn stopped by itself: its output is above")


def stop_once(*_: object) -> None:
    """Begin to clean up. A second, impatient Ctrl-C must not cut that short."""
    for number in STOP_SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    raise KeyboardInterrupt


def main() -> int:
    """Run, and clean up whatever happens: the exit status."""
    parser = argparse.ArgumentParser(description="Run the tracker, and show what it does.")
    parser.add_argument("--serve", action="store_true", help="keep it up until Ctrl-C")
    story = serve if parser.parse_args().serve else demo
    hold_signals()
    for number in STOP_SIGNALS:
        signal.signal(number, stop_once)
    try:
        with tempfile.TemporaryDirectory(prefix="vcache-demo-") as directory, ExitStack() as stack:
            release_signals()
            story(stack, Path(directory))
    except Failure as failure:
        print(f"\nFAILED: {failure}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nStopped.", file=sys.stderr)
        return 128 + signal.SIGINT
    return 0


if __name__ == "__main__":
    sys.exit(main())
