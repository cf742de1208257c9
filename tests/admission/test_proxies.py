"""Behind a proxy all clients are one to a limit by address, until the setting says how many proxies there are: this is
logged once, and `check --deploy` says it."""

from __future__ import annotations

import logging
import weakref
from typing import Any

import pytest
from django.core.checks import run_checks
from django.http import HttpResponse
from django.test import RequestFactory, override_settings

PEER = "10.0.0.9"


@pytest.fixture
def warnings(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> Any:
    """What was warned of since the process began, which is now."""
    from django_vcache.admission.views import address

    monkeypatch.setattr(address, "_warned", {})
    caplog.set_level(logging.WARNING, "django_vcache")
    return lambda: [record.getMessage() for record in caplog.records]


def request_with(**headers: str) -> Any:
    headers = {name.replace("_", "-"): value for name, value in headers.items()}
    return RequestFactory().get("/", headers=headers, REMOTE_ADDR=PEER)


@pytest.mark.parametrize(
    ("headers", "named"),
    [
        ({"x_forwarded_for": "192.0.2.7"}, "X-Forwarded-For"),
        ({"x_forwarded_for": "192.0.2.7", "x_real_ip": "192.0.2.7"}, "X-Forwarded-For"),
        ({"forwarded": "for=192.0.2.7"}, "Forwarded"),
        ({"x_real_ip": "192.0.2.7"}, "X-Real-IP"),
    ],
    ids=["X-Forwarded-For", "two", "Forwarded", "X-Real-IP"],
)
def test_a_proxys_header_is_warned_of_once_if_the_setting_was_never_set(
    warnings: Any, headers: dict[str, str], named: str
) -> None:
    from django_vcache.admission import client_ip

    for _ in range(3):
        assert client_ip(request_with(**headers)) == PEER
    [text] = warnings()
    assert f"has the header {named}, so there seems to be a proxy" in text
    assert "VCACHE['TRUSTED_PROXIES'] is not set" in text
    assert "or to 0 if there is no proxy" in text
    assert "192.0.2.7" not in text


def test_who_has_set_it_is_not_warned_nor_who_has_no_proxy(warnings: Any) -> None:
    from django_vcache.admission import client_ip

    client_ip(request_with())
    for proxies in (0, 1):
        with override_settings(VCACHE={"TRUSTED_PROXIES": proxies}):
            client_ip(request_with(x_forwarded_for="192.0.2.7"))
        client_ip(request_with(x_forwarded_for="192.0.2.7"), proxies)
    assert warnings() == []


def test_a_number_that_is_too_high_is_warned_of_once(warnings: Any) -> None:
    from django_vcache.admission import client_ip

    with override_settings(VCACHE={"TRUSTED_PROXIES": 2}):
        for headers in ({"x_forwarded_for": "192.0.2.7"}, {}, {"x_forwarded_for": "192.0.2.8"}):
            assert client_ip(request_with(**headers)) == PEER
    [text] = warnings()
    assert "has fewer entries (1) than there are trusted proxies (2)" in text


def test_a_proxy_that_appends_nothing_is_warned_of(warnings: Any) -> None:
    from django_vcache.admission import client_ip

    with override_settings(VCACHE={"TRUSTED_PROXIES": 1}):
        assert client_ip(request_with()) == PEER
    [text] = warnings()
    assert "has fewer entries (0) than there are trusted proxies (1)" in text


@pytest.mark.usefixtures("default_alias", "patient")
def test_limits_by_address_find_it_and_others_do_not_look(warnings: Any) -> None:
    from django_vcache.admission import throttle

    def view(request: Any) -> HttpResponse:
        return HttpResponse("seen")

    throttle("9/h", key="header:x-key")(view)(request_with(x_forwarded_for="192.0.2.7"))
    assert warnings() == []
    throttle("9/h", key="user_or_ip")(view)(request_with(x_forwarded_for="192.0.2.7"))
    assert len(warnings()) == 1


# The check.


@pytest.fixture
def deployed(monkeypatch: pytest.MonkeyPatch) -> Any:
    """What `check --deploy` says of proxies, of the limits that a test makes."""
    import sys

    from django_vcache.admission.views import limit

    monkeypatch.setattr(limit, "_all", weakref.WeakSet())
    if ninja := sys.modules.get("django_vcache.ninja"):
        monkeypatch.setattr(ninja, "_all", weakref.WeakSet())

    def check(deploy: bool = True, **settings: Any) -> list[str]:
        with override_settings(**settings):
            messages = run_checks(tags=["vcache"], include_deployment_checks=deploy)
        return [f"{message.msg} {message.hint}" for message in messages if message.id == "vcache.W003"]

    return check


@pytest.mark.parametrize("key", ["ip", "user_or_ip"])
def test_limits_by_address_want_the_setting_when_deployed(deployed: Any, key: str) -> None:
    from django_vcache.admission import throttle

    limits = [throttle(f"{number}/m", key=key) for number in range(1, 6)]
    [text] = deployed()
    assert "TRUSTED_PROXIES'] is not set. Behind a proxy, all clients are one" in text
    assert "throttle('1/m') at " in text
    assert "and 2 more" in text
    assert "or to 0 if there is no proxy" in text
    assert deployed(deploy=False) == []
    for proxies in (0, 1):
        assert deployed(VCACHE={"TRUSTED_PROXIES": proxies}) == []
    limits.clear()
    assert deployed() == []


@pytest.mark.parametrize(
    "key", ["user", "header:x-key", "post:name", lambda request: "all"], ids=lambda key: getattr(key, "__name__", key)
)
def test_limits_by_something_else_do_not_want_it(deployed: Any, key: Any) -> None:
    from django_vcache.admission import throttle

    limit = throttle("5/m", key=key)
    assert deployed() == []
    assert limit


def test_throttle_classes_of_rest_framework_want_it_unless_it_counts_proxies_itself(
    deployed: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("rest_framework")
    from rest_framework.settings import api_settings

    classes = [f"django_vcache.rest_framework.{name}RateThrottle" for name in ("Anon", "User")]
    framework = {"DEFAULT_THROTTLE_CLASSES": classes, "DEFAULT_THROTTLE_RATES": {"anon": "5/m", "user": "5/m"}}
    [text] = deployed(REST_FRAMEWORK=framework)
    assert "(ValkeyAnonRateThrottle, ValkeyUserRateThrottle)" in text
    monkeypatch.setattr(api_settings, "NUM_PROXIES", 1)
    assert deployed() == []


def test_throttles_of_ninja_want_it_unless_it_counts_proxies_itself(
    deployed: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    ninja = pytest.importorskip("django_vcache.ninja")
    from ninja.conf import settings as ninja_settings

    monkeypatch.setattr(ninja, "_all", weakref.WeakSet())
    throttle = ninja.AnonRateThrottle("5/m")
    own = type("Own", (ninja.SimpleRateThrottle,), {"scope": "own", "get_cache_key": lambda *args: "all"})("5/m")
    [text] = deployed()
    assert "(ValkeyAnonRateThrottle)" in text
    monkeypatch.setattr(ninja_settings, "NUM_PROXIES", 1)
    assert deployed() == []
    assert throttle
    assert own
