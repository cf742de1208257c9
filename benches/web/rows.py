"""The rows of the table: which view, on which cache backend, under which handler."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

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


@dataclass(frozen=True)
class Row:
    """A view on a backend under a handler: `django`, `ours` or `wsgi`."""

    view: str
    backend: Backend
    handler: str
    middleware: bool = False

    @property
    def name(self) -> str:
        return "-".join([self.view, *(["middleware"] if self.middleware else []), self.backend.name, self.handler])

    @property
    def is_ours(self) -> bool:
        """Whether anything of this project takes part."""
        return self.handler == "ours" or self.backend is OUR_CACHE

    @property
    def needs_renamed(self) -> bool:
        return (
            self.handler == "ours" and self.backend.path.startswith("django_vcache.") and bool(self.backend.environment)
        )

    def environment(self, port: int) -> dict[str, str]:
        cache = self.backend.setting(port, self.needs_renamed)
        options = {"cache": cache, "middleware": list(MIDDLEWARE) if self.middleware else []}
        return {"BENCH": json.dumps(options), "BENCH_HANDLER": self.handler}


def rows() -> Iterator[Row]:
    """All rows, in the order of the table."""
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
