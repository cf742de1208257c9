"""REST framework's own tests/test_throttling.py (3.18.3, BSD licence), against our classes under its names.

Changed throughout: users are made without a database, and what was refused at three a second is refused at three a
minute, so that a slow machine makes no difference. Left out, since they patch what is inside of REST framework's
throttle, or look at it:

- those that set `timer`, which is not read, because the server's clock decides: `test_request_throttling_expires`,
  `test_request_throttling_multiple_throttles`, `test_throttle_rate_change_negative`, `test_seconds_fields`,
  `test_next_rate_remains_constant_if_followed`, `test_scoped_rate_throttle`. What they are about is tested in
  test_rest_framework.py on the server's clock. Of `test_minutes_fields` the step at 0 seconds is kept; the wait is 20
  seconds and not 60, since three a minute is one in 20 seconds.
- `test_wait_returns_correct_waiting_time_without_history` and
  `test_wait_returns_none_if_there_are_no_available_requests`: they set `history`, which there is not.
"""

from __future__ import annotations

from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.exceptions import ImproperlyConfigured
from django.http import HttpRequest
from django.test import override_settings

pytest.importorskip("rest_framework")

from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.settings import api_settings
from rest_framework.test import APIRequestFactory, force_authenticate
from rest_framework.views import APIView

from django_vcache.rest_framework import (
    AnonRateThrottle,
    BaseThrottle,
    ScopedRateThrottle,
    SimpleRateThrottle,
    UserRateThrottle,
)

pytestmark = pytest.mark.usefixtures("default_alias", "throttles_as_before")

PASSED = 200
REFUSED = 429


class User3SecRateThrottle(UserRateThrottle):
    rate = "3/sec"
    scope = "seconds"


class User3MinRateThrottle(UserRateThrottle):
    rate = "3/min"
    scope = "minutes"


class NonTimeThrottle(BaseThrottle):
    def allow_request(self, request: Any, view: Any) -> bool:
        if not hasattr(self.__class__, "called"):
            self.__class__.called = True
            return True
        return False


class MockView(APIView):
    throttle_classes = (User3SecRateThrottle,)

    def get(self, request: Any) -> Response:
        return Response("foo")


class MockViewMinuteThrottling(MockView):
    throttle_classes = (User3MinRateThrottle,)


class MockViewNonTimeThrottling(MockView):
    throttle_classes = (NonTimeThrottle,)


class TestThrottling:
    @property
    def factory(self) -> APIRequestFactory:
        return APIRequestFactory()

    def test_requests_are_throttled(self) -> None:
        request = self.factory.get("/")
        for _ in range(4):
            response = MockViewMinuteThrottling.as_view()(request)
        assert response.status_code == REFUSED

    def ensure_is_throttled(self, view: Any, expect: int) -> None:
        request = self.factory.get("/")
        request.user = User(pk=1, username="a")
        for _ in range(3):
            view.as_view()(request)
        request.user = User(pk=2, username="b")
        response = view.as_view()(request)
        assert response.status_code == expect

    def test_request_throttling_is_per_user(self) -> None:
        self.ensure_is_throttled(MockView, PASSED)
        self.ensure_is_throttled(MockViewMinuteThrottling, PASSED)

    def test_minutes_fields(self) -> None:
        request = self.factory.get("/")
        for _ in range(3):
            assert "Retry-After" not in MockViewMinuteThrottling.as_view()(request)
        assert 10 < int(MockViewMinuteThrottling.as_view()(request)["Retry-After"]) <= 20

    def test_non_time_throttle(self) -> None:
        request = self.factory.get("/")
        assert not hasattr(MockViewNonTimeThrottling.throttle_classes[0], "called")
        response = MockViewNonTimeThrottling.as_view()(request)
        assert "Retry-After" not in response
        assert MockViewNonTimeThrottling.throttle_classes[0].called
        response = MockViewNonTimeThrottling.as_view()(request)
        assert "Retry-After" not in response


class TestScopedRateThrottle:
    def test_unscoped_view_not_throttled(self) -> None:
        class XYScopedRateThrottle(ScopedRateThrottle):
            THROTTLE_RATES = {"x": "3/min", "y": "1/min"}  # noqa: RUF012

        class UnscopedView(MockView):
            throttle_classes = (XYScopedRateThrottle,)

        request = APIRequestFactory().get("/")
        for _ in range(10):
            assert UnscopedView.as_view()(request).status_code == PASSED

    def test_get_cache_key_returns_correct_key_if_user_is_authenticated(self) -> None:
        class DummyView:
            throttle_scope = "user"

        throttle = ScopedRateThrottle()
        request = Request(HttpRequest())
        user = User(pk=17, username="test")
        force_authenticate(request, user)
        request.user = user
        throttle.allow_request(request, DummyView())
        cache_key = throttle.get_cache_key(request, view=DummyView())
        assert cache_key == f"throttle_user_{user.pk}"


class TestXff:
    def setup_method(self) -> None:
        class Throttle(ScopedRateThrottle):
            THROTTLE_RATES = {"test_limit": "1/day"}  # noqa: RUF012

        class View(MockView):
            throttle_classes = (Throttle,)
            throttle_scope = "test_limit"

        self.view = View.as_view()
        self.request = self.build_request("0.0.0.0, 1.1.1.1, 2.2.2.2")

    def build_request(self, xff: str) -> Any:
        request = APIRequestFactory().get("/some_uri", headers={"x-forwarded-for": xff})
        request.META["REMOTE_ADDR"] = "3.3.3.3"
        return request

    def config_proxy(self, num_proxies: int | None) -> None:
        api_settings.NUM_PROXIES = num_proxies

    def test_accepts_request_under_limit(self) -> None:
        self.config_proxy(0)
        assert self.view(self.request).status_code == PASSED

    def test_denies_request_over_limit(self) -> None:
        self.config_proxy(0)
        self.view(self.request)
        assert self.view(self.request).status_code == REFUSED

    def test_xff_spoofing_doesnt_change_machine_id_with_one_app_proxy(self) -> None:
        self.config_proxy(1)
        self.view(self.request)
        spoofed = self.build_request("4.4.4.4, 5.5.5.5, 2.2.2.2")
        assert self.view(spoofed).status_code == REFUSED

    def test_xff_spoofing_doesnt_change_machine_id_with_two_app_proxies(self) -> None:
        self.config_proxy(2)
        self.view(self.request)
        spoofed = self.build_request("4.4.4.4, 1.1.1.1, 2.2.2.2")
        assert self.view(spoofed).status_code == REFUSED

    def test_unique_clients_are_counted_independently_with_one_proxy(self) -> None:
        self.config_proxy(1)
        self.view(self.request)
        other_client = self.build_request("0.0.0.0, 1.1.1.1, 7.7.7.7")
        assert self.view(other_client).status_code == PASSED

    def test_unique_clients_are_counted_independently_with_two_proxies(self) -> None:
        self.config_proxy(2)
        self.view(self.request)
        other_client = self.build_request("0.0.0.0, 7.7.7.7, 2.2.2.2")
        assert self.view(other_client).status_code == PASSED

    def test_where_rest_framework_believes_the_whole_header_none_of_it_is_believed(self) -> None:
        """Not REST framework's: its throttle is bypassed here by writing another header each time."""
        self.config_proxy(None)
        assert self.view(self.request).status_code == PASSED
        assert self.view(self.build_request("4.4.4.4")).status_code == REFUSED
        with override_settings(VCACHE={"TRUSTED_PROXIES": 1}):
            assert self.view(self.build_request("9.9.9.9, 8.8.8.8")).status_code == PASSED
            assert self.view(self.build_request("1.2.3.4, 8.8.8.8")).status_code == REFUSED


class TestBaseThrottle:
    def test_allow_request_raises_not_implemented_error(self) -> None:
        with pytest.raises(NotImplementedError):
            BaseThrottle().allow_request(request={}, view={})


class TestSimpleRateThrottle:
    def setup_method(self) -> None:
        SimpleRateThrottle.scope = "anon"

    def test_get_rate_raises_error_if_scope_is_missing(self) -> None:
        throttle = SimpleRateThrottle()
        throttle.scope = None
        with pytest.raises(ImproperlyConfigured):
            throttle.get_rate()

    def test_throttle_raises_error_if_rate_is_missing(self) -> None:
        SimpleRateThrottle.scope = "invalid scope"
        with pytest.raises(ImproperlyConfigured):
            SimpleRateThrottle()

    def test_parse_rate_returns_tuple_with_none_if_rate_not_provided(self) -> None:
        rate = SimpleRateThrottle().parse_rate(None)
        assert rate == (None, None)

    def test_allow_request_returns_true_if_rate_is_none(self) -> None:
        assert SimpleRateThrottle().allow_request(request={}, view={}) is True

    def test_get_cache_key_raises_not_implemented_error(self) -> None:
        with pytest.raises(NotImplementedError):
            SimpleRateThrottle().get_cache_key({}, {})

    def test_allow_request_returns_true_if_key_is_none(self) -> None:
        throttle = SimpleRateThrottle()
        throttle.rate = "some rate"
        throttle.get_cache_key = lambda *args: None
        assert throttle.allow_request(request={}, view={}) is True


class TestAnonRateThrottle:
    def setup_method(self) -> None:
        self.throttle = AnonRateThrottle()

    def test_authenticated_user_not_affected(self) -> None:
        request = Request(HttpRequest())
        user = User(pk=1, username="test")
        force_authenticate(request, user)
        request.user = user
        assert self.throttle.get_cache_key(request, view={}) is None

    def test_get_cache_key_returns_correct_value(self) -> None:
        request = Request(HttpRequest())
        cache_key = self.throttle.get_cache_key(request, view={})
        assert cache_key == "throttle_anon_None"
