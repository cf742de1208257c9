"""The quick start works when its snippets are pasted, and so do the recipes."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import types
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from django.contrib.auth import get_user_model
from django.http import HttpRequest
from django.test import RequestFactory, override_settings
from support.caches import cache_setting
from support.server import ValkeyServer

DOCS = Path(__file__).parents[2] / "docs"
BLOCK = re.compile(r"^```python\n# (shop/\w+\.py)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def files(pages: str) -> dict[str, str]:
    """The blocks of the pages, by the files that they say they are."""
    found = [found for path in sorted(DOCS.glob(pages)) for found in BLOCK.findall(path.read_text(encoding="utf-8"))]
    assert len({path for path, _ in found}) == len(found)
    return dict(found)


def test_the_quick_start_is_a_project_that_passes_its_check_and_its_tests(tmp_path: Path) -> None:
    def run(*command: str) -> str:
        environment = {**os.environ, "VCACHE_URL": "redis://nowhere.invalid", "PYTHONDONTWRITEBYTECODE": "1"}
        environment.pop("DJANGO_SETTINGS_MODULE", None)
        done = subprocess.run(
            [sys.executable, *command], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout + done.stderr

    run("-m", "django", "startproject", "shop", ".")
    for path, source in files("intro/quickstart.md").items():
        with (tmp_path / path).open("a" if path.endswith("settings.py") else "w") as file:
            file.write(source)
    assert "no issues" in run("manage.py", "check")
    assert re.search(r"Ran 2 tests.*OK", run("manage.py", "test"), re.DOTALL)


@pytest.fixture
def shop(server: ValkeyServer) -> Iterator[dict[str, Any]]:
    """The modules of the recipes."""
    modules = {}
    with override_settings(CACHES={"default": cache_setting(server)}):
        for path, source in files("howto/*.md").items():
            module = types.ModuleType(path.removesuffix(".py").replace("/", "_"))
            sys.modules[module.__name__] = module
            exec(compile(source, path, "exec"), module.__dict__)
            modules[module.__name__.removeprefix("shop_")] = module
        yield modules
    for module in modules.values():
        sys.modules.pop(module.__name__, None)


def post(**fields: str) -> HttpRequest:
    return RequestFactory().post("/", fields)


def test_guesses_at_passwords_are_stopped_and_right_ones_are_not_counted(
    shop: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def authenticate(request: Any, username: str, password: str) -> Any:
        return get_user_model()(username=username) if password == "right" else None

    monkeypatch.setattr(shop["signin"], "authenticate", authenticate)
    monkeypatch.setattr(shop["signin"], "login", lambda request, user: None)
    sign_in = shop["signin"].sign_in
    assert [sign_in(post(username="anna", password="right")).status_code for _ in range(8)] == [200] * 8
    assert [sign_in(post(username="anna", password="x")).status_code for _ in range(6)] == [401] * 5 + [429]
    assert sign_in(post(username="berta", password="right")).status_code == 200


def test_limits_by_customer_and_by_plan(shop: Any, run: Any) -> None:
    assert shop["plans"].exports.consume(1).limit == 100
    assert shop["plans"].PLANS[1][0] == 100
    reports = shop["exports"]
    assert run(reports.may_report(7)).limit == 30
    assert run(reports.reports.aconsume(7, limit=2)).limit == 2

    def call(key: int, plan: str) -> int:
        request: Any = RequestFactory().get("/")
        request.api_key = SimpleNamespace(pk=key, plan=plan)
        return int(run(shop["api"].api(request)).status_code)

    assert [call(1, "free") for _ in range(61)] == [200] * 60 + [429]
    assert [call(2, "paid") for _ in range(61)] == [200] * 61


def test_events_and_bytes(shop: Any, run: Any) -> None:
    request = RequestFactory().post("/", b"one\ntwo\n\nthree", content_type="text/plain")
    assert run(shop["ingest"].ingest(request, 1)).status_code == 200
    used = {state.name: state.used for state in shop["ingest"].gate.peek({"org": 1})}
    assert (used["events"], used["bytes"]) == (3, len(b"one\ntwo\n\nthree"))
    assert shop["ingest"].gate.stream.length() == 1


def test_trials_refuse_nothing(shop: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    shadow = shop["shadow"]
    shadow.calls.consume(1, cost=9_999)
    assert [shadow.note(1) for _ in range(3)] == [False, True, True]
    request: Any = RequestFactory().get("/")
    request.user = SimpleNamespace(is_authenticated=False, pk=None)
    assert [shop["trial"].trial(request).status_code for _ in range(120)] == [200] * 120


def test_tasks_and_locks(shop: Any) -> None:
    sent: list[int] = []
    # More than the burst pass, if the machine is slow.
    answers = (shop["tasks"].send(number, sent.append) for number in range(5000))
    wait = next(answer for answer in answers if answer is not None)
    assert 10 <= len(sent) < 5000
    assert 0 < wait <= 0.1
    rebuild_once = shop["rebuild"].rebuild_once
    inner: list[bool] = []
    assert rebuild_once(lambda: inner.append(rebuild_once(list)))
    assert inner == [False]
    assert rebuild_once(list)
