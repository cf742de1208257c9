"""Meeting the servers before the first request. Connecting takes time, and the first decision of a limit brings its
script. ``warm_up()`` does both for a process that begins to serve. The application ``django_vcache`` calls it in the
programs that it knows to be servers, in the background, so that a server which is away delays nothing."""

import asyncio
import contextlib
import os
import sys
import threading
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from django.conf import settings
from django.utils.module_loading import import_string

from . import _vcache, reports
from .admission.settings import current, problems
from .backend import ValkeyCache, publish_alias
from .exceptions import ConfigurationError, VcacheError
from .location import embedded_url

__all__ = ["awarm_up", "warm_up", "warm_up_at_start"]

_SERVERS = frozenset({"daphne", "granian", "gunicorn", "hypercorn", "uvicorn", "uwsgi", "waitress-serve"})
"""Programs that serve, by what they are started as. Commands and scripts may never need the connection."""


def warm_up(*aliases: str) -> bool:
    """Connects and loads the scripts of limits, so that the first request waits for neither.

    Call it where a process begins to serve, such as in gunicorn's ``post_fork``. It blocks until each server has
    answered, or its CONNECT_TIMEOUT is over. A server that is away is a warning in the log and no error: the first call
    tries again.

    >>> warm_up()
    True

    Args:
        aliases: of ``CACHES``. Without any: ``default``, the alias of VCACHE["THROTTLE_ALIAS"], and those on which a
            limit or stream of this process counts, as far as they are a ``ValkeyCache`` whose server is not embedded.

    Returns:
        Whether all of them answered. False if there are none.

    Raises:
        ConfigurationError: an alias that was given does not exist, or is another backend's.
    """
    answers = [_meet(alias) for alias in _published(aliases)]
    return bool(answers) and all(answers)


async def awarm_up(*aliases: str) -> bool:
    """As :func:`warm_up`, to be awaited, such as in a lifespan's start. All servers are met at once.

    >>> await awarm_up()  # doctest: +SKIP
    True
    """
    answers = await asyncio.gather(*(_ameet(alias) for alias in _published(aliases)))
    return bool(answers) and all(answers)


def warm_up_at_start() -> None:
    """Warms up on a thread that ends, if this process begins to serve and ``VCACHE`` does not say otherwise."""
    # The checks report a mistake in the settings.
    if not _serves() or problems(getattr(settings, "VCACHE", {})) or not current().warm_up:
        return
    # NOTE: modules are imported here and not on the thread, which holds no lock of Python's if the process forks.
    for alias in _published(()):
        threading.Thread(target=_meet, args=(alias,), name=f"vcache-warm-up-{alias}", daemon=True).start()


def _serves() -> bool:
    program = Path(sys.argv[0] if sys.argv else "")
    if sys.argv[1:2] == ["runserver"]:
        # With the reloader only the child serves.
        return os.environ.get("RUN_MAIN") == "true" or "--noreload" in sys.argv
    # `python -m uvicorn` is started as .../uvicorn/__main__.py.
    started_as = program.parent.name if program.stem == "__main__" else program.stem
    return started_as in _SERVERS and not _preloads(started_as)


def _preloads(program: str) -> bool:
    """Whether gunicorn loads the application in a process that serves nothing, and forks those that do."""
    given = [*sys.argv, *os.environ.get("GUNICORN_CMD_ARGS", "").split()]
    return program == "gunicorn" and "--preload" in given


def _published(given: Iterable[str]) -> list[str]:
    """The aliases, each with its connection made known. Nothing is sent."""
    aliases = list(given)
    for alias in aliases:
        if not isinstance(alias, str):
            raise TypeError(f"warm_up() takes the names of aliases, each an argument, not {type(alias).__name__}")
        publish_alias(alias, "warm_up()")
    if aliases:
        return aliases
    for alias in sorted({"default", current().throttle_alias, *_vcache.aliases_in_use()}):
        # The checks report what is wrong with one, and so does its first call.
        with contextlib.suppress(ConfigurationError, TypeError, ValueError, AttributeError):
            if _is_ours(settings.CACHES.get(alias, {})):
                publish_alias(alias, "warm_up()")
                aliases.append(alias)
    return aliases


def _is_ours(setting: Mapping[str, Any]) -> bool:
    try:
        backend = import_string(setting.get("BACKEND", ""))
    # Whatever the module raises, the first use of the cache raises it again.
    except Exception:
        return False
    ours = isinstance(backend, type) and issubclass(backend, ValkeyCache)
    # An embedded server starts when it is needed.
    return ours and embedded_url(setting.get("LOCATION")) is None


def _meet(alias: str) -> bool:
    try:
        _vcache.warm_up(alias)
    except VcacheError as error:
        reports.cold(error)
        return False
    return True


async def _ameet(alias: str) -> bool:
    try:
        await _vcache.awarm_up(alias)
    except VcacheError as error:
        reports.cold(error)
        return False
    return True
