"""The end of a request: close() costs nothing and keeps the connection, which Django's own
request_finished signal and its per-thread cache instances do not multiply.
"""

from __future__ import annotations

import threading
from typing import Any

from django.core import signals
from django.core.cache import caches
from django.test import override_settings
from support.caches import cache_setting, make_cache
from support.server import ValkeyServer


def test_close_keeps_the_connection(cache: Any, server: ValkeyServer) -> None:
    before = cache.execute("CLIENT", "ID")
    assert cache.close() is None
    assert cache.execute("CLIENT", "ID") == before
    cache.close()
    cache.close(signal=object(), sender=object())
    assert cache.execute("CLIENT", "ID") == before
    assert str(before) in {client["id"] for client in server.clients()}


def test_the_end_of_a_request_keeps_the_connection(server: ValkeyServer) -> None:
    with override_settings(CACHES={"default": cache_setting(server)}):
        before = caches["default"].execute("CLIENT", "ID")
        signals.request_finished.send(object)
        assert caches["default"].execute("CLIENT", "ID") == before


def test_threads_and_instances_share_one_connection(server: ValkeyServer) -> None:
    seen: set[int] = set()

    def look() -> None:
        seen.add(caches["default"].execute("CLIENT", "ID"))

    with override_settings(CACHES={"default": cache_setting(server)}):
        look()
        for _ in range(5):
            thread = threading.Thread(target=look)
            thread.start()
            thread.join()
        seen.add(make_cache(server).execute("CLIENT", "ID"))
    assert len(seen) == 1


def test_a_cache_connects_on_first_use_only(fresh_server: ValkeyServer) -> None:
    cache = make_cache(fresh_server)
    assert fresh_server.clients() == []
    cache.close()
    assert fresh_server.clients() == []
    cache.get("k")
    assert len(fresh_server.clients()) == 1
