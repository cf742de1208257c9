"""System checks of caches."""

from __future__ import annotations

from typing import Any

import pytest
from django.core.checks import run_checks
from django.test import override_settings
from support.caches import BACKEND


def warnings(**caches: dict[str, Any]) -> list[str]:
    with override_settings(CACHES={"default": {"BACKEND": BACKEND, "LOCATION": "unix:///v.sock"}, **caches}):
        messages = run_checks(tags=["vcache"], include_deployment_checks=True)
    return [message.msg for message in messages if message.id == "vcache.W007"]


@pytest.mark.usefixtures("no_other_limits")
def test_a_certificate_that_is_not_looked_at_is_told() -> None:
    some = {"BACKEND": BACKEND, "LOCATION": "rediss://localhost"}
    careless = {**some, "OPTIONS": {"ssl_cert_reqs": "none"}}
    [message] = warnings(some=some, careless=careless)
    assert "'careless' takes any certificate" in message


@pytest.mark.usefixtures("no_other_limits")
def test_other_caches_and_wrong_settings_are_no_business_of_it() -> None:
    dummy = {"BACKEND": "django.core.cache.backends.dummy.DummyCache"}
    wrong = {"BACKEND": BACKEND, "LOCATION": "rediss://localhost", "OPTIONS": {"ssl_cert_reqs": "maybe"}}
    embedded = {"BACKEND": BACKEND, "LOCATION": "embedded:///nowhere/at/all"}
    assert warnings(dummy=dummy, wrong=wrong, embedded=embedded) == []
