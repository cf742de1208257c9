"""The hot routes, and what the pages ask of them."""

import django_vcache.routing
from typing import Any

async def aenvelope(
    request: django_vcache.routing.Request, project_id: int
) -> tuple[int, list[tuple[bytes, bytes]], bytes]:
    """Take an envelope of Sentry's protocol: several items, of which events go on the stream.

    To be awaited.
    """

async def astore(
    request: django_vcache.routing.Request, project_id: int
) -> tuple[int, list[tuple[bytes, bytes]], bytes]:
    """Take an event alone, as older clients send it.

    To be awaited.
    """

def read_counts(project_id: int, first: int, minutes: int) -> list[tuple[int, str, int]]:
    """The counts of a project, or of all if it is 0, in each of `minutes` from `first`, both in minutes since 1970: the
    second since 1970 at which a slot of 5 seconds begins, what became of the events, and how many they were. What
    this process has counted is among them.
    """

async def aread_counts(project_id: int, first: int, minutes: int) -> list[tuple[int, str, int]]:
    """The counts of a project, or of all if it is 0, in each of `minutes` from `first`, both in minutes since 1970: the
    second since 1970 at which a slot of 5 seconds begins, what became of the events, and how many they were. What
    this process has counted is among them.

    The form of `read_counts` to await.
    """

def write_counts() -> None:
    """Write what this process has counted: before it ends."""

async def awrite_counts() -> None:
    """Write what this process has counted: before it ends.

    The form of `write_counts` to await.
    """

# The module also has items that are not hot paths. Their types are not known here.
def __getattr__(name: str) -> Any: ...
