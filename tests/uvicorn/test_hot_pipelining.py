"""Requests that come before the answer to the one before them, and answers that a client does not read."""

from __future__ import annotations

from pathlib import Path

from support.hot_server import HotServer, request
from support.server import wait_until


def test_answers_come_in_order_hot_and_cold_mixed(site: HotServer) -> None:
    asked = [
        ("/hot/quick", "hot"),
        ("/hot/later", "hot "),
        ("/cold/1", "cold /cold/1 0"),
        ("/hot/later", None),
        ("/cold/2", "cold /cold/2 0"),
        ("/hot/quick", None),
    ]
    with site.client() as client:
        for _ in range(20):
            client.send(b"".join(request(path) for path, _ in asked))
            for path, expected in asked:
                # A hot one that came with a cold one before it is the application's.
                assert client.answer().text in (expected, f"cold {path} 0", "hot", "hot ")
        assert client.ask("/hot/quick").text == "hot"


def test_many_hot_requests_at_once(site: HotServer) -> None:
    with site.client() as client:
        client.send(b"".join(request("/hot/later", b"%d" % number) for number in range(500)))
        assert [client.answer().text for _ in range(500)] == [f"hot {number}" for number in range(500)]


def test_a_request_that_waits_keeps_those_after_it(site: HotServer, folder: Path) -> None:
    with site.client() as client:
        client.send(request("/hot/gate/a") + request("/hot/quick") + request("/cold"))
        wait_until((folder / "began-a").exists)
        assert site.answered == 0
        assert site.ask("/hot/open/a").status == 204
        assert client.answer().text == "through a"
        assert client.answer().text == "hot"
        assert client.answer().text == "cold /cold 0"


def test_reading_stops_while_much_waits(site: HotServer, folder: Path) -> None:
    body = b"x" * 900
    with site.client() as client:
        client.send(request("/hot/gate/a"))
        wait_until((folder / "began-a").exists)
        (protocol,) = site.connections
        client.send(request("/hot/later", body) * 100)
        wait_until(lambda: protocol.flow.read_paused)
        held = protocol._reader.kept
        assert held < 300_000
        client.send(request("/hot/later", body) * 50)
        assert protocol._reader.kept == held
        site.ask("/hot/open/a")
        assert client.answer().text == "through a"
        assert {client.answer().text for _ in range(150)} == {f"hot {body.decode()}"}
        assert client.ask("/hot/quick").text == "hot"


def test_a_body_larger_than_what_is_kept_of_others(site: HotServer, folder: Path) -> None:
    with site.client() as client:
        client.send(request("/hot/gate/a"))
        wait_until((folder / "began-a").exists)
        whole = request("/hot/mb", b"x" * 1_000_000)
        client.send(whole[:300_000])
        site.ask("/hot/open/a")
        client.send(whole[300_000:])
        assert client.answer().text == "through a"
        assert client.answer().text == "hot"


def test_a_client_that_does_not_read_gets_no_further_answers_made(site: HotServer) -> None:
    size = 3_000_000
    with site.client() as client:
        client.send(request(f"/hot/large?{size}") * 10)
        wait_until(lambda: any(each.flow.write_paused for each in site.connections))
        (protocol,) = site.connections
        assert site.answered < 10
        assert protocol._reader.kept
        for _ in range(10):
            assert len(client.answer().body) == size
        assert client.ask("/hot/quick").text == "hot"
    wait_until(lambda: site.answered == 11)


def test_a_cold_request_behind_a_hot_one_that_waits_may_have_a_large_body(site: HotServer, folder: Path) -> None:
    body = b"x" * 2_000_000
    with site.client() as client:
        client.send(request("/hot/gate/a") + request("/cold", body)[:500_000])
        wait_until((folder / "began-a").exists)
        site.ask("/hot/open/a")
        client.send(request("/cold", body)[500_000:])
        assert client.answer().text == "through a"
        assert client.answer().text == "cold /cold 2000000"
