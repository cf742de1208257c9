"""`VCACHE = {"ENABLED": False}`, and test runs without a server: everything is admitted, and streams store all the
same."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.http import HttpResponse
from django.test import override_settings
from django.test.utils import setup_test_environment, teardown_test_environment
from support.caches import cache_setting
from support.driver import LOOPS, open_runner
from support.server import ValkeyServer
from support.views import async_function, caller, functions, get, statuses, sync_function

OFF = {"ENABLED": False}
LOCMEM = {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"}
DUMMY = {"BACKEND": "django.core.cache.backends.dummy.DummyCache"}
NOWHERE = {"BACKEND": "django_vcache.ValkeyCache", "LOCATION": "unix:///nowhere/valkey.sock"}
SCOPE = {"org": 1, "project": 42}


@pytest.fixture
def test_run() -> Iterator[None]:
    """What `manage.py test` and pytest-django begin with."""
    setup_test_environment()
    yield
    teardown_test_environment()


@pytest.fixture(params=["sync", *LOOPS])
def ask(request: pytest.FixtureRequest) -> Iterator[Any]:
    """`ask(throttle, "check", 1)` is `check(1)` or `await acheck(1)`."""
    if request.param == "sync":
        yield lambda of, method, *args, **kwargs: getattr(of, method)(*args, **kwargs)
        return
    with open_runner(request.param) as runner:

        def ask(of: Any, method: str, *args: Any, **kwargs: Any) -> Any:
            async def call() -> Any:
                return await getattr(of, f"a{method}")(*args, **kwargs)

            return runner.run(call())

        yield ask


def test_the_included_hot_path_admits_too(run: Any) -> None:
    from django_vcache import hotpaths

    async def both() -> list[Any]:
        return [hotpaths.allow("k", 1, 60), hotpaths.allow("k", 0, 60), await hotpaths.aallow("k", 1, 60, 5)]

    with override_settings(CACHES={"default": NOWHERE}, VCACHE=OFF):
        decisions = run(both())
        assert [(each.allowed, each.remaining, each.retry_after) for each in decisions] == [
            (True, 1, 0.0),
            (True, 0, 0.0),
            (True, 1, 0.0),
        ]
        assert {each.source for each in decisions} == {"disabled"}
        with pytest.raises(ValueError, match="period is 0"):
            hotpaths.allow("k", 1, 0)
    with override_settings(CACHES={"default": NOWHERE}), pytest.raises(ConnectionError):
        hotpaths.allow("k", 1, 60)


@pytest.mark.parametrize("backend", [NOWHERE, LOCMEM, DUMMY], ids=["no server", "LocMemCache", "DummyCache"])
def test_everything_is_admitted_and_no_server_is_asked(ask: Any, backend: dict[str, Any]) -> None:
    from django_vcache.admission import Gate, Quota, Throttle

    throttle = Throttle("org", "1/d", outage="raise")
    quota = Quota("events", 1, "month", key="org", outage="raise")
    gate = Gate([Throttle("project", "1/d")], [Quota("events", 1, "month", key="org")], owner="org", outage="raise")
    with override_settings(CACHES={"default": backend}, VCACHE=OFF):
        for _ in range(3):
            for of, method, scope in ((throttle, "check", 1), (quota, "consume", SCOPE), (gate, "admit", SCOPE)):
                decision = ask(of, method, scope)
                assert decision
                assert decision.source == "disabled"
                assert (decision.refused_by, decision.retry_after, decision.outage) == (None, 0.0, None)
                assert (decision.receipt, decision.id, decision.status) == (None, None, 200)
                assert [(state.remaining, state.used) for state in decision.rules] == [(1, 0)] * len(decision.rules)
        assert len(ask(gate, "admit", SCOPE).rules) == 2
        assert ask(throttle, "peek", 1).remaining == 1
        assert ask(quota, "peek", SCOPE).used == 0
        assert [state.remaining for state in ask(gate, "peek", SCOPE)] == [1, 1]
        assert ask(throttle, "reset", 1) is False
        assert ask(quota, "reset", SCOPE) is False
        assert ask(gate, "reset", SCOPE) == 0
    assert throttle.metrics()["admitted"] == 3
    assert gate.metrics()["admitted"] == 4


def test_mistakes_of_a_call_are_told_all_the_same(ask: Any) -> None:
    from django_vcache.admission import Gate, Quota, Throttle

    gate = Gate([Throttle("org", "1/d")], [Quota("events", 1, "month", key="org")], owner="org")
    with override_settings(CACHES={"default": NOWHERE}, VCACHE=OFF):
        for wrong in ({"cost": -1}, {"limits": {"nothing": 1}}, {"payload": b"x"}):
            with pytest.raises(ValueError, match=r"cost is -1|no rule 'nothing'|no stream"):
                ask(gate, "admit", SCOPE, **wrong)
        with pytest.raises(ValueError, match='"org"'):
            ask(gate, "admit", {"project": 1})
        with pytest.raises(ValueError, match="cost is -1"):
            ask(Throttle("org", "1/d"), "check", 1, -1)


def test_a_refund_of_a_receipt_from_before_gives_nothing_back(ask: Any, server: ValkeyServer) -> None:
    from django_vcache.admission import Gate, Quota

    quota = Quota("events", 5, "month", key="org", deadline=None)
    gate = Gate(quotas=[Quota("others", 5, "month", key="org")], owner="org", deadline=None)
    with override_settings(CACHES={"default": cache_setting(server)}):
        receipts = ask(quota, "consume", 1).receipt, ask(gate, "admit", SCOPE).receipt
        with override_settings(VCACHE=OFF):
            for of, receipt in zip((quota, gate), receipts, strict=True):
                refund = ask(of, "refund", receipt)
                assert not refund
                assert refund.used == {}
        assert ask(quota, "refund", receipts[0])


def test_streams_store_and_know_duplicates(ask: Any, server: ValkeyServer) -> None:
    from django_vcache.admission import Gate, Stream, Throttle

    stream = Stream("events", deadline=None)
    gate = Gate([Throttle("org", "1/d")], stream=Stream("gated"), owner="org", deadline=None)
    with override_settings(CACHES={"default": cache_setting(server)}, VCACHE=OFF):
        assert ask(stream, "add", b"1", SCOPE).id
        first = ask(gate, "admit", SCOPE, payload=b"1", dedupe="a")
        again = ask(gate, "admit", SCOPE, payload=b"1", dedupe="a")
        other = ask(gate, "admit", SCOPE, payload=b"2")
        assert (first.allowed, first.duplicate, again.duplicate, other.duplicate) == (True, False, True, False)
        assert first.id == again.id != other.id
        assert [state.remaining for state in first.rules] == [1]
        assert ask(gate.stream, "length") == 2
        # Without a payload there is nothing that would be there twice.
        assert not ask(gate, "admit", SCOPE, dedupe="a").duplicate
        key = gate.stream.keys[0]
    entry = b"".join(server.execute("XRANGE", key, "-", "+")[0][1])  # type: ignore[index]
    assert entry == b"payload1org1project42"
    assert server.keys("*:t:*") == []
    with override_settings(CACHES={"default": cache_setting(server)}):
        later = ask(gate, "admit", SCOPE, payload=b"1", dedupe="a")
    assert (later.duplicate, later.id) == (True, first.id)


def test_a_payload_needs_a_server(ask: Any) -> None:
    from django_vcache.admission import Gate, Stream, Throttle
    from django_vcache.exceptions import ConfigurationError

    gate = Gate([Throttle("org", "1/d")], stream=Stream("gated"))
    with override_settings(CACHES={"default": LOCMEM}, VCACHE=OFF):
        assert ask(gate, "admit", SCOPE)
        with pytest.raises(ConfigurationError, match="LocMemCache"):
            ask(gate, "admit", SCOPE, payload=b"1")
        with pytest.raises(ConfigurationError, match="LocMemCache"):
            ask(Stream("events"), "add", b"1")


@functions
def test_decorators_let_everything_through(shape: Any) -> None:
    from django_vcache.admission import throttle

    view = shape(throttle("1/d", key="ip", outage="closed"))
    with caller("asyncio") as call, override_settings(CACHES={"default": LOCMEM}, VCACHE=OFF):
        assert statuses(call, view, 3) == [200, 200, 200]


def test_rest_frameworks_classes_let_everything_through() -> None:
    pytest.importorskip("rest_framework")
    from django.core.cache import caches
    from rest_framework.response import Response
    from rest_framework.test import APIRequestFactory
    from rest_framework.views import APIView

    from django_vcache.rest_framework import AnonRateThrottle

    class View(APIView):
        authentication_classes = ()

        def get(self, request: Any) -> Response:
            return Response("seen")

    with override_settings(CACHES={"default": LOCMEM, "other": LOCMEM}, VCACHE=OFF):
        for own in ({}, {"using": "other"}, {"cache": caches["other"]}):
            each = type("Once", (AnonRateThrottle,), {"rate": "1/d", "outage": "closed", **own})
            view = View.as_view(throttle_classes=[each])
            assert [view(APIRequestFactory().get("/")).status_code for _ in range(3)] == [200, 200, 200]


def test_it_takes_effect_at_once_in_both_directions(ask: Any, server: ValkeyServer) -> None:
    from django_vcache.admission import Throttle

    throttle = Throttle("org", "1/d", deadline=None)
    with override_settings(CACHES={"default": cache_setting(server)}):
        assert [bool(ask(throttle, "check", 1)) for _ in range(2)] == [True, False]
        with override_settings(VCACHE=OFF):
            assert ask(throttle, "check", 1).source == "disabled"
            with override_settings(VCACHE={"ENABLED": True}):
                assert not ask(throttle, "check", 1)
            assert ask(throttle, "check", 1)
        assert not ask(throttle, "check", 1)


def test_what_is_wrong_in_vcache_is_told_by_the_next_decision(ask: Any, server: ValkeyServer) -> None:
    from django_vcache.admission import Throttle
    from django_vcache.exceptions import ConfigurationError

    throttle = Throttle("org", "1/d", deadline=None)
    with override_settings(CACHES={"default": cache_setting(server)}):
        for wrong, message in (({"ENABLD": False}, "Did you mean ENABLED"), ({"ENABLED": 0}, "must be True or False")):
            with override_settings(VCACHE=wrong), pytest.raises(ConfigurationError, match=message):
                ask(throttle, "check", 1)
        assert ask(throttle, "check", 1)


def test_the_command_says_that_limits_are_off() -> None:
    with override_settings(VCACHE=OFF), pytest.raises(CommandError, match=r"VCACHE\['ENABLED'\] is False"):
        call_command("vcache_limits", "org=1")


# Test runs whose caches need no server.


@pytest.mark.parametrize("backend", [LOCMEM, DUMMY], ids=["LocMemCache", "DummyCache"])
def test_a_test_run_with_a_cache_of_djangos_admits_everything(
    ask: Any, test_run: None, backend: dict[str, Any]
) -> None:
    from django_vcache.admission import Gate, Quota, Throttle

    throttle, quota = Throttle("org", "1/d", outage="raise"), Quota("events", 1, "day", key="org", outage="raise")
    gate = Gate([Throttle("project", "1/d")], [Quota("more", 1, "day", key="org")], owner="org", outage="raise")
    with override_settings(CACHES={"default": backend}):
        for _ in range(2):
            assert ask(throttle, "check", 1).source == "disabled"
            assert ask(quota, "consume", 1).source == "disabled"
            assert ask(gate, "admit", SCOPE).source == "disabled"


@pytest.mark.parametrize("shape", [sync_function, async_function])
def test_a_decorated_view_works_in_a_test_run_without_a_server(test_run: None, shape: Any) -> None:
    from django_vcache.admission import throttle

    view = shape(throttle("1/d", key="ip"))
    with caller("asyncio") as call, override_settings(CACHES={"default": LOCMEM}):
        assert statuses(call, view, 3) == [200, 200, 200]


def test_rest_frameworks_classes_work_in_a_test_run_without_a_server(test_run: None) -> None:
    pytest.importorskip("rest_framework")
    from django.core.cache import caches

    from django_vcache.rest_framework import AnonRateThrottle

    with override_settings(CACHES={"default": DUMMY, "other": LOCMEM}):
        for own in ({}, {"using": "other"}, {"cache": caches["other"]}):
            each = type("Once", (AnonRateThrottle,), {"rate": "1/d", **own})
            assert [each().allow_request(get(), None) for _ in range(2)] == [True, True]


def test_a_test_run_on_a_server_is_limited(ask: Any, test_run: None, server: ValkeyServer) -> None:
    from django_vcache.admission import Throttle

    throttle = Throttle("org", "1/d", deadline=None)
    with override_settings(CACHES={"default": cache_setting(server)}):
        assert [bool(ask(throttle, "check", 1)) for _ in range(2)] == [True, False]


def test_outside_of_a_test_run_such_a_cache_is_an_error_that_says_what_to_do(ask: Any) -> None:
    from django_vcache.admission import Throttle
    from django_vcache.exceptions import ConfigurationError

    throttle = Throttle("org", "1/d")
    with override_settings(CACHES={"default": LOCMEM}):
        with pytest.raises(ConfigurationError, match=r'LocMemCache.*VCACHE = \{"ENABLED": False\}'):
            ask(throttle, "check", 1)
        setup_test_environment()
        try:
            assert ask(throttle, "check", 1)
        finally:
            teardown_test_environment()
        with pytest.raises(ConfigurationError, match="LocMemCache"):
            ask(throttle, "check", 1)


def test_another_backend_is_an_error_in_a_test_run_too(ask: Any, test_run: None) -> None:
    from django_vcache.admission import Throttle
    from django_vcache.exceptions import ConfigurationError

    files = {"BACKEND": "django.core.cache.backends.filebased.FileBasedCache", "LOCATION": "/tmp/vcache-unused"}
    with (
        override_settings(CACHES={"default": files}),
        pytest.raises(ConfigurationError, match="FileBasedCache"),
    ):
        ask(Throttle("org", "1/d"), "check", 1)


def test_a_view_that_is_refused_elsewhere_answers_here(test_run: None) -> None:
    from django_vcache.admission import decisions_of, throttle

    @throttle("0/s", key="ip")
    def view(request: Any) -> HttpResponse:
        assert [decision.source for decision in decisions_of(request)] == ["disabled"]
        return HttpResponse("seen")

    with override_settings(CACHES={"default": LOCMEM}):
        assert view(get()).status_code == 200
