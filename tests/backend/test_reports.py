"""What is not raised is logged: a value that cannot be read, once a second at most, with the number of those left out.
And what was signed with an earlier SECRET_KEY is read as long as that is among the fallbacks."""

from __future__ import annotations

import logging
from typing import Any

import pytest
from django.test import override_settings
from support.caches import make_cache
from support.server import ValkeyServer


@pytest.fixture(autouse=True)
def fresh_throttle(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if nothing had been logged yet."""
    from django_vcache import reports

    monkeypatch.setattr(reports, "_misses", reports._Throttled())


def test_an_unreadable_value_is_a_miss_that_is_logged(
    server: ValkeyServer, drive: Any, caplog: pytest.LogCaptureFixture
) -> None:
    cache = drive(make_cache(server))
    server.execute("SET", ":1:k", b"foreign")
    with caplog.at_level(logging.WARNING, "django_vcache"):
        assert cache.get("k", "miss") == "miss"
        assert cache.get_many(["k"]) == {}
    [record] = caplog.records
    assert "not written by this codec" in record.getMessage()
    assert "':1:k'" in record.getMessage()
    assert "foreign" not in record.getMessage()


def test_lines_that_were_left_out_are_counted(
    server: ValkeyServer, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    from django_vcache import reports

    now = [100.0]
    monkeypatch.setattr(reports.time, "monotonic", lambda: now[0])
    cache = make_cache(server)
    server.execute("SET", ":1:k", b"foreign")
    with caplog.at_level(logging.WARNING, "django_vcache"):
        for _ in range(4):
            cache.get("k")
        now[0] += reports.INTERVAL
        cache.get("k")
    assert len(caplog.records) == 2
    assert "and 3 more like it" in caplog.records[1].getMessage()


def test_a_value_signed_with_a_fallback_key_is_read(server: ValkeyServer) -> None:
    value = frozenset({1, 2})  # is pickled, and so signed
    with override_settings(SECRET_KEY="the old one"):
        make_cache(server).set("k", value)
    with override_settings(SECRET_KEY="the new one"):
        assert make_cache(server).get("k") is None
    with override_settings(SECRET_KEY="the new one", SECRET_KEY_FALLBACKS=["the old one"]):
        assert make_cache(server).get("k") == value


def test_errors_name_the_alias_they_belong_to(server: ValkeyServer) -> None:
    """Also of two aliases that differ in nothing but Django's own parameters."""
    from django.core.cache import caches

    from django_vcache.exceptions import ResponseError

    entry = {"BACKEND": "django_vcache.ValkeyCache", "LOCATION": server.url}
    with override_settings(CACHES={"default": entry, "pages": entry | {"KEY_PREFIX": "p", "TIMEOUT": 5}}):
        for alias in ("default", "pages"):
            server.execute("RPUSH", caches[alias].make_key("list"), "x")
            with pytest.raises(ResponseError, match=f"cache '{alias}': WRONGTYPE"):
                caches[alias].get("list")
