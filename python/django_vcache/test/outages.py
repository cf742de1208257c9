"""A server that is away, for the tests of what a project does then."""

import contextlib
import socket
import tempfile
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any, Literal

from django.conf import settings
from django.test import override_settings
from django.utils.module_loading import import_string

from django_vcache.backend import ValkeyCache

__all__ = ["outage"]

PATIENCE = 0.05
"""Seconds that a cache waits for a silent server, so that a test takes no longer than it must."""


@contextlib.contextmanager
def outage(
    kind: Literal["refused", "silent"] = "refused", *, using: str | Collection[str] | None = None
) -> Iterator[None]:
    """Has the server of each ValkeyCache be away inside the block; behind it everything is as before.

    No server is touched: the aliases get another address, so it works on any LOCATION and loses no data. Limits, gates,
    hot paths and ``django.core.cache`` follow at once. A backend object that is kept, such as
    ``sessions = caches["sessions"]`` at the top of a module, does not: ``aliases["sessions"]`` does.

    Args:
        kind: ``"refused"`` is a server that does not run: calls raise ``ConnectionError``. ``"silent"`` is one that
            accepts connections and says nothing: calls raise ``ConnectionError`` or ``TimeoutError`` after 50
            milliseconds.
        using: the alias or aliases; all of them unless said.

    Raises:
        ValueError: for another kind, and for an alias that is no ValkeyCache.

    >>> with outage():  # doctest: +SKIP
    ...     assert client.get("/").status_code == 200
    """
    if kind not in ("refused", "silent"):
        raise ValueError(f'an outage is "refused" or "silent", not {kind!r}')
    ours = [alias for alias, config in settings.CACHES.items() if _is_ours(config)]
    chosen = ours if using is None else [using] if isinstance(using, str) else list(using)
    for alias in chosen:
        if alias not in ours:
            raise ValueError(f"there is no ValkeyCache {alias!r} in CACHES that could be away; there is {ours}")
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="vcache-away-", dir=_short()))
        path = Path(folder) / "s"
        if kind == "silent":
            listener = stack.enter_context(socket.socket(socket.AF_UNIX))
            listener.bind(str(path))
            listener.listen(128)
        caches = dict(settings.CACHES)
        for alias in chosen:
            caches[alias] = _away(caches[alias], path)
        stack.enter_context(override_settings(CACHES=caches))
        yield


def _is_ours(config: dict[str, Any]) -> bool:
    backend = import_string(config["BACKEND"])
    return isinstance(backend, type) and issubclass(backend, ValkeyCache)


def _away(config: dict[str, Any], path: Path) -> dict[str, Any]:
    options = {**(config.get("OPTIONS") or {}), "CONNECT_TIMEOUT": PATIENCE, "RESPONSE_TIMEOUT": PATIENCE}
    return {**config, "LOCATION": f"unix://{path}", "OPTIONS": options}


def _short() -> str | None:
    """A folder below which there is room for the path of a socket."""
    return "/tmp" if Path("/tmp").is_dir() else None
