"""What these tests run is what the crate sends, to the byte."""

from __future__ import annotations

import hashlib

import pytest
from django.test import override_settings
from lua import assemble
from support.caches import cache_setting
from support.server import ValkeyServer

SHAS = [hashlib.sha1(assemble(name).encode()).hexdigest() for name in ("admit", "peek", "refund")]


@pytest.mark.usefixtures("patient")
def test_the_crate_sends_each_script_as_it_is_assembled_here(engine: str) -> None:
    from django_vcache.admission import Quota, Throttle
    from django_vcache.backend import publish_alias

    with ValkeyServer(binary=engine) as server, override_settings(CACHES={"default": cache_setting(server)}):
        publish_alias("default")
        throttle, quota = Throttle("org", "9/h"), Quota("events", 9, "month", key="org")
        assert server.execute("SCRIPT", "EXISTS", *SHAS) == [0, 0, 0]
        assert throttle.check(1)
        assert server.execute("SCRIPT", "EXISTS", *SHAS) == [1, 0, 0]
        assert throttle.peek(1).remaining == 8
        assert server.execute("SCRIPT", "EXISTS", *SHAS) == [1, 1, 0]
        receipt = quota.consume(1).receipt
        assert receipt
        assert quota.refund(receipt)
        assert server.execute("SCRIPT", "EXISTS", *SHAS) == [1, 1, 1]
        assert server.info("memory")["number_of_cached_scripts"] == "3"
