"""The check of an event by django-bolt: a typed body, as its documentation writes it. Logs and compression are off."""

from typing import Annotated, Literal

import msgspec
from django_bolt import BoltAPI

Id = Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{32}$")]


class Event(msgspec.Struct):
    event_id: Id
    level: Literal["debug", "info", "warning", "error", "fatal"]
    message: str


api = BoltAPI(enable_logging=False, compression=False)


@api.post("/check")
async def check(event: Event) -> dict[str, str]:
    return {"id": event.event_id}
