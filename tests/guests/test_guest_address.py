"""The client's address is told by one rule, written twice: in Rust for hot routes, in Python for throttles. A client
that has another address here than there would have another budget.
"""

from __future__ import annotations

import random
from types import ModuleType
from typing import Any

import pytest
from django.test import RequestFactory

FORWARDED = [
    None,
    "",
    " ",
    ",",
    "192.0.2.7",
    "192.0.2.7, 198.51.100.1",
    "6.6.6.6,192.0.2.7 ,\t198.51.100.1",
    "192.0.2.7:443",
    "192.0.2.7:",
    ":192.0.2.7",
    "[2001:db8:1:2::3]:443",
    "[2001:db8:1:2::3",
    "[192.0.2.7]:80",
    "[]",
    "[[::1]]",
    "2001:db8:1:2:3:4:5:6",
    "2001:DB8::1",
    "::",
    "::1",
    "1::",
    "1:2:3:4:5:6:7::",
    "::2:3:4:5:6:7:8",
    "1:2:3:4::5:6:7:8",
    "1:0:0:2:0:0:0:3",
    "0:0:1::",
    "1:2:3:4:5:6:192.0.2.7",
    "::192.0.2.7",
    "::ffff:192.0.2.7",
    "::ffff:c000:207",
    "[::FFFF:192.0.2.7]:1",
    "64:ff9b::192.0.2.7",
    "64:ff9b::c000:207",
    "64:ff9b:1::c000:207",
    "fe80::1%eth0",
    "fe80::1%",
    "fe80::1%a%b",
    "fe80::1%a/b",
    "::ffff:192.0.2.7%eth0",
    "192.0.2.7%eth0",
    "2001:db8::/64",
    "192.0.2.0/24",
    "192.0.2.07",
    "192.0.2.256",
    "192.0.2",
    "0.0.0.0",
    "3221225991",
    "0xc0.0.2.7",
    "+1.2.3.4",
    "1.2.3.4 5",
    "12345::",
    "1::2::3",
    ":::",
    "unknown",
    "_hidden",
    "caf\xe9",
    "\xa0192.0.2.7\x85",
    "\x1c192.0.2.7\x1f",
    "192.0.2.7;",
    '"192.0.2.7"',
]
PEERS = [None, "", "10.0.0.1", "::1", "2001:db8::9", "::ffff:10.0.0.1", "unix:", "testclient", " 10.0.0.1 ", "f\u00fcr"]


def in_python(forwarded: str | None, peer: str | None, proxies: int) -> str | None:
    from django_vcache.admission.views.address import client_ip

    request = RequestFactory().get("/")
    request.META.pop("REMOTE_ADDR")
    if peer is not None:
        request.META["REMOTE_ADDR"] = peer
    if forwarded is not None:
        request.META["HTTP_X_FORWARDED_FOR"] = forwarded
    return client_ip(request, proxies=proxies)


def in_rust(probe: ModuleType, forwarded: str | None, peer: str | None, proxies: int) -> str | None:
    headers = [] if forwarded is None else [(b"x-forwarded-for", forwarded.encode("latin-1"))]
    address: str | None = probe.client(("GET", "/", b"", headers, b"", peer, "http", proxies, 0))
    return address


@pytest.mark.parametrize("proxies", [0, 1, 2, 3])
def test_both_rules_tell_the_same_address(cache: Any, probe: ModuleType, proxies: int) -> None:
    for forwarded in FORWARDED:
        for peer in PEERS:
            arguments = (forwarded, peer, proxies)
            assert in_rust(probe, *arguments) == in_python(*arguments), arguments


def test_both_rules_take_the_same_of_what_is_written_there(cache: Any, probe: ModuleType) -> None:
    made = random.Random(7)
    taken = 0
    for _ in range(5000):
        entry = made.choice([entry for entry in FORWARDED if entry])
        for _ in range(made.randrange(4)):
            at = made.randrange(len(entry) + 1)
            entry = entry[:at] + made.choice("0123456789abcdefF:::...%[]/ ,x") + entry[at + made.randrange(3) :]
        arguments = (entry, "10.0.0.1", made.randrange(1, 3))
        found = in_python(*arguments)
        assert in_rust(probe, *arguments) == found, arguments
        taken += found != "10.0.0.1"
    assert taken > 500


def test_headers_that_come_twice_are_one(cache: Any, probe: ModuleType) -> None:
    headers = [(b"X-Forwarded-For", b"192.0.2.7"), (b"x-forwarded-for", b"198.51.100.1, 203.0.113.9")]
    for proxies, address in enumerate(["10.0.0.1", "203.0.113.9", "198.51.100.1", "192.0.2.7", "10.0.0.1"]):
        assert probe.client(("GET", "/", b"", headers, b"", "10.0.0.1", "http", proxies, 0)) == address
