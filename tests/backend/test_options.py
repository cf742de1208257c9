"""OPTIONS: each does what its name says, a wrong value or an unknown name is refused when the
cache is made, and the message names the option and says what was meant.
"""

from __future__ import annotations

import inspect
import json
import re
from typing import Any

import pytest
import valkey.connection
from django.core.cache import caches
from django.core.exceptions import ImproperlyConfigured
from django.test import override_settings
from support.caches import make_cache
from support.server import ValkeyServer

from django_vcache.exceptions import ConfigurationError
from django_vcache.foreign import FOREIGN, advice_on
from django_vcache.options import _BESIDE, _KNOWN
from django_vcache.tls import is_setting


def refused(server: ValkeyServer, name: str, value: object) -> str:
    """The message with which the cache refuses an option, whose name may be one of Django's."""
    from django_vcache import ValkeyCache
    from django_vcache.exceptions import ConfigurationError, VcacheError

    assert issubclass(ConfigurationError, ImproperlyConfigured)
    assert issubclass(ConfigurationError, VcacheError)
    with pytest.raises(ConfigurationError) as caught:
        ValkeyCache(server.url, {"OPTIONS": {name: value}})
    return str(caught.value)


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("CONECT_TIMEOUT", "CONNECT_TIMEOUT"),
        ("RESPONSE_TIMOUT", "RESPONSE_TIMEOUT"),
        ("SERIALISER", "SERIALIZER"),
        ("IGNORE_EXCEPTION", "IGNORE_EXCEPTIONS"),
        ("connect_timeout", "CONNECT_TIMEOUT"),
        ("password", "PASSWORD"),
        ("db", "DB"),
    ],
)
def test_an_unknown_option_is_named_with_what_was_meant(server: ValkeyServer, typed: str, meant: str) -> None:
    message = refused(server, typed, 1)
    assert typed in message
    assert meant in message


FOREIGN_NAMES = [
    (name, foreign.advice)
    for foreign in FOREIGN
    for name in (known.replace("*", "x") for known in foreign.names)
    # Django takes these two anywhere.
    if name not in ("MAX_ENTRIES", "CULL_FREQUENCY")
]


@pytest.mark.parametrize(("name", "advice"), FOREIGN_NAMES, ids=[name for name, _ in FOREIGN_NAMES])
def test_an_option_of_another_backend_is_refused_with_what_to_do(server: ValkeyServer, name: str, advice: str) -> None:
    message = refused(server, name, "s3cr3t")
    assert message == f"cache 'unnamed': unknown option {name!r} in OPTIONS. {advice}"


def test_the_advice_is_a_sentence_each_and_names_only_options_that_there_are() -> None:
    said = [foreign.advice for foreign in FOREIGN]
    assert len(set(said)) == len(said)
    names = [name for foreign in FOREIGN for name in foreign.names]
    assert len(set(names)) == len(names)
    taken = set(_KNOWN) | set(_BESIDE) | {"OPTIONS"}
    for advice in said:
        assert advice.endswith(".")
        assert set(re.findall(r"\b[A-Z]+(?:_[A-Z]+)+\b", advice)) <= taken, advice


def test_every_option_that_redis_py_takes_has_an_advice() -> None:
    classes = [
        valkey.Valkey,
        valkey.connection.AbstractConnection,
        valkey.connection.Connection,
        valkey.connection.SSLConnection,
        valkey.connection.UnixDomainSocketConnection,
        valkey.connection.ConnectionPool,
        valkey.connection.BlockingConnectionPool,
    ]
    names = {name for each in classes for name in inspect.signature(each.__init__).parameters}
    assert [name for name in sorted(names - {"self", "kwargs"}) if not (is_setting(name) or advice_on(name))] == []


@pytest.mark.parametrize("name", ["connect_timeout", "Compress_Min_Len", "clear"])
def test_an_option_in_small_letters_is_told_to_be_in_capitals(server: ValkeyServer, name: str) -> None:
    assert refused(server, name, 1).endswith(f"Names are in capitals: write {name.upper()}.")


def test_an_error_names_the_alias_of_this_backend_among_those_with_its_settings(server: ValkeyServer) -> None:
    entry = {"LOCATION": server.url, "OPTIONS": {"FOO": 1}}
    backends = {
        "old": "django.core.cache.backends.redis.RedisCache",
        "gone": "no_such_package.Cache",
        "new": "django_vcache.ValkeyCache",
    }
    configured = {alias: {**entry, "BACKEND": path} for alias, path in backends.items()}
    with override_settings(CACHES=configured), pytest.raises(ConfigurationError, match=r"^cache 'new': "):
        caches["new"]


@pytest.mark.parametrize("name", ["PASSWORD", "CLEAR", "RESPONSE_TIMEOUT"])
def test_an_option_beside_options_is_refused(server: ValkeyServer, name: str) -> None:
    from django_vcache import ValkeyCache
    from django_vcache.exceptions import ConfigurationError

    with pytest.raises(ConfigurationError, match=f"'{name}' stands beside OPTIONS.*move it into OPTIONS") as caught:
        ValkeyCache(server.url, {name: "s3cr3t"})
    assert "s3cr3t" not in str(caught.value)


def test_a_setting_of_another_backend_beside_options_is_refused(server: ValkeyServer) -> None:
    from django_vcache import ValkeyCache
    from django_vcache.exceptions import ConfigurationError

    with pytest.raises(ConfigurationError, match="'REVERSE_KEY_FUNCTION' is a setting of another backend"):
        ValkeyCache(server.url, {"REVERSE_KEY_FUNCTION": "shop.keys.reverse"})


def test_settings_of_a_subclass_may_stand_beside_options(server: ValkeyServer) -> None:
    from django_vcache import ValkeyCache

    class Own(ValkeyCache):
        def __init__(self, location: object, params: dict[str, Any]) -> None:
            super().__init__(location, params)
            self.region = params["REGION"]

    assert Own(server.url, {"REGION": "eu", "timeout": 10}).region == "eu"


@pytest.mark.parametrize(
    ("path", "ours"),
    [
        ("django_redis.serializers.json.JSONSerializer", '"json"'),
        ("django_redis.serializers.msgpack.MSGPackSerializer", '"msgpack"'),
        ("django_valkey.serializers.pickle.PickleSerializer", '"pickle"'),
        ("redis_cache.serializers.YAMLSerializer", '"auto"'),
    ],
)
def test_a_serializer_of_another_backend_is_refused_with_ours(server: ValkeyServer, path: str, ours: str) -> None:
    message = refused(server, "SERIALIZER", path)
    assert path in message
    assert f"write {ours}" in message


def test_an_unknown_option_like_no_other_is_named(server: ValkeyServer) -> None:
    assert "XYZZY" in refused(server, "XYZZY", 1)


def test_the_value_of_an_unknown_option_is_not_repeated(server: ValkeyServer) -> None:
    assert "s3cr3t" not in refused(server, "PASWORD", "s3cr3t")


@pytest.mark.parametrize("name", ["CONNECT_TIMEOUT", "RESPONSE_TIMEOUT"])
@pytest.mark.parametrize("value", [0, 0.0, -1, -0.5, "soon", [], float("nan"), float("inf")])
def test_a_bad_timeout_is_refused(server: ValkeyServer, name: str, value: object) -> None:
    assert name in refused(server, name, value)


@pytest.mark.parametrize("name", ["COMPRESS_MIN_LEN", "MAX_VALUE_LEN"])
@pytest.mark.parametrize("value", [0, -1, "long", []])
def test_a_bad_length_is_refused(server: ValkeyServer, name: str, value: object) -> None:
    assert name in refused(server, name, value)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("CLEAR", "everything"),
        ("CLEAR", None),
        ("SERIALIZER", "marshal"),
        ("SERIALIZER", "no.such.module.Serializer"),
        ("SERIALIZER", 7),
        ("DB", -1),
        ("DB", "zero"),
    ],
)
def test_a_bad_value_is_refused(server: ValkeyServer, name: str, value: object) -> None:
    assert name in refused(server, name, value)


@pytest.mark.parametrize("value", [1, 0.5, 2.25, 60])
def test_timeouts_may_be_fractions(cache_factory: Any, value: float) -> None:
    cache = cache_factory(CONNECT_TIMEOUT=value, RESPONSE_TIMEOUT=value)
    cache.set("k", "v")
    assert cache.get("k") == "v"


def test_the_options_of_other_backends_are_accepted_and_ignored(cache_factory: Any) -> None:
    cache = cache_factory(MAX_ENTRIES=3, CULL_FREQUENCY=0)
    data = {f"k{number}": number for number in range(10)}
    cache.set_many(data)
    assert cache.get_many(data) == data


def test_client_name_is_what_the_server_lists(cache_factory: Any, server: ValkeyServer) -> None:
    cache_factory(CLIENT_NAME="worker-7").get("k")
    assert "worker-7" in {client["name"] for client in server.clients()}


def test_db_selects_the_database(cache_factory: Any, server: ValkeyServer) -> None:
    cache_factory(DB=3).set("k", "v")
    assert server.keys() == []
    assert "db3" in server.info("keyspace")


def test_password_and_username_log_in(drive: Any) -> None:
    with ValkeyServer(requirepass="main-s3cr3t") as server:
        server.execute("ACL", "SETUSER", "alice", "on", ">al1ce", "~*", "&*", "+@all")
        main = drive(make_cache(server, PASSWORD="main-s3cr3t"))
        main.set("k", "v")
        assert main.execute("ACL", "WHOAMI") == b"default"
        alice = drive(make_cache(server, USERNAME="alice", PASSWORD="al1ce"))
        assert alice.get("k") == "v"
        assert alice.execute("ACL", "WHOAMI") == b"alice"


# Serializers.


class JSONSerializer:
    """The interface of a serializer of the user's own, as Django's RedisCache has it."""

    def dumps(self, value: object) -> bytes:
        return json.dumps(value).encode()

    def loads(self, data: bytes) -> object:
        return json.loads(data)


instance = JSONSerializer()
OWN = [f"{__name__}.JSONSerializer", f"{__name__}.instance"]


@pytest.mark.parametrize("serializer", ["auto", "pickle"])
def test_auto_and_pickle_keep_every_type(cache_factory: Any, serializer: str) -> None:
    value = {"a": ((1, 2), [3], {4}, ValueError)}
    cache = cache_factory(SERIALIZER=serializer)
    cache.set("k", value)
    assert cache.get("k") == value


@pytest.mark.parametrize("serializer", ["msgpack", "json", *OWN], ids=str)
def test_serializers_of_plain_data(cache_factory: Any, serializer: Any) -> None:
    cache = cache_factory(SERIALIZER=serializer)
    value = {"text": ["clé", None, True, 1, 1.5]}
    cache.set("k", value)
    assert cache.get("k") == value
    assert cache.get_many(["k"]) == {"k": value}


@pytest.mark.parametrize("serializer", ["msgpack", "json", OWN[0]], ids=str)
def test_serializers_of_plain_data_refuse_what_they_cannot_keep(
    cache_factory: Any, server: ValkeyServer, serializer: Any
) -> None:
    with pytest.raises(TypeError):
        cache_factory(SERIALIZER=serializer).set("k", object())
    assert server.keys() == []


@pytest.mark.parametrize("serializer", ["auto", "pickle", "msgpack", "json", *OWN], ids=str)
def test_ints_count_with_any_serializer(cache_factory: Any, server: ValkeyServer, serializer: Any) -> None:
    cache = cache_factory(SERIALIZER=serializer)
    cache.set("k", 41)
    assert cache.incr("k") == 42
    assert cache.get("k") == 42
    assert server.execute("GET", ":1:k") == b"42"


@pytest.mark.parametrize("serializer", ["msgpack", "json"])
def test_a_stored_pickle_is_a_miss_without_pickle(cache_factory: Any, serializer: str) -> None:
    cache_factory(SERIALIZER="pickle").set("k", {1})
    cache = cache_factory(SERIALIZER=serializer)
    assert cache.get("k", "default") == "default"
    assert cache.get_many(["k"]) == {}


# Lengths.


def stored_len(server: ValkeyServer) -> int:
    length = server.execute("STRLEN", ":1:k")
    assert isinstance(length, int)
    return length


def test_values_are_compressed_from_compress_min_len_on(cache_factory: Any, server: ValkeyServer) -> None:
    cache = cache_factory(COMPRESS_MIN_LEN=1000)
    for value in ("a" * 10_000, b"a" * 10_000, ["text"] * 10_000):
        cache.set("k", value)
        assert stored_len(server) < 1000
        assert cache.get("k") == value
    cache.set("k", "a" * 900)
    assert stored_len(server) >= 900
    assert cache.get("k") == "a" * 900


def test_a_compressed_value_is_read_without_the_option(cache_factory: Any) -> None:
    cache_factory(COMPRESS_MIN_LEN=10).set("k", "a" * 1000)
    assert cache_factory().get("k") == "a" * 1000


def test_a_value_over_max_value_len_is_refused(cache_factory: Any, server: ValkeyServer) -> None:
    cache = cache_factory(MAX_VALUE_LEN=1000)
    for store in (cache.set, cache.add):
        with pytest.raises(ValueError, match="MAX_VALUE_LEN"):
            store("k", "a" * 2000)
    with pytest.raises(ValueError, match="MAX_VALUE_LEN"):
        cache.set_many({"j": 1, "k": "a" * 2000})
    assert server.keys() == []
    cache.set("k", "a" * 900)
    assert cache.get("k") == "a" * 900
