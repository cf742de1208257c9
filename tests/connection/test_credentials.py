"""Credentials that are asked for: at each connection, again when they are about to expire, once more when the server
refuses them; and never shown."""

from __future__ import annotations

import asyncio
import itertools
import logging
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
from support.caches import make_cache
from support.proxy import Proxy
from support.server import ValkeyServer, wait_until

from django_vcache.exceptions import ConfigurationError, ConnectionError

CLEAR = {"ALLOW_PLAINTEXT_CREDENTIALS": True}


class Mint:
    """Gives out passwords that a server takes: a new one each time, and none of those before it."""

    def __init__(self, server: ValkeyServer, *, lives: float | None = None, user: str = "app") -> None:
        self.minted = 0
        self.failing = False
        self.wrong = 0
        self.lives = lives
        self.threads: set[str] = set()
        self._server = server
        self._user = user
        self._lock = threading.Lock()

    def __call__(self) -> dict[str, Any]:
        with self._lock:
            self.minted += 1
            self.threads.add(threading.current_thread().name)
            if self.failing:
                raise LookupError("s3cr3t-token")
            password = f"s3cr3t-{self.minted}"
            if self.wrong:
                self.wrong -= 1
                password = "s3cr3t-wrong"
            else:
                self._server.execute(
                    "ACL", "SETUSER", self._user, "on", "resetpass", f">{password}", "~*", "&*", "+@all"
                )
            found: dict[str, Any] = {"username": self._user, "password": password}
            if self.lives is not None:
                found["expires_at"] = time.time() + self.lives
            return found


@pytest.fixture
def mint(fresh_server: ValkeyServer) -> Mint:
    return Mint(fresh_server)


def pair() -> tuple[str, str]:
    return ("app", "pw")


class RedisPyProvider:
    """Has the method of redis-py's CredentialProvider."""

    def get_credentials(self) -> tuple[str, str]:
        return pair()


@pytest.mark.parametrize(
    "credentials",
    [
        pair,
        f"{__name__}.pair",
        RedisPyProvider(),
        f"{__name__}.RedisPyProvider",
        lambda: {"username": "app", "password": "pw"},
        lambda: ["app", "pw"],
    ],
    ids=["function", "path", "object", "path-of-class", "dict", "list"],
)
def test_every_kind_of_provider_is_asked(fresh_server: ValkeyServer, drive: Any, credentials: Any) -> None:
    fresh_server.execute("ACL", "SETUSER", "app", "on", ">pw", "~*", "&*", "+@all")
    cache = drive(make_cache(fresh_server.tcp_url, CREDENTIALS=credentials, **CLEAR))
    cache.set("k", 1)
    assert cache.get("k") == 1
    assert cache.execute("ACL", "WHOAMI") == b"app"


@pytest.mark.parametrize("found", ["pw", ("pw",), (None, "pw"), {"password": "pw"}], ids=repr)
def test_a_password_alone_is_of_the_user_that_is_set(fresh_server: ValkeyServer, found: Any) -> None:
    fresh_server.execute("ACL", "SETUSER", "app", "on", ">pw", "~*", "&*", "+@all")
    cache = make_cache(fresh_server.tcp_url, CREDENTIALS=lambda: found, USERNAME="app", **CLEAR)
    assert cache.execute("ACL", "WHOAMI") == b"app"


def test_it_is_asked_for_each_connection_on_a_thread_of_its_own(
    mint: Mint, fresh_server: ValkeyServer, drive: Any
) -> None:
    with Proxy(fresh_server) as proxy:
        cache = drive(make_cache(proxy.url, CREDENTIALS=mint, **CLEAR))
        for number in (1, 2, 3):
            cache.set("k", number)
            assert mint.minted == number
            proxy.cut()
    assert threading.main_thread().name not in mint.threads


def test_a_token_that_the_server_refuses_is_minted_once_more_at_once(mint: Mint, fresh_server: ValkeyServer) -> None:
    mint.wrong = 1
    cache = make_cache(fresh_server.tcp_url, CREDENTIALS=mint, **CLEAR)
    cache.set("k", 1)
    assert mint.minted == 2


def test_tokens_that_the_server_refuses_are_told_without_them(mint: Mint, fresh_server: ValkeyServer) -> None:
    mint.wrong = 1_000
    cache = make_cache(fresh_server.tcp_url, CREDENTIALS=mint, **CLEAR)
    with pytest.raises(ConnectionError, match="does not take what CREDENTIALS gave") as caught:
        cache.get("k")
    assert "s3cr3t" not in str(caught.value)
    assert mint.minted == 2


def test_a_living_connection_authenticates_anew_before_its_token_expires(
    fresh_server: ValkeyServer, drive: Any
) -> None:
    mint = Mint(fresh_server, lives=1.0)
    with Proxy(fresh_server) as proxy:
        cache = drive(make_cache(proxy.url, CREDENTIALS=mint, **CLEAR))

        def renewed() -> bool:
            cache.set("k", mint.minted)
            return mint.minted >= 3

        wait_until(renewed, what="it was asked twice more")
        assert proxy.accepted == 1


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ({"failing": True}, "CREDENTIALS raised LookupError"),
        ({"wrong": 1_000}, "does not take the new credentials"),
    ],
    ids=["not-minted", "refused"],
)
def test_a_failure_in_mid_use_leaves_the_connection_as_it_is(
    fresh_server: ValkeyServer, drive: Any, caplog: pytest.LogCaptureFixture, fault: dict[str, Any], words: str
) -> None:
    mint = Mint(fresh_server, lives=1.0)
    with Proxy(fresh_server) as proxy, caplog.at_level(logging.WARNING, "django_vcache"):
        cache = drive(make_cache(proxy.url, CREDENTIALS=mint, **CLEAR))
        cache.set("k", 1)
        vars(mint).update(fault)

        def told() -> bool:
            assert cache.get("k") == 1
            return words in caplog.text

        wait_until(told, what="the failure is in the log")
        assert cache.get("k") == 1
        assert proxy.accepted == 1
        assert "s3cr3t" not in caplog.text


def test_calls_in_number_see_nothing_of_it(fresh_server: ValkeyServer, run: Any) -> None:
    mint = Mint(fresh_server, lives=1.0)
    cache = make_cache(fresh_server.tcp_url, CREDENTIALS=mint, **CLEAR)

    async def worker(number: int) -> None:
        for turn in itertools.count():
            await cache.aset(f"k{number}", turn)
            assert await cache.aget(f"k{number}") == turn
            if mint.minted >= 4:
                return

    async def crowd() -> None:
        await asyncio.gather(*(worker(number) for number in range(20)))

    run(crowd())


@pytest.mark.parametrize(
    ("function", "words"),
    [
        (lambda: 1 / 0, "CREDENTIALS raised ZeroDivisionError"),
        (lambda: None, "neither a pair"),
        (lambda: 7, "neither a pair"),
        (lambda: ("a", "s3cr3t", "c"), "neither a pair"),
        (lambda: {"username": "a"}, "neither a pair"),
        (lambda: {"password": "s3cr3t", "expires_at": "soon"}, "neither a pair"),
        (lambda: {"password": 7}, "neither a pair"),
    ],
    ids=["raises", "None", "number", "three", "no-password", "no-time", "no-text"],
)
def test_what_gives_no_credentials_is_told(server: ValkeyServer, function: Callable[[], Any], words: str) -> None:
    cache = make_cache(server.tcp_url, CREDENTIALS=function, **CLEAR)
    with pytest.raises(ConnectionError, match=words) as caught:
        cache.get("k")
    assert "s3cr3t" not in str(caught.value)


@pytest.mark.parametrize(
    ("location", "options", "words"),
    [
        ("redis://localhost", {"CREDENTIALS": pair}, "ALLOW_PLAINTEXT_CREDENTIALS"),
        ("rediss://localhost", {"CREDENTIALS": pair, "PASSWORD": "s3cr3t"}, "drop one of them"),
        ("rediss://:s3cr3t@localhost", {"CREDENTIALS": pair}, "drop one of them"),
        ("rediss://localhost", {"CREDENTIALS": 7}, "must be a function"),
        ("rediss://localhost", {"CREDENTIALS": "nowhere.function"}, "nowhere"),
        ("rediss://localhost", {"CREDENTIALS": "aws"}, "it needs a user"),
        ("rediss://app@localhost", {"CREDENTIALS": "aws"}, "no host of ElastiCache or MemoryDB"),
        ("rediss://localhost", {"CREDENTIALS": pair, "ALLOW_PLAINTEXT_CREDENTIALS": "yes"}, "must be True or False"),
    ],
)
def test_a_setting_that_is_wrong_is_refused(location: str, options: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigurationError, match=words) as caught:
        make_cache(location, **options)
    assert "s3cr3t" not in str(caught.value)


def test_a_socket_of_this_machine_needs_no_tls(fresh_server: ValkeyServer) -> None:
    fresh_server.execute("ACL", "SETUSER", "app", "on", ">pw", "~*", "&*", "+@all")
    assert make_cache(fresh_server.unix_url, CREDENTIALS=pair).execute("ACL", "WHOAMI") == b"app"
