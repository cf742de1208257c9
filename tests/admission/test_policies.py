"""`VCACHE["DEFAULTS"]` and `VCACHE["POLICIES"]`: what limits, gates and streams have in common is said once."""

from __future__ import annotations

from typing import Any

import pytest
from django.core.checks import run_checks
from django.http import HttpResponse
from django.test import RequestFactory, override_settings
from support.caches import cache_setting
from support.server import ValkeyServer

NOWHERE = {"default": {"BACKEND": "django_vcache.ValkeyCache", "LOCATION": "unix:///nowhere/valkey.sock"}}
CLOSED = {"DEFAULTS": {"outage": "closed"}, "POLICIES": {"open": {"outage": "open"}, "fast": {"deadline": 0.05}}}


def statuses(*limits: Any) -> list[int]:
    """What they answer without a server."""
    with override_settings(CACHES=NOWHERE):
        return [limit.check(1).status for limit in limits]


def test_what_is_not_said_is_the_projects() -> None:
    from django_vcache.admission import Gate, Quota, Stream, Throttle

    with override_settings(VCACHE=CLOSED):
        limits = [
            Throttle("a", "5/m"),
            Throttle("a", "5/m", policy="fast"),
            Throttle("a", "5/m", policy="open"),
            Throttle("a", "5/m", outage="open"),
            Throttle("a", "5/m", policy="open", outage="closed"),
        ]
        quota = Quota("q", 5, "day", key="org")
        gate = Gate([Throttle("org", "5/m")], stream=Stream("s"), owner="org")
    assert statuses(*limits) == [503, 503, 200, 200, 503]
    with override_settings(CACHES=NOWHERE):
        assert quota.consume(1).status == 503
        assert gate.admit({"org": 1}).status == 503
        # Made before or after, without it.
        assert Throttle("a", "5/m").check(1).status == 200


def test_a_gate_decides_for_parts_that_say_nothing_themselves(server: ValkeyServer) -> None:
    from django_vcache.admission import Gate, Quota, Stream, Throttle

    with override_settings(
        CACHES={"default": cache_setting(server)},
        VCACHE={"DEFAULTS": {"deadline": 0.5, "prefix": "shop", "outage": "raise", "max_payload": 10}},
    ):
        throttle, quota, stream = Throttle("org", "5/m"), Quota("q", 5, "day"), Stream("s")
        gate = Gate([throttle], [quota], stream, owner="org", deadline=0.25, prefix="other", max_payload=5)
        assert gate.admit({"org": 1}, payload=b"12345")
        with pytest.raises(ValueError, match="5 are taken"):
            gate.admit({"org": 1}, payload=b"123456")
        assert throttle.peek(1).remaining == 4
        assert stream.length() == 1
        assert {key[:8] for key in server.keys("*")} == {b"other:2:"}
        assert Throttle("org", "5/m").check(1)
        assert {key[:7] for key in server.keys("shop*")} == {b"shop:2:"}
        # A part that says it itself says it in vain.
        with pytest.raises(ValueError, match="deadline"):
            Gate([Throttle("org", "5/m", deadline=0.1 + 0.3)], deadline=0.25)
    # Without an outage of the rule's, that of the gate decides.
    with override_settings(CACHES=NOWHERE, VCACHE=CLOSED):
        assert Gate([Throttle("org", "5/m")], outage="open").admit({"org": 1}).status == 200
        assert Gate([Throttle("org", "5/m", outage="closed")], outage="open").admit({"org": 1}).status == 503
        assert Gate([Throttle("org", "5/m", policy="open")], outage="closed").admit({"org": 1}).status == 200


def test_decorators_and_classes_follow() -> None:
    from django_vcache.admission import throttle
    from django_vcache.rest_framework import SimpleRateThrottle

    class Class(SimpleRateThrottle):
        rate = "5/m"
        scope = "follow"

        def get_cache_key(self, request: Any, view: Any) -> str:
            return "one"

    class Named(Class):
        scope = "named"
        policy = "open"

    def view(request: Any) -> HttpResponse:
        return HttpResponse()

    plain = throttle("5/m", key="ip")(view)
    named = throttle("5/m", key="ip", deadline=0.05)(throttle("7/m", key="ip", deadline=0.05)(view))
    request = RequestFactory().get("/")
    for vcache, status in ((CLOSED, 503), ({}, 200), (CLOSED, 503)):
        with override_settings(CACHES=NOWHERE, VCACHE=vcache):
            assert [each(request).status_code for each in (plain, named)] == [status] * 2
            asked = Class()
            if status == 503:
                with pytest.raises(Exception, match="cannot be checked"):
                    asked.allow_request(request, None)
                assert Named().allow_request(request, None)
            else:
                assert asked.allow_request(request, None)


def test_ninjas_classes_follow() -> None:
    from django_vcache.ninja import AnonRateThrottle

    class Open(AnonRateThrottle):
        policy = "open"

    request = RequestFactory().get("/")
    request.auth = None
    with override_settings(CACHES=NOWHERE, VCACHE=CLOSED):
        assert [each("5/m").allow_request(request) for each in (AnonRateThrottle, Open)] == [False, True]


def test_deduct_does_not_go_with_a_local_policy() -> None:
    from django_vcache.admission import throttle
    from django_vcache.exceptions import ConfigurationError

    for vcache in ({"DEFAULTS": {"outage": "local"}}, {"POLICIES": {"mine": {"outage": "local"}}}):
        with override_settings(VCACHE=vcache), pytest.raises(ConfigurationError, match="cannot be asked"):
            throttle("5/m", deduct=bool, **({"policy": "mine"} if "POLICIES" in vcache else {}))


@pytest.mark.parametrize(
    ("policy", "error", "told"),
    [
        ("fats", ValueError, "there is no policy 'fats' in VCACHE.*: there are fast, open"),
        (1, TypeError, "policy must be a str"),
    ],
)
def test_a_policy_that_is_not_there_is_told(policy: Any, error: Any, told: str) -> None:
    from django_vcache.admission import Gate, Quota, Stream, Throttle

    with override_settings(VCACHE=CLOSED):
        for make in (
            lambda: Throttle("a", "5/m", policy=policy),
            lambda: Quota("a", 5, "day", policy=policy),
            lambda: Stream("a", policy=policy),
            lambda: Gate([Throttle("a", "5/m")], policy=policy),
        ):
            with pytest.raises(error, match=told):
                make()


@pytest.mark.parametrize(
    ("vcache", "told"),
    [
        (
            {"DEFAULTS": {"outrage": "open"}},
            r"VCACHE\['DEFAULTS'\]: there is no keyword .outrage. here; there are",
        ),
        ({"DEFAULTS": {"outage": "maybe"}}, r"VCACHE\['DEFAULTS'\]: .maybe. is not an outage policy"),
        ({"DEFAULTS": {"deadline": 0}}, "deadline"),
        ({"DEFAULTS": {"using": "limits"}}, "no keyword .using."),
        ({"DEFAULTS": []}, r"VCACHE\['DEFAULTS'\] must be a dict such as {'outage': 'local'}, not \[\]"),
        ({"POLICIES": {"mine": {"processes": 0}}}, r"VCACHE\['POLICIES'\]\['mine'\]: processes is 0"),
        ({"POLICIES": {"mine": None}}, r"VCACHE\['POLICIES'\]\['mine'\] must be a dict of keywords"),
        ({"POLICIES": {1: {}}}, "the name 1: a policy's name is a str"),
        ({"POLICIES": []}, r"VCACHE\['POLICIES'\] must be a dict such as {'payments'"),
    ],
)
def test_what_is_wrong_in_them_is_told_by_the_checks_and_where_a_limit_is_made(vcache: Any, told: str) -> None:
    import re

    from django_vcache.admission import Throttle
    from django_vcache.exceptions import ConfigurationError

    with override_settings(VCACHE=vcache):
        (message,) = [message for message in run_checks(tags=["vcache"]) if message.id == "vcache.E001"]
        assert re.search(told, message.msg)
        with pytest.raises(ConfigurationError, match=told):
            Throttle("a", "5/m")


def test_limits_of_one_name_under_other_prefixes_do_not_share() -> None:
    from django_vcache.admission import throttle
    from django_vcache.rest_framework import SimpleRateThrottle

    class Mine(SimpleRateThrottle):
        rate = "7/m"
        scope = "shared-by-name"
        policy = "apart"

    settings = {"DEFAULT_THROTTLE_CLASSES": [f"{__name__}.Mine"]}
    vcache = {"POLICIES": {"apart": {"prefix": "apart"}, "here": {}}}
    limit = throttle("5/m", name="shared-by-name")
    globals()["Mine"] = Mine
    try:
        for policy, several in (("apart", False), ("here", True)):
            Mine.policy = policy
            with override_settings(VCACHE=vcache, REST_FRAMEWORK=settings, CACHES=NOWHERE):
                texts = [message.msg for message in run_checks(tags=["vcache"]) if message.id == "vcache.E007"]
            assert any("shared-by-name" in text for text in texts) is several
    finally:
        del globals()["Mine"]
    assert limit.name


def test_a_policy_that_is_known_with_the_request_is_not_compared() -> None:
    from django_vcache.rest_framework import SimpleRateThrottle

    class Asked(SimpleRateThrottle):
        rate = "7/m"
        scope = "asked"

        @property
        def policy(self) -> str:  # type: ignore[override]
            return "open"

        def get_cache_key(self, request: Any, view: Any) -> str:
            return "one"

    globals()["Asked"] = Asked
    settings = {"DEFAULT_THROTTLE_CLASSES": [f"{__name__}.Asked"]}
    try:
        with override_settings(VCACHE=CLOSED, REST_FRAMEWORK=settings, CACHES=NOWHERE):
            messages = run_checks(tags=["vcache"])
            # Limits of other tests may share names on purpose.
            assert not any("'asked'" in message.msg for message in messages)
            assert Asked().allow_request(RequestFactory().get("/"), None)
    finally:
        del globals()["Asked"]
