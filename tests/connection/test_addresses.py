"""A name stands for several addresses, or takes its time to be resolved: one address that does not answer holds up
nobody, and a connection that came late is used.
"""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.caches import BACKEND
from support.fake import FakeServer, Peer, answer_keys
from support.names import SlowNames, asks, names
from support.programs import Program
from support.server import wait_until

CONNECT_TIMEOUT = 8.0
# Addresses are tried 250 ms apart; the rest is patience with a busy machine.
SOON = CONNECT_TIMEOUT / 2


def setting(host: str, port: int, **options: Any) -> dict[str, Any]:
    return {"BACKEND": BACKEND, "LOCATION": f"redis://{host}:{port}/0", "OPTIONS": options}


@contextlib.contextmanager
def black_hole(address: str, port: int) -> Iterator[None]:
    """Nothing answers at an address: its queue is full, so what comes is dropped without a word."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.socket(family, socket.SOCK_STREAM))
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((address, port))
        listener.listen(0)
        for _ in range(16):
            filler = stack.enter_context(socket.socket(family, socket.SOCK_STREAM))
            filler.settimeout(0.2)
            try:
                filler.connect((address, port))
            except TimeoutError:
                break
        else:
            pytest.skip("this system takes connections beyond a full queue")
        yield


RESOLVED = """
import socket

name, port = wait_for_word().decode().split()
found = socket.getaddrinfo(name, int(port), type=socket.SOCK_STREAM)
report([address[0] for *_, address in found])
wait_for_word()
begun = time.monotonic()
if _request["loop"] == "blocking":
    value = cache.execute("GET", "k")
else:
    async def get():
        return await cache.aexecute("GET", "k")
    value = run(get())
report([str(value), time.monotonic() - begun])
"""


def connect_past(first: str, program: Program, name: str, fake: FakeServer, order: list[str]) -> None:
    """The program resolves a name, and connects though nothing answers at the first address."""
    program.tell(f"{name} {fake.port}")
    if program.report() != order:
        pytest.skip(f"{name} is resolved in another order here")
    with black_hole(first, fake.port):
        program.tell()
        value, took = program.report()
    assert value == "b'k'"
    assert took < SOON
    assert fake.accepted == 1


@pytest.mark.parametrize("form", ["blocking", "asyncio"])
def test_an_address_that_does_not_answer_is_not_waited_for(tmp_path: Path, form: str) -> None:
    addresses = ["127.0.0.1", "127.0.0.2"]
    under = names(tmp_path, {"two.vcache.test": addresses})
    with FakeServer(answer_keys, address=(addresses[1], 0)) as fake:
        caches = {"default": setting("two.vcache.test", fake.port, CONNECT_TIMEOUT=CONNECT_TIMEOUT)}
        with Program(RESOLVED, caches, form, under=under) as program:
            connect_past(addresses[0], program, "two.vcache.test", fake, addresses)
            program.end()


def test_ipv6_that_does_not_answer_is_not_waited_for(tmp_path: Path) -> None:
    """What `localhost` often is: ::1 first, and a server that listens on 127.0.0.1 alone."""
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(socket.create_server(("::1", 0), family=socket.AF_INET6))
        except OSError as error:
            pytest.skip(f"this machine has no IPv6 loopback: {error}")
    under = names(tmp_path, {"both.vcache.test": ["::1", "127.0.0.1"]})
    with FakeServer(answer_keys) as fake:
        caches = {"default": setting("both.vcache.test", fake.port, CONNECT_TIMEOUT=CONNECT_TIMEOUT)}
        with Program(RESOLVED, caches, "blocking", under=under) as program:
            connect_past("::1", program, "both.vcache.test", fake, ["::1", "127.0.0.1"])
            program.end()


REFUSED = """
try:
    cache.execute("GET", "k")
except exceptions.ConnectionError as error:
    report(str(error))
"""


def test_a_name_none_of_whose_addresses_answers_is_an_error(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    under = names(tmp_path, {"two.vcache.test": ["127.0.0.1", "127.0.0.2"]})
    with Program(REFUSED, {"default": setting("two.vcache.test", port)}, under=under) as program:
        error = program.report()
        assert f"two.vcache.test:{port}" in error
        assert "refused" in error
        program.end()


SLOWLY = """
outcomes = []
while not outcomes or outcomes[-1] != "b'k'":
    try:
        outcomes.append(str(cache.execute("GET", "k")))
    except exceptions.ConnectionError as error:
        outcomes.append(str(error))
        time.sleep(0.02)
report([outcomes[0], outcomes[-1]])
"""


def test_a_connection_that_took_longer_than_its_time_out_is_used(tmp_path: Path) -> None:
    """Resolving the name always takes longer than CONNECT_TIMEOUT, as with a first name server that is down. The first
    callers are told so in time. The attempt goes on, and what comes of it is taken, or there would never be any
    connection."""
    handshakes: list[int] = []

    def script(peer: Peer) -> None:
        handshakes.append(peer.number)
        answer_keys(peer)

    with SlowNames(0.8) as nameserver, FakeServer(script) as fake:
        under = asks(tmp_path, nameserver)
        caches = {"default": setting("slow.vcache.test", fake.port, CONNECT_TIMEOUT=0.5)}
        with Program(SLOWLY, caches, under=under) as program:
            wait_until(lambda: handshakes, timeout=15, what="the name was resolved and the server was asked")
            first, last = program.report(timeout=10)
            assert "CONNECT_TIMEOUT" in first
            assert last == "b'k'"
            program.end()
        assert fake.accepted == 1
