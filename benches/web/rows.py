"""The rows of the tables: which work, on which cache backend, under which handler, on which server."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import payloads
from payloads import PROJECT, Asked

DJANGO = "Django==6.1.3"
SERVER = ("granian==2.8.9", "uvloop==0.23.0")
REDIS_PY = "redis[hiredis]==8.1.0"

OURS = "vcache"
RENAMED = "vcache_three_two"
"""What django-vcache 3.2 is called where it runs on our handler, whose package has the same name."""

ENVIRONMENTS: dict[str, tuple[str, ...]] = {
    "web-django-vcache": ("django-vcache==3.2.0", DJANGO, *SERVER),
    "web-django-valkey": ("django-valkey[libvalkey]==0.4.1", "valkey==6.2.0", DJANGO, *SERVER),
    "web-django-redis": ("django-redis==7.0.0", REDIS_PY, DJANGO, *SERVER),
    "web-redis-cache": (REDIS_PY, DJANGO, *SERVER),
    "web-bolt": ("django-bolt==0.13.0", DJANGO, "uvloop==0.23.0"),
}
"""What is installed for the peers, one environment each. Ours is the project's."""

MIDDLEWARE = (
    "django.middleware.security.SecurityMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
)
"""The seven that `startproject` writes."""


@dataclass(frozen=True)
class Backend:
    """A cache backend: its title, the environment it is in, and its setting for a port."""

    name: str
    title: str
    environment: str
    path: str
    scheme: str = "redis"
    query: str = ""
    options: dict[str, Any] = field(default_factory=dict, hash=False)

    def setting(self, port: int, renamed: bool) -> dict[str, Any]:
        path = self.path.replace("django_vcache", RENAMED) if renamed else self.path
        location = f"{self.scheme}://127.0.0.1:{port}/0{self.query}"
        return {"BACKEND": path, "LOCATION": location, **({"OPTIONS": self.options} if self.options else {})}


NONE = Backend("none", "no cache call", "", "django_vcache.ValkeyCache")
OUR_CACHE = Backend(OURS, "django-vcache (this project)", "", "django_vcache.ValkeyCache")
BACKENDS = (
    OUR_CACHE,
    Backend("django-vcache-3.2", "django-vcache 3.2", "web-django-vcache", "django_vcache.backend.ValkeyCache"),
    Backend(
        "django-valkey",
        "django-valkey 0.4",
        "web-django-valkey",
        "django_valkey.async_cache.cache.AsyncValkeyCache",
        "valkey",
        "?max_connections=2000",
    ),
    Backend(
        "django-redis",
        "django-redis 7.0",
        "web-django-redis",
        "django_redis.cache.RedisCache",
        query="?max_connections=2000",
    ),
    Backend(
        "redis-cache",
        "Django's RedisCache",
        "web-redis-cache",
        "django.core.cache.backends.redis.RedisCache",
        query="?max_connections=2000",
    ),
)


WORKS = {
    "nothing": "an async view without a cache call",
    "nothing_sync": "a sync view without a cache call",
    "six": "six `await cache.aget`",
    "six_sync": "six `cache.get`",
    "mix": "three `aget`, an `aget_many` of two, an `aincr` and an `aset`",
    "ingest": "ingest: an event of 1 KB checked, throttled, charged to two quotas and put on a stream",
    "envelope": "the same with a brotli envelope of 3 KB, decoded and parsed",
    "check": "an event of 1 KB checked, without Valkey",
}
"""The groups of rows. Those of a group have the same work, or are the limit of it."""

HANDLERS = {
    "django": "Django's",
    "ours": "ours",
    "wsgi": "WSGI",
    "early": "hot route in ASGI",
    "below": "hot route below ASGI",
    "bare": "none",
    "bolt": "django-bolt",
    "nginx": "none",
}


@dataclass(frozen=True)
class Row:
    """Some work on a backend under a handler.

    Attributes:
        view: what is asked.
        backend: the cache.
        handler: `django`, `ours` or `wsgi`; `early` and `below` for hot routes; `bare` for an ASGI callable; `bolt`;
            `nginx`.
        middleware: with the seven of `startproject`.
        server: `granian`, `uvicorn`, `bolt` or `nginx`.
        work: the key of its group in `WORKS`, if it is not the view's.
        means: how the work is done, where a group has several ways.
        urls: the further addresses that the site needs, see `site_/urls.py`.
    """

    view: str
    backend: Backend
    handler: str
    middleware: bool = False
    server: str = "granian"
    work: str = ""
    means: str = ""
    urls: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        words = [self.view, "middleware" if self.middleware else "", self.backend.name, self.handler]
        # What is below ASGI has no other server.
        words.append("uvicorn" if self.server == "uvicorn" and self.handler != "below" else "")
        return "-".join(filter(None, words))

    @property
    def group(self) -> str:
        return self.work or self.view

    @property
    def title(self) -> str:
        """What the table says of it beside its group and its handler."""
        if self.backend is NONE:
            return self.means or NONE.title
        return f"{self.means}, {self.backend.title}" if self.means == CALLS else self.means or self.backend.title

    @property
    def asked(self) -> Asked:
        """The request that it is loaded with."""
        if self.handler == "nginx":
            return payloads.post_unread("/", 204, "")
        if self.handler == "bare":
            return payloads.post_unread("/", 200, "ok")
        # django-bolt takes an address without the slash.
        path = f"/{self.view}" + ("" if self.handler == "bolt" else "/")
        if self.group == "check":
            return payloads.post_event(path)
        if self.group == "ingest":
            return payloads.post_event(f"{path}{PROJECT}/")
        if self.group == "envelope":
            return payloads.post_envelope(f"{path}{PROJECT}/")
        return payloads.get(path)

    @property
    def environment_name(self) -> str:
        """The environment of its packages; empty for the project's."""
        return "web-bolt" if self.handler == "bolt" else self.backend.environment

    @property
    def reads_stored(self) -> bool:
        """Whether the view `store` must have been asked before."""
        return self.view in ("six", "six_sync", "mix")

    @property
    def writes_stream(self) -> bool:
        """Whether each request puts an entry on a stream."""
        return self.group in ("ingest", "envelope")

    @property
    def needs_guest(self) -> bool:
        """Whether it calls hot paths in Rust."""
        return "rust" in self.urls

    @property
    def needs_renamed(self) -> bool:
        """Whether a package of the name of this project's is beside it, and has to give way."""
        return (
            self.handler == "ours" and self.backend.path.startswith("django_vcache.") and bool(self.backend.environment)
        )

    def environment(self, port: int) -> dict[str, str]:
        """What its site finds in the environment; `port` is where Valkey is."""
        options = {
            "cache": DUMMY if self.handler == "bolt" else self.backend.setting(port, self.needs_renamed),
            "backend": self.backend.name,
            "middleware": list(MIDDLEWARE) if self.middleware else [],
            "apps": ["django_bolt"] if self.handler == "bolt" else [],
            "urls": list(self.urls),
        }
        return {
            "BENCH": json.dumps(options),
            "BENCH_HANDLER": "ours" if self.handler in ("early", "below") else self.handler,
            "DJANGO_SETTINGS_MODULE": "site_.settings",
        }


CALLS = "cache calls"
RUST, PYTHON = "target in Rust", "target in Python"
DUMMY = {"BACKEND": "django.core.cache.backends.dummy.DummyCache"}


def rows() -> Iterator[Row]:
    """All rows, in the order of the tables."""
    for handler in ("django", "ours"):
        yield Row("nothing", NONE, handler)
        yield Row("nothing", NONE, handler, middleware=True)
        yield Row("nothing_sync", NONE, handler)
    yield Row("nothing_sync", NONE, "wsgi")
    yield Row("nothing_sync", NONE, "wsgi", middleware=True)
    for view in ("six", "mix"):
        for backend in BACKENDS:
            for handler in ("django", "ours"):
                yield Row(view, backend, handler)
    yield Row("six_sync", OUR_CACHE, "wsgi")
    yield from _ingest()
    yield from _check()


def _ingest() -> Iterator[Row]:
    for backend in BACKENDS:
        for handler in ("django", "ours"):
            yield Row("ingest", backend, handler, means=CALLS, urls=("ingest",))
    for handler in ("django", "ours"):
        yield Row("gate", OUR_CACHE, handler, work="ingest", means="our gate", urls=("gate",))
    for view, work in (("hot_ingest", "ingest"), ("hot_envelope", "envelope")):
        yield Row(view, OUR_CACHE, "early", work=work, means=RUST, urls=("rust",))
        yield Row(view, OUR_CACHE, "early", work=work, means=RUST, urls=("rust",), server="uvicorn")
        yield Row(view, OUR_CACHE, "below", work=work, means=RUST, urls=("rust",), server="uvicorn")
        if work == "ingest":
            yield Row("python_ingest", OUR_CACHE, "early", work=work, means=PYTHON, urls=("python",))
            yield Row("python_ingest", OUR_CACHE, "below", work=work, means=PYTHON, urls=("python",), server="uvicorn")


def _check() -> Iterator[Row]:
    for handler in ("django", "ours"):
        yield Row("check", NONE, handler, work="check", means="a view")
    yield Row("python_check", NONE, "early", work="check", means=PYTHON, urls=("python",))
    yield Row("python_check", NONE, "below", work="check", means=PYTHON, urls=("python",), server="uvicorn")
    yield Row("hot_check", NONE, "early", work="check", means=RUST, urls=("rust",))
    yield Row("hot_check", NONE, "early", work="check", means=RUST, urls=("rust",), server="uvicorn")
    yield Row("hot_check", NONE, "below", work="check", means=RUST, urls=("rust",), server="uvicorn")
    yield Row("check", NONE, "bolt", work="check", means="typed handler", server="bolt")
    yield Row("body", NONE, "bare", work="check", means="the body is read, not checked")
    yield Row("body", NONE, "bare", work="check", means="the body is read, not checked", server="uvicorn")
    yield Row("nothing", NONE, "nginx", work="check", means="204 from the configuration", server="nginx")


SEED = ("nothing", "six")


def seed_rows() -> Iterator[Row]:
    """Those of the two tables with a slow network: the view of six calls on each backend, and its floor."""
    yield from (row for row in rows() if row.view in SEED and row.handler in ("django", "ours") and not row.middleware)


def latency_rows() -> Iterator[Row]:
    """Those whose latency is measured at the same rate for all of a group."""
    yield from (row for row in rows() if row.group in ("six", "ingest"))
