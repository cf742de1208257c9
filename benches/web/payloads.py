"""What the rows are asked, and what they must answer: the same bytes for each row of a group."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path

PROJECT = 7
EVENT_ID = "9ec79c33ec9942ab8353589fcb2e04dc"


def event(length: int) -> bytes:
    """An event of an error tracker, as JSON of so many bytes."""
    content = {
        "event_id": EVENT_ID,
        "timestamp": 1764547200.25,
        "platform": "python",
        "level": "error",
        "logger": "shop.checkout",
        "transaction": "/checkout/<int:order>/",
        "server_name": "web-3",
        "release": "shop@2026.11.3",
        "environment": "production",
        "message": "the card was declined: \u201cinsufficient funds\u201d",
        "tags": {"browser": "Firefox 143", "plan": "team", "region": "eu-west-1"},
        "exception": {"values": [_exception()]},
        "extra": {"note": ""},
    }
    missing = length - len(json.dumps(content, ensure_ascii=False).encode())
    # As hard to compress as what an error carries.
    content["extra"] = {"note": hashlib.shake_256(b"note").hexdigest(missing)[:missing]}
    return json.dumps(content, ensure_ascii=False).encode()


def _exception() -> dict[str, object]:
    frame = {"filename": "shop/checkout.py", "function": "charge", "lineno": 117, "in_app": True}
    return {"type": "CardDeclined", "value": "insufficient funds", "stacktrace": {"frames": [frame]}}


EVENT = event(1024)


def envelope() -> bytes:
    """An envelope of the Sentry protocol with an event and the end of a session: about 3 KB."""
    payload = event(2700)
    session = json.dumps({"sid": EVENT_ID, "status": "crashed", "errors": 1, "attrs": {"release": "shop@2026.11.3"}})
    head = {"event_id": EVENT_ID, "sent_at": "2026-12-01T00:00:00.250Z", "trace": {"public_key": "0" * 32}}
    lines = [
        json.dumps(head).encode(),
        json.dumps({"type": "event", "content_type": "application/json", "length": len(payload)}).encode(),
        payload,
        json.dumps({"type": "session", "length": len(session)}).encode(),
        session.encode(),
    ]
    return b"\n".join(lines) + b"\n"


ENVELOPE_FILE = Path(__file__).parent / "envelope.br"
"""`envelope()`, compressed by brotli at level 4, which the Python SDK uses."""


@dataclass(frozen=True)
class Asked:
    """One request, and the answer that is right."""

    path: str
    method: str = "GET"
    body: bytes = b""
    headers: tuple[tuple[str, str], ...] = ()
    status: int = 200
    answer: str = "ok"
    """The text of the answer; empty if the answer has the id of the event as JSON."""
    wrong: bytes | None = field(default=None)
    """A body that must be refused with a 400, if the row reads bodies."""

    def problem(self, status: int, body: bytes) -> str | None:
        """What is wrong with an answer; None if it is right."""
        if status != self.status:
            return f"{self.method} {self.path} is answered with {status}, not {self.status}: {body[:200]!r}"
        if self.answer or status == 204:
            right = body == self.answer.encode()
        else:
            try:
                right = json.loads(body)["id"] == EVENT_ID
            except (ValueError, KeyError, TypeError):
                right = False
        return None if right else f"{self.method} {self.path} has the wrong answer: {body[:200]!r}"


_JSON = (("Content-Type", "application/json"),)


def get(path: str) -> Asked:
    return Asked(path)


def post_event(path: str) -> Asked:
    """An event is sent, and checked: one whose id is no id is refused."""
    return Asked(path, "POST", EVENT, _JSON, answer="", wrong=EVENT.replace(EVENT_ID.encode(), b"no id"))


def post_unread(path: str, status: int, answer: str) -> Asked:
    """An event is sent, and nothing looks into it."""
    return Asked(path, "POST", EVENT, _JSON, status=status, answer=answer)


def post_envelope(path: str) -> Asked:
    headers = (("Content-Type", "application/x-sentry-envelope"), ("Content-Encoding", "br"))
    compressed = ENVELOPE_FILE.read_bytes()
    return Asked(path, "POST", compressed, headers, answer="", wrong=compressed[:-200])
