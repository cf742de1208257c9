"""After a failed attempt to connect, a call waits only briefly for the next attempt; what it then may take to be
answered is its own deadline, and not what is left of that."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest
from support.caches import make_cache
from support.fake import FakeServer, Peer, answer_keys


def after_a_refusal(script: Callable[[Peer], None]) -> Callable[[Peer], None]:
    """A server that closes the first connection at once and treats the later ones by `script`."""

    def serve(peer: Peer) -> None:
        if peer.number > 1:
            script(peer)

    return serve


def test_a_call_after_an_outage_has_its_whole_deadline(drive: Any) -> None:
    slowly = threading.Event()

    def answer_late(peer: Peer) -> None:
        peer.shake_hands()
        assert peer.command()[0] == b"GET"
        # Longer than anybody waits for a connection: 250 ms.
        slowly.wait(0.6)
        peer.send(b"$4\r\nlate\r\n")
        peer.wait_for_the_end()

    with FakeServer(after_a_refusal(answer_late)) as fake:
        cache = drive(make_cache(fake.url, RESPONSE_TIMEOUT=20.0, CONNECT_TIMEOUT=10.0))
        value = until_connected(lambda: cache.execute("GET", "k"))
        assert value == b"late"


def test_nobody_waits_for_long_for_an_attempt_that_follows_a_failed_one(drive: Any) -> None:
    from django_vcache.exceptions import ConnectionError

    held = threading.Event()

    def hold(peer: Peer) -> None:
        held.wait(30)

    with FakeServer(after_a_refusal(hold)) as fake:
        cache = drive(make_cache(fake.url, RESPONSE_TIMEOUT=600.0, CONNECT_TIMEOUT=600.0))
        try:
            with pytest.raises(ConnectionError, match="handshake"):
                cache.execute("GET", "k")
            # The second attempt hangs; without the limit this would take ten minutes.
            with pytest.raises(ConnectionError):
                until_connected(lambda: cache.execute("GET", "k"), again_on="handshake", attempts=fake)
        finally:
            held.set()


def test_a_server_that_comes_back_is_answered_by(drive: Any) -> None:
    with FakeServer(after_a_refusal(answer_keys)) as fake:
        cache = drive(make_cache(fake.url, RESPONSE_TIMEOUT=20.0))
        assert until_connected(lambda: cache.execute("GET", "k")) == b"k"


def until_connected(call: Callable[[], Any], again_on: str = "handshake", attempts: FakeServer | None = None) -> Any:
    """Calls until the answer is not the failure of the first attempt, remembered for the back-off."""
    from django_vcache.exceptions import ConnectionError

    while True:
        try:
            return call()
        except ConnectionError as error:
            if again_on not in str(error) or (attempts is not None and attempts.accepted > 1):
                raise
