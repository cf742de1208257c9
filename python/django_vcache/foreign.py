"""The options of other backends and clients, and what to do with each. The errors of ``options.py`` and the table of
``docs/howto/migrating.md`` are made of this one list."""

from fnmatch import fnmatchcase
from typing import NamedTuple

__all__ = ["FOREIGN", "Foreign", "advice_on", "advice_on_serializer", "table"]


class Foreign(NamedTuple):
    """Options, or settings of the project, that have the same answer."""

    names: tuple[str, ...]
    """As the other packages call them; ``*`` stands for any text."""
    advice: str
    """What to do: a sentence or two for the error and for the guide."""


FOREIGN = (
    # What has another name here.
    Foreign(("db",), "Write `DB`, or put the number at the end of the URL."),
    Foreign(("username", "user", "USER"), "Write `USERNAME`, or put the user into the URL."),
    Foreign(("password", "PASS"), "Write `PASSWORD`, or put the password into the URL, percent-encoded."),
    Foreign(("client_name",), "Write `CLIENT_NAME`."),
    Foreign(
        ("host", "port", "HOST", "PORT", "path", "unix_socket_path", "UNIX_SOCKET_PATH", "url", "URL"),
        "Put the address into `LOCATION`, as a URL: `redis://host:6379/1` or `unix:///run/valkey.sock?db=1`.",
    ),
    Foreign(("SOCKET_CONNECT_TIMEOUT", "socket_connect_timeout"), "Write `CONNECT_TIMEOUT`, in seconds."),
    Foreign(("SOCKET_TIMEOUT", "socket_timeout"), "Write `RESPONSE_TIMEOUT`, in seconds."),
    Foreign(
        ("serializer", "SERIALIZER_CLASS"),
        'Write `SERIALIZER`: `"auto"`, `"pickle"`, `"msgpack"`, `"json"`, or the path of an object of yours with '
        "`dumps` and `loads`.",
    ),
    Foreign(
        ("CACHE_COMPRESS_MIN_LENGTH", "COMPRESS_MIN_LENGTH", "min_length"),
        "Write `COMPRESS_MIN_LEN`, in bytes, into OPTIONS.",
    ),
    Foreign(
        ("DJANGO_REDIS_IGNORE_EXCEPTIONS", "DJANGO_VALKEY_IGNORE_EXCEPTIONS"),
        "Write `IGNORE_EXCEPTIONS` into the OPTIONS of each alias that is to ignore errors.",
    ),
    Foreign(("ssl", "SSL", "use_ssl"), "Begin the URL in `LOCATION` with `rediss://` or `valkeys://`."),
    Foreign(
        ("credential_provider", "CREDENTIAL_PROVIDER"),
        "Write `CREDENTIALS`: redis-py's object, or the path of a function that returns a user name and a password.",
    ),
    Foreign(
        ("credential_provider_options", "credential_ttl"),
        "Remove it: the function in `CREDENTIALS` has no arguments, and says itself when what it returns expires.",
    ),
    Foreign(("credential_provider_allow_plaintext",), "Write `ALLOW_PLAINTEXT_CREDENTIALS`."),
    # What belongs elsewhere.
    Foreign(("KEY_PREFIX",), "Move it out of OPTIONS: the prefix of an alias is `KEY_PREFIX` beside OPTIONS."),
    Foreign(("KEY_FUNCTION",), "Move it out of OPTIONS: `KEY_FUNCTION` stands beside OPTIONS."),
    Foreign(("VERSION",), "Move it out of OPTIONS: the version of an alias is `VERSION` beside OPTIONS."),
    Foreign(("TIMEOUT",), "Move it out of OPTIONS: the lifetime of keys is `TIMEOUT` beside OPTIONS, in seconds."),
    Foreign(("LOCATION",), "Move it out of OPTIONS: the server is `LOCATION` beside OPTIONS."),
    Foreign(("BACKEND",), "Move it out of OPTIONS: `BACKEND` stands beside OPTIONS."),
    # What there is no need for.
    Foreign(
        ("CLIENT_CLASS", "CLIENT_CLASS_KWARGS"),
        "Remove it: there is one client. A cluster is found out by the server in `LOCATION`; Sentinel needs "
        "`SENTINELS` beside it. What the sharded and replicating clients do is not supported yet.",
    ),
    Foreign(
        ("REDIS_CLIENT_CLASS", "BASE_CLIENT_CLASS", "DRIVER_CLASS"),
        "Remove it: the connection is made in Rust and uses no Python client.",
    ),
    Foreign(
        ("REDIS_CLIENT_KWARGS", "BASE_CLIENT_KWARGS"),
        "Remove it: there is no Python client to configure. Write what you need of it as options of this backend.",
    ),
    Foreign(
        ("CONNECTION_FACTORY", "DJANGO_REDIS_CONNECTION_FACTORY", "DJANGO_VALKEY_CONNECTION_FACTORY"),
        "Remove it: a process makes its one connection by itself.",
    ),
    Foreign(
        ("CONNECTION_POOL_CLASS", "pool_class", "connection_class", "connection_pool", "queue_class"),
        "Remove it: there is no pool. All threads and tasks of a process share one connection.",
    ),
    Foreign(
        ("connection_kwargs",),
        "Remove it: there is no pool. Write what it says of the connection as options: `CONNECT_TIMEOUT`, "
        "`RESPONSE_TIMEOUT`, `CLIENT_NAME`, and the settings of TLS by the names that they have there.",
    ),
    Foreign(
        ("max_connections", "MAX_CONNECTIONS", "single_connection_client", "auto_close_connection_pool"),
        "Remove it: a process has one connection, however many threads and tasks use it.",
    ),
    Foreign(("timeout",), "Remove it: there is no pool to wait for. `TIMEOUT`, for keys, stands beside OPTIONS."),
    Foreign(("PARSER_CLASS", "PARSER_CLS", "parser_class"), "Remove it: replies are parsed in Rust."),
    Foreign(
        ("CLOSE_CONNECTION", "DJANGO_REDIS_CLOSE_CONNECTION", "DJANGO_VALKEY_CLOSE_CONNECTION"),
        "Remove it: the connection stays open until the process ends.",
    ),
    Foreign(
        ("COMPRESSOR", "COMPRESSOR_CLASS", "COMPRESSOR_CLASS_KWARGS"),
        "Remove it: values of `COMPRESS_MIN_LEN` bytes and more are compressed with zstd. "
        '`"COMPRESS_MIN_LEN": None` compresses nothing.',
    ),
    Foreign(
        (
            "CACHE_COMPRESS_LEVEL",
            "COMPRESS_BROTLI_*",
            "COMPRESS_LZMA_*",
            "COMPRESS_ZLIB_*",
            "COMPRESS_ZSTD_*",
            "DECOMPRESS_*",
        ),
        "Remove it: values are compressed with zstd at a level that is quick.",
    ),
    Foreign(("SERIALIZER_CLASS_KWARGS",), "Remove it: a serializer of yours is made without arguments."),
    Foreign(
        ("PICKLE_VERSION", "pickle_version"),
        "Remove it: pickles have the highest protocol of the Python that writes them.",
    ),
    Foreign(
        (
            "LOG_IGNORED_EXCEPTIONS",
            "DJANGO_REDIS_LOG_IGNORED_EXCEPTIONS",
            "DJANGO_VALKEY_LOG_IGNORED_EXCEPTIONS",
            "DJANGO_REDIS_LOGGER",
            "DJANGO_VALKEY_LOGGER",
        ),
        "Remove it: ignored errors are always logged, on the logger `django_vcache`.",
    ),
    Foreign(("REVERSE_KEY_FUNCTION",), "Remove it: there are no methods `keys` and `iter_keys`, which would need it."),
    Foreign(
        ("DJANGO_REDIS_SCAN_ITERSIZE", "DJANGO_VALKEY_SCAN_ITERSIZE"),
        "Remove it: `clear()` by prefix looks at 1000 keys a step.",
    ),
    Foreign(
        ("CACHE_HERD_TIMEOUT",),
        "Remove it: there is no herd client. `cache.add()` with `cache.wait_changed()` makes one process compute while "
        "the others wait.",
    ),
    Foreign(
        ("retry", "retry_on_timeout", "retry_on_error"),
        "Remove it: a lost connection is made anew, and commands that are safe to repeat are repeated.",
    ),
    Foreign(
        ("health_check_interval",),
        "Remove it: a connection that was idle is asked for a sign of life before it is used.",
    ),
    Foreign(
        ("socket_keepalive", "socket_keepalive_options"),
        "Remove it: keep-alive is on, and begins after 30 idle seconds.",
    ),
    Foreign(("socket_type", "socket_read_size"), "Remove it: the socket is set up in Rust."),
    Foreign(
        ("decode_responses", "encoding", "encoding_errors", "charset", "errors"),
        "Remove it: values come back as what they were, and strings from `execute()` as bytes.",
    ),
    Foreign(("protocol", "legacy_responses"), "Remove it: the protocol is always RESP3."),
    Foreign(
        ("lib_name", "lib_version", "driver_info"),
        "Remove it: the library is always `vcache`; `CLIENT_NAME` names a connection.",
    ),
    Foreign(
        ("redis_connect_func", "valkey_connect_func", "command_packer", "event_dispatcher", "maint_notifications_*"),
        "Remove it: nothing of the connection can be replaced from Python.",
    ),
    Foreign(
        ("MAX_ENTRIES", "CULL_FREQUENCY"),
        "Leave it or remove it: it is accepted and has no effect. The server's `maxmemory` decides.",
    ),
    # What is not there yet.
    Foreign(
        ("REPLICA_READ_ONLY", "MASTER_CACHE", "REPLICAS", "replicas"),
        "Remove it and name the primary in `LOCATION`: reading from replicas is not supported yet.",
    ),
    Foreign(
        ("SENTINEL_KWARGS", "sentinel_kwargs"),
        "Write it beside `SENTINELS`, or into the URL: `redis+sentinel://host1:26379,host2:26379/mymaster/0`.",
    ),
    Foreign(
        ("sentinels", "service_name", "SENTINEL_SERVICE_NAME"),
        "Write it into the URL in `LOCATION`: `redis+sentinel://host1:26379,host2:26379/mymaster/0`.",
    ),
    Foreign(
        ("CLUSTER_MODE", "cluster_*", "startup_nodes"),
        "Remove it: name one node of the cluster in `LOCATION`, or several in a list. The rest is found out.",
    ),
    Foreign(
        ("CLIENT_SIDE_CACHE", "cache", "cache_*", "client_cache"),
        "Remove it: the process keeps no copies of values yet.",
    ),
)

_SERIALIZERS = {"json": "json", "msgpack": "msgpack", "pickle": "pickle"}


def advice_on(name: str) -> str | None:
    """What to do with an option of another backend; None for a name that no other has."""
    for foreign in FOREIGN:
        if any(fnmatchcase(name, known) for known in foreign.names):
            return foreign.advice
    return None


def advice_on_serializer(path: str) -> str | None:
    """What to write in place of another backend's serializer; None for any other path."""
    if path.split(".")[0] not in ("django_redis", "django_valkey", "redis_cache"):
        return None
    known = next((ours for word, ours in _SERIALIZERS.items() if word in path.lower()), "auto")
    return f'It is made for another backend: write "{known}".'


def table() -> str:
    """The rows of ``docs/howto/migrating.md``."""
    rows = ["| option | what to do |", "|---|---|"]
    for names, advice in FOREIGN:
        shown = ", ".join(f"`{name}`" for name in names)
        rows.append(f"| {shown} | {advice} |")
    return "\n".join(rows)
