"""What is sent to the server, apart from who waits for it: a generator yields what it needs, and a driver of the
blocking or of the awaited kind provides it. So each procedure is written once and has both forms.
"""

import asyncio
import hashlib
import time
from collections.abc import Awaitable, Callable, Generator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

from django.core.cache import InvalidCacheBackendError, caches

from django_vcache.backend import ValkeyCache
from django_vcache.exceptions import ConfigurationError, ResponseError

T = TypeVar("T")

Command: TypeAlias = tuple[str | int | bytes, ...]


@dataclass(frozen=True, slots=True)
class Send:
    """Commands to send together; the answer is the list of their replies."""

    commands: tuple[Command, ...]


@dataclass(frozen=True, slots=True)
class Pause:
    """Seconds to wait. A pause with ``until_stopped`` ends early when the consumer is stopped."""

    seconds: float
    until_stopped: bool = False


Steps: TypeAlias = Generator[Send | Pause, Any, T]


def send(*command: str | int | bytes) -> Steps[Any]:
    """One command; its reply."""
    (reply,) = yield Send((command,))
    return reply


class Script:
    """A Lua script of this package, sent by its hash, and whole to a server that does not have it."""

    def __init__(self, *files: str, flags: str = "") -> None:
        folder = Path(__file__).parents[1] / "lua"
        parts = [f"#!lua {flags}".rstrip(), *((folder / file).read_text(encoding="utf-8") for file in files)]
        self.source = "\n".join(parts)
        self.hash = hashlib.sha1(self.source.encode(), usedforsecurity=False).hexdigest()

    def __call__(self, keys: tuple[str, ...], *arguments: str | int) -> Steps[Any]:
        try:
            return (yield from send("EVALSHA", self.hash, len(keys), *keys, *arguments))
        except ResponseError as error:
            if error.code != "NOSCRIPT":
                raise
        return (yield from send("EVAL", self.source, len(keys), *keys, *arguments))


def cache_of(alias: str) -> ValkeyCache:
    """The cache of an alias.

    Raises:
        ConfigurationError: if there is none, or it is another backend's.
    """
    try:
        cache = caches[alias]
    except InvalidCacheBackendError as error:
        raise ConfigurationError(f"a stream wants the cache alias {alias!r}: {error}") from error
    if not isinstance(cache, ValkeyCache):
        raise ConfigurationError(
            f"a stream wants the cache alias {alias!r}, but its BACKEND is {type(cache).__name__}, "
            "not django_vcache.ValkeyCache"
        )
    return cache


def drive(steps: Steps[T], alias: str, wait: Callable[[float], object] = time.sleep) -> T:
    """Runs a procedure on this thread.

    Args:
        wait: waits for so many seconds, or until the consumer is stopped.
    """
    execute = cache_of(alias).execute
    try:
        step = next(steps)
        while True:
            replies: list[Any] = []
            try:
                if isinstance(step, Send):
                    replies.extend(execute(*command) for command in step.commands)
                else:
                    (wait if step.until_stopped else time.sleep)(step.seconds)
            except Exception as error:
                step = steps.throw(error)
            else:
                step = steps.send(replies)
    except StopIteration as end:
        result: T = end.value
        return result
    finally:
        steps.close()


async def adrive(steps: Steps[T], alias: str, wait: Callable[[float], Awaitable[object]] = asyncio.sleep) -> T:
    """As :func:`drive`, on the running loop."""
    execute = cache_of(alias).aexecute
    try:
        step = next(steps)
        while True:
            replies: list[Any] = []
            try:
                if isinstance(step, Pause):
                    await (wait if step.until_stopped else asyncio.sleep)(step.seconds)
                elif len(step.commands) == 1:
                    replies.append(await execute(*step.commands[0]))
                else:
                    outcomes = await asyncio.gather(
                        *(execute(*command) for command in step.commands), return_exceptions=True
                    )
                    replies.extend(_reply(outcome) for outcome in outcomes)
            except Exception as error:
                step = steps.throw(error)
            else:
                step = steps.send(replies)
    except StopIteration as end:
        result: T = end.value
        return result
    finally:
        steps.close()


def _reply(outcome: Any) -> Any:
    if isinstance(outcome, BaseException):
        raise outcome
    return outcome
