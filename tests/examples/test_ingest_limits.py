"""`examples/ingest`: limits and numbers that are out of bounds, and what the server says of its errors."""

from __future__ import annotations

import contextlib
import sqlite3
import subprocess
import sys
from pathlib import Path
from uuid import uuid4

import pytest
from support.server import ValkeyServer, wait_until
from support.tracker import PROJECT, Client, Tracker, event

LARGEST_RATE = 2**31 - 1
LARGEST_QUOTA = 2**53
BAD_LIMITS = [
    {"rate": -5},
    {"rate": 2**31},
    {"events": -7},
    {"events": 2**63 - 1},
    {"bytes": -2},
    {"bytes": 2**53 + 1},
]


def refused(tracker: Tracker, *arguments: str) -> str:
    """What the command says that makes projects, when it refuses."""
    command = [sys.executable, str(PROJECT / "manage.py"), "tracker_project", *arguments]
    done = subprocess.run(command, env=tracker.environment, capture_output=True, text=True, check=False)
    assert done.returncode == 1, done.stdout
    assert done.stdout == ""
    assert done.stderr.startswith("CommandError: "), done.stderr
    return done.stderr


def out_of_bounds(tracker: Tracker, rate: int = -1, events: int = -1, bytes: int = -1) -> Client:
    """A project whose row the constraints would refuse, as from before there were any."""
    key = uuid4().hex
    with contextlib.closing(sqlite3.connect(tracker.folder / "tracker.sqlite3", timeout=20)) as database, database:
        database.execute("PRAGMA ignore_check_constraints = ON")
        made = database.execute(
            "INSERT INTO tracker_project (name, public_key, is_active, rate, events_quota, bytes_quota) "
            "VALUES (?, ?, 1, ?, ?, ?)",
            (key, key, rate, events, bytes),
        )
        return Client(tracker.address, int(made.lastrowid or 0), key)


@pytest.mark.parametrize("limits", BAD_LIMITS, ids=str)
def test_the_command_refuses_a_limit_that_the_gate_does_not_take(tracker: Tracker, limits: dict[str, int]) -> None:
    [(limit, number)] = limits.items()
    name = uuid4().hex
    said = refused(tracker, "another", name, f"--{limit}={number}")
    assert f"cannot be {number}: Ensure this value is" in said
    assert tracker.query(f"SELECT * FROM tracker_project WHERE name IN ('another', '{name}')") == []


def test_the_command_makes_all_projects_or_none(tracker: Tracker) -> None:
    name = uuid4().hex
    assert f"{name}:x: events a minute cannot be 'x'" in refused(tracker, name, f"{name}:x")
    assert f"{name}:-9: events a minute cannot be '-9'" in refused(tracker, name, f"{name}:-9")
    assert "name cannot be ''" in refused(tracker, name, ":5")
    assert "name cannot be 'nnnn" in refused(tracker, name, "n" * 101)
    assert tracker.query(f"SELECT * FROM tracker_project WHERE name = '{name}'") == []


def test_the_largest_limits_are_no_error(tracker: Tracker) -> None:
    client = tracker.project(rate=LARGEST_RATE, events=LARGEST_QUOTA, bytes=LARGEST_QUOTA)
    assert client.envelope(event()).status == 200
    assert client.request("GET", f"/projects/{client.id}/").status == 200


@pytest.mark.parametrize("limits", BAD_LIMITS, ids=str)
def test_a_limit_out_of_bounds_is_not_stored_and_does_no_harm_where_it_is(
    tracker: Tracker, limits: dict[str, int]
) -> None:
    with pytest.raises(sqlite3.IntegrityError, match="CHECK constraint failed"):
        tracker.client(**limits)
    client = out_of_bounds(tracker, **limits)
    assert client.envelope(event()).status == 200
    assert client.request("GET", f"/projects/{client.id}/").status == 200


def test_the_migration_gives_old_rows_the_nearest_limit(server: ValkeyServer, tmp_path: Path) -> None:
    tracker = Tracker(server, tmp_path)
    try:
        tracker.manage("migrate", "tracker", "0001", "--verbosity", "0")
        tracker.client(-5, 2**63 - 1, -7)
        tracker.client(2**40, -1, 0)
        tracker.client(600, 10, 2**60)
        tracker.manage("migrate", "--verbosity", "0")
        limits = tracker.query("SELECT rate, events_quota, bytes_quota FROM tracker_project ORDER BY id")
        assert limits == [(-1, LARGEST_QUOTA, -1), (LARGEST_RATE, -1, 0), (600, 10, LARGEST_QUOTA)]
        assert "No changes" in tracker.manage("makemigrations", "--check", "--dry-run")
    finally:
        tracker.close()


@pytest.mark.parametrize("digits", ["0", str(2**63), str(2**64), "9" * 23, "9" * 5000], ids=len)
def test_a_number_that_no_row_can_have_is_a_404(client: Client, digits: str) -> None:
    paths = [f"/projects/{digits}/live/", f"/projects/{digits}/", f"/issues/{digits}/"]
    for path in [*paths, f"/issues/{digits}/events/{uuid4()}/"]:
        assert client.request("GET", path).status == 404, path[:40]
    assert client.request("POST", f"/api/{digits}/envelope/", event()).status in (403, 404)


def test_an_error_of_the_server_is_in_its_output_and_one_of_a_client_is_not(tracker: Tracker, client: Client) -> None:
    stranger = Client(client.address, client.id + 10_000, client.key)
    assert stranger.envelope(event()).status == 403
    assert client.request("GET", "/projects/999998/").status == 404
    tracker.server.execute("SET", f"ingest:tracker:project:{client.id}", "{}")
    assert client.envelope(event()).status == 500
    log = tracker.folder / "web.log"
    path = f"/api/{client.id}/envelope/"
    wait_until(lambda: f"Internal Server Error: {path}" in log.read_text(), what="the error is written")
    written = log.read_text()
    assert "is not one of ours" in written
    assert f"/api/{stranger.id}/" not in written
    assert "/projects/999998/" not in written
