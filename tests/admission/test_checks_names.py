"""The check that one name has one rate in the whole project: limits of one name share a counter."""

from __future__ import annotations

import sys
from typing import Any

import pytest
from django.core.checks import run_checks
from django.test import override_settings
from support.caches import cache_setting
from support.server import ValkeyServer

pytestmark = pytest.mark.usefixtures("no_other_limits")


@pytest.fixture
def found(server: ValkeyServer) -> Any:
    def check(**settings: Any) -> list[str]:
        with override_settings(**{"CACHES": {"default": cache_setting(server)}, **settings}):
            return [f"{each.msg} {each.hint}" for each in run_checks(tags=["vcache"]) if each.id == "vcache.E007"]

    return check


def by_plan(request: Any) -> str:
    return "5/m"


def other_plan(request: Any) -> str:
    return "5/m"


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ({"rate": "5/m"}, {"rate": "6/m"}),
        ({"rate": "5/m"}, {"rate": "5/h"}),
        ({"rate": "5/m"}, {"rate": "5/m", "burst": 2}),
        ({"rate": "5/m"}, {"rate": by_plan}),
        ({"rate": other_plan}, {"rate": by_plan}),
    ],
    ids=["limit", "period", "burst", "callable", "callables"],
)
def test_one_name_with_two_rates_is_an_error_that_says_where_both_are(found: Any, first: Any, second: Any) -> None:
    from django_vcache.admission import throttle

    limits = [throttle(**first, name="login"), throttle(**second, name="login")]
    [text] = found()
    assert text.startswith("The name 'login' has several rates, which share a counter on the cache alias 'default': ")
    assert text.count("test_checks_names.py:") == 2
    assert limits


def test_one_name_with_one_rate_is_meant(found: Any) -> None:
    from django_vcache.admission import throttle

    limits = [throttle(rate, name="login") for rate in ("5/m", "5/60s", "5/1m")]
    limits += [throttle(by_plan, name="plan") for _ in range(2)]
    limits += [throttle("5/m", burst=5, name="login", key="ip"), throttle("5/m"), throttle("6/m")]
    # Another counter.
    limits += [throttle("7/m", name="login", using="other"), throttle("8/m", name="login", prefix="shop")]
    assert found() == []
    assert len(limits) == 10


def test_throttle_classes_of_rest_framework_are_among_them(found: Any) -> None:
    framework = pytest.importorskip("django_vcache.rest_framework")
    from django_vcache.admission import throttle

    module: Any = type(sys)("throttles_of_a_test")
    sys.modules[module.__name__] = module
    module.Burst = type("Burst", (framework.UserRateThrottle,), {"rate": "30/m"})
    module.Own = type("Own", (framework.UserRateThrottle,), {"rate": "30/m", "scope": "own"})
    module.Later = type("Later", (framework.UserRateThrottle,), {"rate": property(lambda self: "1/m")})
    module.Nameless = type("Nameless", (framework.UserRateThrottle,), {"rate": "30/m", "scope": None})

    def of(*names: str) -> list[str]:
        classes = [f"{module.__name__}.{name}" for name in names]
        rates = {"user": "1000/d", "anon": "5/m"}
        return list(found(REST_FRAMEWORK={"DEFAULT_THROTTLE_CLASSES": classes, "DEFAULT_THROTTLE_RATES": rates}))

    module.User = framework.UserRateThrottle
    try:
        assert of("User", "Own", "Later", "Nameless") == []
        # It has forgotten to say its scope.
        [text] = of("User", "Burst")
        assert text.startswith("The name 'user' has several rates")
        assert "Burst.rate is '30/m'" in text
        assert "REST_FRAMEWORK['DEFAULT_THROTTLE_RATES']['user'] is '1000/d'" in text
        limit = throttle("5/m", name="own")
        assert len(of("Own")) == 1
        assert limit
    finally:
        del sys.modules[module.__name__]


def test_throttles_of_ninja_are_among_them(found: Any) -> None:
    ninja = pytest.importorskip("django_vcache.ninja")
    throttles = [ninja.AnonRateThrottle(rate) for rate in ("5/m", "5/m", "100/d")]
    assert found() == []
    throttles += [ninja.AnonRateThrottle(rate, scope="shared") for rate in ("5/m", "100/d")]
    [text] = found()
    assert "The name 'shared'" in text
    assert "ValkeyAnonRateThrottle('100/d'); ValkeyAnonRateThrottle('5/m')" in text
    assert throttles


def test_throttles_that_stand_alone_and_parts_of_gates_are_among_them(found: Any) -> None:
    from django_vcache.admission import Gate, Throttle, throttle

    limits: list[Any] = [Throttle("probe", "5/m"), Gate([Throttle("probe", "6/m")])]
    [text] = found()
    assert "The name 'probe' has several rates" in text
    assert "a Throttle of 5 in 60 s with burst 5; a Throttle of 6 in 60 s with burst 6" in text
    limits = [Throttle("probe", "5/m"), throttle("7/m", name="probe")]
    [text] = found()
    assert "a Throttle of 5 in 60 s" in text
    assert "throttle('7/m')" in text
    del limits


def test_throttles_that_count_elsewhere_may_have_another_rate(found: Any) -> None:
    from django_vcache.admission import Gate, Throttle

    limits: list[Any] = [
        Throttle("probe", "5/m"),
        Throttle("probe", "6/m", key=("org", "probe")),
        Throttle("probe", "7/m", prefix="shop"),
        Throttle("probe", "8/m", using="other"),
        # The part counts where its gate does.
        Gate([Throttle("probe", "11/m")], prefix="gate"),
    ]
    assert found() == []
    del limits


def test_one_flow_in_several_words_is_one_rate(found: Any) -> None:
    from django_vcache.admission import Throttle, throttle

    limits: list[Any] = [Throttle("probe", "5/m"), Throttle("probe", "300/h", 5), Throttle("probe", "10/2m", 5)]
    limits += [throttle("5/m", name="probe"), throttle("1/12s", name="probe", burst=5)]
    assert found() == []
    limits.append(throttle("1/12s", name="probe"))
    assert len(found()) == 1


def test_what_does_not_count_shares_nothing(found: Any) -> None:
    from django_vcache.admission import Throttle, throttle

    limits: list[Any] = [Throttle("probe", rate) for rate in ("5/m", "-1/s", "0/s")]
    limits += [throttle(rate, name="probe") for rate in ("5/m", "-1/s", "0/s")]
    assert found() == []
    assert len(limits) == 6


def test_shards_share_counters_with_other_numbers_of_shards(found: Any) -> None:
    from django_vcache.admission import Throttle

    limits = [Throttle("probe", "5/m"), Throttle("probe", "10/m", shards=4)]
    [text] = found()
    assert "a Throttle of 10 in 60 s with burst 10; a Throttle of 5 in 60 s with burst 5" in text
    assert limits


class Unhashable:
    """A callable of a project's that is compared by what it holds."""

    __hash__ = None  # type: ignore[assignment]

    def __call__(self, request: Any) -> str:
        return "5/m"


def test_a_callable_beside_a_fixed_rate_is_among_them(found: Any) -> None:
    from django_vcache.admission import Throttle, throttle

    async def later(scope: Any) -> str:
        return "5/m"

    limits: list[Any] = [Throttle("probe", "5/m"), Throttle("probe", later)]
    [text] = found()
    assert "a Throttle of 5 in 60 s with burst 5; a Throttle whose rate a callable says" in text
    limits = [Throttle("probe", later), Throttle("probe", by_plan)]
    # Whether they say the same, only they know.
    assert found() == []
    unhashable = Unhashable()
    limits = [throttle(unhashable, name="probe") for _ in range(2)]
    assert found() == []
    limits.append(throttle(Unhashable(), name="probe"))
    assert len(found()) == 1


def test_a_decorator_with_a_callable_is_one_with_the_throttle_that_it_made(found: Any) -> None:
    from django_vcache.admission import throttle

    limit = throttle(by_plan, name="probe")
    assert limit.rule("probe")
    assert found() == []


def test_throttles_of_ninja_with_fractions_of_a_second_are_one_with_those_that_they_made(found: Any) -> None:
    ninja = pytest.importorskip("django_vcache.ninja")

    class Quick(ninja.AnonRateThrottle):  # type: ignore[misc, name-defined]
        def parse_rate(self, rate: str | None) -> tuple[int, float]:
            return 1, 1.5

    from django_vcache.admission.views.classes import throttle_of

    quick = Quick("1/s", scope="quick")
    made = throttle_of(
        quick.name, quick.num_requests, quick.duration, quick.burst, "default", None, "default", "default"
    )
    assert found() == []
    assert made
