"""What is measured: one operation, done by so many tasks or threads at once.

The values are the same in every process, so that every client moves the same bytes.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

KEY = "bench:value"
VALUE = "0123456789abcdef" * 8
"""128 characters: a session flag, a permission bitmap, a rendered fragment's hash."""

MANY_KEYS = tuple(f"bench:many:{number}" for number in range(20))

FIVE_KEY = "bench:owner"
FIVE: dict[str, str | int] = {
    FIVE_KEY: "ada",
    "bench:plan:ada": "gold",
    "bench:limit:gold": 1_000_000_000,
    "bench:count:ada": 0,
}
"""What is stored for the five dependent commands before they run."""

BATCH = 1000
"""How often one measured operation calls what is timed in nanoseconds."""


ROUNDS = 5
"""Of a scenario that decides a target by its speed; each in full seconds."""

SHORT = 0.75
"""Seconds: where a lot is compared, and no target is decided."""


@dataclass(frozen=True)
class Scenario:
    """``operation`` is the method's name; ``at_once`` counts tasks, or threads if it blocks.

    ``calls`` is how many calls one operation makes: figures are given per call. ``seconds`` is how long
    it is measured, in each of at most ``rounds`` rounds. ``late`` is by how many milliseconds its
    replies are late in every run; one that is ``delayed`` has them late as ``--latency`` says.
    ``over`` is ``"tls"`` or ``"cluster"`` where the server is not the one of the run.
    """

    name: str
    title: str
    operation: str
    at_once: int
    delayed: bool = False
    calls: int = 1
    seconds: float = 1.5
    rounds: int = ROUNDS
    late: float = 0.0
    over: str = ""

    @property
    def quick_seconds(self) -> float:
        """How long it is looked at to see whether it works."""
        # NOTE: three hundred slow ones at once go in step: in a shorter time none may end. Nor may a large read.
        return 0.6 if self.at_once >= 300 or self.operation == "areader" else 0.2

    @property
    def is_async(self) -> bool:
        return self.operation.startswith("a")


ADMISSION = (
    Scenario("throttle-1", "one throttle, 1 at a time", "athrottle", 1),
    Scenario("throttle-300", "one throttle, 300 at once", "athrottle", 300),
    Scenario("throttle-blocking", "one throttle, blocking, 1 thread", "throttle", 1),
    Scenario("throttle-1-delayed", "one throttle, 1 at a time", "athrottle", 1, True, seconds=SHORT, rounds=2),
    Scenario("throttle-300-delayed", "one throttle, 300 at once", "athrottle", 300, True),
    Scenario(
        "throttle-blocking-delayed", "one throttle, blocking, 1 thread", "throttle", 1, True, seconds=SHORT, rounds=1
    ),
    Scenario("gate-1", "the gate, 1 at a time", "agate", 1, seconds=SHORT, rounds=2),
    Scenario("gate-300", "the gate, 300 at once", "agate", 300, rounds=2),
    Scenario("gate-blocking", "the gate, blocking, 1 thread", "gate", 1, seconds=SHORT, rounds=2),
    Scenario("gate-1-delayed", "the gate, 1 at a time", "agate", 1, True, seconds=SHORT, rounds=2),
    Scenario("gate-300-delayed", "the gate, 300 at once", "agate", 300, True),
    Scenario("gate-blocking-delayed", "the gate, blocking, 1 thread", "gate", 1, True, seconds=SHORT, rounds=1),
    Scenario("refused-300", "one throttle that refuses all, 300 at once", "arefused", 300, seconds=SHORT, rounds=2),
)

LOAD = (
    Scenario("beside-1", "async get beside what waits, 1 at a time", "abeside", 1),
    Scenario("beside-50", "async get beside what waits, 50 at once", "abeside", 50),
    Scenario("lagging", "throttles asked by a loop that lags, 300 at once", "alagging", 300, rounds=3, late=1.0),
    Scenario("reader", "a loop beside a thread that reads 32 MiB", "areader", 1, seconds=2.0, rounds=3),
)

FLEET = tuple(
    Scenario(f"{over}-{name}", title, operation, at_once, seconds=1.0, rounds=3, over=over)
    for over in ("tls", "cluster")
    for name, title, operation, at_once in (
        ("aget-1", "async get, 1 at a time", "aget", 1),
        ("aget-50", "async get, 50 at once", "aget", 50),
        ("aget-300", "async get, 300 at once", "aget", 300),
        ("get-1", "blocking get, 1 thread", "get", 1),
        ("aget_many-50", "async get_many of 20 keys, 50 at once", "aget_many", 50),
    )
    if over == "cluster" or operation != "aget_many"
)
"""Over TLS, and on a cluster of three nodes."""

SCENARIOS: tuple[Scenario, ...] = (
    Scenario("aget-1", "async get, 1 at a time", "aget", 1),
    Scenario("aget-50", "async get, 50 at once", "aget", 50),
    Scenario("aget-300", "async get, 300 at once", "aget", 300),
    Scenario("get-1", "blocking get, 1 thread", "get", 1),
    Scenario("get-8", "blocking get, 8 threads", "get", 8),
    # Of these only the memory decides, which hardly differs from round to round.
    Scenario("aset-50", "async set of a 4 KB dict, 50 at once", "aset", 50, rounds=2),
    Scenario("set-1", "blocking set of a 4 KB dict, 1 thread", "set", 1, rounds=2),
    Scenario("aget_many-50", "async get_many of 20 keys, 50 at once", "aget_many", 50, rounds=2),
    Scenario("get_many-1", "blocking get_many of 20 keys, 1 thread", "get_many", 1, rounds=2),
    Scenario("aget-300-delayed", "async get, 300 at once, a slow network", "aget", 300, True, seconds=SHORT, rounds=2),
    Scenario("five-1", "five dependent commands, 1 at a time", "afive", 1),
    Scenario("five-50", "five dependent commands, 50 at once", "afive", 50),
    Scenario(
        "five-1-delayed",
        "five dependent commands, 1 at a time, a slow network",
        "afive",
        1,
        True,
        seconds=SHORT,
        rounds=2,
    ),
    Scenario("five-50-delayed", "five dependent commands, 50 at once, a slow network", "afive", 50, True),
    Scenario("nothing", "a call that does nothing", "nothing", 1, calls=BATCH, rounds=3),
    Scenario("anothing", "a call that does nothing, awaited", "anothing", 1, calls=BATCH, rounds=3),
    *ADMISSION,
    *LOAD,
    *FLEET,
)


def document() -> dict[str, object]:
    """A nested dict as views cache them: about 4 KB once serialised, always the same."""
    numbers = random.Random(20)
    events = [
        {
            "id": f"{numbers.getrandbits(64):016x}",
            "level": numbers.choice(("error", "warning", "info")),
            "culprit": f"shop.views.checkout_{numbers.randrange(900)} in handle",
            "count": numbers.randrange(1, 100_000),
            "rate": numbers.random(),
            "tags": [numbers.choice(("eu", "us", "ap")), f"release-{numbers.randrange(99)}"],
            "resolved": numbers.random() < 0.5,
        }
        for _ in range(33)
    ]
    return {
        "project": {"id": 4711, "slug": "shop", "quota": 0.75, "owners": ["ada", "grace"]},
        "events": events,
        "next": None,
    }
