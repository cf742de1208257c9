"""Memory across the table: under valgrind the wheel and its guests read and write nothing that is not theirs, however a
call ends.
"""

from __future__ import annotations

import shutil
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.caches import cache_setting
from support.programs import Program
from support.server import ValkeyServer

# Valgrind makes a program some thirty times slower.
PATIENCE = 170.0

OURS = ("_vcache", "probe_guest", "quota_guest/_native")

EVERYTHING = """
import probe_guest, quota_guest

payload = os.urandom(1000)
get = b"*2\\r\\n$3\\r\\nGET\\r\\n$2\\r\\nk1\\r\\n"
select = b"*2\\r\\n$6\\r\\nselect\\r\\n$1\\r\\n3\\r\\n"
probe_guest.find_table()
nested = ["EVAL", "return {1, {2, {'x', false, redis.error_reply('MY problem')}}, 'y'}", "0"]

def raises(kind, call, *arguments):
    try:
        call(*arguments)
    except kind:
        return
    raise AssertionError(kind)

def blocking(number):
    cache.execute("SET", f"k{number}", number)
    quota_guest.grant(number, 5)
    assert quota_guest.spend(number, 2) == 3
    assert probe_guest.fetch(f"k{number}") == str(number).encode()
    assert probe_guest.echo(payload) == payload
    assert "MY" in probe_guest.raw(nested)
    assert probe_guest.pop("nothing", 0.01) is None
    raises(exceptions.HotPathPanic, probe_guest.panics, False)
    raises(exceptions.HotPathPanic, probe_guest.panics, True)
    raises(exceptions.ResponseError, probe_guest.reply, ["NOPE"])
    raises(exceptions.ConfigurationError, probe_guest.elsewhere, "nowhere")
    raises(ValueError, probe_guest.fails, "why")
    for sent in (select, get[:-1], get + b"*1", b"", b"*2\\r\\n$9\\r\\nGET\\r\\n"):
        raises(ValueError, probe_guest.raw_call, sent, 1)
    raises(ValueError, probe_guest.raw_call, get, 2)
    assert probe_guest.raw_call(get, 1) in ([0], [2])
    raises(exceptions.HotPathPanic, probe_guest.panics_with_a_bomb)
    assert probe_guest.wakes_a_bomb(f"k{number}") == (str(number).encode(),) * 2
    raises(RuntimeError, probe_guest.aecho(payload).send, None)
    probe_guest.aecho(payload).close()

async def awaited():
    await quota_guest.agrant(1, 1000)
    await cache.aexecute("SCRIPT", "FLUSH")
    results = await asyncio.gather(
        *(probe_guest.aecho(payload) for _ in range(20)),
        *(quota_guest.aspend(1) for _ in range(20)),
        *(cache.aexecute("GET", "k1") for _ in range(20)),
        probe_guest.apipeline([["INCR", "n"], ["HGETALL", "nothing"], ["GET", "k1"]], True),
        probe_guest.araw(nested),
        probe_guest.apanics(False),
        probe_guest.apanics(True),
        probe_guest.areply(["LPUSH", "k1", "x"]),
        probe_guest.aelsewhere("nowhere"),
        probe_guest.afails("why"),
        hotpaths.aallow("budget", limit=10, period=60),
        return_exceptions=True,
    )
    assert sum(isinstance(result, Exception) for result in results) == 5, results
    for turns in range(6):
        futures = [begun(probe_guest.aecho(payload)) for _ in range(5)]
        futures += [begun(quota_guest.aspend(1)) for _ in range(5)]
        futures += map(begun, (probe_guest.apop("queue", 0), probe_guest.apanics(True), probe_guest.araw(nested)))
        for _ in range(turns):
            await asyncio.sleep(0)
        for future in futures:
            future.cancel()
        await asyncio.gather(*futures, return_exceptions=True)
    try:
        await asyncio.wait_for(probe_guest.apop("queue", 0), 0.01)
    except TimeoutError:
        pass
    await asyncio.to_thread(blocking, 1000)
    assert await probe_guest.aecho(b"own") == b"own"

async def abandoned():
    futures = [*map(begun, (probe_guest.aecho(payload), quota_guest.aspend(1), probe_guest.apop("queue", 0)))]
    await asyncio.sleep(0)
    return futures

probe_guest.echo(b"x" * 1024 * 1024)
in_threads(3, blocking)
for _request["loop"] in ("asyncio", "uvloop"):
    run(awaited())
    pending = run(abandoned())
del pending
gc.collect()
run(awaited())
pending = run(abandoned())
report("done")
"""


@pytest.fixture
def valgrind() -> str:
    path = shutil.which("valgrind")
    if path is None:
        pytest.skip("valgrind is not installed")
    return path


def complaints(report: Path) -> Iterator[str]:
    """What valgrind found on a path through our libraries. CPython's own ways are not our matter, and what is left at
    the end is for other tests: an interpreter frees little of its own."""
    for error in ElementTree.parse(report).iterfind("error"):
        kind = error.findtext("kind", "")
        frames = [frame.findtext("obj", "") for frame in error.iter("frame")]
        if not kind.startswith("Leak_") and any(ours in frame for frame in frames for ours in OURS):
            yield ElementTree.tostring(error, encoding="unicode")


def test_no_call_touches_memory_that_is_not_its_own(
    server: ValkeyServer, valgrind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # CPython's own allocator would hide what becomes of its blocks.
    monkeypatch.setenv("PYTHONMALLOC", "malloc")
    report = tmp_path / "valgrind.xml"
    under = [
        valgrind,
        "--leak-check=no",
        "--show-leak-kinds=none",
        "--num-callers=50",
        "--xml=yes",
        f"--xml-file={report}",
    ]
    setting = cache_setting(server, RESPONSE_TIMEOUT=60.0, CONNECT_TIMEOUT=60.0)
    with Program(EVERYTHING, {"default": setting}, under=under) as program:
        assert program.report(PATIENCE) == "done"
        program.end(PATIENCE)
    assert "\n".join(complaints(report)) == ""
