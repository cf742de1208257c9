"""A cluster that does not come to rest: nodes are killed again and again, slots move a thousand times. No call is
executed twice, none that was answered is lost, and memory and descriptors stay what they are.

`VCACHE_ENDURANCE` sets for how many seconds nodes are killed, one each second: a minute makes some 100,000 calls.
"""

from __future__ import annotations

import itertools
import os
import time
from typing import Any

from support.caches import BACKEND, make_cache
from support.clusters import Cluster
from support.counting import Counting
from support.programs import Program

KILLED_FOR = float(os.environ.get("VCACHE_ENDURANCE", "8"))
"""Seconds."""


def test_nodes_that_are_killed_each_second_have_nothing_counted_twice_or_lost() -> None:
    # What a node has acknowledged is in its file by then, so a restart loses nothing.
    with Cluster(appendonly="yes", appendfsync="no", cluster_node_timeout=60_000) as cluster:
        keys = [[key.removeprefix(":1:") for key in of_node] for of_node in cluster.keys_of_each_node(5, prefix=":1:c")]
        cache = make_cache(cluster.url(), RESPONSE_TIMEOUT=10.0)
        with Counting(cache, keys, threads=4) as counting:
            begun = time.monotonic()
            for number in itertools.count():
                if time.monotonic() - begun > KILLED_FOR:
                    break
                cluster.nodes[number % 3].restart()
                time.sleep(max(0.0, begun + number + 1 - time.monotonic()))
            cluster.wait_until_ok()
            counting.goes_on()
        counting.check()
        answered, uncertain = sum(counting.acknowledged.values()), sum(counting.uncertain.values())
        print(f"{answered} calls were answered, {len(counting.failures)} failed, {uncertain} of them may be counted")


CALLS = """
while wait_for_word():
    cache.set("moves", 1)
    assert cache.get("moves") == 1
    report([fds(), rss()])
"""


def test_a_thousand_moves_leave_memory_and_descriptors_as_they_are() -> None:
    with Cluster() as cluster:
        slot = cluster.slot(":1:moves")
        with Program(CALLS, {"default": {"BACKEND": BACKEND, "LOCATION": cluster.url()}}) as program:
            owners = [cluster.owner(slot), next(node for node in cluster.nodes if node is not cluster.owner(slot))]

            def move(times: int) -> Any:
                for _ in range(times):
                    source, to = owners[0], owners[1]
                    # The key that it has is deleted first: it would be in the way.
                    source.execute("FLUSHALL")
                    cluster.begin_move(slot, to)
                    cluster.end_move(slot, to)
                    cluster.wait_until_agreed()
                    owners.reverse()
                    program.tell("x")
                    told = program.report()
                return told

            descriptors, memory = move(200)
            after, memory_after = move(800)
        assert after == descriptors
        assert memory_after - memory < 2 * 1024 * 1024, (memory, memory_after)
