"""`examples/ingest`: its consumer. What is acknowledged is stored, once, whatever happens."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest
from support.postgres import Postgres
from support.resp import ServerError
from support.server import ValkeyServer, wait_until
from support.tracker import STREAM, Client, Tracker, event


def group(tracker: Tracker) -> tuple[int, int]:
    """Entries of the stream, and those that were handed out and not acknowledged; -1 before there is a consumer."""
    length = int(tracker.server.execute("XLEN", STREAM))
    try:
        return length, int(tracker.server.execute("XPENDING", STREAM, "store")[0])
    except ServerError:
        return length, -1


def wait_until_all_is_stored(tracker: Tracker) -> None:
    wait_until(lambda: group(tracker) == (0, 0), what="the stream is empty")


def issues(tracker: Tracker, client: Client) -> list[tuple[str, int]]:
    return tracker.query(f"SELECT title, count FROM tracker_issue WHERE project_id = {client.id} ORDER BY title")


def test_events_become_rows_and_issues_count_them(tracker: Tracker, client: Client) -> None:
    for name in ("one", "two", "two"):
        assert client.envelope(event(message=name)).status == 200
    with tracker.consumer():
        wait_until_all_is_stored(tracker)
        assert issues(tracker, client) == [("one", 1), ("two", 2)]
        assert client.envelope(event(message="one", level="fatal")).status == 200
        wait_until(lambda: ("one", 1) in issues(tracker, client) and len(issues(tracker, client)) == 3)
    assert tracker.query(f"SELECT count(*) FROM tracker_event WHERE project_id = {client.id}") == [(4,)]


def test_what_is_delivered_again_is_stored_and_counted_once(tracker: Tracker, client: Client) -> None:
    for _ in range(3):
        client.envelope(event(message="again"))
    entries = tracker.server.execute("XRANGE", STREAM, "-", "+")
    with tracker.consumer():
        wait_until_all_is_stored(tracker)
        # As after a crash between storing and acknowledging.
        for _, fields in entries:
            tracker.server.execute("XADD", STREAM, "*", *fields)
            tracker.server.execute("XADD", STREAM, "*", *fields)
        wait_until_all_is_stored(tracker)
    assert issues(tracker, client) == [("again", 3)]
    assert tracker.query(f"SELECT count(*) FROM tracker_event WHERE project_id = {client.id}") == [(3,)]


HOSTILE = [
    b'{"exception": 3, "logentry": [], "level": {}, "tags": 7, "fingerprint": "x", "breadcrumbs": null, "request": 1}',
    b'{"exception": {"values": [null, 3, {"type": [], "value": {}, "stacktrace": {"frames": [1, {"lineno": "x"}]}}]}}',
    b'{"message": "a\\u0000b \\ud800 c", "tags": {"\\u0000": "\\udfff"}}',
    b'{"a": 1e400, "b": -1e400, "c": %s, "d": 0.1}' % (b"9" * 5000),
    b'{"a": ' + b"[" * 120 + b"]" * 120 + b"}",
    b'{"message": "%s"}' % (b"x" * 100_000),
    '{"message": "\U0001f98a ünïcode"}'.encode(),
    b'{"fingerprint": ["{{ default }}", 3, null, {}], "transaction": ["x"], "release": {"a": 1}}',
    b'{"": "", "exception": {"values": []}}',
]


def test_hostile_events_are_stored_and_hold_nothing_up(tracker: Tracker, client: Client) -> None:
    for payload in HOSTILE:
        answer = client.envelope(b'{}\n{"type": "event", "length": %d}\n%s' % (len(payload), payload))
        assert answer.status == 200, payload
    assert client.envelope(event()).status == 200
    with tracker.consumer():
        wait_until_all_is_stored(tracker)
    rows = tracker.query(f"SELECT id, issue_id FROM tracker_event WHERE project_id = {client.id}")
    assert len(rows) == len(HOSTILE) + 1
    for _, issue in rows:
        assert client.request("GET", f"/issues/{issue}/").status == 200
    assert client.request("GET", f"/projects/{client.id}/").status == 200


def test_what_is_no_event_goes_to_the_dead_letters(tracker: Tracker, client: Client) -> None:
    tracker.server.execute("XADD", STREAM, "*", "payload", "no event", "project", "1")
    fields = ["project", str(client.id), "event", uuid4().hex, "received", "x", "payload", "{}"]
    tracker.server.execute("XADD", STREAM, "*", *fields)
    client.envelope(event())
    with tracker.consumer():
        wait_until_all_is_stored(tracker)
    assert tracker.server.execute("XLEN", f"{STREAM}:dead") == 2
    assert issues(tracker, client) == [("it broke", 1)]


def test_events_of_a_project_that_was_deleted_are_dropped(tracker: Tracker, client: Client) -> None:
    client.envelope(event())
    tracker.manage("shell", "-c", f"from tracker.models import *; Project.objects.get(pk={client.id}).delete()")
    assert client.envelope(event()).status == 403
    with tracker.consumer():
        wait_until_all_is_stored(tracker)
    assert issues(tracker, client) == []


@pytest.fixture
def postgres() -> Iterator[Postgres]:
    postgres = Postgres()
    yield postgres
    postgres.close()


def test_nothing_is_lost_while_postgresql_is_away(
    postgres: Postgres, fresh_server: ValkeyServer, tmp_path: Path
) -> None:
    postgres.execute("SELECT 1")
    tracker = Tracker(fresh_server, tmp_path, postgres.url)
    try:
        client = tracker.start().project(rate=-1)
        sent = []

        def send(number: int) -> None:
            for at in range(number):
                answer = client.envelope(event(message=f"fault {at % 3}"))
                assert answer.status == 200
                sent.append(answer.json["id"])

        def stored() -> list[str]:
            return [row[0].hex for row in postgres.execute("SELECT event_id FROM tracker_event")]

        with tracker.consumer():
            send(20)
            wait_until(lambda: len(stored()) == 20, what="the first events are stored")
            postgres.stop()
            send(20)
            log = tmp_path / "consumer.log"
            wait_until(lambda: "OperationalError" in log.read_text(), what="the consumer meets the outage")
            assert group(tracker)[0] == 20, "nothing is acknowledged"
            # The project's key is in the cache. That of another cannot be looked up.
            other = Client(client.address, client.id + 1, client.key).envelope(event())
            assert (other.status, "retry-after" in other.headers) == (503, True)
            send(5)
            postgres.start()
            wait_until(lambda: sorted(stored()) == sorted(sent), what="all are stored")
            wait_until_all_is_stored(tracker)
        counts = postgres.execute("SELECT title, count FROM tracker_issue ORDER BY title")
        assert sum(count for _, count in counts) == len(sent) == 45
        assert [title for title, _ in counts] == ["fault 0", "fault 1", "fault 2"]
        data = json.loads(json.dumps(postgres.execute("SELECT data FROM tracker_event LIMIT 1")[0][0]))
        assert data["message"].startswith("fault")
    finally:
        tracker.close()


def test_two_consumers_share_the_work_and_store_hostile_events_in_postgresql(
    postgres: Postgres, fresh_server: ValkeyServer, tmp_path: Path
) -> None:
    postgres.execute("SELECT 1")
    tracker = Tracker(fresh_server, tmp_path, postgres.url)
    try:
        client = tracker.start().project(rate=-1)
        for payload in HOSTILE:
            body = b'{}\n{"type": "event", "length": %d}\n%s' % (len(payload), payload)
            assert client.envelope(body).status == 200
        for at in range(200):
            client.envelope(event(message=f"fault {at % 5}"))
        # Everything twice, so that both meet the same events at once.
        for _, fields in tracker.server.execute("XRANGE", STREAM, "-", "+"):
            tracker.server.execute("XADD", STREAM, "*", *fields)
        with tracker.consumer(), tracker.consumer():
            wait_until_all_is_stored(tracker)
        assert postgres.execute("SELECT count(*) FROM tracker_event") == [(200 + len(HOSTILE),)]
        assert postgres.execute("SELECT sum(count) FROM tracker_issue") == [(200 + len(HOSTILE),)]
        assert postgres.execute("SELECT count FROM tracker_issue WHERE title = 'fault 0'") == [(40,)]
    finally:
        tracker.close()
