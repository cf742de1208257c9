"""The Python in the pages on admission does what they say: all of it is run in order, on a server, and then called."""

from __future__ import annotations

import ast
import itertools
import re
import sys
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import AnonymousUser
from django.test import RequestFactory, override_settings
from support.caches import cache_setting
from support.limits import be_patient
from support.server import ValkeyServer

DOCS = Path(__file__).parents[2] / "docs"
# The parts of the guide: pages, or sections of pages that are about more than admission.
PARTS = [
    "topics/decorators.md",
    "topics/decisions-and-refusals.md",
    "topics/frameworks.md",
    "topics/throttles-and-quotas.md",
    "topics/gates.md",
    "topics/streams.md",
    "topics/outages.md## Throttles and gates",
    "topics/testing.md### Limits in tests",
    "reference/admission-settings.md",
]
_BLOCK = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def blocks() -> list[tuple[str, int, str]]:
    """The guide's blocks of Python, with their pages and the lines that they begin on."""
    found = []
    for part in PARTS:
        page, mark, heading = re.match(r"([^#]+)(#*)(.*)", part).groups()  # type: ignore[union-attr]
        text = (DOCS / page).read_text(encoding="utf-8")
        begin = text.index(f"\n{mark}{heading}\n") + 1 if mark else 0
        end = re.compile(rf"^#{{1,{len(mark)}}} ", re.MULTILINE).search(text, begin + 1) if mark else None
        for block in _BLOCK.finditer(text, begin, end.start() if end else len(text)):
            found.append((page, text[: block.start()].count("\n") + 1, block[1]))
    return found


@pytest.fixture
def guide(run: Any, server: ValkeyServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A module with all that the guide defines."""
    pytest.importorskip("rest_framework")
    pytest.importorskip("ninja")
    from django_vcache import ninja, rest_framework
    from django_vcache.backend import publish_alias

    be_patient(monkeypatch)
    monkeypatch.setattr(rest_framework.ValkeyRateThrottle, "deadline", None)
    monkeypatch.setattr(ninja.ValkeyRateThrottle, "deadline", None)
    # A throttle remembers for a while whom it has refused.
    rest_framework._throttle.cache_clear()
    module: Any = types.ModuleType("guide")
    module.build_export = lambda org_id: f"export of {org_id}"
    sys.modules["guide"] = module
    # Where a block imports what another one has made.
    monkeypatch.setitem(sys.modules, "shop", types.ModuleType("shop"))
    monkeypatch.setitem(sys.modules, "shop.limits", module)
    monkeypatch.setitem(sys.modules, "shop.monitoring", monitoring := types.ModuleType("shop.monitoring"))
    monitoring.outages = itertools.count()  # type: ignore[attr-defined]
    policies = {"payments": {"outage": "closed", "deadline": None}}
    with override_settings(CACHES={"default": cache_setting(server)}, VCACHE={"POLICIES": policies}):
        publish_alias("default")

        async def all_of_it() -> None:
            for page, line, source in blocks():
                code = compile("\n" * line + source, page, "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
                if (result := eval(code, module.__dict__)) is not None:
                    await result

        run(all_of_it())
        yield module
    del sys.modules["guide"]


def request(method: str = "GET", path: str = "/", body: bytes = b"", **headers: str) -> Any:
    request = RequestFactory().generic(method, path, body, headers=headers)
    request.user = AnonymousUser()
    return request


def passed(call: Callable[[], Any]) -> int:
    """How many calls pass before one does not. More than the burst, if the machine is slow."""
    passing = (bool(answer) for answer in (call() for _ in range(5000)))
    return len(list(itertools.takewhile(bool, passing)))


def test_views_are_throttled_as_the_guide_says(guide: Any, run: Any) -> None:
    def awaited(view: Any, *arguments: Any) -> bool:
        async def call() -> bool:
            return bool((await view(*arguments)).status_code == 200)

        return bool(run(call()))

    assert 100 <= passed(lambda: guide.search(request()).status_code == 200) < 5000
    assert 5 <= passed(lambda: awaited(guide.login, request("POST"))) < 5000
    reports = guide.Reports.as_view()
    assert passed(lambda: awaited(reports, request(path="/?id=1&id=2&id=3"))) == 3
    assert guide.Exports.as_view()(request()).status_code == 200
    assert passed(lambda: awaited(reports, request(path="/"))) == 1, "no ids cost as much as one"
    assert 60 <= passed(lambda: guide.api(request()).status_code == 200) < 5000
    assert 20 <= passed(lambda: awaited(guide.lookup, request(), 5)) < 5000


def test_proxies_are_warned_of_where_limits_by_address_are_first_shown() -> None:
    text = (DOCS / "topics" / "decorators.md").read_text(encoding="utf-8")
    first = text.index('key="ip"')
    box = text.index("> [!WARNING]\n> **Behind a proxy, all clients have one address**")
    assert "\n#" not in text[first:box]
    assert "TRUSTED_PROXIES" in text[box : text.index("\n\n", box)]


def test_only_wrong_passwords_are_counted_as_the_guide_says(guide: Any) -> None:
    def sign_in(name: str, password: str) -> int:
        form = RequestFactory().post("/", {"username": name, "password": password})
        form.user = AnonymousUser()
        return int(guide.sign_in(form).status_code)

    assert [sign_in("anna", "right") for _ in range(10)] == [200] * 10
    assert [sign_in("anna", "wrong") for _ in range(5)] == [401] * 5
    assert [sign_in("anna", "right"), sign_in("berta", "right")] == [429, 200]
    assert (guide.seen[-1][0], ".post-username." in guide.seen[-1][1]) == ("/", True)


def test_ninja_is_limited_as_the_guide_says(guide: Any, run: Any) -> None:
    # One view has both operations, under the name of each.
    view = next(pattern.callback for pattern in guide.api_v1.urls[0] if str(pattern.pattern) == "report")

    def statuses(method: str) -> list[int]:
        async def call() -> list[int]:
            return [(await view(request(method))).status_code for _ in range(6)]

        return list(run(call()))

    assert statuses("GET") == [200] * 5 + [429]
    assert statuses("POST") == [200] * 5 + [429]


def test_the_ingest_endpoint_stores_once_and_answers_an_id(guide: Any, run: Any) -> None:
    async def store() -> list[Any]:
        events = [request("POST", body=b"event", **{"x-event-id": "e1"}) for _ in range(2)]
        return [await guide.store(event, 1, 42) for event in events]

    first, second = run(store())
    assert first.status_code == 200
    assert first.content == second.content
    assert guide.store_sync(request("POST", body=b"event"), 1, 42).status_code == 200
    assert guide.gate.stream.length() == 2
    assert 200 <= passed(lambda: guide.store_sync(request("POST", body=b"event"), 1, 43).status_code == 200) < 5000


def test_what_was_stored_is_consumed(guide: Any) -> None:
    class Enough(Exception):
        pass

    found: list[bytes] = []

    def save(payloads: list[bytes]) -> None:
        found.extend(payloads)
        if len(found) == 3:
            raise Enough

    for body in (b"a", b"b", b"c"):
        assert guide.store_sync(request("POST", body=body), 1, 42).status_code == 200
    with pytest.raises(Enough):
        guide.work(save)
    assert found == [b"a", b"b", b"c"]


def test_quotas_and_streams_do_what_the_guide_says(guide: Any, run: Any, server: ValkeyServer) -> None:
    assert run(guide.export(1)) == "export of 1"
    assert guide.exports.peek(1).used == 1

    def fails(org_id: int) -> str:
        raise OSError("the disk is full")

    guide.build_export = fails
    with pytest.raises(OSError, match="the disk is full"):
        run(guide.export(1))
    assert guide.exports.peek(1).used == 1
    assert guide.decision.id
    assert (len(guide.ids), guide.waiting) == (2, 3)
    assert guide.payments.admit({"card": 1, "ip": 2})


def test_the_throttles_for_rest_framework_limit(guide: Any) -> None:
    from rest_framework.request import Request

    throttle = guide.BurstThrottle
    assert 10 <= passed(lambda: throttle().allow_request(Request(request()), None)) < 5000
    assert guide.TenantThrottle().allow_request(Request(request()), None)


def test_overridden_settings_take_effect_at_once(guide: Any, server: ValkeyServer) -> None:
    assert guide.exports.consume(1)
    with override_settings(CACHES={"default": cache_setting(server, DB=1)}):
        assert guide.exports.peek(1).used == 0
    assert guide.exports_without_a_limit() == ["disabled"] * 3
    assert guide.exports.peek(1).used == 1


def test_the_settings_of_the_guide_are_understood(guide: Any) -> None:
    from django_vcache.admission.settings import VcacheSettings, problems

    assert problems(guide.VCACHE) == []
    assert {name.lower() for name in guide.VCACHE} == set(VcacheSettings._fields), "it shows each of them"
