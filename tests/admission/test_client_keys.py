"""Whom a request is charged to. What a client can write itself, X-Forwarded-For above all, must not choose the key."""

from __future__ import annotations

import asyncio
import logging
import threading
from typing import Any

import pytest
from django.contrib.auth.models import AnonymousUser, User
from django.test import RequestFactory, override_settings
from django.utils.functional import SimpleLazyObject

PEER = "10.0.0.9"


def request_from(forwarded: str | None = None, peer: str = PEER, **headers: str) -> Any:
    if forwarded is not None:
        headers["x-forwarded-for"] = forwarded
    return RequestFactory().get("/", headers=headers, REMOTE_ADDR=peer)


def value(key: Any, request: Any) -> Any:
    from django_vcache.admission.views.keys import key_for

    return key_for(key).get(request)


def avalue(key: Any, request: Any) -> Any:
    from django_vcache.admission.views.keys import key_for

    async def call() -> Any:
        found = key_for(key).aget(request)
        return await found if asyncio.iscoroutine(found) else found

    return asyncio.run(call())


@pytest.mark.parametrize(
    ("proxies", "forwarded", "expected"),
    [
        # The header is not looked at unless somebody says that a proxy of theirs writes it.
        (0, None, PEER),
        (0, "6.6.6.6", PEER),
        (0, "6.6.6.6, 192.0.2.7", PEER),
        (1, None, PEER),
        (1, "192.0.2.7", "192.0.2.7"),
        (1, "6.6.6.6, 192.0.2.7", "192.0.2.7"),
        (1, "6.6.6.6,5.5.5.5 ,  192.0.2.7  ", "192.0.2.7"),
        (2, "6.6.6.6, 192.0.2.7, 10.1.1.1", "192.0.2.7"),
        # It did not come by two proxies, so nobody trusted wrote the entry.
        (2, "6.6.6.6", PEER),
        (3, "6.6.6.6, 192.0.2.7", PEER),
        # What is not an address is nobody's key.
        (1, "unknown", PEER),
        (1, "", PEER),
        (1, "6.6.6.6,", PEER),
        (1, "999.1.1.1", PEER),
        (1, "192.0.2.7; rm -rf", PEER),
        # Some proxies write the port.
        (1, "192.0.2.7:4711", "192.0.2.7"),
        (1, "[2001:db8:1:2::5]:4711", "2001:db8:1:2::/64"),
        (1, "[2001:db8:1:2::5]", "2001:db8:1:2::/64"),
    ],
)
def test_the_address_is_the_one_that_the_outermost_trusted_proxy_saw(
    proxies: int, forwarded: str | None, expected: str
) -> None:
    from django_vcache.admission import client_ip

    with override_settings(VCACHE={"TRUSTED_PROXIES": proxies}):
        assert client_ip(request_from(forwarded)) == expected
    assert client_ip(request_from(forwarded), proxies) == expected


@pytest.mark.parametrize("proxies", [0, 1, 2])
def test_a_client_cannot_choose_its_key_by_a_header(proxies: int) -> None:
    """Whatever it sends, the proxies append what they saw."""
    appended = ["192.0.2.7", "10.1.1.1"][:proxies]
    with override_settings(VCACHE={"TRUSTED_PROXIES": proxies}):
        keys = set()
        for sent in ([], ["6.6.6.6"], ["6.6.6.6", "5.5.5.5"], ["", ""], ["::1"], ["x" * 10_000]):
            request = request_from(", ".join([*sent, *appended]) or None, **{"x-real-ip": "6.6.6.6"})
            keys.add(value("ip", request))
    assert len(keys) == 1


@pytest.mark.parametrize(
    ("peer", "expected"),
    [
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2:ffff:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:3::1", "2001:db8:1:3::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("64:ff9b::c000:207", "192.0.2.7"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("192.0.2.7", "192.0.2.7"),
    ],
)
def test_an_ipv6_client_is_its_network_of_64_bits(peer: str, expected: str) -> None:
    from django_vcache.admission import client_ip

    assert client_ip(request_from(peer=peer)) == expected


def test_without_an_address_all_clients_are_one_and_it_is_logged_once(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    from django_vcache.admission import client_ip
    from django_vcache.admission.views import address

    monkeypatch.setattr(address, "_warned", {})
    request = request_from(peer="")
    assert client_ip(request) is None
    with caplog.at_level(logging.WARNING, "django_vcache"):
        assert value("ip", request) == value("ip", request) == "ip-unknown"
    [record] = caplog.records
    assert "TRUSTED_PROXIES" in record.getMessage()
    # Behind a proxy, a Unix socket is no trouble.
    assert client_ip(request_from("192.0.2.7", peer=""), 1) == "192.0.2.7"


def test_users_are_told_apart_from_each_other_and_from_addresses() -> None:
    keys = set()
    for user in (User(pk=1), User(pk=2), AnonymousUser()):
        request = request_from()
        request.user = user
        keys |= {value("user", request), value("user_or_ip", request)}
    assert keys == {"user-1", "user-2", "anonymous", f"ip-{PEER}"}


def test_a_request_without_users_is_its_address_or_an_error() -> None:
    from django_vcache.exceptions import ConfigurationError

    assert value("user_or_ip", request_from()) == f"ip-{PEER}"
    assert avalue("user_or_ip", request_from()) == f"ip-{PEER}"
    for call in (value, avalue):
        with pytest.raises(ConfigurationError, match="AuthenticationMiddleware"):
            call("user", request_from())


def test_an_async_view_asks_for_the_user_without_blocking_the_loop() -> None:
    def from_the_database() -> None:
        raise AssertionError("request.user was evaluated on the loop")

    async def auser() -> User:
        return User(pk=7)

    request = request_from()
    from_the_database.__module__ = "django.contrib.auth.middleware"
    request.user = SimpleLazyObject(from_the_database)
    request.auser = auser
    assert avalue("user", request) == avalue("user_or_ip", request) == "user-7"


def test_the_lazy_user_of_another_middleware_is_asked_for_in_a_thread() -> None:
    asked: list[int] = []

    def of_the_token() -> User:
        asked.append(threading.get_ident())
        return User(pk=9)

    async def auser() -> User:
        raise AssertionError("the session's user is not asked for")

    request = request_from()
    request.user, request.auser = SimpleLazyObject(of_the_token), auser
    assert avalue("user", request) == avalue("user_or_ip", request) == "user-9"
    assert len(asked) == 1
    assert asked[0] != threading.get_ident()


def test_a_user_that_somebody_set_is_the_one_in_an_async_view_too() -> None:
    async def auser() -> User:
        raise AssertionError("the session's user is not asked for")

    request = request_from()
    request.user, request.auser = User(pk=3), auser
    assert avalue("user", request) == "user-3"


def test_a_header_is_hashed_since_it_may_be_a_secret() -> None:
    secret = "Bearer abc123"
    with_it = value("header:Authorization", request_from(authorization=secret))
    assert with_it == avalue("header:authorization", request_from(authorization=secret))
    assert "abc123" not in with_it
    assert with_it != value("header:Authorization", request_from(authorization=secret + "4"))
    assert len(value("header:X-Key", request_from(**{"x-key": "k" * 100_000}))) == 32
    assert value("header:X-Key", request_from()) == value("header:X-Key", request_from(**{"x-key": ""}))


@pytest.mark.parametrize("key", ["", "name", "IP", "header", "header:", "header: ", 5, None, ["ip"], b"ip"], ids=repr)
def test_what_is_not_a_key_is_an_error_that_lists_those_there_are(key: Any) -> None:
    from django_vcache.admission.views.keys import key_for
    from django_vcache.exceptions import ConfigurationError

    with pytest.raises(ConfigurationError, match=r"user_or_ip.*header:<name>.*callable"):
        key_for(key)


def test_values_of_callables_are_bounded_and_checked() -> None:
    from django_vcache.admission.views.keys import checked
    from django_vcache.exceptions import ConfigurationError

    assert [checked(value, "key") for value in ("a", 5, 0, -1, None)] == ["a", 5, 0, -1, None]
    assert len(str(checked("", "key"))) == 32, "a client may send an empty header"
    long = checked("ü" * 65, "key")
    assert isinstance(long, str)
    assert len(long) == 32
    assert long != checked("ü" * 66, "key")
    assert checked("ü" * 64, "key") == "ü" * 64
    assert len(str(checked("lone \ud800", "key"))) == 32
    assert len(str(checked("line\nbreak", "key"))) == 32
    for wrong in (True, 1.5, b"x", object(), ["a"]):
        with pytest.raises(ConfigurationError, match=f"returned {type(wrong).__name__}"):
            checked(wrong, "key")


@pytest.mark.parametrize(
    ("vcache", "text"),
    [
        ({"TRUSTED_PROXIES": -1}, "TRUSTED_PROXIES.*0 or more.*-1"),
        ({"TRUSTED_PROXIES": True}, "TRUSTED_PROXIES"),
        ({"TRUSTED_PROXIES": "1"}, "TRUSTED_PROXIES"),
        ({"TRUSTED_PROXYS": 1}, "TRUSTED_PROXYS.*Did you mean TRUSTED_PROXIES"),
        ({"trusted_proxies": 1}, "unknown setting 'trusted_proxies'"),
        ({1: 1}, "unknown setting 1.*Known are"),
        ({"GATES": "shop.limits.gate"}, "GATES.*list of dotted paths"),
        ({"GATES": ["gate"]}, "GATES.*list of dotted paths"),
        ({"STREAMS": [5]}, "STREAMS.*list of dotted paths"),
        ({"LEGACY_HEADERS": 1}, "LEGACY_HEADERS.*True or False"),
        ({"THROTTLE_ALIAS": ""}, "THROTTLE_ALIAS.*alias"),
        ({"LANES": -1}, "LANES.*0 or more.*-1"),
        ({"LANES": True}, "LANES.*number of threads"),
        ({"LANES": 1.5}, "LANES.*number of threads"),
        ({"LANE_IDLE": 0}, "LANE_IDLE.*seconds above 0"),
        ({"LANE_IDLE": 1e9}, "LANE_IDLE.*86400"),
        ({"LANE_IDLE": "60"}, "LANE_IDLE.*seconds"),
        ({"INLINE": 1}, "INLINE.*True or False"),
        ({"INLINE_MIDDLEWARE": "shop.Fast"}, "INLINE_MIDDLEWARE.*list of dotted paths"),
        ([], "VCACHE must be a dict, not list"),
    ],
)
def test_a_setting_that_is_not_understood_is_named(vcache: Any, text: str) -> None:
    from django_vcache.admission import client_ip
    from django_vcache.exceptions import ConfigurationError

    with override_settings(VCACHE=vcache), pytest.raises(ConfigurationError, match=text):
        client_ip(request_from())
