"""`check --deploy` finds a server that may drop counters, and never fails because of the server."""

from __future__ import annotations

import io
from typing import Any

import pytest
from django.core.checks import run_checks
from django.core.management import CommandError, call_command
from django.http import HttpResponse
from django.test import override_settings
from support.caches import cache_setting
from support.checks import found
from support.server import ValkeyServer

pytestmark = pytest.mark.usefixtures("no_other_limits")


@pytest.mark.parametrize(
    ("policy", "victims"),
    [
        ("allkeys-lru", "any key"),
        ("allkeys-random", "any key"),
        ("volatile-lru", "keys that expire, as counters do"),
        ("volatile-ttl", "keys that expire, as counters do"),
    ],
)
def test_a_server_that_may_evict_counters_is_a_warning_at_deployment(
    fresh_server: ValkeyServer, policy: str, victims: str
) -> None:
    settings = {"VCACHE": {"THROTTLE_ALIAS": "default"}, "CACHES": {"default": cache_setting(fresh_server)}}
    fresh_server.execute("CONFIG", "SET", "maxmemory-policy", policy)
    assert found(**settings) == {}
    messages = found(deploy=True, **settings)
    assert messages.keys() == {"vcache.W001"}
    for word in (policy, victims, "'default'", "noeviction", "THROTTLE_ALIAS", "once it has a maxmemory"):
        assert word in messages["vcache.W001"]
    fresh_server.execute("CONFIG", "SET", "maxmemory", "100mb")
    assert "when its maxmemory is full" in found(deploy=True, **settings)["vcache.W001"]
    fresh_server.execute("CONFIG", "SET", "maxmemory-policy", "noeviction")
    assert found(deploy=True, **settings) == {}


def test_limits_that_no_setting_names_are_seen_while_they_live(fresh_server: ValkeyServer) -> None:
    from django_vcache.admission import Gate, Quota, Stream, Throttle

    fresh_server.execute("CONFIG", "SET", "maxmemory-policy", "allkeys-lru")
    aliases = ("a", "b", "c", "d")
    caches = {alias: cache_setting(fresh_server) for alias in ("default", *aliases)}

    def warned() -> list[str]:
        with override_settings(CACHES=caches):
            messages = [message.msg for message in run_checks(tags=["vcache"], include_deployment_checks=True)]
        return [alias for alias in aliases if any(f"alias {alias!r} has the maxmemory" in text for text in messages)]

    limits = [Throttle("x", "1/s", using="a"), Quota("x", 1, "day", using="b", key="org"), Stream("x", using="c")]
    assert warned() == ["a", "b", "c"]
    # What is a part of a gate counts where the gate does.
    limits.append(Gate([Throttle("x", "1/s", using="a")], stream=Stream("x", using="c"), using="d"))
    del limits[0], limits[1]
    assert warned() == ["b", "d"]
    limits.clear()
    assert warned() == []


def test_every_alias_in_use_is_asked(module: Any, fresh_server: ValkeyServer) -> None:
    from django_vcache.admission import Gate, Throttle, throttle

    @throttle("1/s", using="views")
    def view(request: Any) -> HttpResponse:
        return HttpResponse()

    module.gate = Gate([Throttle("org", "1/s", using="gates")])
    fresh_server.execute("CONFIG", "SET", "maxmemory-policy", "allkeys-lfu")
    with override_settings(
        VCACHE={"GATES": ["limits_of_a_test.gate"], "TRUSTED_PROXIES": 0},
        CACHES={alias: cache_setting(fresh_server) for alias in ("default", "views", "gates", "unused")},
    ):
        messages = run_checks(tags=["vcache"], include_deployment_checks=True)
    assert [message.id for message in messages] == ["vcache.W001"] * 2
    assert view


def test_a_server_that_does_not_answer_is_a_warning_and_no_crash() -> None:
    with ValkeyServer() as gone:
        setting = cache_setting(gone, CONNECT_TIMEOUT=1.0)
    settings = {"VCACHE": {"THROTTLE_ALIAS": "default"}, "CACHES": {"default": setting}}
    assert found(**settings) == {}
    messages = found(deploy=True, **settings)
    assert messages.keys() == {"vcache.W002"}
    assert "could not be asked" in messages["vcache.W002"]
    assert "maxmemory-policy" in messages["vcache.W002"]


def test_a_user_who_may_not_ask_is_a_warning_and_no_crash() -> None:
    with ValkeyServer(users=["app on >pw ~* &* +@all -info -config"]) as server:
        setting = cache_setting(server, USERNAME="app", PASSWORD="pw")
        messages = found(deploy=True, VCACHE={"THROTTLE_ALIAS": "default"}, CACHES={"default": setting})
    assert messages.keys() == {"vcache.W002"}
    assert "pw" not in messages["vcache.W002"]
    assert "INFO" in messages["vcache.W002"]


def test_check_deploy_goes_on_with_a_warning(fresh_server: ValkeyServer) -> None:
    fresh_server.execute("CONFIG", "SET", "maxmemory-policy", "allkeys-lru")
    errors = io.StringIO()
    with override_settings(VCACHE={"THROTTLE_ALIAS": "default"}, CACHES={"default": cache_setting(fresh_server)}):
        call_command("check", "--deploy", "--tag", "vcache", stderr=errors)
    assert "vcache.W001" in errors.getvalue()
    with pytest.raises((CommandError, SystemExit)), override_settings(VCACHE=5):
        call_command("check", "--deploy", "--tag", "vcache", stderr=io.StringIO())
