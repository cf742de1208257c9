"""The helpers as a mixin for ``unittest`` and Django's test cases."""

import unittest
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, ClassVar, Literal

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

    Raises TypeError where it stands behind a test case, whose ``setUp`` would keep it from being called.
    """

    vcache_server: ClassVar[Server]
    """The server, which a test may kill, restart, pause and resume."""

    def __init_subclass__(cls, **keywords: Any) -> None:
        super().__init_subclass__(**keywords)
        before = cls.__mro__[1 : cls.__mro__.index(VcacheMixin)]
        if unittest.TestCase in before:
            case = next(each for each in before if issubclass(each, unittest.TestCase))
            raise TypeError(
                f"{cls.__name__}: VcacheMixin stands behind {case.__name__}, whose setUp would keep it from starting "
                f"its server. Write class {cls.__name__}(VcacheMixin, {case.__name__})"
            )

    @classmethod
    def setUpClass(cls) -> None:
        """Starts the server, if the process has none yet, and puts the caches there."""
        super().setUpClass()
        cls.vcache_server = cls.enterClassContext(on_server())

    def setUp(self) -> None:
        """Empties the server."""
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
