"""The Python in the pages on admission does what they say: each page is run on a server, alone, and then called."""

from __future__ import annotations

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
from support.snippets import execute

DOCS = Path(__file__).parents[2] / "docs"


@pytest.fixture
def guide(run: Any, server: ValkeyServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Any]]:
    """Runs a page, or a section of it, alone. What comes is a module with all that it defines."""
    pytest.importorskip("rest_framework")
    pytest.importorskip("ninja")
    from django_vcache import admission, ninja, rest_framework
    from django_vcache.backend import publish_alias

    be_patient(monkeypatch)
    monkeypatch.setattr(rest_framework.ValkeyRateThrottle, "deadline", None)
    monkeypatch.setattr(ninja.ValkeyRateThrottle, "deadline", None)
    # A throttle remembers for a while whom it has refused.
    rest_framework._throttle.cache_clear()

    def run_page(page: str, section: str = "", **shop: Any) -> Any:
        """`shop` is what the page imports from the project's `shop.limits`."""
        module: Any = types.ModuleType("guide")
        module.__dict__.update(shop)
        monkeypatch.setitem(sys.modules, "guide", module)
        # A page may import what one of its blocks has made.
        monkeypatch.setitem(sys.modules, "shop", types.ModuleType("shop"))
        monkeypatch.setitem(sys.modules, "shop.limits", module)
        monkeypatch.setitem(sys.modules, "shop.monitoring", monitoring := types.ModuleType("shop.monitoring"))
        monitoring.outages = Counted()  # type: ignore[attr-defined]

        run(execute(f"docs/{page}" if page != "README.md" else page, module, section))
        return module

    policies = {"payments": {"outage": "closed", "deadline": None}}
    with override_settings(CACHES={"default": cache_setting(server)}, VCACHE={"POLICIES": policies}):
        publish_alias("default")
        yield run_page
        for receiver in [*admission.limit_exceeded.receivers]:
            admission.limit_exceeded.receivers.remove(receiver)


class Counted:
    """A counter of metrics, as a project has one."""

    value = 0

    def inc(self) -> None:
        self.value += 1


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

    views = guide("topics/decorators.md")
    assert 100 <= passed(lambda: views.search(request()).status_code == 200) < 5000
    assert 5 <= passed(lambda: awaited(views.login, request("POST"))) < 5000
    reports = views.Reports.as_view()
    assert passed(lambda: awaited(reports, request(path="/?id=1&id=2&id=3"))) == 3
    assert views.Exports.as_view()(request()).status_code == 200
    assert passed(lambda: awaited(reports, request(path="/"))) == 1, "no ids cost as much as one"
    assert 60 <= passed(lambda: views.api(request()).status_code == 200) < 5000
    assert 20 <= passed(lambda: awaited(guide("topics/decisions-and-refusals.md").lookup, request(), 5)) < 5000


def test_proxies_are_warned_of_where_limits_by_address_are_first_shown() -> None:
    text = (DOCS / "topics" / "decorators.md").read_text(encoding="utf-8")
    first = text.index('key="ip"')
    box = text.index("> [!WARNING]\n> **Behind a proxy, all clients have one address**")
    assert "\n#" not in text[first:box]
    assert "TRUSTED_PROXIES" in text[box : text.index("\n\n", box)]


def test_only_wrong_passwords_are_counted_as_the_guide_says(guide: Any) -> None:
    views, seen = guide("topics/decorators.md"), guide("topics/decisions-and-refusals.md").seen

    def sign_in(name: str, password: str) -> int:
        form = RequestFactory().post("/", {"username": name, "password": password})
        form.user = AnonymousUser()
        return int(views.sign_in(form).status_code)

    assert [sign_in("anna", "right") for _ in range(10)] == [200] * 10
    assert [sign_in("anna", "wrong") for _ in range(5)] == [401] * 5
    assert [sign_in("anna", "right"), sign_in("berta", "right")] == [429, 200]
    assert (seen[-1][0], ".post-username." in seen[-1][1]) == ("/", True)


def test_ninja_is_limited_as_the_guide_says(guide: Any, run: Any) -> None:
    # One view has both operations, under the name of each.
    api_v1 = guide("topics/frameworks.md").api_v1
    view = next(pattern.callback for pattern in api_v1.urls[0] if str(pattern.pattern) == "report")

    def statuses(method: str) -> list[int]:
        async def call() -> list[int]:
            return [(await view(request(method))).status_code for _ in range(6)]

        return list(run(call()))

    assert statuses("GET") == [200] * 5 + [429]
    assert statuses("POST") == [200] * 5 + [429]


def test_the_ingest_endpoint_stores_once_and_answers_an_id(guide: Any, run: Any) -> None:
    views = guide("topics/gates.md")

    async def store() -> list[Any]:
        events = [request("POST", body=b"event", **{"x-event-id": "e1"}) for _ in range(2)]
        return [await views.store(event, 1, 42) for event in events]

    first, second = run(store())
    assert first.status_code == 200
    assert first.content == second.content
    assert views.store_sync(request("POST", body=b"event"), 1, 42).status_code == 200
    assert views.gate.stream.length() == 2
    assert 200 <= passed(lambda: views.store_sync(request("POST", body=b"event"), 1, 43).status_code == 200) < 5000


def test_what_was_stored_is_consumed(guide: Any) -> None:
    class Enough(Exception):
        pass

    found: list[bytes] = []

    def save(payloads: list[bytes]) -> None:
        found.extend(payloads)
        if len(found) == 3:
            raise Enough

    views = guide("topics/gates.md")
    for body in (b"a", b"b", b"c"):
        assert views.store_sync(request("POST", body=body), 1, 42).status_code == 200
    with pytest.raises(Enough):
        guide("topics/streams.md", gate=views.gate).work(save)
    assert found == [b"a", b"b", b"c"]


def test_throttles_and_quotas_do_what_the_guide_says(guide: Any, run: Any) -> None:
    page = guide("topics/throttles-and-quotas.md")
    delivered: list[int] = []
    answers = (run(page.send(42, lambda: delivered.append(42))) for _ in range(5000))
    assert re.fullmatch(r"too fast: try again in \d seconds", next(answer for answer in answers if answer != "sent"))
    assert 5 <= len(delivered) < 5000

    assert run(page.export(1, lambda org_id: f"export of {org_id}")) == "export of 1"
    assert page.exports.peek(1).used == 1

    def fails(org_id: int) -> str:
        raise OSError("the disk is full")

    with pytest.raises(OSError, match="the disk is full"):
        run(page.export(1, fails))
    assert page.exports.peek(1).used == 1


def test_the_worst_minutes_are_those_of_the_table() -> None:
    from django_vcache.admission import parse_rate

    text = (DOCS / "topics/throttles-and-quotas.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `\"(.+?)\"(?:, burst=(\d+))?` \| (\d+) \| (\d+) \|$", text, re.MULTILINE)
    assert len(rows) == 3
    for rate, burst, at_once, minute in rows:
        limit, period = parse_rate(rate)
        assert (int(at_once), int(minute)) == (int(burst or limit), int(burst or limit) + limit * 60 / period)


def test_the_readme_does_what_it_says(guide: Any, run: Any) -> None:
    page = guide("README.md", "## Throttles, quotas, ingest", INSTALLED_APPS=[])
    assert page.INSTALLED_APPS == ["django_vcache"]

    async def answers() -> list[int]:
        found = [await page.search(request()), await page.ingest(request("POST", body=b"event"), 1, 42)]
        found.append(await page.ingest(request("POST", body=bytes(1_048_577)), 1, 42))
        return [answer.status_code for answer in found]

    assert run(answers()) == [200, 200, 413]
    assert page.gate.stream.length() == 1


def test_streams_and_outages_do_what_the_guide_says(guide: Any, run: Any) -> None:
    gate = guide("topics/gates.md").gate
    page = guide("topics/streams.md", gate=gate)
    assert page.decision.id
    assert (len(page.ids), page.waiting) == (2, 3)
    page = guide("topics/outages.md", "## Throttles and gates")
    assert page.payments.admit({"card": 1, "ip": 2})
    middleware = page.count_outages(lambda request: request)
    assert middleware(request())
    assert page.outages.value == 0


def test_the_throttles_for_rest_framework_limit(guide: Any) -> None:
    from rest_framework.request import Request

    page = guide("topics/frameworks.md")
    throttle = page.BurstThrottle
    assert 10 <= passed(lambda: throttle().allow_request(Request(request()), None)) < 5000
    assert page.TenantThrottle().allow_request(Request(request()), None)


def test_overridden_settings_take_effect_at_once(guide: Any, server: ValkeyServer) -> None:
    exports = guide("topics/throttles-and-quotas.md").exports
    page = guide("topics/testing.md", "### Limits in tests", exports=exports)
    assert exports.consume(1)
    with override_settings(CACHES={"default": cache_setting(server, DB=1)}):
        assert exports.peek(1).used == 0
    assert page.exports_without_a_limit() == ["disabled"] * 3
    assert exports.peek(1).used == 1


def test_the_settings_of_the_guide_are_understood(guide: Any) -> None:
    from django_vcache.admission.settings import VcacheSettings, problems

    page = guide("reference/admission-settings.md")
    assert problems(page.VCACHE) == []
    assert {name.lower() for name in page.VCACHE} == set(VcacheSettings._fields), "it shows each of them"
    assert page.cards.check(1)
    for each in ("topics/decorators.md", "topics/decisions-and-refusals.md"):
        assert problems(guide(each).VCACHE) == []
