"""`examples/ingest`: what its hot routes answer to Sentry's clients, and to those who only pretend to be one."""

from __future__ import annotations

import base64
import gzip
import json
import subprocess
import sys
import zlib
from collections.abc import Callable
from uuid import uuid4

import brotli
import pytest
import zstandard
from support.server import ValkeyServer, wait_until
from support.tracker import PROJECT, Client, Tracker, event

ID = "9ec79c33ec9942ab8353589fcb2e04dc"


def raw_deflate(body: bytes) -> bytes:
    packer = zlib.compressobj(wbits=-15)
    return packer.compress(body) + packer.flush()


ENCODINGS: dict[str, Callable[[bytes], bytes]] = {
    "identity": bytes,
    "gzip": gzip.compress,
    "x-gzip": gzip.compress,
    "deflate": zlib.compress,
    "deflate, raw": raw_deflate,
    "br": lambda body: brotli.compress(body, quality=4),
    "zstd": lambda body: zstandard.ZstdCompressor().compress(body),
}


def entry_of(tracker: Tracker, client: Client) -> dict[str, bytes]:
    """The only event of a project that waits."""
    [entry] = [entry for entry in tracker.entries() if entry["project"] == str(client.id).encode()]
    return entry


def waiting(tracker: Tracker, client: Client) -> int:
    return sum(entry["project"] == str(client.id).encode() for entry in tracker.entries())


def test_an_event_goes_on_the_stream(tracker: Tracker, client: Client) -> None:
    answer = client.envelope(event(ID, tags={"release": "1.4"}))
    assert (answer.status, answer.json) == (200, {"id": ID})
    entry = entry_of(tracker, client)
    assert entry["event"] == ID.encode()
    assert json.loads(entry["payload"]) == {"message": "it broke", "tags": {"release": "1.4"}}


def test_the_key_may_be_in_four_places(tracker: Tracker, client: Client) -> None:
    path, header = f"/api/{client.id}/envelope/", f"Sentry sentry_version=7, sentry_key={client.key}"
    assert client.request("POST", path, event(), {"X-Sentry-Auth": header}).status == 200
    assert client.request("POST", path, event(), {"Authorization": header}).status == 200
    assert client.request("POST", f"{path}?sentry_version=7&sentry_key={client.key}", event()).status == 200
    tunnelled = b'{"dsn": "%s"}\n{"type": "event"}\n{}\n' % client.dsn.encode()
    assert client.request("POST", path, tunnelled).status == 200
    assert waiting(tracker, client) == 4


def test_without_the_right_key_nothing_is_taken(tracker: Tracker, client: Client) -> None:
    path = f"/api/{client.id}/envelope/"
    assert client.request("POST", path, event()).status == 403
    for key in ("0" * 32, "", "x" * 5000, "*", "%00", f"{client.key}0"):
        assert client.request("POST", f"{path}?sentry_key={key}", event()).status == 403, key
    stranger = Client(client.address, client.id + 10_000, client.key)
    assert stranger.envelope(event()).status == 403
    assert Client(client.address, 2**63, client.key).envelope(event()).status == 403
    assert Client(client.address, 2**64, client.key).envelope(event()).status == 404
    assert waiting(tracker, client) == 0


def test_a_dsn_of_another_project_is_told(tracker: Tracker, client: Client) -> None:
    other = b'{"dsn": "http://%s@host/%d"}\n{"type": "event"}\n{}\n' % (client.key.encode(), client.id + 1)
    answer = client.envelope(other)
    assert answer.status == 400
    assert "not one of project" in answer.json["detail"]
    assert client.request("POST", f"/api/{client.id}/envelope/", other).status == 400


def test_a_key_is_looked_up_once_and_again_after_a_change(tracker: Tracker) -> None:
    client = tracker.project("changing")
    assert client.envelope(event()).status == 200
    assert tracker.server.execute("EXISTS", f"ingest:tracker:project:{client.id}") == 1
    change = f"from tracker.models import *; p = Project.objects.get(pk={client.id}); p.is_active = %s; p.save()"
    tracker.manage("shell", "-c", change % False)
    assert client.envelope(event()).status == 403
    assert tracker.server.execute("GET", f"ingest:tracker:project:{client.id}") == b"null"
    tracker.manage("shell", "-c", change % True)
    assert client.envelope(event()).status == 200


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_a_body_may_be_compressed(tracker: Tracker, client: Client, encoding: str) -> None:
    body = ENCODINGS[encoding](event(ID))
    answer = client.envelope(body, {"Content-Encoding": encoding.partition(",")[0]})
    assert (answer.status, answer.json) == (200, {"id": ID})
    assert json.loads(entry_of(tracker, client)["payload"]) == {"message": "it broke"}


@pytest.mark.parametrize("encoding", [name for name in ENCODINGS if name != "identity"])
def test_a_bomb_is_refused(tracker: Tracker, client: Client, encoding: str) -> None:
    bomb = ENCODINGS[encoding](b"{}\n" + b" " * (100 << 20))
    assert len(bomb) < 1 << 20
    answer = client.envelope(bomb, {"Content-Encoding": encoding.partition(",")[0]})
    assert answer.status == 413
    assert answer.headers["access-control-allow-origin"] == "*"


@pytest.mark.parametrize("encoding", [name for name in ENCODINGS if name != "identity"])
def test_a_body_that_does_not_decode_is_refused(client: Client, encoding: str) -> None:
    name = encoding.partition(",")[0]
    packed = ENCODINGS[encoding](event())
    for body in (packed[: len(packed) // 2], b"\xff" * 100, b"{}"):
        assert client.envelope(body, {"Content-Encoding": name}).status == 400


def test_an_unknown_encoding_and_a_body_above_the_limit_are_refused(client: Client) -> None:
    assert client.envelope(event(), {"Content-Encoding": "rot13"}).status == 415
    assert client.envelope(b"{}\n" + b" " * (2 << 20)).status == 413


def test_several_items_come_at_once_and_unknown_ones_are_skipped(tracker: Tracker, client: Client) -> None:
    other = uuid4().hex
    body = (
        b'{"event_id": "%s"}\n{"type": "session"}\n{"a": 1}\n{"type": "attachment", "length": 3}\n\x00\n\xff\n'
        b'{"type": "event"}\n{"message": "one"}\n{"type": "event"}\n{"message": "two", "event_id": "%s"}\n'
    ) % (ID.encode(), other.encode())
    answer = client.envelope(body)
    assert (answer.status, answer.json) == (200, {"id": ID})
    mine = [entry["event"].decode() for entry in tracker.entries() if entry["project"] == str(client.id).encode()]
    assert mine == [ID, other]


def test_the_same_event_is_taken_once(tracker: Tracker, client: Client) -> None:
    limited = tracker.client(rate=2)
    for _ in range(5):
        assert limited.envelope(event(ID)).json == {"id": ID}
    assert limited.envelope(event()).status == 200
    assert limited.envelope(event()).status == 429, "the repetitions were charged nothing"
    assert client.envelope(event(ID)).json == {"id": ID}
    assert (waiting(tracker, limited), waiting(tracker, client)) == (2, 1)


def test_an_event_alone_is_taken_as_json_and_as_the_oldest_clients_send_it(tracker: Tracker, client: Client) -> None:
    made = client.store(b'{"message": "it broke"}')
    assert made.status == 200
    assert len(made.json["id"]) == 32
    json_ = b'{"event_id": "%s", "message": "it broke"}' % ID.encode()
    assert client.store(base64.b64encode(zlib.compress(json_))).json == {"id": ID}
    assert client.store(json_).json == {"id": ID}
    assert waiting(tracker, client) == 2


BAD_ENVELOPES = [
    b"",
    b"\n",
    b"it broke",
    b"[]",
    b"null\n{}",
    b"{",
    b"\xff\xfe\n",
    b'{"event_id": 3}\n{"type": "event"}\n{}',
    b'{"event_id": "3"}\n{"type": "event"}\n{}',
    b"{}\n{}\n{}",
    b"{}\nx",
    b'{}\n{"type": "event", "length": -1}\n{}',
    b'{}\n{"type": "event", "length": 99999999999999999999}\n{}',
    b'{}\n{"type": "event", "length": 1000}\n{}',
    b'{}\n{"type": "event", "length": 1}\n{}',
    b'{}\n{"type": "event"}\n',
    b'{}\n{"type": "event"}\n[]',
    b'{}\n{"type": "event"}\n{"message": "\xff"}',
    b'{}\n{"type": "event"}\n{"a": NaN}',
    b'{}\n{"type": "event"}\n' + b'{"a":' * 100_000,
    b'{}\n{"type": "event"}\n' + b'{"a":' + b"[" * 100_000,
    b"{}\n" + b'{"type": "x"}\n\n' * 100_000,
    b"x" * 1_000_000,
    b"{}\n" + b"x" * 1_000_000,
]


@pytest.mark.parametrize("body", BAD_ENVELOPES, ids=lambda body: repr(body[:40]))
def test_what_is_no_envelope_is_a_400_with_a_reason(tracker: Tracker, client: Client, body: bytes) -> None:
    answer = client.envelope(body)
    assert answer.status == 400
    assert answer.json["detail"]
    assert answer.headers["access-control-allow-origin"] == "*"
    assert waiting(tracker, client) == 0


@pytest.mark.parametrize(
    "body", [b"", b"it broke", b"[]", b"{", b"eJw=", b'{"a": "\xff"}', b'{"event_id": "x"}', b"[" * 10**6]
)
def test_what_is_no_event_is_a_400_with_a_reason(client: Client, body: bytes) -> None:
    answer = client.store(body)
    assert answer.status == 400
    assert answer.json["detail"]


def test_an_event_above_a_megabyte_is_refused(client: Client) -> None:
    assert client.envelope(event(extra="x" * (1 << 20))).status == 413
    assert client.envelope(event(extra="x" * ((1 << 20) - 100))).status == 200


@pytest.mark.parametrize(
    ("limits", "rule"), [({"rate": 2}, "project"), ({"events": 2}, "events"), ({"bytes": 80}, "bytes")]
)
def test_a_project_above_a_limit_is_told_what_to_hold_back_and_how_long(
    tracker: Tracker, client: Client, limits: dict[str, int], rule: str
) -> None:
    limited = tracker.client(**limits)
    for _ in range(2):
        assert limited.envelope(event(x="0123456")).status == 200
    answer = limited.envelope(event(x="0123456"))
    assert answer.status == 429
    seconds, categories, scope, reason = answer.headers["x-sentry-rate-limits"].split(":")
    assert (categories, scope, reason) == ("error", "project", rule)
    assert int(answer.headers["retry-after"]) == int(seconds) >= 1
    assert "x-sentry-rate-limits" in answer.headers["access-control-expose-headers"].lower()
    assert waiting(tracker, limited) == 2
    assert client.envelope(event()).status == 200, "other projects are not affected"


def test_a_project_that_may_send_nothing_is_told_to_wait(tracker: Tracker) -> None:
    answer = tracker.client(rate=0).envelope(event())
    assert answer.status == 429
    assert answer.headers["x-sentry-rate-limits"] == "60:error:project:project"
    assert answer.headers["retry-after"] == "60"


def test_an_envelope_without_events_is_answered_though_the_project_is_over_its_limit(tracker: Tracker) -> None:
    answer = tracker.client(rate=0).envelope(b'{}\n{"type": "client_report"}\n{"discarded_events": []}\n')
    assert (answer.status, answer.json) == (200, {})


def test_browsers_may_ask_from_other_sites(client: Client) -> None:
    path = f"/api/{client.id}/envelope/"
    asked = {
        "Origin": "https://shop.example",
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "x-sentry-auth,content-type",
    }
    preflight = client.request("OPTIONS", path, headers=asked)
    assert preflight.status == 200
    assert preflight.headers["access-control-allow-origin"] == "*"
    assert "POST" in preflight.headers["access-control-allow-methods"]
    assert "x-sentry-auth" in preflight.headers["access-control-allow-headers"].lower()
    for answer in (client.envelope(event()), client.request("GET", path), client.request("POST", path)):
        assert answer.headers["access-control-allow-origin"] == "*", answer.status


def test_only_a_post_is_an_event(client: Client) -> None:
    answer = client.request("GET", f"/api/{client.id}/store/")
    assert answer.status == 405
    assert "POST" in answer.headers["allow"]


def test_what_became_of_events_is_counted(tracker: Tracker) -> None:
    limited = tracker.client(rate=2)
    first = event()
    for body in (first, first, event(), event(), b"it broke"):
        limited.envelope(body)
    limited.envelope(
        b'{}\n{"type": "client_report"}\n'
        b'{"discarded_events": [{"reason": "ratelimit_backoff", "category": "error", "quantity": 7}]}'
    )
    totals = limited.request("GET", f"/projects/{limited.id}/live/").json["totals"]
    expected = {"accepted": 2, "duplicate": 1, "limited": 1, "invalid": 1, "dropped": 7, "unavailable": 0}
    assert totals == expected
    of_all = limited.request("GET", "/live/").json["totals"]
    assert all(of_all[outcome] >= number for outcome, number in expected.items())


def test_the_site_has_one_connection(tracker: Tracker, client: Client) -> None:
    client.envelope(event())
    client.request("GET", f"/projects/{client.id}/")
    assert len([each for each in tracker.server.clients() if each.get("lib-name") == "vcache"]) == 1


def test_the_routes_are_views_under_wsgi_too(tracker: Tracker) -> None:
    client = tracker.client()
    program = f"""
import django; django.setup()
from django.test import Client
from support.tracker import event
web = Client(headers={{"x-sentry-auth": "Sentry sentry_key={client.key}"}})
for body, status in ((event(), 200), (b"x", 400), (event(), 200)):
    answer = web.post("/api/{client.id}/envelope/", body, content_type="application/x-sentry-envelope")
    assert answer.status_code == status, answer.content
    assert answer["Access-Control-Allow-Origin"] == "*"
"""
    environment = tracker.environment | {"PYTHONPATH": f"{PROJECT}:{PROJECT.parents[1] / 'tests'}"}
    environment["ALLOWED_HOSTS"] = "testserver"
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert waiting(tracker, client) == 2


@pytest.mark.parametrize(
    "command",
    [
        ("uvicorn", "--no-access-log"),
        ("granian", "--interface", "asgi", "--no-ws", "--loop", "asyncio"),
    ],
    ids=lambda command: command[0],
)
def test_the_routes_are_answered_in_asgi_too(
    fresh_server: ValkeyServer, tmp_path_factory: pytest.TempPathFactory, command: tuple[str, ...]
) -> None:
    tracker = Tracker(fresh_server, tmp_path_factory.mktemp("asgi"))
    try:
        client = tracker.start(*command).client(rate=1)
        assert client.envelope(gzip.compress(event(ID)), {"Content-Encoding": "gzip"}).json == {"id": ID}
        assert client.envelope(b"it broke").status == 400
        assert client.envelope(event()).status == 429
        assert len(tracker.entries()) == 1
    finally:
        tracker.close()


def test_without_room_or_a_server_a_client_is_told_to_come_again(
    fresh_server: ValkeyServer, tmp_path_factory: pytest.TempPathFactory
) -> None:
    tracker = Tracker(fresh_server, tmp_path_factory.mktemp("full"), INGEST_STREAM_MAXLEN="1")
    try:
        client = tracker.start().client()
        assert client.envelope(event()).status == 200
        full = client.envelope(event())
        assert (full.status, full.headers["retry-after"]) == (503, "1")
        assert "wait to be stored" in full.json["detail"]
        fresh_server.kill()
        away = client.envelope(event())
        assert away.status == 503
        assert int(away.headers["retry-after"]) >= 1
        assert away.headers["access-control-allow-origin"] == "*"
        assert client.request("GET", "/").status == 200, "the pages are there, without the counts"
        fresh_server.restart()
        wait_until(lambda: client.envelope(event()).status == 200, what="events are taken again")
    finally:
        tracker.close()
