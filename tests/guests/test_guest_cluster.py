"""A guest uses a cluster as the wheel does: by the same connections, one to each node, and it can ask each primary."""

from __future__ import annotations

from collections.abc import Iterator
from types import ModuleType
from typing import Any

import pytest
from django.test import override_settings
from support.caches import BACKEND
from support.clusters import Cluster
from support.guests import default_on
from support.programs import run_program
from support.server import ValkeyServer

from django_vcache.backend import publish_alias


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with Cluster() as cluster:
        yield cluster


@pytest.fixture
def on_cluster(cluster: Cluster) -> Iterator[Cluster]:
    cluster.flush()
    with override_settings(CACHES={"default": {"BACKEND": BACKEND, "LOCATION": cluster.url()}}):
        publish_alias("default")
        yield cluster


def test_each_primary_is_asked_over_the_connection_that_the_wheel_has(
    on_cluster: Cluster, run: Any, probe: ModuleType
) -> None:
    from django.core.cache import cache

    counts = [0, 0, 0]
    for node, keys in enumerate(on_cluster.keys_of_each_node(3, prefix=":1:g")):
        for key in keys[: node + 1]:
            cache.set(key.removeprefix(":1:"), 1)
            counts[node] += 1

    async def ask() -> list[tuple[int, int]]:
        return await probe.aprimaries()

    answers = [probe.primaries(), run(ask())]
    assert answers[0] == answers[1]
    assert [keys for _, keys in answers[0]] == counts
    # One connection to each, which the cache has too.
    for node, (number, _) in zip(on_cluster.nodes, answers[0], strict=True):
        assert [client["id"] for client in node.clients() if client.get("lib-name") == "vcache"] == [str(number)]


def test_one_server_is_its_own_primary(server: ValkeyServer, probe: ModuleType) -> None:
    with default_on(server):
        assert probe.primaries() == [(probe.connection_id(), 0)]


FORKS = """
import probe_guest

before = probe_guest.primaries()
pid = os.fork()
if pid == 0:
    own = probe_guest.primaries()
    os._exit(0 if all(mine[0] != parents[0] for mine, parents in zip(own, before, strict=True)) else 1)
report([len(before), os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), before == probe_guest.primaries()])
"""


def test_a_forked_child_asks_over_connections_of_its_own(on_cluster: Cluster) -> None:
    assert run_program(FORKS, {"default": {"BACKEND": BACKEND, "LOCATION": on_cluster.url()}}) == [3, 0, True]
