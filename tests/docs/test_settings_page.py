"""The settings of the README and of the pages on settings, migrating and servers make caches. The backend class and the
commands of these pages do what is said of them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from django.core.cache import caches
from django.test import override_settings
from support.caches import cache_params, make_cache
from support.server import ValkeyServer

from django_vcache.admission.settings import problems

DOCS = Path(__file__).parents[2] / "docs"


def blocks(page: str) -> list[str]:
    return re.findall(r"^```python\n(.*?)^```$", (DOCS / page).read_text(), re.MULTILINE | re.DOTALL)


def snippet(page: str, word: str) -> str:
    """The one Python block of a page that has `word` in it."""
    (block,) = [block for block in blocks(page) if word in block]
    return str(block)


def test_a_backend_class_of_your_own(server: ValkeyServer, run: Any) -> None:
    names: dict[str, Any] = {}
    exec(snippet("reference/settings.md", "class ShopCache"), names)
    cache = names["ShopCache"](server.url, cache_params({}))
    cache.set("k", 1, 1000)
    left = server.execute("PTTL", ":1:k")
    assert isinstance(left, int)
    assert 890_000 < left <= 1_100_000
    assert cache.get("K") == run(cache.aget("K")) == 1
    assert cache.get_many(["K"]) == run(cache.aget_many(["K"])) == {"K": 1}
    run(cache.aset("forever", 1, None))
    assert server.execute("PTTL", ":1:forever") == -1


def test_the_commands_in_place_of_extra_methods(server: ValkeyServer) -> None:
    cache = make_cache(server)
    cache.set("report", 1)
    replies = {}

    def execute(*command: Any) -> Any:
        replies[command[0]] = cache_execute(*command)
        return replies[command[0]]

    cache_execute, cache.execute = cache.execute, execute
    exec(snippet("howto/migrating.md", '"PTTL", key'), {"cache": cache})
    assert 290_000 < replies["PTTL"] <= 300_000
    assert (replies["PERSIST"], replies["EXPIRE"]) == (1, 1)
    assert replies["HGETALL"] == {b"a": b"1"}
    assert replies["TYPE"].decode() == "hash"


@pytest.mark.parametrize(
    ("page", "word"),
    [
        ("../README.md", "CACHES = {"),
        ("../README.md", '"KEY_PREFIX": "shop"'),
        ("howto/migrating.md", "CACHES = {"),
        ("reference/settings.md", "CACHES = {"),
        ("deployment/servers.md", "CACHES = {"),
    ],
)
def test_the_settings_that_the_pages_show_make_caches(page: str, word: str) -> None:
    names: dict[str, Any] = {"INSTALLED_APPS": []}
    exec(next(block for block in blocks(page) if word in block), names)
    with override_settings(CACHES=names["CACHES"]):
        assert [type(cache).__name__ for cache in caches.all(initialized_only=False)] == ["ValkeyCache"] * len(
            names["CACHES"]
        )
    assert problems(names.get("VCACHE", {})) == []
