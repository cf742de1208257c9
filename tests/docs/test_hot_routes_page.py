"""The snippets of `hot-routes.md`, and that of README.md on hot routes, make routes that answer."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import pytest
from django.test import override_settings
from django.urls import path
from support.caches import cache_setting
from support.hot import Asked, ask_early, routes
from support.server import ValkeyServer
from support.snippets import blocks

from django_vcache.routing import hot

# The suite's settings have no admin.
ADMIN = SimpleNamespace(site=SimpleNamespace(urls=([], "admin", "admin")))
PAGE = "docs/topics/hot-routes.md"


@pytest.fixture(scope="module")
def page() -> dict[str, Any]:
    """All snippets of the page, run in one module: the target first, which the others name."""
    found = [source for _, source in blocks(PAGE) if "hot(" in source or "async def" in source]
    assert len(found) == 4
    found.sort(key=lambda source: "async def store" not in source)
    names: dict[str, Any] = {"admin": ADMIN}
    placed = []
    for source in found:
        # A call that stands alone is for `urlpatterns`.
        source = source.replace("\nhot(\n", "\nalone = hot(\n").replace("\nhot(", "\nalone = hot(")
        exec(compile(source, PAGE, "exec"), names)
        placed += names.pop("urlpatterns", [])
        placed += [names.pop("alone")] if "alone" in names else []
    return {"placed": placed, "store": names["store"]}


def test_the_routes_answer(page: dict[str, Any], server: ValkeyServer, run: Any) -> None:
    hot_ones = [each for each in page["placed"] if not hasattr(each, "url_patterns")]
    assert len(hot_ones) == 3
    with override_settings(CACHES={"default": cache_setting(server)}), routes(hot_ones[0]):
        answer = run(ask_early(Asked("/api/7/store/", "POST", b'{"id": "e1"}')))
        assert (answer.status, json.loads(answer.body)) == (200, {"id": "e1"})
        assert run(ask_early(Asked("/api/7/store/", "POST", b"{"))).status == 400
        assert run(ask_early(Asked("/api/7/store/"))).status == 405
    with override_settings(CACHES={"default": cache_setting(server)}), routes(hot_ones[1]):
        asked = Asked("/api/7/store/", "POST", b'{"id": "e1"}', {"Origin": "https://shop.example"})
        assert run(ask_early(asked)).headers["access-control-allow-origin"] == "https://shop.example"
        assert run(ask_early(Asked("/api/7/store/", "POST", b"x" * 200_001))).status == 413


def test_the_readme_names_the_same(page: dict[str, Any]) -> None:
    [source] = [source for _, source in blocks("README.md") if "import hot\n" in source]
    names: dict[str, Any] = {"store": page["store"], "path": path, "admin": ADMIN}
    exec(compile(source, "README.md", "exec"), names)
    assert names["urlpatterns"][0].callback.route.target.function is page["store"]
    assert names["hot"] is hot
