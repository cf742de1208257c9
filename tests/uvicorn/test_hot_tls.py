"""Hot routes over TLS, which is uvicorn's."""

from __future__ import annotations

import json
import socket
import ssl
from collections.abc import Callable
from pathlib import Path

import pytest
from support.hot_server import Client, HotServer, request
from support.server import wait_until

Serve = Callable[..., HotServer]


@pytest.fixture
def connect(serve: Serve, tls_files: tuple[Path, Path]) -> Callable[[], Client]:
    certificate, key = tls_files
    site = serve(ssl_certfile=certificate, ssl_keyfile=key)
    context = ssl.create_default_context(cafile=str(certificate))

    def client() -> Client:
        plain = socket.create_connection(("127.0.0.1", site.port), timeout=30)
        return Client(context.wrap_socket(plain, server_hostname="localhost"))

    return client


def test_requests(connect: Callable[[], Client]) -> None:
    with connect() as client:
        given = json.loads(client.ask("/hot/echo", b"abc").body)
        assert (given["scheme"], given["peer"], given["body"]) == ("https", "127.0.0.1", "abc")
        client.send(request("/hot/later", b"x") + request("/cold", b"abc"))
        assert client.answer().text == "hot x"
        assert client.answer().text == "cold /cold 3"


def test_a_body_above_the_limit(connect: Callable[[], Client]) -> None:
    with connect() as client:
        client.send(request("/hot/quick", b"x" * 500_000))
        assert client.answer().status == 413


def test_a_client_that_leaves(connect: Callable[[], Client], folder: Path) -> None:
    with connect() as client:
        client.send(request("/hot/gate/a"))
        wait_until((folder / "began-a").exists)
    wait_until((folder / "cancelled-a").exists)
