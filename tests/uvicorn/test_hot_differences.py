"""A short search for differences of framing, with the same inputs each time. `fuzz/http1.py` searches for longer."""

from __future__ import annotations

import random

import pytest
from support import framing
from support.framing import Counts, Difference, compare, hostile


@pytest.mark.parametrize("seed", range(8))
def test_httptools_and_h11_take_the_same_bytes_in_the_same_way(seed: int) -> None:
    rng = random.Random(seed)
    counts = Counts()
    for _ in range(1000):
        compare(rng, hostile(rng), counts)
    # The inputs reach what they are to reach.
    assert counts.requests > 400
    assert counts.foreign > 300
    assert counts.too_large > 3


REQUEST = b"POST /a?b HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc"


@pytest.mark.parametrize(
    ("data", "pretended"),
    [
        (REQUEST, {"body": b"ab"}),
        (REQUEST, {"method": "GET"}),
        (REQUEST, {"path": "/b"}),
        (REQUEST, {"query": b""}),
        (REQUEST, {"headers": []}),
        (REQUEST, {"keep_alive": False}),
    ],
)
def test_a_difference_is_seen(monkeypatch: pytest.MonkeyPatch, data: bytes, pretended: dict[str, object]) -> None:
    compare(random.Random(1), data, Counts())
    honest = framing.seen
    monkeypatch.setattr(framing, "seen", lambda request: honest(request)._replace(**pretended))
    with pytest.raises(Difference):
        compare(random.Random(1), data, Counts())


@pytest.mark.parametrize("shift", [-1, 1, 10])
def test_another_end_is_seen(monkeypatch: pytest.MonkeyPatch, shift: int) -> None:
    honest = framing.ours

    def shifted(pieces: list[bytes]) -> object:
        taken, gave_up = honest(pieces)
        return [(request, end + shift) for request, end in taken], gave_up

    monkeypatch.setattr(framing, "ours", shifted)
    with pytest.raises(Difference):
        compare(random.Random(1), REQUEST + REQUEST[: 20 * (shift > 0)], Counts())
