"""A real cluster of several nodes on this machine, which loses nodes, gets them back, and moves slots. Each node is a
`ValkeyServer`: it may be killed, restarted, paused."""

from __future__ import annotations

import collections
import contextlib
import socket
from collections.abc import Iterable, Sequence
from types import TracebackType
from typing import Any

from support.resp import Arg, Reply, ServerError
from support.server import ValkeyServer, wait_until

SLOTS = 16384
NODE_TIMEOUT = 1000
"""Milliseconds after which the others hold a silent node for failed."""


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Cluster:
    """Primaries that share the slots, and `replicas` of each."""

    def __init__(self, primaries: int = 3, replicas: int = 0, **config: Any) -> None:
        self.nodes: list[ValkeyServer] = []
        self._config = config
        try:
            for _ in range(primaries * (1 + replicas)):
                self.add_node()
            for node in self.nodes[1:]:
                self.meet(node)
            for number in range(primaries):
                start, end = number * SLOTS // primaries, (number + 1) * SLOTS // primaries - 1
                self.nodes[number].execute("CLUSTER", "ADDSLOTSRANGE", start, end)
            self.wait_until_known()
            for number, node in enumerate(self.nodes[primaries:]):
                primary = self.nodes[number % primaries]
                wait_until(lambda node=node, primary=primary: _replicates(node, primary), what="a replica")
            self.wait_until_ok()
            for node in self.nodes[primaries:]:
                wait_until(lambda node=node: node.info("replication")["master_link_status"] == "up", what="a link")
        except BaseException:
            self.stop()
            raise

    # Its nodes.

    def add_node(self) -> ValkeyServer:
        """Starts a node that knows no other yet."""
        node = ValkeyServer(
            cluster_enabled="yes",
            # The port of the bus is 10000 above the server's unless told otherwise, which may be above all ports.
            cluster_port=_free_port(),
            **(
                {"cluster_databases": 4, "cluster_node_timeout": NODE_TIMEOUT, "repl_diskless_sync_delay": 0}
                | self._config
            ),
        )
        self.nodes.append(node)
        return node

    def meet(self, node: ValkeyServer) -> None:
        """Has a node join."""
        bus = int(node.execute("CONFIG", "GET", "cluster-port")[1])  # type: ignore[index,arg-type]
        self.nodes[0].execute("CLUSTER", "MEET", "127.0.0.1", node.port, bus)

    @property
    def alive(self) -> list[ValkeyServer]:
        return [node for node in self.nodes if node.is_running]

    def primaries(self) -> list[ValkeyServer]:
        """The nodes that are primaries by their own word."""
        return [node for node in self.alive if node.info("replication")["role"] == "master"]

    def owner(self, key: str | int) -> ValkeyServer:
        """The node that has a key's slot, or a slot."""
        slot = key if isinstance(key, int) else self.slot(key)
        for node in self.primaries():
            for start, end in _own_slots(node):
                if start <= slot <= end:
                    return node
        raise AssertionError(f"no node has slot {slot}")

    def slot(self, key: str) -> int:
        answer = self.alive[0].execute("CLUSTER", "KEYSLOT", key)
        assert isinstance(answer, int)
        return answer

    def keys_of_each_node(self, count: int = 1, prefix: str = "k") -> list[list[str]]:
        """So many keys of each primary, by its place in `nodes`."""
        primaries = self.primaries()
        found: list[list[str]] = [[] for _ in primaries]
        slots = [_own_slots(node) for node in primaries]
        number = 0
        while any(len(keys) < count for keys in found):
            key = f"{prefix}{number}"
            number += 1
            slot = self.slot(key)
            for keys, ranges in zip(found, slots, strict=True):
                if len(keys) < count and any(start <= slot <= end for start, end in ranges):
                    keys.append(key)
        return found

    # What clients need.

    def url(self, *nodes: ValkeyServer) -> str:
        """A LOCATION that names these nodes; all of them if none is named."""
        return "redis://" + ",".join(f"127.0.0.1:{node.port}" for node in nodes or self.nodes)

    def connections(self) -> list[int]:
        """How many connections of vcache's each node has."""
        return [sum(client.get("lib-name") == "vcache" for client in node.clients()) for node in self.alive]

    def flush(self) -> None:
        for node in self.primaries():
            node.execute("FLUSHALL")

    # What happens to it.

    def move_slot(self, slot: int, to: ValkeyServer, *, keys: Sequence[str] = ()) -> None:
        """Gives a slot to a node, and these keys with it, as resharding tools do."""
        source = self.owner(slot)
        self.begin_move(slot, to)
        for key in keys:
            source.execute("MIGRATE", "127.0.0.1", to.port, key, 0, 5000)
        self.end_move(slot, to)

    def begin_move(self, slot: int, to: ValkeyServer) -> None:
        source = self.owner(slot)
        to.execute("CLUSTER", "SETSLOT", slot, "IMPORTING", _id(source))
        source.execute("CLUSTER", "SETSLOT", slot, "MIGRATING", _id(to))

    def end_move(self, slot: int, to: ValkeyServer) -> None:
        for node in [to, *(node for node in self.primaries() if node is not to)]:
            node.execute("CLUSTER", "SETSLOT", slot, "NODE", _id(to))

    def give_all_slots(self, source: ValkeyServer, to: ValkeyServer) -> None:
        """Gives all slots of a node, and its keys, to another."""
        for start, end in _own_slots(source):
            self.migrate(source, start, end, to)

    def migrate(self, source: ValkeyServer, start: int, end: int, to: ValkeyServer) -> None:
        """Moves slots with their keys, as Valkey 9 does it by itself."""

        def moved() -> bool:
            # A node that has just joined may refuse at first, or give up. Then the command is repeated.
            with contextlib.suppress(ServerError):
                source.execute("CLUSTER", "MIGRATESLOTS", "SLOTSRANGE", start, end, "NODE", _id(to))
            return self.owner_or_none(start) is to and self.owner_or_none(end) is to

        wait_until(moved, interval=0.1, what="slots that moved")

    def owner_or_none(self, slot: int) -> ValkeyServer | None:
        """The node that has a slot, once one says so."""
        try:
            return self.owner(slot)
        except AssertionError:
            return None

    def fail_over(self, replica: ValkeyServer) -> None:
        """Has a replica take over from its primary, which agrees."""
        replica.execute("CLUSTER", "FAILOVER")
        wait_until(lambda: replica.info("replication")["role"] == "master", what="the replica to be a primary")

    def wait_until_known(self) -> None:
        """Waits until all nodes know all others."""
        wait_until(
            lambda: all(len(_rows(node)) == len(self.alive) for node in self.alive), what="nodes that know each other"
        )

    def wait_until_announced(self, hosts: Sequence[str]) -> None:
        """Waits until all nodes tell clients that these are the primaries' hosts."""

        def announced(node: ValkeyServer) -> set[Any]:
            return {row[2][0] for row in node.execute("CLUSTER", "SLOTS")}  # type: ignore[union-attr,index]

        wanted = {host.encode() for host in hosts}
        wait_until(lambda: all(announced(node) == wanted for node in self.alive), what="announced addresses")

    def wait_until_agreed(self) -> None:
        """Waits until all nodes say the same of all nodes' epochs and slots, and no two have the same epoch.

        A slot that is moved before that can be left to neither: a node may raise its epoch to the one that another has.
        """

        def said(node: ValkeyServer) -> list[list[str]]:
            rows = [row for row in _rows(node) if "master" in row[2]]
            return sorted([row[0], row[6], *(part for part in row[8:] if "[" not in part)] for row in rows)

        def agreed() -> bool:
            first, *others = (said(node) for node in self.alive)
            return all(other == first for other in others) and len({row[1] for row in first}) == len(first)

        wait_until(agreed, what="nodes that agree")

    def wait_until_ok(self) -> None:
        """Waits until all nodes say that each slot is served."""
        wait_until(
            lambda: all(b"cluster_state:ok" in node.execute("CLUSTER", "INFO") for node in self.alive),  # type: ignore[operator]
            what="a cluster that serves all slots",
        )

    def stop(self) -> None:
        for node in self.nodes:
            node.stop()

    def __enter__(self) -> Cluster:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


class ClusterServer:
    """A cluster where a test expects one server: it looks at all nodes as if they were one."""

    tls = None
    password = None

    def __init__(self) -> None:
        self.cluster = Cluster(cluster_databases=16)
        self.directory = self.cluster.nodes[0].directory

    @property
    def url(self) -> str:
        return f"{self.cluster.url()}/0"

    unix_url = tcp_url = url

    @property
    def port(self) -> int:
        return self.cluster.nodes[0].port

    def execute(self, *args: Arg) -> Reply:
        """Runs a command where its key is; what is for all data, on all nodes."""
        name = str(args[0]).upper()
        if name in ("FLUSHALL", "FLUSHDB", "CONFIG", "SCRIPT", "ACL", "CLIENT") and args[1:2] != ("LIST",):
            answers = [node.execute(*args) for node in self.cluster.nodes]
            return answers[0]
        if name == "DEL" and len(args) > 2:
            return sum(self.execute(name, key) for key in args[1:])  # type: ignore[misc]
        if name in ("KEYS", "DBSIZE"):
            answers = [node.execute(*args) for node in self.cluster.nodes]
            return [key for keys in answers for key in keys] if name == "KEYS" else sum(answers)  # type: ignore[union-attr,arg-type]
        node = self.cluster.nodes[0]
        while True:
            try:
                return node.execute(*args)
            except ServerError as error:
                if not str(error).startswith("MOVED"):
                    raise
                port = int(str(error).rpartition(":")[2])
                [node] = [each for each in self.cluster.nodes if each.port == port]

    def clients(self) -> list[dict[str, str]]:
        return [client for node in self.cluster.nodes for client in node.clients()]

    def info(self, section: str) -> dict[str, str]:
        """Numbers are the sum of all nodes' numbers."""
        told: dict[str, str] = {}
        for node in self.cluster.nodes:
            for name, value in node.info(section).items():
                told[name] = str(int(told.get(name, 0)) + int(value)) if value.isdigit() else value
        return told

    @property
    def nodes(self) -> list[ValkeyServer]:
        return self.cluster.nodes

    def at(self, key: str) -> ValkeyServer:
        """The node that has a key."""
        return self.cluster.owner(key)

    def parts(self, keys: Iterable[str]) -> int:
        """How many commands with several keys are made of one with these: one for each slot."""
        return len({self.cluster.slot(key) for key in keys})

    def command_counts(self) -> dict[str, int]:
        counts = collections.Counter[str]()
        for node in self.cluster.nodes:
            counts.update(node.command_counts())
        return counts

    def keys(self, pattern: str = "*") -> list[bytes]:
        return sorted(key for node in self.cluster.nodes for key in node.keys(pattern))

    def stop(self) -> None:
        self.cluster.stop()

    def __enter__(self) -> ClusterServer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


def _id(node: ValkeyServer) -> bytes:
    answer = node.execute("CLUSTER", "MYID")
    assert isinstance(answer, bytes)
    return answer


def _rows(node: ValkeyServer) -> list[list[str]]:
    """CLUSTER NODES, without those that only shook hands."""
    answer = node.execute("CLUSTER", "NODES")
    assert isinstance(answer, bytes)
    rows = [line.split() for line in answer.decode().splitlines()]
    return [row for row in rows if "handshake" not in row[2]]


def _own_slots(node: ValkeyServer) -> list[tuple[int, int]]:
    """The slots that a node says it has."""
    [own] = [row for row in _rows(node) if "myself" in row[2]]
    ranges = [part.partition("-") for part in own[8:] if not part.startswith("[")]
    return [(int(start), int(end or start)) for start, _, end in ranges]


def _replicates(node: ValkeyServer, primary: ValkeyServer) -> bool:
    """Makes a node a replica: it may not know the primary yet."""
    try:
        node.execute("CLUSTER", "REPLICATE", _id(primary))
    except ServerError:
        return False
    return True
