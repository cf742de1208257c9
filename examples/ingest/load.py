"""Sends events to the tracker over keep-alive connections, and says what came back.

    python load.py DSN [DSN ...]

It prints one line of JSON: how many requests it sent, how many answers had each status, and the seconds it took. Its
progress, a dot for 200 answers, goes to stderr. The last project is sent more than the others. Besides good events it
sends some that are no envelopes, and some that are too large.
"""

import asyncio
import gzip
import json
import random
import sys
import time
from collections import Counter
from collections.abc import Iterator
from http import HTTPStatus
from typing import NamedTuple
from urllib.parse import urlsplit
from uuid import uuid4

CONNECTIONS = 50
EACH = 300  # events of a project
OF_THE_LAST = 700

FAULTS = [
    ("KeyError", "'price'", "cart.py", "add"),
    ("TimeoutError", "no answer of the payment service within 5 s", "payment.py", "charge"),
    ("ValueError", "the coupon has expired", "coupon.py", "redeem"),
]
TOO_LARGE = b"{}\n" + b"x" * 2_100_000


class Request(NamedTuple):
    """A POST request."""

    dsn: str
    body: bytes
    encoding: str = "identity"


def envelope() -> bytes:
    """An event as a client sends it, compressed."""
    kind, value, file, function = random.choice(FAULTS)
    frames = [
        {"filename": f"lib/{name}.py", "function": name, "lineno": 10, "in_app": False, "context_line": f"    {name}()"}
        for name in ("serve", "handle", "dispatch", "call")
    ]
    frames.append({"filename": file, "function": function, "lineno": 42, "in_app": True, "context_line": "    fail()"})
    event = {
        "level": "error",
        "release": "shop@1.4.2",
        "exception": {"values": [{"type": kind, "value": value, "stacktrace": {"frames": frames}}]},
        "tags": {"server": f"web-{random.randint(1, 3)}"},
    }
    payload = json.dumps(event).encode()
    header = json.dumps({"event_id": uuid4().hex}).encode()
    return gzip.compress(b'%s\n{"type":"event","length":%d}\n%s\n' % (header, len(payload), payload), 1)


def requests(dsns: list[str]) -> list[Request]:
    """What one run sends, well mixed."""
    *others, last = dsns
    good = [Request(dsn, envelope(), "gzip") for dsn in others for _ in range(EACH)]
    noisy = [Request(last, envelope(), "gzip") for _ in range(OF_THE_LAST)]
    bad = [Request(dsns[0], b"it broke"), Request(dsns[0], b'{}\n{"type":"event","length":9}\n{}')] * 10
    large = [Request(dsns[0], TOO_LARGE)] * 5
    mixed = good + noisy + bad + large
    random.shuffle(mixed)
    return mixed


async def send(queue: Iterator[Request], seen: Counter[int]) -> None:
    """Send requests from `queue` over one connection until there are no more."""
    reader = writer = None
    for request in queue:
        dsn = urlsplit(request.dsn)
        if writer is None or reader is None:
            reader, writer = await asyncio.open_connection(dsn.hostname, dsn.port)
        head = (
            f"POST /api{dsn.path}/envelope/ HTTP/1.1\r\nHost: {dsn.hostname}:{dsn.port}\r\n"
            f"X-Sentry-Auth: Sentry sentry_version=7, sentry_key={dsn.username}\r\n"
            "Content-Type: application/x-sentry-envelope\r\n"
            f"Content-Encoding: {request.encoding}\r\nContent-Length: {len(request.body)}\r\n\r\n"
        )
        writer.write(head.encode() + request.body)
        status, headers = await read_answer(reader)
        if status == HTTPStatus.TOO_MANY_REQUESTS and ":error:" not in headers.get("x-sentry-rate-limits", ""):
            raise ValueError("an answer with status 429 does not say what to hold back")
        seen[status] += 1
        if seen.total() % 200 == 0:
            print(".", end="", file=sys.stderr, flush=True)
        if headers.get("connection", "").lower() == "close":
            writer.close()
            reader = writer = None
    if writer is not None:
        writer.close()


async def read_answer(reader: asyncio.StreamReader) -> tuple[int, dict[str, str]]:
    """Read one answer to its end: its status, and its headers with their names in lower case."""
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    status_line, *lines = head.strip().split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (i.partition(":") for i in lines)}
    await reader.readexactly(int(headers.get("content-length", 0)))
    return int(status_line.split()[1]), headers


async def main(dsns: list[str]) -> None:
    """Send everything, and print the summary."""
    to_send = requests(dsns)
    queue, seen = iter(to_send), Counter[int]()
    started = time.monotonic()
    async with asyncio.TaskGroup() as senders:
        for _ in range(CONNECTIONS):
            senders.create_task(send(queue, seen))
    seconds = round(time.monotonic() - started, 2)
    print(json.dumps({"sent": len(to_send), "statuses": seen, "seconds": seconds}))


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1:]))
