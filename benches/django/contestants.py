"""The contestants of admission: this project's, the libraries people use for it, and what one writes oneself.

Each is used as its documentation says, with whatever it leaves to be written around it: a library
of limits knows no stream, and none knows several limits that are charged together or not at all.
So their gates ask one limit after the other and stop at the first that refuses, and then add the
entry. All that is async runs on the loop, but for REST framework, which has no async form.
"""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from functools import partial
from types import SimpleNamespace
from typing import Any

from admission import (
    GATES,
    MAXLEN,
    ONCE,
    PAYLOAD,
    REFUSALS,
    RULES,
    STREAM,
    USER,
    AsyncCheck,
    Check,
    Contestant,
    Rule,
    Scope,
    Surprise,
)
from sessions import OURS_BACKEND, django_cache

MAX_CONNECTIONS = 1000
"""redis-py's default of 100 a pool makes 300 requests at once fail."""


def url(port: int) -> str:
    return f"redis://127.0.0.1:{port}/1"


class InDjango(Contestant):
    """On the connection of a Django cache."""

    backend = ""

    def __init__(self, port: int) -> None:
        super().__init__()
        self.django = django_cache(self.backend, "redis", port)

    def request(self) -> AbstractAsyncContextManager[Any]:
        return self.django.request()


class Ours(InDjango):
    """``django_vcache.admission``."""

    backend = OURS_BACKEND

    def __init__(self, port: int, deny_cache: bool = True) -> None:
        super().__init__(port)
        self.deny_cache = deny_cache

    def stream_key(self) -> str:
        from django_vcache.admission import Stream

        (key,) = Stream(STREAM).keys
        return key

    def _throttle(self, rule: Rule) -> Any:
        from django_vcache.admission import Throttle

        return Throttle(rule.name, rule.rate, key=rule.key, deny_cache=self.deny_cache)

    def _gate(self, rules: tuple[Rule, ...]) -> Any:
        from django_vcache.admission import Gate, Quota, Stream, Throttle

        return Gate(
            throttles=[Throttle(rule.name, rule.rate, key=rule.key) for rule in rules if not rule.quota],
            quotas=[Quota(rule.name, rule.limit, rule.period, key=rule.key) for rule in rules if rule.quota],
            stream=Stream(STREAM, maxlen=MAXLEN),
            owner=rules[0].key,
            deny_cache=self.deny_cache,
        )

    def _timed(self, operation: str) -> Any:
        if operation in GATES:
            return self.once(self._gate, RULES)
        return self.once(self._throttle, ONCE if operation in REFUSALS else USER)

    async def athrottle(self, rule: Rule) -> AsyncCheck:
        check: AsyncCheck = self.once(self._throttle, rule).acheck
        return check

    async def agate(self, rules: tuple[Rule, ...]) -> AsyncCheck:
        return partial(self.once(self._gate, rules).aadmit, payload=PAYLOAD)

    def throttle(self, rule: Rule) -> Check:
        check: Check = self.once(self._throttle, rule).check
        return check

    def gate(self, rules: tuple[Rule, ...]) -> Check:
        return partial(self.once(self._gate, rules).admit, payload=PAYLOAD)

    def finish(self, operation: str) -> None:
        """What an outage let through, or the deny cache refused, has not been at the server."""
        counted = self._timed(operation).metrics()
        if counted["outages"]:
            raise Surprise(f"{counted['outages']} calls ended in an outage")
        if bool(counted["deny_cache"]) is not (self.deny_cache and operation in REFUSALS):
            raise Surprise(f"the deny cache answered {counted['deny_cache']} calls")


class Incrby(InDjango):
    """The floor: one INCRBY on this project's connection, of a key that is made beforehand."""

    backend = OURS_BACKEND
    refuses = False

    def arguments(self, operation: str, scope: Scope) -> tuple[Any, ...]:
        return ("INCRBY", f"bench:count:{scope['user']}", 1)

    async def athrottle(self, rule: Rule) -> AsyncCheck:
        execute: AsyncCheck = (await self.django.asynchronous()).aexecute
        return execute

    def throttle(self, rule: Rule) -> Check:
        execute: Check = self.django.blocking().execute
        return execute


class CacheCalls(InDjango):
    """Fixed windows by ``aget``, ``aincr`` and ``aset``, as one writes them with a cache.

    It is neither atomic nor exact: requests at once read the same count, and all of them pass.
    ``many`` reads all counters by one ``aget_many``, which is the least that this can cost.
    The enqueue is the driver's own, as a cache has no such call.
    """

    backend = "django_vcache.backend.ValkeyCache"

    def __init__(self, port: int, many: bool = False) -> None:
        super().__init__(port)
        self.many = many

    async def athrottle(self, rule: Rule) -> AsyncCheck:
        cache = await self.django.asynchronous()

        async def check(user: int) -> bool:
            key = f"throttle:{rule.name}:{user}"
            count = await cache.aget(key)
            if count is None:
                await cache.aset(key, 1, rule.seconds)
                return True
            if count >= rule.limit:
                return False
            await cache.aincr(key)
            return True

        return check

    def throttle(self, rule: Rule) -> Check:
        cache = self.django.blocking()

        def check(user: int) -> bool:
            key = f"throttle:{rule.name}:{user}"
            count = cache.get(key)
            if count is None:
                cache.set(key, 1, rule.seconds)
                return True
            if count >= rule.limit:
                return False
            cache.incr(key)
            return True

        return check

    async def agate(self, rules: tuple[Rule, ...]) -> AsyncCheck:
        cache = await self.django.asynchronous()
        driver = cache.get_raw_client()

        async def read(keys: list[str]) -> list[int | None]:
            if self.many:
                found = await cache.aget_many(keys)
                return [found.get(key) for key in keys]
            return [await cache.aget(key) for key in keys]

        async def admit(scope: Scope) -> bool:
            keys = [f"gate:{rule.name}:{scope[rule.key]}" for rule in rules]
            counts = await read(keys)
            if over(rules, counts):
                return False
            for rule, key, count in zip(rules, keys, counts, strict=True):
                if count is None:
                    await cache.aset(key, 1, rule.seconds)
                else:
                    await cache.aincr(key)
            await driver.pipeline_exec([("XADD", entry())])
            return True

        return admit

    def gate(self, rules: tuple[Rule, ...]) -> Check:
        cache = self.django.blocking()
        driver = cache.get_raw_client()

        def admit(scope: Scope) -> bool:
            keys = [f"gate:{rule.name}:{scope[rule.key]}" for rule in rules]
            counts = [cache.get(key) for key in keys]
            if over(rules, counts):
                return False
            for rule, key, count in zip(rules, keys, counts, strict=True):
                if count is None:
                    cache.set(key, 1, rule.seconds)
                else:
                    cache.incr(key)
            driver.pipeline_exec_sync([("XADD", entry())])
            return True

        return admit


def over(rules: tuple[Rule, ...], counts: list[int | None]) -> bool:
    return any(count is not None and count >= rule.limit for rule, count in zip(rules, counts, strict=True))


def entry() -> list[bytes]:
    return [STREAM.encode(), b"*", b"payload", PAYLOAD]


class Limits(Contestant):
    """``limits``: fixed windows, its cheapest strategy, for quotas as for throttles; redis-py for the stream, on the
    same pool."""

    def __init__(self, port: int) -> None:
        super().__init__()
        self.url = url(port)

    def _asynchronous(self) -> tuple[Any, Any]:
        from limits.aio.storage import RedisStorage
        from limits.aio.strategies import FixedWindowRateLimiter
        from redis.asyncio import ConnectionPool, Redis

        pool = ConnectionPool.from_url(self.url, max_connections=MAX_CONNECTIONS)
        storage = RedisStorage(f"async+{self.url}", implementation="redispy", connection_pool=pool)
        return FixedWindowRateLimiter(storage), Redis(connection_pool=pool)

    def _blocking(self) -> tuple[Any, Any]:
        from limits.storage import RedisStorage
        from limits.strategies import FixedWindowRateLimiter
        from redis import ConnectionPool, Redis

        pool = ConnectionPool.from_url(self.url, max_connections=MAX_CONNECTIONS)
        return FixedWindowRateLimiter(RedisStorage(self.url, connection_pool=pool)), Redis(connection_pool=pool)

    async def athrottle(self, rule: Rule) -> AsyncCheck:
        from limits import parse

        limiter, _ = self.once(self._asynchronous)
        item = parse(rule.rate)

        async def check(user: int) -> bool:
            hit: bool = await limiter.hit(item, rule.name, str(user))
            return hit

        return check

    def throttle(self, rule: Rule) -> Check:
        from limits import parse

        limiter, _ = self.once(self._blocking)
        item = parse(rule.rate)

        def check(user: int) -> bool:
            hit: bool = limiter.hit(item, rule.name, str(user))
            return hit

        return check

    async def agate(self, rules: tuple[Rule, ...]) -> AsyncCheck:
        from limits import parse

        limiter, redis = self.once(self._asynchronous)
        items = [(parse(rule.rate), rule.name, rule.key) for rule in rules]

        async def admit(scope: Scope) -> bool:
            for item, name, key in items:
                if not await limiter.hit(item, name, str(scope[key])):
                    return False
            await redis.xadd(STREAM, {"payload": PAYLOAD})
            return True

        return admit

    def gate(self, rules: tuple[Rule, ...]) -> Check:
        from limits import parse

        limiter, redis = self.once(self._blocking)
        items = [(parse(rule.rate), rule.name, rule.key) for rule in rules]

        def admit(scope: Scope) -> bool:
            for item, name, key in items:
                if not limiter.hit(item, name, str(scope[key])):
                    return False
            redis.xadd(STREAM, {"payload": PAYLOAD})
            return True

        return admit


class ThrottledPy(Contestant):
    """``throttled-py``: GCRA for throttles, fixed windows for quotas; redis-py for the stream."""

    def __init__(self, port: int) -> None:
        super().__init__()
        self.url = url(port)

    def _store(self, module: Any) -> Any:
        return module.RedisStore(
            server=self.url, options={"CONNECTION_POOL_KWARGS": {"max_connections": MAX_CONNECTIONS}}
        )

    def _throttled(self, module: Any, rule: Rule) -> Any:
        from datetime import timedelta

        from throttled import RateLimiterType

        algorithm = RateLimiterType.FIXED_WINDOW if rule.quota else RateLimiterType.GCRA
        return module.Throttled(
            using=algorithm.value,
            quota=module.rate_limiter.per_duration(timedelta(seconds=rule.seconds), rule.limit),
            store=self.once(self._store, module),
        )

    def _redis(self, module: Any) -> Any:
        return module.Redis.from_url(self.url, max_connections=MAX_CONNECTIONS)

    async def athrottle(self, rule: Rule) -> AsyncCheck:
        from throttled import asyncio as module

        limit = self.once(self._throttled, module, rule).limit

        async def check(user: int) -> bool:
            return not (await limit(f"{rule.name}:{user}")).limited

        return check

    def throttle(self, rule: Rule) -> Check:
        import throttled as module

        limit = self.once(self._throttled, module, rule).limit

        def check(user: int) -> bool:
            return not limit(f"{rule.name}:{user}").limited

        return check

    async def agate(self, rules: tuple[Rule, ...]) -> AsyncCheck:
        from redis import asyncio as redis_module
        from throttled import asyncio as module

        redis = self.once(self._redis, redis_module)
        limits = [(self.once(self._throttled, module, rule).limit, rule.name, rule.key) for rule in rules]

        async def admit(scope: Scope) -> bool:
            for limit, name, key in limits:
                if (await limit(f"{name}:{scope[key]}")).limited:
                    return False
            await redis.xadd(STREAM, {"payload": PAYLOAD})
            return True

        return admit

    def gate(self, rules: tuple[Rule, ...]) -> Check:
        import redis as redis_module
        import throttled as module

        redis = self.once(self._redis, redis_module)
        limits = [(self.once(self._throttled, module, rule).limit, rule.name, rule.key) for rule in rules]

        def admit(scope: Scope) -> bool:
            for limit, name, key in limits:
                if limit(f"{name}:{scope[key]}").limited:
                    return False
            redis.xadd(STREAM, {"payload": PAYLOAD})
            return True

        return admit


class RestFramework(InDjango):
    """REST framework's ``UserRateThrottle`` on Django's ``RedisCache``, a new one for every request as its views do.

    It only blocks. Under ASGI its views run in the request's thread, and so does this. It is no gate: it keeps the
    time of every request in one value, which no quota of a month can be kept in.
    """

    backend = "django.core.cache.backends.redis.RedisCache"

    def _throttle(self, rule: Rule) -> Any:
        from rest_framework.throttling import UserRateThrottle

        return type("Throttle", (UserRateThrottle,), {"rate": rule.rate, "scope": rule.name})

    def arguments(self, operation: str, scope: Scope) -> tuple[Any, ...]:
        return (SimpleNamespace(user=SimpleNamespace(is_authenticated=True, pk=scope["user"])),)

    def throttle(self, rule: Rule) -> Check:
        throttle = self.once(self._throttle, rule)

        def check(request: object) -> bool:
            allowed: bool = throttle().allow_request(request, None)
            return allowed

        return check

    async def athrottle(self, rule: Rule) -> AsyncCheck:
        from asgiref.sync import sync_to_async

        check: AsyncCheck = sync_to_async(self.throttle(rule), thread_sensitive=True)
        return check
