"""Nodes that contradict each other, say that a slot is elsewhere again and again, or name themselves in odd ways: a
call ends, within its time and in words, and where there is a way it is found."""

from __future__ import annotations

import itertools
import time
from typing import Any

import pytest
from support.caches import make_cache
from support.clusters import SLOTS
from support.fake_nodes import FakeNode, announced, array, fake_cluster, shared
from support.server import wait_until

from django_vcache.exceptions import ConnectionError, ResponseError, VcacheError

LOW, HIGH = "b", "a"
"""Keys of a slot of the lower half and of the upper half: 3300 and 15495."""
SLOT = {LOW: 3300, HIGH: 15495}


def honest(node: FakeNode, command: list[bytes]) -> None:
    return None


def gets(node: FakeNode) -> list[list[bytes]]:
    return [command for command in node.commands() if command[0] in (b"GET", b"ASKING")]


@pytest.mark.parametrize("word", ["MOVED", "ASK"])
def test_nodes_that_send_calls_to_each_other_end_it(drive: Any, word: str) -> None:
    def elsewhere(node: FakeNode, command: list[bytes]) -> bytes | None:
        if command[0] != b"GET":
            return None
        [other] = [each for each in nodes if each is not node]
        return f"-{word} {SLOT[LOW]} 127.0.0.1:{other.port}\r\n".encode()

    with fake_cluster(elsewhere, elsewhere) as nodes:
        cache = drive(make_cache(nodes[0].server.url, RESPONSE_TIMEOUT=30.0))
        with pytest.raises(ResponseError) as caught:
            cache.execute("GET", LOW)
        assert caught.value.code == word
        asked = [command for node in nodes for command in node.commands() if command[0] == b"GET"]
        assert 2 <= len(asked) <= 20
        # It is one slot's trouble.
        assert cache.execute("INCR", HIGH) == 1


def test_a_node_that_sends_a_call_to_itself_ends_it(drive: Any) -> None:
    def myself(node: FakeNode, command: list[bytes]) -> bytes | None:
        return b"-MOVED 3300 127.0.0.1:%d\r\n" % node.port if command[0] == b"GET" else None

    with fake_cluster(myself, honest) as nodes:
        cache = drive(make_cache(nodes[0].server.url, RESPONSE_TIMEOUT=30.0))
        with pytest.raises(ResponseError, match=r"3300 127\.0\.0\.1"):
            cache.execute("GET", LOW)


def test_an_answer_to_ask_is_not_remembered(drive: Any) -> None:
    def leaves(node: FakeNode, command: list[bytes]) -> bytes | None:
        return b"-ASK 3300 127.0.0.1:%d\r\n" % nodes[1].port if command[0] == b"GET" else None

    with fake_cluster(leaves, honest) as nodes:
        cache = drive(make_cache(nodes[0].server.url))
        for _ in range(3):
            assert cache.execute("GET", LOW) == b"b"
        assert gets(nodes[0]) == [[b"GET", b"b"]] * 3
        assert gets(nodes[1]) == [[b"ASKING"], [b"GET", b"b"]] * 3


def test_moved_without_a_host_means_the_host_that_says_so(drive: Any) -> None:
    def moved(node: FakeNode, command: list[bytes]) -> bytes | None:
        return b"-MOVED 3300 :%d\r\n" % nodes[1].port if command[0] == b"GET" else None

    with fake_cluster(moved, honest) as nodes:
        cache = drive(make_cache(nodes[0].server.url))
        assert cache.execute("GET", LOW) == b"b"
        # That is remembered.
        assert cache.execute("GET", LOW) == b"b"
        assert (len(gets(nodes[0])), len(gets(nodes[1]))) == (1, 2)


@pytest.mark.parametrize("refusal", ["TRYAGAIN Multiple keys request during rehashing of slot", "CLUSTERDOWN down"])
def test_what_passes_is_waited_for(drive: Any, refusal: str) -> None:
    turns = itertools.count()

    def hesitates(node: FakeNode, command: list[bytes]) -> bytes | None:
        return f"-{refusal}\r\n".encode() if command[0] == b"INCR" and next(turns) < 4 else None

    with fake_cluster(hesitates, honest) as nodes:
        cache = drive(make_cache(nodes[0].server.url))
        assert cache.execute("INCR", LOW) == 1
        assert next(turns) == 5


def test_what_does_not_pass_is_told_in_the_servers_words(drive: Any) -> None:
    def down(node: FakeNode, command: list[bytes]) -> bytes | None:
        return b"-CLUSTERDOWN The cluster is down\r\n" if command[0] == b"INCR" else None

    with fake_cluster(down, honest) as nodes:
        cache = drive(make_cache(nodes[0].server.url, RESPONSE_TIMEOUT=0.5))
        with pytest.raises(VcacheError, match="The cluster is down"):
            cache.execute("INCR", LOW)


@pytest.mark.parametrize(
    ("host", "said"),
    [(b"", {}), (None, {}), (b"?", {"ip": "127.0.0.1"}), (b"localhost", {}), (b"0.0.0.0", {})],
    ids=["empty", "nil", "unknown, with an address", "a name", "any"],
)
def test_nodes_are_found_however_they_are_announced(drive: Any, host: bytes | None, said: dict[str, str]) -> None:
    with fake_cluster(honest, honest) as nodes:
        for node in nodes:
            node.rows = shared(*(announced(other.port, host, **said) for other in nodes))
        cache = drive(make_cache(nodes[0].server.url))
        assert (cache.execute("GET", LOW), cache.execute("GET", HIGH)) == (b"b", b"a")
        assert [gets(node) for node in nodes] == [[[b"GET", b"b"]], [[b"GET", b"a"]]]


def test_a_node_that_does_not_say_where_it_is_costs_its_own_slots_alone(drive: Any) -> None:
    with fake_cluster(honest, honest) as nodes:
        for node in nodes:
            node.rows = shared(announced(nodes[0].port), announced(nodes[1].port, b"?"))
        cache = drive(make_cache(nodes[0].server.url, RESPONSE_TIMEOUT=1.0))
        assert cache.execute("GET", LOW) == b"b"
        with pytest.raises(VcacheError, match="no node of the cluster served slot 15495"):
            cache.execute("GET", HIGH)


def test_nodes_without_ports_are_told_with_what_to_set(drive: Any) -> None:
    with fake_cluster(honest, honest) as nodes:
        for node in nodes:
            node.rows = shared(announced(0), announced(0))
        cache = drive(make_cache(nodes[0].server.url))
        with pytest.raises(ConnectionError, match=r"nodes without a port.*'tls-cluster yes'"):
            cache.execute("GET", LOW)


def test_a_node_that_refuses_to_say_who_has_what_is_told_in_its_words(drive: Any) -> None:
    with fake_cluster(honest, honest) as nodes:
        for node in nodes:
            node.rows = b"-NOPERM User web has no permissions to run the 'cluster|slots' command\r\n"
        cache = drive(make_cache(nodes[0].server.url))
        with pytest.raises(ConnectionError, match=r"CLUSTER SLOTS was refused \(NOPERM User web has no permissions"):
            cache.execute("GET", LOW)


@pytest.mark.parametrize(
    "rows", [array(), array(b"_\r\n", b":1\r\n"), array(array(b":5\r\n", b":4\r\n", announced(1)))], ids=str
)
def test_rows_that_say_nothing_end_calls_within_their_time(drive: Any, rows: bytes) -> None:
    with fake_cluster(honest, honest) as nodes:
        for node in nodes:
            node.rows = rows
        cache = drive(make_cache(nodes[0].server.url, RESPONSE_TIMEOUT=0.5, CONNECT_TIMEOUT=0.5))
        begun = time.monotonic()
        with pytest.raises(VcacheError):
            cache.execute("GET", LOW)
        assert time.monotonic() - begun < 20
        # It recovers when there is something to know.
        for node in nodes:
            node.rows = shared(*(announced(other.port) for other in nodes))
        wait_until(lambda: _is_answered(cache), what="an answer")


def _is_answered(cache: Any) -> bool:
    try:
        return bool(cache.execute("GET", LOW) == b"b")
    except VcacheError:
        return False


def test_a_cluster_whose_place_a_server_takes_that_stands_alone(drive: Any) -> None:
    with fake_cluster(honest, honest) as nodes:
        cache = drive(make_cache(nodes[0].server.url, CONNECT_TIMEOUT=1.0))
        assert (cache.execute("GET", LOW), cache.execute("GET", HIGH)) == (b"b", b"a")
        nodes[0].mode = b"standalone"
        nodes[0].drop()
        nodes[1].server.stop()
        wait_until(lambda: _both(cache), what="one server that answers for all slots")
        assert cache.execute("MGET", LOW, HIGH) == b"OK"
        # And back again.
        nodes[0].mode = b"cluster"
        nodes[0].rows = array(array(b":0\r\n", b":%d\r\n" % (SLOTS - 1), announced(nodes[0].port)))
        nodes[0].drop()
        wait_until(lambda: _both(cache), what="a cluster that answers")


def _both(cache: Any) -> bool:
    try:
        return (cache.execute("GET", LOW), cache.execute("GET", HIGH)) == (b"b", b"a")
    except VcacheError:
        return False
