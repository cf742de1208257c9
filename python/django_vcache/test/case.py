"""The helpers as a mixin for ``unittest`` and Django's test cases."""

from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, ClassVar, Literal

from .outages import outage
from .round_trips import RoundTrip, assert_round_trips
from .servers import Server, on_server

if TYPE_CHECKING:
    from unittest import TestCase as _TestCase
else:
    _TestCase = object

__all__ = ["VcacheMixin"]


class VcacheMixin(_TestCase):
    """Puts the caches of a test case on the server of the process, which each test finds empty.

    Stand it before Django's class: ``class PageTests(VcacheMixin, TestCase)``. Each process of ``manage.py test
    --parallel`` has its own server. A ``setUp`` or ``setUpClass`` of yours calls ``super()``'s first.
    """

    vcache_server: ClassVar[Server]
    """The server, which a test may kill, restart, pause and resume."""

    @classmethod
    def setUpClass(cls) -> None:
        super().setUpClass()
        cls.vcache_server = cls.enterClassContext(on_server())

    def setUp(self) -> None:
        super().setUp()
        self.vcache_server.clear()

    def assertRoundTrips(self, expected: int, *, using: str | None = None) -> AbstractContextManager[list[RoundTrip]]:
        """Fails unless the block takes so many round trips, see :func:`django_vcache.test.assert_round_trips`."""
        return assert_round_trips(expected, using=using)

    def vcacheOutage(
        self, kind: Literal["refused", "silent"] = "refused", *, using: str | None = None
    ) -> AbstractContextManager[None]:
        """Has the servers be away inside the block, see :func:`django_vcache.test.outage`."""
        return outage(kind, using=using)
