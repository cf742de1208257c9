"""What goes wrong on the server is an error, and leaves no half admission behind."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from dataclasses import replace

import pytest
from lua import TAG, Scripts, admit_arguments, read_reply
from model import ADMITTED, REFUSED, Admission, Dedupe, Quota, Stream, Throttle
from support.resp import ServerError
from support.server import ValkeyServer, wait_until

THROTTLES = (Throttle(f"{TAG}:t:a", 10, 1_000_000_000, 10), Throttle(f"{TAG}:t:b", 10, 1_000_000_000, 10))
# Windows that hold any moment a test can run in.
QUOTAS = (Quota(f"{TAG}:q:a", 10, 0, 2**42), Quota(f"{TAG}:q:b", 10, 0, 2**42))
STREAM = Stream(f"{TAG}:s", 100)
GATE = Admission(1, THROTTLES, QUOTAS, STREAM, ("payload", "x" * 100), Dedupe(f"{TAG}:d"))
FOREIGN = {
    "list": ("RPUSH", "foreign"),
    "hash": ("HSET", "foreign", "1"),
    "set": ("SADD", "foreign"),
    "stream": ("XADD", "*", "foreign", "1"),
    "text": ("SET", "foreign"),
    "state": ("SET", b"\x7f\xf8" + b"\x00" * 22),
}


def put_foreign(server: ValkeyServer, key: str, kind: str) -> None:
    command, *values = FOREIGN[kind]
    server.execute(command, key, *values)


# A stream in the stream's place is no foreign value.
@pytest.mark.parametrize(
    ("key", "kind"),
    [(key, kind) for key in GATE.keys for kind in FOREIGN if (key, kind) != (STREAM.key, "stream")],
)
def test_a_foreign_value_at_a_key_is_an_error_and_stays(scripts: Scripts, key: str, kind: str) -> None:
    put_foreign(scripts.server, key, kind)
    before = scripts.snapshot()
    with pytest.raises(ServerError, match=r"WRONGTYPE|holds something else than"):
        scripts.admit(GATE)
    assert scripts.snapshot() == before


@pytest.mark.parametrize("key", [THROTTLES[1].key, QUOTAS[1].key])
@pytest.mark.parametrize("kind", FOREIGN)
def test_a_foreign_value_is_an_error_of_a_peek(scripts: Scripts, key: str, kind: str) -> None:
    put_foreign(scripts.server, key, kind)
    with pytest.raises(ServerError, match=r"WRONGTYPE|holds something else than"):
        scripts.peek(THROTTLES, QUOTAS)


@pytest.mark.parametrize("key", [f"{TAG}:r", QUOTAS[0].key, QUOTAS[1].key])
@pytest.mark.parametrize("kind", ["list", "hash", "set", "stream"])
def test_a_foreign_value_is_an_error_of_a_refund(scripts: Scripts, key: str, kind: str) -> None:
    scripts.admit(GATE)
    scripts.server.execute("DEL", key)
    put_foreign(scripts.server, key, kind)
    before = scripts.snapshot()
    with pytest.raises(ServerError, match="WRONGTYPE"):
        scripts.refund(f"{TAG}:r", [quota.key for quota in QUOTAS], 1)
    assert scripts.snapshot() == before


def test_a_stream_without_ids_left_is_an_error_and_nothing_is_charged(scripts: Scripts) -> None:
    last = f"{2**64 - 1}-{2**64 - 1}"
    scripts.server.execute("XADD", STREAM.key, last, "payload", "the last")
    before = scripts.snapshot()
    with pytest.raises(ServerError, match="exhausted"):
        scripts.admit(GATE)
    assert scripts.snapshot() == before


@pytest.mark.parametrize("fields", [("payload", "x", "alone"), ("f", "x") * 10_000])
def test_fields_that_do_not_fit_are_an_error_and_nothing_is_charged(scripts: Scripts, fields: tuple[str, ...]) -> None:
    with pytest.raises(ServerError, match=r"^ERR"):
        scripts.admit(replace(GATE, fields=fields))
    assert scripts.snapshot() == []


@pytest.fixture
def full_server(scripts: Scripts) -> Iterator[Scripts]:
    """Out of memory, with one admission in it. Its state is read before that: DUMP needs memory itself."""
    scripts.admit(GATE)
    yield scripts
    scripts.server.execute("CONFIG", "SET", "maxmemory", 0)


def test_a_server_out_of_memory_refuses_before_any_write(full_server: Scripts) -> None:
    scripts = full_server
    before = scripts.snapshot()
    scripts.server.execute("CONFIG", "SET", "maxmemory", 1)
    for call in (replace(GATE, dedupe=None), Admission(1, THROTTLES), Admission(1, (), QUOTAS)):
        with pytest.raises(ServerError, match=r"^OOM"):
            scripts.admit(call)
    with pytest.raises(ServerError, match=r"^OOM"):
        scripts.refund(f"{TAG}:r", [QUOTAS[0].key], 1)
    # What writes nothing is answered.
    assert scripts.peek(THROTTLES, QUOTAS)[-2:] == [1, 1]
    scripts.server.execute("CONFIG", "SET", "maxmemory", 0)
    assert scripts.snapshot() == before
    assert scripts.admit(replace(GATE, dedupe=None)).verdict == ADMITTED


def test_scripts_flushed_from_the_server_are_loaded_again_by_eval(scripts: Scripts) -> None:
    scripts.admit(GATE)
    before = scripts.snapshot()
    scripts.server.execute("SCRIPT", "FLUSH")
    call = replace(GATE, cost=2, dedupe=None)
    keys, args = call.keys, admit_arguments(call)
    for name in ("admit", "peek", "refund"):
        with pytest.raises(ServerError, match=r"^NOSCRIPT"):
            scripts.run(name, keys, args)
    # NOTE: `snapshot` is a script, too.
    scripts = Scripts(scripts.server)
    assert scripts.snapshot() == before
    scripts.server.execute("SCRIPT", "FLUSH")
    reply = scripts.server.execute("EVAL", scripts.texts["admit"], len(keys), *keys, *args)
    assert read_reply(call, reply).verdict == ADMITTED
    assert scripts.admit(call).quotas == (5, 5)


def test_a_replica_refuses_to_write_and_lets_peek(engine: str) -> None:
    with ValkeyServer(binary=engine) as server:
        scripts = Scripts(server)
        scripts.admit(GATE)
        server.execute("REPLICAOF", "127.0.0.1", 1)
        before = scripts.snapshot()
        with pytest.raises(ServerError, match=r"^READONLY"):
            scripts.admit(GATE)
        assert scripts.peek((), QUOTAS)[1:] == [1, 1]
        assert scripts.snapshot() == before


# A real cluster of one node.


@pytest.fixture(scope="module")
def cluster(engine: str) -> Iterator[Scripts]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        bus = probe.getsockname()[1]
    # The port of the bus is 10000 above the server's unless told otherwise, which may be above all ports.
    with ValkeyServer(binary=engine, cluster_enabled="yes", cluster_port=bus) as server:
        server.execute("CLUSTER", "ADDSLOTSRANGE", 0, 16383)
        wait_until(lambda: b"cluster_state:ok" in server.execute("CLUSTER", "INFO"), what="cluster_state:ok")
        yield Scripts(server)


def test_keys_of_one_shard_are_one_slot_of_a_cluster(cluster: Scripts) -> None:
    assert len({cluster.server.execute("CLUSTER", "KEYSLOT", key) for key in GATE.keys}) == 1
    cluster.server.execute("FLUSHALL")
    assert [cluster.admit(replace(GATE, dedupe=None)).verdict for _ in range(11)] == [ADMITTED] * 10 + [REFUSED]
    assert cluster.peek(THROTTLES, QUOTAS)[-2:] == [10, 10]
    assert cluster.refund(f"{TAG}:r", [quota.key for quota in QUOTAS], 4) == [1, 6, 6]


@pytest.mark.parametrize("position", range(6))
def test_a_key_of_another_shard_is_an_error_in_a_cluster(cluster: Scripts, position: int) -> None:
    cluster.server.execute("FLUSHALL")
    keys = GATE.keys
    keys[position] = keys[position].replace("v00", "v01")
    with pytest.raises(ServerError, match=r"^CROSSSLOT"):
        cluster.run("admit", keys, admit_arguments(GATE))
    assert cluster.server.keys() == []
