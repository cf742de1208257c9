"""The snippets of `hot-routes.md`, and that of README.md on hot routes, make routes that answer."""

from __future__ import annotations

import json
import sys
import types
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from django.test import override_settings
from support.caches import cache_setting
from support.hot import Asked, ask_early, routes
from support.server import ValkeyServer
from support.snippets import blocks, excuse

from django_vcache.routing import Response, hot

# The suite's settings have no admin.
ADMIN = SimpleNamespace(site=SimpleNamespace(urls=([], "admin", "admin")))
PAGE = "docs/topics/hot-routes.md"


async def in_rust(request: Any, project_id: int) -> Response:
    """Stands for the hot path of the page, whose crate takes minutes to build."""
    return Response(200, [(b"Content-Type", b"application/json")], json.dumps(request.json()["id"]).encode())


@pytest.fixture(scope="module")
def page() -> Iterator[dict[str, Any]]:
    """All snippets of the page, run in one module: the target first, which the others name."""
    found = [source for _, source in blocks(PAGE) if not excuse(PAGE, source)]
    assert len(found) == 6
    found.sort(key=lambda source: "async def store" not in source)
    names: dict[str, Any] = {"admin": ADMIN}
    placed = []
    guest: Any = types.ModuleType("shop_hot")
    guest.astore = in_rust
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "shop_hot", guest)
        for source in found:
            # A call that stands alone is for `urlpatterns`.
            source = source.replace("\nhot(", "\nalone = hot(")
            exec(compile(source, PAGE, "exec"), names)
            placed += names.pop("urlpatterns", [])
            placed += [names.pop("alone")] if "alone" in names else []
        yield {"placed": placed, "vote": names["vote"]}


def test_the_routes_answer(page: dict[str, Any], server: ValkeyServer, run: Any) -> None:
    hot_ones = [each for each in page["placed"] if not hasattr(each, "url_patterns")]
    assert len(hot_ones) == 4
    with override_settings(CACHES={"default": cache_setting(server)}), routes(hot_ones[0]):
        answer = run(ask_early(Asked("/api/7/store/", "POST", b'{"id": "e1"}')))
        assert (answer.status, json.loads(answer.body)) == (200, {"id": "e1"})
        assert run(ask_early(Asked("/api/7/store/", "POST", b"{"))).status == 400
        assert run(ask_early(Asked("/api/7/store/"))).status == 405
    with routes(hot_ones[1]):
        assert run(ask_early(Asked("/api/7/store/", "POST", b'{"id": "e1"}'))).body == b'"e1"'
    with override_settings(CACHES={"default": cache_setting(server)}), routes(hot_ones[2]):
        asked = Asked("/api/7/store/", "POST", b'{"id": "e1"}', {"Origin": "https://shop.example"})
        assert run(ask_early(asked)).headers["access-control-allow-origin"] == "https://shop.example"
        assert run(ask_early(Asked("/api/7/store/", "POST", b"x" * 200_001))).status == 413
    with override_settings(CACHES={"default": cache_setting(server)}), routes(hot_ones[3]):
        answer = run(ask_early(Asked("/api/7/store/", "POST", b'{"id": "e1"}')))
        assert (answer.status, answer.headers["x-served-by"]) == (200, "shop")


def test_an_answer_is_what_the_page_says(page: dict[str, Any], run: Any) -> None:
    with routes(hot("polls/<int:poll_id>/", page["vote"])):
        answer = run(ask_early(Asked("/polls/7/", "POST", b'{"choice": 3}')))
        assert (answer.status, answer.headers["x-choice"], answer.body) == (201, "3", b"counted")
        refused = run(ask_early(Asked("/polls/7/", "POST", b"{}")))
        assert (refused.status, refused.body) == (422, b"a choice is a number")


def test_the_readme_answers(run: Any) -> None:
    [source] = [source for _, source in blocks("README.md") if "import hot\n" in source]
    names: dict[str, Any] = {"admin": ADMIN}
    exec(compile(source, "README.md", "exec"), names)
    with routes(names["urlpatterns"][0]):
        answer = run(ask_early(Asked("/api/7/notes/", "POST", b'{"id": "e1"}')))
        assert (answer.status, json.loads(answer.body)) == (200, {"project": 7, "id": "e1"})
