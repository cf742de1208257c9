"""The snippets of the page on streams do what the page says, on a real server."""

from __future__ import annotations

import ast
import asyncio
import inspect
import logging
import os
import re
import shlex
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from django.core.management import call_command
from django.test import override_settings
from support.caches import cache_setting
from support.driver import open_runner
from support.server import ValkeyServer
from support.streams import GROUP, Shards, add, dead, depth, pending

PAGE = (Path(__file__).parents[2] / "docs" / "topics" / "consumers.md").read_text(encoding="utf-8")
SNIPPETS = re.findall(r"^```python\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Stream(Shards):
    """With `consumer`, and that ends when the stream is empty."""

    def consumer(self, group: str, **options: Any) -> Any:
        from django_vcache.admission.consumer import Consumer

        consumers.append(Consumer(self, group, **{**options, "max_wait": 0.0}))
        return consumers[-1]


consumers: list[Any] = []


def snippet(start: str) -> str:
    (found,) = [source for source in SNIPPETS if start in source]
    return found


@pytest.fixture
def names(server: ValkeyServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, Any]]:
    """What the snippets find. `saved` is what their work has saved; the consumer stops after three payloads."""
    stream = Stream(count=2)
    saved: list[bytes] = []
    consumers.clear()

    def save(payloads: list[bytes]) -> None:
        saved.extend(payloads)
        if len(saved) == 3:
            consumers[-1].stop()

    async def asave(payloads: list[bytes]) -> None:
        save(payloads)

    limits, billing = ModuleType("shop.limits"), ModuleType("shop.billing")
    gate = SimpleNamespace(stream=stream)
    limits.gate, billing.save = gate, save  # type: ignore[attr-defined]
    for module in (ModuleType("shop"), limits, billing):
        monkeypatch.setitem(sys.modules, module.__name__, module)
    with override_settings(CACHES={"default": cache_setting(server)}):
        add(server, stream, "{1}", "{2}", "{3}")
        yield {
            "gate": gate,
            "stream": stream,
            "saved": saved,
            "save": save,
            "asave": asave,
            "logger": logging.getLogger("shop"),
            "threading": threading,
        }


def execute(source: str, names: dict[str, Any]) -> None:
    code = compile(source, "consumers.md", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    assert not code.co_flags & inspect.CO_COROUTINE
    exec(code, names)


def consumed(names: dict[str, Any], server: ValkeyServer) -> None:
    assert sorted(names["saved"]) == [b"{1}", b"{2}", b"{3}"]
    assert depth(server, names["stream"]) == 0
    assert pending(server, names["stream"]) == []


def test_the_worker(names: dict[str, Any], server: ValkeyServer) -> None:
    execute(snippet("class Command"), names)
    names["Command"]().handle()
    consumed(names, server)


def test_the_awaited_worker(names: dict[str, Any], server: ValkeyServer) -> None:
    execute(snippet("async def bill"), names)
    with open_runner("asyncio") as runner:
        runner.run(names["bill"]())
    consumed(names, server)


def test_the_block(names: dict[str, Any], server: ValkeyServer) -> None:
    execute(snippet("with batch:"), names)
    consumed(names, server)


def test_reject_and_ack(names: dict[str, Any], server: ValkeyServer) -> None:
    stream: Stream = names["stream"]
    (broken,) = add(server, stream, "broken", shard=1)

    def is_saved(entry: Any) -> bool:
        consumers[-1].stop()
        return bool(entry.payload != b"{2}")

    names["is_saved"] = is_saved
    execute(snippet("batch.reject(broken"), names)
    assert [letter["dead:reason"] for letter in dead(server, stream)] == ["no JSON object"]
    assert dead(server, stream)[0]["dead:id"] == broken
    assert depth(server, stream) == 1
    assert len(pending(server, stream)) == 1


def test_the_handler_and_the_thread(names: dict[str, Any], server: ValkeyServer) -> None:
    execute(snippet("def handler"), names)
    consumed(names, server)
    execute(snippet("threading.Thread"), names)
    assert not names["worker"].is_alive()


def test_a_claim_is_renewed(names: dict[str, Any], server: ValkeyServer) -> None:
    execute(snippet("batch.extend()"), names)
    consumed(names, server)


def test_a_consumer_in_a_web_server(names: dict[str, Any], server: ValkeyServer) -> None:
    saved = asyncio.Event()

    async def ahandler(batch: Any) -> None:
        names["saved"] += [entry.payload for entry in batch]
        if len(names["saved"]) == 3:
            saved.set()

    async def serve() -> None:
        async with names["lifespan"](None):
            await saved.wait()

    names |= {"asyncio": asyncio, "asynccontextmanager": asynccontextmanager, "ahandler": ahandler}
    execute(snippet("async def lifespan"), names)
    with open_runner("asyncio") as runner:
        runner.run(serve())
    consumed(names, server)


def test_a_handler_from_the_command_line(names: dict[str, Any], server: ValkeyServer) -> None:
    """The lines of the page, as a shell would take them apart."""
    from django_vcache.management import naming
    from django_vcache.management.commands import vcache_consume

    execute(snippet("def handler"), names)
    billing: Any = sys.modules["shop.billing"]
    stream: Stream = names["stream"]
    lines = re.findall(r"^manage\.py vcache_consume (.+)$", PAGE, re.MULTILINE)
    assert len(lines) == 2
    names["saved"].clear()
    for line in lines:
        add(server, stream, "{1}", "{2}", "{3}")

        def handler(batch: Any) -> None:
            names["saved"] += [entry.payload for entry in batch]
            if len(names["saved"]) == 3:
                os.kill(os.getpid(), signal.SIGTERM)

        billing.handler = handler
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(naming, "configured", lambda: [stream])
            patch.setattr(naming, "import_stream", lambda path: stream)
            call_command(vcache_consume.Command(), *shlex.split(line), verbosity=0)
        consumed(names, server)
        names["saved"].clear()


def test_looking_after_streams(names: dict[str, Any], server: ValkeyServer, capsys: pytest.CaptureFixture[str]) -> None:
    stream: Stream = names["stream"]
    consumer = stream.consumer(GROUP)
    done = 0
    for batch in consumer:
        done += batch.reject(reason="as a test")
        if done == 3:
            consumer.stop()
    execute(snippet("streams.state(stream)"), names)
    assert names["lag"] == {GROUP: 0}
    assert capsys.readouterr().out.count("as a test") == 3
    assert depth(server, stream) == 3
    assert dead(server, stream) == []


def test_every_snippet_is_run() -> None:
    source = Path(__file__).read_text(encoding="utf-8")
    asked: Callable[[str], list[str]] = re.compile(r'\bsnippet\("(.+?)"\)').findall
    assert {snippet(start) for start in asked(source)} == set(SNIPPETS)


def test_the_table_is_as_the_command_prints_it(monkeypatch: pytest.MonkeyPatch) -> None:
    from django_vcache.admission import streams
    from django_vcache.management.commands.vcache_stream import Command

    group = streams.GroupState("billing", 500, 1200, [streams.ConsumerState("web-1-4711-5f0c2a9b", 500, 3.0)])
    told = streams.StreamState("events", "default", 16, True, 1700, 3, [group])
    monkeypatch.setattr(streams, "state", lambda stream: told)
    out = StringIO()
    with override_settings(VCACHE={}):
        call_command(Command(), "events", "--shards", "16", stdout=out, no_color=True)
    assert f"```text\n{out.getvalue()}```\n" in PAGE


def test_the_sizes_that_the_page_tells_are_so() -> None:
    from django_vcache.admission.consume.group import _sizes

    told = ", ".join(map(str, [500, *_sizes(500, 5)[:-1]])) + f" and {_sizes(500, 5)[-1]}"
    assert f"batches of {told}." in PAGE
