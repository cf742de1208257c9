"""Sends events to the ingest project over keep-alive connections, and says what came back.

    python load.py http://127.0.0.1:8000

It prints one line of JSON: how many requests it sent, how many answers had each status, and the
seconds it took. Its progress, a dot for 200 answers, goes to stderr. Besides good events it sends
some that are not JSON, some that are too large, and more than the limit for one project.
"""

import asyncio
import json
import random
import sys
import time
from collections import Counter
from collections.abc import Iterator
from http import HTTPStatus
from typing import NamedTuple
from urllib.parse import urlsplit

CONNECTIONS = 50

EVENT = json.dumps(
    {
        "level": "error",
        "message": "division by zero",
        "exception": {"type": "ZeroDivisionError", "module": "shop.cart", "line": 42},
        "tags": {"release": "1.4.2", "server": "web-3"},
    }
).encode()
TOO_LARGE = b'{"message": "' + b"x" * 250_000 + b'"}'


class Request(NamedTuple):
    """A POST request."""

    path: str
    body: bytes


def requests() -> list[Request]:
    """What one run sends: 2,000 events and 25 requests that are no events, well mixed."""
    good = [Request(f"/api/{project}/store/", EVENT) for project in range(1, 5)] * 300
    noisy = [Request("/api/5/store/", EVENT)] * 700
    sync = [Request("/api/6/store-sync/", EVENT)] * 100
    bad = [Request("/api/1/store/", b'{"message": '), Request("/api/6/store-sync/", b"[]")] * 10
    large = [Request("/api/2/store/", TOO_LARGE)] * 5
    mixed = good + noisy + sync + bad + large
    random.Random(1).shuffle(mixed)
    return mixed


async def send(host: str, port: int, queue: Iterator[Request], seen: Counter[int]) -> None:
    """Send requests from `queue` over one connection until there are no more."""
    reader, writer = await asyncio.open_connection(host, port)
    for request in queue:
        head = (
            f"POST {request.path} HTTP/1.1\r\nHost: {host}:{port}\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(request.body)}\r\n\r\n"
        )
        writer.write(head.encode() + request.body)
        await writer.drain()
        status, headers = await read_answer(reader)
        if status == HTTPStatus.TOO_MANY_REQUESTS and not headers.get("retry-after", "").isdigit():
            raise ValueError("an answer with status 429 does not say when to come again")
        seen[status] += 1
        if seen.total() % 200 == 0:
            print(".", end="", file=sys.stderr, flush=True)
    writer.close()
    await writer.wait_closed()


async def read_answer(reader: asyncio.StreamReader) -> tuple[int, dict[str, str]]:
    """Read one answer to its end: its status, and its headers with their names in lower case."""
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    status_line, *lines = head.strip().split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (i.partition(":") for i in lines)}
    await reader.readexactly(int(headers["content-length"]))
    return int(status_line.split()[1]), headers


async def main(url: str) -> None:
    """Send everything, and print the summary."""
    address = urlsplit(url)
    to_send = requests()
    queue, seen = iter(to_send), Counter[int]()
    started = time.monotonic()
    async with asyncio.TaskGroup() as senders:
        for _ in range(CONNECTIONS):
            senders.create_task(send(address.hostname, address.port or 80, queue, seen))
    seconds = round(time.monotonic() - started, 2)
    print(json.dumps({"sent": len(to_send), "statuses": seen, "seconds": seconds}))


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
