"""What is decided without the server is told: by the decision, and by a line in the log, once a second for an alias."""

from __future__ import annotations

import logging
import os
import signal
from collections.abc import Iterator
from typing import Any

import pytest
from django.conf import settings
from django.test import override_settings
from support.caches import cache_setting
from support.server import ValkeyServer

LINE = "(decided without the server, as the outage policy says)"


@pytest.fixture(autouse=True)
def gone(monkeypatch: pytest.MonkeyPatch, default_cache: None) -> Iterator[None]:
    """The alias `gone`, whose server is not there, and a log that has said nothing yet."""
    from django_vcache import reports

    monkeypatch.setattr(reports, "_outages", reports._Throttled())
    with ValkeyServer() as server:
        setting = cache_setting(server, PASSWORD="s3cr3t")
    with override_settings(CACHES={**settings.CACHES, "gone": setting}):
        yield


def lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if LINE in record.getMessage()]


def test_the_decision_and_the_log_say_why_the_server_was_not_asked(ask: Any, caplog: pytest.LogCaptureFixture) -> None:
    from django_vcache.admission import Throttle

    decision = ask(Throttle("org", "1/h", using="gone"), "check", 1)
    assert (decision.allowed, decision.source) == (True, "outage")
    assert decision.outage.startswith("cache 'gone': ")
    assert lines(caplog) == [f"{decision.outage} {LINE}"]
    assert {record.levelno for record in caplog.records} == {logging.WARNING}
    assert "s3cr3t" not in caplog.text + decision.outage + repr(decision)


def test_thousands_of_them_are_a_line_a_second(ask: Any, caplog: pytest.LogCaptureFixture) -> None:
    from django_vcache import reports
    from django_vcache.admission import Gate, Quota, Stream, Throttle

    reports._outages._last["gone"] = float("inf")  # a second that is not over
    gate = Gate([Throttle("org", "1/h", outage="closed")], using="gone")
    for _ in range(20):
        assert not ask(gate, "admit", {"org": 1})
        assert ask(Quota("events", 5, "month", using="gone", outage="local", key="org"), "consume", 1)
        assert not ask(Stream("mails", using="gone"), "add", b"x", {"org": 1})
    assert lines(caplog) == []
    reports._outages._last["gone"] = float("-inf")
    ask(gate, "admit", {"org": 1})
    assert [line.endswith(f"{LINE} (and 60 more like it)") for line in lines(caplog)] == [True]


def test_a_child_that_was_forked_while_its_parent_logged_goes_on() -> None:
    from django_vcache import reports

    with reports._retries._lock:
        child = os.fork()
        if not child:
            signal.alarm(20)
            reports.retried("gone", "a consumer", Exception("away"))
            os._exit(0)
    assert os.waitpid(child, 0)[1] == 0


def test_what_raises_is_not_logged(ask: Any, caplog: pytest.LogCaptureFixture) -> None:
    from django_vcache.admission import Stream, Throttle
    from django_vcache.exceptions import ConnectionError

    with pytest.raises(ConnectionError, match="cache 'gone'"):
        ask(Throttle("org", "1/h", using="gone", outage="raise"), "check", 1)
    with pytest.raises(ConnectionError, match="cache 'gone'"):
        ask(Stream("mails", using="gone", outage="raise"), "add", b"x", {"org": 1})
    assert lines(caplog) == []


def test_what_the_server_decided_has_no_outage(ask: Any, server: ValkeyServer) -> None:
    from django_vcache.admission import Throttle

    with override_settings(CACHES={"there": cache_setting(server)}):
        assert ask(Throttle("org", "1/h", using="there", deadline=None), "check", 1).outage is None
