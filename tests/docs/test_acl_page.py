"""The page on ACL users: a user with exactly the commands of a feature's row can use all of it, and needs each."""

from __future__ import annotations

import contextlib
import functools
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from django.core.cache import caches
from django.test import override_settings
from support.caches import cache_setting, make_cache
from support.fake import OK, FakeServer, Peer
from support.limits import be_patient
from support.resp import ServerError
from support.server import ValkeyServer

from django_vcache.backend import publish_alias
from django_vcache.exceptions import ConnectionError, VcacheError

PAGE = Path(__file__).parents[2] / "docs" / "howto" / "acl.md"


def read(cache: Any) -> None:
    cache.get("k")
    cache.get_many(["k", "l"])
    cache.has_key("k")


def write(cache: Any) -> None:
    cache.set("k", 1)
    cache.set_many({"l": 1, "m": 2})
    cache.add("k", 2)
    cache.touch("k", 60)
    cache.touch("k", None)
    cache.add("k", 2, 0)
    cache.delete("k")
    cache.delete_many(["l", "m"])
    cache.set("k", 1, 0)


def get_or_set(cache: Any) -> None:
    assert cache.get_or_set("k", 1) == 1


def count(cache: Any) -> None:
    by_hand("SET", ":1:k", 1)
    assert cache.incr("k") == 2
    assert cache.decr("k") == 1


def move(cache: Any) -> None:
    by_hand("SET", ":1:k", 1)
    assert cache.incr_version("k") == 2
    assert cache.decr_version("k", version=2) == 1


def wait(cache: Any) -> None:
    assert cache.wait_changed("k", 0.01) is False


def flush(cache: Any) -> None:
    by_hand("SET", "k", 1)
    cache.clear()
    assert by_hand("DBSIZE") == 0


def sweep(_: Any) -> None:
    by_hand("SET", "app:1:k", 1)
    caches["prefixed"].clear()
    assert by_hand("EXISTS", "app:1:k") == 0


def limit(_: Any) -> None:
    from django_vcache.admission import Quota, Throttle

    throttle = Throttle("t", "5/m")
    assert throttle.check(1)
    throttle.peek(1)
    assert throttle.reset(1)
    quota = Quota("q", 5, "month", key="org")
    receipt = quota.consume({"org": 1}).receipt
    assert receipt
    quota.peek({"org": 1})
    assert quota.refund(receipt)
    assert quota.reset({"org": 1})


def enqueue(_: Any) -> None:
    from django_vcache.admission import Gate, Stream, Throttle

    bounded, trimmed = Stream("bounded", maxlen=10), Stream("trimmed", maxlen=10, full="trim")
    for stream in (bounded, trimmed):
        assert stream.add(b"payload")
        assert stream.add(b"payload", dedupe="one")
        assert all(stream.add_many([b"a", b"b"]))
        assert stream.length() == 4
    gate = Gate(throttles=[Throttle("g", "5/m")], stream=Stream("gated"))
    assert gate.admit({"g": 1}, payload=b"payload")


def consume(_: Any) -> None:
    from django_vcache.admission import Stream

    stream = Stream("events")
    (key,) = stream.keys
    for number in range(5):
        by_hand("XADD", key, "*", "payload", number)
    # One that another consumer left, too often to try again, and one that it left once.
    by_hand("XGROUP", "CREATE", key, "group", "0")
    by_hand("XREADGROUP", "GROUP", "group", "dead", "COUNT", 1, "STREAMS", key, ">")
    for _ in range(5):
        by_hand("XCLAIM", key, "group", "dead", 0, by_hand("XRANGE", key, "-", "+", "COUNT", 1)[0][0])
    by_hand("XREADGROUP", "GROUP", "group", "dead", "COUNT", 1, "STREAMS", key, ">")
    consumer = stream.consumer("group", batch=2, max_wait=0.02, reclaim_after=0.05, max_deliveries=3)
    seen = 0
    for batch in consumer:
        seen += len(batch)
        if seen == 4:
            consumer.stop()
    assert by_hand("XLEN", key) == 0


def look_after_streams(_: Any) -> None:
    from django_vcache.admission import Stream, streams

    stream = Stream("events")
    (key,), (dead,) = stream.keys, stream.dead_keys
    by_hand("XADD", key, "*", "payload", 1)
    assert streams.create_group(stream, "group")
    assert streams.create_group(stream, "other")
    assert streams.state(stream)
    for _ in range(3):
        by_hand("XADD", dead, "*", "payload", 1)
    letters = streams.dead_letters(stream)
    assert streams.requeue(stream, [f"{letters[0].shard}/{letters[0].id}"]) == 1
    assert streams.requeue(stream) == 2
    by_hand("XADD", dead, "*", "payload", 1)
    assert streams.drop_dead_letters(stream) == 1
    by_hand("XADD", dead, "*", "payload", 1)
    (letter,) = streams.dead_letters(stream)
    assert streams.drop_dead_letters(stream, [f"{letter.shard}/{letter.id}"]) == 1
    streams.delete_group(stream, "other", trim=True)
    streams.trim(stream)


def included(_: Any) -> None:
    from django_vcache import hotpaths

    assert hotpaths.allow("k", 5, 60)
    assert hotpaths.enqueue("stream", b"payload")
    assert hotpaths.enqueue("stream", b"payload", maxlen=10)
    hotpaths.read("k2")
    assert hotpaths.connection_id()


def check(_: Any) -> None:
    from django_vcache.admission import Throttle
    from django_vcache.admission.checks import check_servers

    throttle = Throttle("t", "5/m")
    assert check_servers(None) == [], throttle


CONNECT = "connect, always"
SHOW = "show the name and version of the library in `CLIENT LIST` (optional; Redis 7.2 and Valkey)"
FEATURES: dict[str, Callable[[Any], None]] = {
    CONNECT: lambda cache: cache.execute("PING"),
    "show the name and version of the library in `CLIENT LIST` (optional; Redis 7.2 and Valkey)": lambda cache: (
        cache.execute("PING")
    ),
    "a database other than 0": lambda _: caches["second"].execute("PING"),
    "`get`, `get_many`, `has_key`, `in`": read,
    "`set`, `set_many`, `add`, `touch`, `delete`, `delete_many`": write,
    "`get_or_set`": get_or_set,
    "`incr`, `decr`": count,
    "`incr`, `decr` without scripts": count,
    "`incr_version`, `decr_version`": move,
    "`wait_changed`": wait,
    '`clear` with `CLEAR: "flushdb"`': flush,
    '`clear` with `CLEAR: "prefix"`': sweep,
    "`Throttle`, `Quota`, the decorator `throttle`, `manage.py vcache_limits`": limit,
    "`Stream`, `Gate` (and the row above, if it has quotas)": enqueue,
    "a consumer of a stream": consume,
    "`admission.streams`, `manage.py vcache_stream`": look_after_streams,
    "`hotpaths.allow`, `enqueue`, `read`, `connection_id`": included,
    "`manage.py check --deploy` (whether the server may evict counters)": check,
}
ALWAYS = (CONNECT, SHOW)
_ROW = re.compile(r"^\| (.+?) \| `(\+.+)` \|$", re.MULTILINE)


def rows() -> dict[str, list[str]]:
    """The rules of the table, by feature. A bar in a cell has a backslash before it."""
    return {feature: rules.replace("\\|", "|").split() for feature, rules in _ROW.findall(PAGE.read_text())}


def allowed(feature: str) -> list[str]:
    table = rows()
    rules = [*(rule for always in ALWAYS for rule in table[always]), *table[feature]]
    return [rule for rule in dict.fromkeys(rules) if is_known(rule)]


@functools.cache
def is_known(rule: str) -> bool:
    """Whether the server that is tested against has the command: Redis before 7.2 has no CLIENT SETINFO."""
    with ValkeyServer() as server:
        try:
            server.execute("ACL", "SETUSER", "alice", rule)
        except ServerError:
            return False
    return True


_server: ValkeyServer | None = None


def by_hand(*command: Any) -> Any:
    """Sends a command as a user who may do everything."""
    assert _server is not None
    return _server.execute(*command)


@contextlib.contextmanager
def user_with(rules: list[str], keys: str = "~*", **options: Any) -> Iterator[Any]:
    """The default cache, as a user with these rules."""
    global _server
    with ValkeyServer(users=[f"bob on nopass {keys} resetchannels -@all {' '.join(rules)}"]) as _server:
        caches_of_bob = {
            "default": cache_setting(_server, USERNAME="bob", **options),
            "prefixed": cache_setting(_server, USERNAME="bob", KEY_PREFIX="app", CLEAR="prefix"),
            "second": cache_setting(_server, USERNAME="bob", DB=1),
        }
        with override_settings(CACHES=caches_of_bob, VCACHE={}):
            publish_alias("default")
            yield caches["default"]


def refused() -> set[str]:
    """The commands that the server refused to anybody."""
    entries = by_hand("ACL", "LOG")
    pairs = (dict(zip(entry[::2], entry[1::2], strict=True)) for entry in entries)
    return {entry[b"object"].decode() for entry in pairs}


def test_the_table_has_a_test_for_each_row() -> None:
    assert rows().keys() == FEATURES.keys()


@pytest.mark.parametrize("feature", FEATURES)
@pytest.mark.usefixtures("patient")
def test_the_commands_of_a_row_suffice(feature: str) -> None:
    with user_with(allowed(feature)) as cache:
        FEATURES[feature](cache)
        assert refused() == ({"evalsha"} if "without scripts" in feature else set())


@pytest.mark.parametrize(("feature", "rule"), [(feature, rule) for feature in FEATURES for rule in rows()[feature]])
@pytest.mark.usefixtures("patient")
def test_no_command_of_a_row_is_superfluous(feature: str, rule: str) -> None:
    if not is_known(rule):
        pytest.skip("the server does not have this command")
    with user_with([each for each in allowed(feature) if each != rule]) as cache:
        with contextlib.suppress(VcacheError, AssertionError):
            FEATURES[feature](cache)
        assert rule.removeprefix("+") in refused()


def test_the_user_of_the_first_example_can_use_the_whole_cache() -> None:
    (example,) = re.findall(r"^valkey-cli ACL SETUSER shop ((?:.*\\\n)*.*)", PAGE.read_text(), re.MULTILINE)
    keys, rules = re.findall(r"'(~.+?)'", example), re.findall(r"\+\S+", example.replace("\\|", "|"))
    assert keys == ["~shop:*"]
    with user_with([rule for rule in rules if is_known(rule)], keys[0]):
        shop = make_cache(_server, USERNAME="bob", KEY_PREFIX="shop", CLEAR="prefix")
        read(shop)
        write(shop)
        get_or_set(shop)
        assert shop.incr("k") == 2
        assert shop.incr_version("k") == 2
        shop.clear()
        assert by_hand("DBSIZE") == 0
        assert refused() == set()


@pytest.mark.parametrize("feature", [limit, enqueue, consume, look_after_streams])
@pytest.mark.parametrize(("keys", "prefix"), [("~shop:*", "shop"), ("~:* ~vcache:*", "")])
@pytest.mark.usefixtures("patient")
def test_the_keys_of_limits_and_streams_are_those_of_the_page(
    feature: Callable[[Any], None], keys: str, prefix: str
) -> None:
    for pattern in keys.split():
        assert f"`{pattern}`" in PAGE.read_text()
    rules = [rule for row in rows().values() for rule in row if is_known(rule)]
    with user_with(rules, keys, **({"KEY_PREFIX": prefix} if prefix else {})) as cache:
        write(cache)
        feature(cache)
        assert refused() == set()


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (b"-ERR unknown command 'HELLO'\r\n", "unknown command 'HELLO'"),
        (b"-NOPROTO unsupported protocol version\r\n", "the server is too old: vcache needs RESP3"),
    ],
)
def test_what_speaks_only_resp2_is_told_by_its_own_words(answer: bytes, message: str) -> None:
    def script(peer: Peer) -> None:
        for command in peer.commands():
            peer.send(answer if command[0] == b"HELLO" else OK)

    with FakeServer(script) as fake, pytest.raises(ConnectionError, match=message):
        make_cache(fake.url).get("k")


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Limits wait for a slow machine."""
    be_patient(monkeypatch)
