"""Threads that count on servers, so that a test can say that no call was executed twice, and none that was answered is
lost.
"""

from __future__ import annotations

import collections
import threading
from typing import Any

from django_vcache.exceptions import VcacheError
from support.server import wait_until


class Counting:
    """Threads that count on all nodes, and what became of it."""

    def __init__(self, cache: Any, keys: list[list[str]], threads: int = 2) -> None:
        self.cache = cache
        self.keys = keys
        self.acknowledged = collections.Counter[str]()
        self.uncertain = collections.Counter[str]()
        """Calls that failed and may have been executed, by their own word."""
        self.failures: list[VcacheError] = []
        self._stopped = threading.Event()
        self._threads = [
            threading.Thread(target=self._count, args=(of_node,)) for of_node in keys for _ in range(threads)
        ]
        self._lock = threading.Lock()
        for of_node in keys:
            for key in of_node:
                cache.set(key, 0, timeout=None)

    def __enter__(self) -> Counting:
        for thread in self._threads:
            thread.start()
        self.goes_on()
        return self

    def __exit__(self, *error: object) -> None:
        self._stopped.set()
        for thread in self._threads:
            thread.join()

    def _count(self, keys: list[str]) -> None:
        while not self._stopped.is_set():
            for key in keys:
                try:
                    self.cache.incr(key)
                except VcacheError as error:
                    with self._lock:
                        self.failures.append(error)
                        self.uncertain[key] += "may have been executed" in str(error) or "may not have" in str(error)
                    self._stopped.wait(0.01)
                else:
                    with self._lock:
                        self.acknowledged[key] += 1

    def goes_on(self) -> None:
        """Waits until each node has counted more."""
        with self._lock:
            before = self.acknowledged.copy()
        wait_until(
            lambda: all(any(self.acknowledged[key] > before[key] for key in of_node) for of_node in self.keys),
            what="calls to all nodes",
        )

    def check(self, keys: list[list[str]] | None = None) -> None:
        """No call was executed twice, and none that was answered was lost: of these keys, or of all."""
        for of_node in keys or self.keys:
            for key in of_node:
                count = self.cache.get(key)
                sure = self.acknowledged[key]
                assert sure <= count <= sure + self.uncertain[key], (key, count, sure, self.uncertain[key])
