"""Calls views of `examples/ingest` in a process of its own, with that project's settings.

It reads a list of [method, path, body] from stdin, sends the requests one after the other with
Django's async test client, and writes a list of [status, headers, text] to stdout.
"""

import asyncio
import json
import sys

import django
from django.test import AsyncClient


async def main() -> None:
    client = AsyncClient()
    answers = []
    for method, path, body in json.load(sys.stdin):
        answer = await client.generic(method, path, body, content_type="application/json")
        answers.append([answer.status_code, dict(answer.headers), answer.text])
    json.dump(answers, sys.stdout)


django.setup()
asyncio.run(main())
