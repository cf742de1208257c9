"""A consumer in the loop of a web server: SIGTERM stops the consumer, and reaches the server as well."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from support.caches import cache_setting
from support.driver import LOOPS
from support.server import ValkeyServer
from support.streams import Shards, add, consumers, depth, pending, program

# How servers are told: by a handler of the loop, as hypercorn and granian, or by one of Python's, as uvicorn.
SERVER = """
async def main():
    over = asyncio.Event()
    loop = asyncio.get_running_loop()
    number = signal.SIGNUMBER

    def told(*_):
        report("server told")
        loop.call_soon_threadsafe(over.set)

    if HOW == "loop":
        loop.add_signal_handler(number, told)
    else:
        signal.signal(number, told)
    found = signal.getsignal(number)
    working = asyncio.Event()
    go_on = asyncio.Event()

    async def handler(batch):
        working.set()
        await go_on.wait()

    consumer = Consumer(Shards(count=4), "billing", batch=2, max_wait=0.02)
    task = asyncio.create_task(consumer.arun(handler))
    await working.wait()
    report("working")
    await over.wait()
    assert consumer.stopped
    go_on.set()
    await task
    assert signal.getsignal(number) is found
    report(consumer.metrics()["acknowledged"])

run(main())
"""


@pytest.mark.parametrize("kind", LOOPS)
@pytest.mark.parametrize("how", ["loop", "python"])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=["SIGTERM", "SIGINT"])
def test_the_server_is_told_at_the_first_signal_and_the_batch_in_hand_is_done(
    server: ValkeyServer, stream: Shards, kind: str, how: str, number: signal.Signals
) -> None:
    add(server, stream, *range(8), shard=1)
    source = f"HOW = {how!r}\n" + SERVER.replace("SIGNUMBER", number.name)
    with program(kind, 4, source, server) as told:
        assert told.report() == "working"
        os.kill(told.pid, number)
        assert told.report() == "server told"
        assert told.report() == 2
        told.end()
    assert depth(server, stream) == 6
    assert pending(server, stream) == []
    assert consumers(server, stream) == set()


@pytest.mark.parametrize("kind", LOOPS)
def test_a_handler_that_raises_still_stops_the_consumer(server: ValkeyServer, stream: Shards, kind: str) -> None:
    source = """
class Ended(Exception):
    pass

def told(*_):
    raise Ended

consumer = Consumer(Shards(count=4), "billing", max_wait=0.02)

async def main():
    async for batch in consumer:
        try:
            os.kill(os.getpid(), signal.SIGTERM)
            await asyncio.sleep(60)
        except Ended:
            report("raised")

signal.signal(signal.SIGTERM, told)
run(main())
report(consumer.metrics()["acknowledged"])
"""
    add(server, stream, 1)
    with program(kind, 4, source, server) as told:
        assert told.report() == "raised"
        assert told.report() == 1
        told.end()


GRANIAN = """
import asyncio, json, os, sys
from pathlib import Path

sys.path[:0] = json.loads(os.environ["VCACHE_TEST_PATHS"])
from django.conf import settings

settings.configure(SECRET_KEY="vcache-tests", CACHES=json.loads(os.environ["VCACHE_TEST_CACHES"]))
import django
django.setup()
from django_vcache.admission.consumer import Consumer
from support.streams import Shards

told = Path(os.environ["VCACHE_TEST_TOLD"])


async def handler(batch):
    if not told.exists():
        told.write_text("working")
    while told.read_text() == "working":
        await asyncio.sleep(0.01)


async def app(scope, receive, send):
    assert scope["type"] == "lifespan"
    await receive()
    consumer = Consumer(Shards(count=4), "billing", batch=2, max_wait=0.02)
    task = asyncio.create_task(consumer.arun(handler))
    await send({"type": "lifespan.startup.complete"})
    await receive()
    assert consumer.stopped
    told.write_text("server told")
    await task
    told.write_text(json.dumps(consumer.metrics()))
    await send({"type": "lifespan.shutdown.complete"})
"""


@pytest.mark.parametrize("loop", LOOPS)
def test_granian_stops_with_its_consumer(server: ValkeyServer, stream: Shards, loop: str, tmp_path: Path) -> None:
    from support.waits import wait_until

    pytest.importorskip("granian")
    add(server, stream, *range(8), shard=1)
    told = tmp_path / "told"
    (tmp_path / "application.py").write_text(GRANIAN)
    import django_vcache

    paths = [str(Path(__file__).parents[1]), str(Path(django_vcache.__file__).parents[1])]
    environment = {
        **os.environ,
        "VCACHE_TEST_PATHS": json.dumps(paths),
        "VCACHE_TEST_CACHES": json.dumps({"default": cache_setting(server)}),
        "VCACHE_TEST_TOLD": str(told),
    }
    command = [sys.executable, "-m", "granian", "--interface", "asgi", "--loop", loop]
    command += ["--uds", str(tmp_path / "socket"), "application:app"]
    with subprocess.Popen(command, cwd=tmp_path, env=environment, start_new_session=True) as granian:
        try:
            wait_until(lambda: told.exists() and told.read_text() == "working")
            granian.send_signal(signal.SIGTERM)
            assert granian.wait(60) == 0
        finally:
            if granian.poll() is None:
                os.killpg(granian.pid, signal.SIGKILL)
    assert json.loads(told.read_text())["acknowledged"] == 2
    assert depth(server, stream) == 6
    assert pending(server, stream) == []
