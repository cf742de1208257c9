"""The ingest work, as every row does it: what is checked of an event, who is charged, and how much each may send."""

import json
import re
from typing import Any

THROTTLE = 10_000_000
"""Events of a project in a minute."""
EVENTS = 1_000_000_000
"""Events of an organisation in a day."""
BYTES = 1_000_000_000_000
"""Bytes of an organisation in a day."""
MINUTE, DAY = 60, 86_400

STREAM = "events"
MAXLEN = 10_000
"""Entries of the stream; older ones are dropped, so that a run of any length fits in memory."""

LEVELS = frozenset({"debug", "info", "warning", "error", "fatal"})
_ID = re.compile("[0-9a-f]{32}")


def checked(body: bytes) -> str:
    """The id of an event that is as it must be.

    Raises:
        ValueError: it is not.
    """
    found: Any = json.loads(body)
    if not isinstance(found, dict):
        raise ValueError("the body is not a JSON object")
    event_id = found.get("event_id")
    if not isinstance(event_id, str) or not _ID.fullmatch(event_id):
        raise ValueError("event_id is not 32 hexadecimal digits")
    if found.get("level") not in LEVELS:
        raise ValueError("level is not known")
    if not isinstance(found.get("message"), str):
        raise ValueError("message is no text")
    return event_id


def organisation(project: int) -> int:
    """The owner of a project. A real service looks this up in its cache; here it costs nothing, for all alike."""
    return project // 4
