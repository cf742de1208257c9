"""The snippets of pages that have no test of their own run, and do what is said of them."""

from __future__ import annotations

import sys
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from django.core.cache import caches
from django.test import RequestFactory, override_settings
from support.caches import cache_setting
from support.limits import be_patient
from support.server import ValkeyServer
from support.snippets import execute

from django_vcache.admission.settings import problems


@pytest.fixture
def page(run: Any, server: ValkeyServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Any]]:
    """Runs a page, with these names there already. What comes is a module with all that it defines."""
    from django_vcache.backend import publish_alias

    be_patient(monkeypatch)

    def run_page(path: str, **given: Any) -> Any:
        module: Any = types.ModuleType("page")
        module.__dict__.update(given)
        for name in ("shop", "shop.limits", "shop.monitoring"):
            monkeypatch.setitem(sys.modules, name, module)
        run(execute(path, module))
        return module

    with override_settings(CACHES={"default": cache_setting(server), "sessions": cache_setting(server)}):
        publish_alias("default")
        yield run_page


def post(body: bytes = b"event") -> Any:
    return RequestFactory().post("/", body, content_type="text/plain")


def test_async(page: Any, run: Any) -> None:
    caches["default"].set("key", "value")
    module = page("docs/topics/async.md", cache=caches["default"])
    assert run(module.view(None)) is None
    assert module.sessions.get("key") == "value"


def test_the_hot_paths_in_the_wheel(page: Any, run: Any) -> None:
    from django_vcache import hotpaths

    given = {"key": "budget", "limit": 5, "period": 60, "cost": 1, "stream": "events", "payload": b"event"}
    module = page("docs/topics/included.md", hotpaths=hotpaths, **given)
    assert module.decision.remaining == 3
    assert isinstance(module.value, bytes)
    assert module.number == hotpaths.connection_id()
    assert [run(module.store(post(), 1)).status_code for _ in range(3)] == [200, 200, 429]
    assert [module.store_sync(post(), 2).status_code for _ in range(3)] == [200, 200, 429]


def test_outages(page: Any, run: Any, server: ValkeyServer) -> None:
    from django_vcache.test import outage

    module = page("docs/topics/outages.md", outages=types.SimpleNamespace(inc=list))
    assert run(module.may_pass("key"))
    assert run(module.healthy(post())).content == b"ok"
    with outage():
        assert run(module.may_pass("key"))
        with pytest.raises(ConnectionError):
            run(module.healthy(post()))


def test_a_serializer(page: Any, server: ValkeyServer, monkeypatch: pytest.MonkeyPatch) -> None:
    module = page("docs/topics/values.md")
    monkeypatch.setitem(sys.modules, "shop.serializers", module)
    setting = cache_setting(server, **module.setting["OPTIONS"])
    with override_settings(CACHES={"default": setting}):
        caches["default"].set("rows", {"a": [1, 2]})
        assert caches["default"].get("rows") == {"a": [1, 2]}
        stored = server.execute("GET", ":1:rows")
        assert isinstance(stored, bytes)
        assert stored.endswith(b'{"a": [1, 2]}')


def test_settings(page: Any) -> None:
    module = page("docs/reference/settings.md", BASE_DIR=Path("shop"))
    assert problems(module.VCACHE) == []
    assert module.ShopCache.__mro__[1] is module.ValkeyCache


def test_commands_in_place_of_methods(page: Any) -> None:
    module = page("docs/howto/migrating.md", cache=caches["default"])
    assert module.key == ":1:report"


def test_limits_on_another_alias(page: Any, server: ValkeyServer) -> None:
    module = page("docs/deployment/servers.md")
    assert problems(module.VCACHE) == []
    assert module.CACHES.keys() == {"default", module.VCACHE["THROTTLE_ALIAS"]}
    with override_settings(CACHES={"default": cache_setting(server), "limits": cache_setting(server, DB=1)}):
        assert module.gate.admit({"org": 1})
        assert server.execute("DBSIZE") == 0


def test_a_process_that_connects_as_it_starts(page: Any, server: ValkeyServer) -> None:
    page("docs/deployment/processes.md").post_fork(None, None)
    assert b"lib-name=vcache" in bytes(server.execute("CLIENT", "LIST"))  # type: ignore[arg-type]


def test_the_asgi_handler(page: Any) -> None:
    from django_vcache.asgi import ASGIApplication

    module = page("docs/topics/asgi.md")
    assert problems(module.VCACHE) == []
    assert isinstance(module.application, ASGIApplication)
    assert module.application.others is module.websockets


def test_limits_to_look_at(page: Any) -> None:
    assert problems(page("docs/howto/manage-limits.md").VCACHE) == []
