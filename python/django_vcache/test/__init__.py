"""Helpers for the tests of projects: a server for each process, outages, and counted round trips. With pytest they are
fixtures, see ``django_vcache.pytest_plugin``.

With unittest::

    from django.test import TestCase

    from django_vcache.test import VcacheMixin


    class PageTests(VcacheMixin, TestCase):
        def test_a_page_asks_once(self):
            with self.assertRoundTrips(1):
                self.client.get("/")

        def test_a_page_does_without_its_cache(self):
            with self.vcacheOutage():
                self.assertEqual(self.client.get("/").status_code, 200)

The guide is ``docs/topics/testing.md`` in the source.
"""

from .case import VcacheMixin
from .outages import outage
from .round_trips import RoundTrip, assert_round_trips, record_round_trips
from .servers import Server, clear_caches, on_server

__all__ = [
    "RoundTrip",
    "Server",
    "VcacheMixin",
    "assert_round_trips",
    "clear_caches",
    "on_server",
    "outage",
    "record_round_trips",
]
