"""The rates of REST framework's throttles: what they are written like, and what a `parse_rate` may make of them."""

from __future__ import annotations

from typing import Any

import pytest
from django.core.exceptions import ImproperlyConfigured

pytest.importorskip("rest_framework")

from rest_framework.request import Request
from rest_framework.test import APIRequestFactory

from django_vcache.rest_framework import SimpleRateThrottle, UserRateThrottle

pytestmark = pytest.mark.usefixtures("default_alias", "server", "throttles_as_before")


@pytest.mark.parametrize(
    ("rate", "expected"),
    [
        ("3/s", (3, 1)),
        ("3/sec", (3, 1)),
        ("3/second", (3, 1)),
        ("3/seconds", (3, 1)),
        ("10/min", (10, 60)),
        ("10/minutes", (10, 60)),
        ("100/hour", (100, 3600)),
        ("100/hours", (100, 3600)),
        ("1000/day", (1000, 86_400)),
        ("1000/days", (1000, 86_400)),
        ("10/30s", (10, 30)),
        ("10/15m", (10, 900)),
        ("0/day", (0, 86_400)),
    ],
)
def test_rates_are_those_of_rest_framework_and_more(rate: str, expected: tuple[int, float]) -> None:
    assert SimpleRateThrottle.parse_rate(object.__new__(SimpleRateThrottle), rate) == expected


@pytest.mark.parametrize("rate", ["often", "10", "10/", "/s", "ten/s", "10/fortnight", "-5/s", 5, "1.5/s"])
def test_what_is_not_a_rate_is_a_configuration_error_with_the_text(rate: Any) -> None:
    with pytest.raises(ImproperlyConfigured, match=r"rate"):
        type("Wrong", (UserRateThrottle,), {"rate": rate})()


@pytest.mark.parametrize(
    ("period", "told", "burst"),
    [
        (1.5, '"fractional";q=2;w=3', 1),
        (0.25, '"fractional";q=4;w=1', 1),
        (0.0001, '"fractional";q=1000;w=1', 1),
        (90.0, '"fractional";q=1;w=90', 1),
    ],
)
def test_a_period_with_a_fraction_is_the_same_rate(period: float, told: str, burst: int) -> None:
    class Own(UserRateThrottle):
        rate = "one in a while"
        scope = "fractional"

        def parse_rate(self, rate: str | None) -> Any:
            return 1, period

    throttle = Own()
    assert throttle.allow_request(Request(APIRequestFactory().get("/")), None)
    assert throttle.decision is not None
    assert throttle.decision.headers()["RateLimit-Policy"] == told
    assert throttle.decision.rules[0].burst == burst


def test_a_burst_of_none_at_all_and_a_fraction_refuse_what_they_say() -> None:
    class Own(UserRateThrottle):
        rate = "none"
        scope = "fractional"

        def parse_rate(self, rate: str | None) -> Any:
            return 0, 1.5

    assert not Own().allow_request(Request(APIRequestFactory().get("/")), None)
    wrong = type("Wrong", (Own,), {"burst": 0})()
    with pytest.raises(ValueError, match="burst"):
        wrong.allow_request(Request(APIRequestFactory().get("/")), None)
