"""Commands that would change the shared connection under everybody else are refused with ValueError,
before anything is sent; what only looks like one of them goes through.
"""

from __future__ import annotations

from typing import Any

import pytest
from support.server import ValkeyServer

REFUSED = [
    ("SUBSCRIBE", "c"),
    ("PSUBSCRIBE", "c*"),
    ("SSUBSCRIBE", "c"),
    ("UNSUBSCRIBE",),
    ("MONITOR",),
    ("SYNC",),
    ("PSYNC", "?", "-1"),
    ("MULTI",),
    ("EXEC",),
    ("DISCARD",),
    ("WATCH", "k"),
    ("UNWATCH",),
    ("SELECT", 1),
    ("AUTH", "s3cr3t"),
    ("HELLO", 2),
    ("RESET",),
    ("QUIT",),
    ("select", 1),
    (b"Multi",),
    ("CLIENT", "REPLY", "OFF"),
    ("client", "reply", "SKIP"),
    ("CLIENT", "TRACKING", "ON"),
    ("CLIENT", "SETNAME", "other"),
    ("CLIENT", "NO-TOUCH", "ON"),
    ("CLIENT", "NO-EVICT", "ON"),
    ("CLIENT", "CACHING", "YES"),
    ("CLIENT", "CAPA", "redirect"),
    ("CLIENT", "IMPORT-SOURCE", "ON"),
    ("CLIENT", "SETINFO", "LIB-NAME", "other"),
    ("CLIENT", "OF-TOMORROW", "ON"),
    ("CLIENT",),
    ("SUNSUBSCRIBE",),
    ("WAIT", 1, 0),
    ("waitaof", 1, 0, 0),
    ("READONLY",),
    ("ReadWrite",),
    ("ASKING",),
    ("REPLCONF", "ACK", 1),
    ("SCRIPT", "debug", "YES"),
    ("CLUSTER", "SYNCSLOTS", "CAPA"),
    # A server takes them for HTTP and closes the connection.
    ("POST", "/"),
    ("Host:", "example.com"),
]


# In a cluster any node may be asked for CLIENT ID.
@pytest.mark.one_server
@pytest.mark.parametrize("command", REFUSED, ids=str)
def test_a_command_that_changes_the_connection_is_refused_unsent(
    cache: Any, server: ValkeyServer, command: tuple[Any, ...]
) -> None:
    before = cache.execute("CLIENT", "ID")
    server.execute("CONFIG", "RESETSTAT")
    with pytest.raises(ValueError, match="shared connection") as caught:
        cache.execute(*command)
    assert "s3cr3t" not in str(caught.value)
    assert server.command_counts() == {}
    assert cache.execute("CLIENT", "ID") == before


@pytest.mark.parametrize(
    "command",
    [
        ("CLIENT", "ID"),
        ("CLIENT", "LIST"),
        ("CLIENT", "GETNAME"),
        ("PUBLISH", "SELECT", "MULTI"),
        ("SET", "MULTI", "EXEC"),
        ("OBJECT", "HELP"),
    ],
    ids=str,
)
def test_a_command_that_only_mentions_one_goes_through(cache: Any, command: tuple[Any, ...]) -> None:
    cache.execute(*command)


@pytest.mark.parametrize("name", ["SELECT\0", "sel\0ect", "SELECT\0x"])
def test_a_name_that_a_server_may_read_as_another_is_refused(cache: Any, server: ValkeyServer, name: str) -> None:
    server.execute("CONFIG", "RESETSTAT")
    with pytest.raises(ValueError, match="zero byte"):
        cache.execute(name, 1)
    assert server.command_counts() == {}


def test_what_a_refusal_says_is_what_to_do(cache: Any) -> None:
    for command, told in [
        (("SELECT", 1), "configure another alias with that database number"),
        (("SUBSCRIBE", "c"), "it needs a separate connection, opened with a client library"),
        (("MULTI",), "use a script, or a transaction that is sent whole"),
        (("CLIENT", "SETNAME", "n"), "CLIENT_NAME"),
        (("CLIENT", "TRACKING", "ON"), "open a separate one with a client library"),
    ]:
        with pytest.raises(ValueError, match=str(command[0])) as caught:
            cache.execute(*command)
        assert told in str(caught.value)


def test_a_script_that_selects_does_not_move_the_connection(cache: Any, server: ValkeyServer) -> None:
    cache.execute("EVAL", "redis.call('SELECT', 1) return redis.call('SET', KEYS[1], '1')", 1, "inside")
    cache.execute("SET", "outside", "1")
    assert server.keys() == [b"outside"]
