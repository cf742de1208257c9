"""A cluster of fake servers, for what no real one does when it is asked to: each test says how a node answers."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

from support.fake import FakeServer, Peer, answer, bulk

SLOTS = 16384

Says = Callable[["FakeNode", list[bytes]], bytes | None]
"""The reply of a node to a command; None is what an honest server says."""


def array(*items: bytes) -> bytes:
    return b"*%d\r\n%s" % (len(items), b"".join(items))


def announced(port: int, host: bytes | None = b"127.0.0.1", **said: str) -> bytes:
    """A node as CLUSTER SLOTS names it."""
    words = [bulk(word.encode()) for pair in said.items() for word in pair]
    return array(b"_\r\n" if host is None else bulk(host), b":%d\r\n" % port, bulk(b"id-%d" % port), array(*words))


class FakeNode:
    """One of them. `rows` is its answer to CLUSTER SLOTS, which may be changed; it is an honest cluster's at first."""

    def __init__(self, says: Says) -> None:
        self.says = says
        self.mode = b"cluster"
        self.rows = b""
        self.server = FakeServer(self._script)

    @property
    def port(self) -> int:
        return self.server.port

    def commands(self) -> list[list[bytes]]:
        """What it was asked but for CLUSTER's."""
        return [command for _, command in self.server.received() if command[0] != b"CLUSTER"]

    def drop(self) -> None:
        """Ends all connections; new ones are taken."""
        self.server.drop()

    def _script(self, peer: Peer) -> None:
        greeting = [bulk(word) for word in (b"mode", self.mode, b"role", b"master")]
        while True:
            command = peer.command_of_handshake()
            if command[0] == b"HELLO":
                peer.send(b"%%%d\r\n%s" % (len(greeting) // 2, b"".join(greeting)))
            else:
                peer.send(b"+PONG\r\n" if command[0] == b"PING" else b"+OK\r\n")
            if command[0] == b"PING":
                break
        for command in peer.commands():
            peer.send(self._answer(command))

    def _answer(self, command: list[bytes]) -> bytes:
        if command[0] == b"CLUSTER" and self.mode != b"cluster":
            return b"-ERR This instance has cluster support disabled\r\n"
        if command[:2] == [b"CLUSTER", b"SLOTS"]:
            return self.rows
        if command[:2] == [b"CLUSTER", b"MYID"]:
            return bulk(b"id-%d" % self.port)
        said = self.says(self, command)
        return answer(command) if said is None else said


@contextlib.contextmanager
def fake_cluster(*says: Says) -> Iterator[list[FakeNode]]:
    """A node for each of `says`, among which the slots are shared evenly."""
    nodes = [FakeNode(each) for each in says]
    with contextlib.ExitStack() as stack:
        for node in nodes:
            stack.enter_context(node.server)
        rows = shared(*(announced(node.port) for node in nodes))
        for node in nodes:
            node.rows = rows
        yield nodes


def shared(*nodes: bytes) -> bytes:
    """CLUSTER SLOTS of a cluster whose nodes share the slots evenly."""
    bounds = [number * SLOTS // len(nodes) for number in range(len(nodes) + 1)]
    rows = zip(bounds, bounds[1:], nodes, strict=False)
    return array(*(array(b":%d\r\n" % first, b":%d\r\n" % (after - 1), node) for first, after, node in rows))
