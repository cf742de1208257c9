"""The section of the report on TLS and on a cluster of three nodes."""

from __future__ import annotations

from collections.abc import Iterator

from clients import BASELINE, CLIENTS, FLEET_SECTION, OURS, PLAIN
from fleet import CLUSTER, TLS
from scenarios import FLEET
from tables import RATIOS, RATIOS_RULE, Cells, Target, all_titles, rows, verdict

TEXT = """\
## Over TLS, and in a cluster

Over TLS all clients verify the server's certificate; the server is redis-server, since Valkey's wheel has no TLS. In
the cluster of three nodes the tasks get different keys, so that all nodes are asked. The rows of
this project without them show what TLS and the cluster cost.
"""
HEADINGS = {TLS: "TLS", CLUSTER: "Cluster"}


def _of(name: str, over: str) -> str:
    return f"{name}-{over}"


def _target(over: str, scenario: str, to: str, bound: float) -> Target:
    at_once = scenario.rpartition("-")[2]
    title = f"{HEADINGS[over]}, CPU of async get, {at_once} at once"
    return Target(title, (f"{over}-{scenario}",), _of(to, over), "cpu", bound, client=_of(OURS, over))


TARGETS: tuple[Target, ...] = (
    _target(TLS, "aget-50", PLAIN, 1.25),
    _target(TLS, "aget-300", PLAIN, 1.25),
    _target(TLS, "aget-50", BASELINE, 0.35),
    _target(TLS, "aget-300", BASELINE, 0.35),
    _target(CLUSTER, "aget-300", PLAIN, 1.25),
    _target(CLUSTER, "aget-300", BASELINE, 0.35),
    _target(CLUSTER, "aget-300", "valkey-glide", 0.35),
)


def section(cells: Cells) -> Iterator[str]:
    names = {client.name: client for client in CLIENTS if client.section == FLEET_SECTION}
    measured = {scenario for client, scenario in cells if client in names}
    if not measured:
        return
    yield TEXT
    yield f"| figure | peer | {RATIOS}"
    yield f"|---|---|{RATIOS_RULE}"
    for target in TARGETS:
        yield f"| {target.title} | {all_titles()[target.to]} | {verdict(cells, target)} |"
    yield ""
    for scenario in FLEET:
        if scenario.name not in measured:
            continue
        yield f"### {HEADINGS[scenario.over]}: {scenario.title}"
        yield ""
        titles = {name: client.title for name, client in names.items() if client.over == scenario.over}
        yield from rows(cells, scenario, titles, _of(OURS, scenario.over), "our")
