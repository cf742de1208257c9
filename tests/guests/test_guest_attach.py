"""Wheel, Python and guest inside one another on one thread. Each library counts by itself whether it is attached to
Python; where one comes back to the other underneath a third, that count is wrong, and only the GIL is to be believed.
"""

from __future__ import annotations

import pytest
from support.caches import cache_setting
from support.programs import Program
from support.server import ValkeyServer

# A key function is Python that the wheel calls while it is attached.
KEYED = """
import probe_guest
seen = []

def server(what):
    report(what)
    wait_for_word()

def inside(key, prefix, version):
    inside.body()
    return key

keyed = caches["keyed"]
probe_guest.connection_id()
keyed.key_func = inside
"""

NESTED = {
    "an alias that must be asked for": """
def body():
    try:
        probe_guest.elsewhere("nowhere")
    except Exception as error:
        seen.append(type(error).__name__)
inside.body = body
keyed.get("a")
assert seen == ["ConfigurationError"], seen
""",
    "a signal in a wait": """
def body():
    signal.setitimer(signal.ITIMER_REAL, 0.05)
    assert probe_guest.pop("queue", 0.5) is None
signal.signal(signal.SIGALRM, lambda *_: seen.append("signal"))
inside.body = body
keyed.get("a")
assert seen == ["signal"], seen
""",
    "a wait behind another thread's": """
started = threading.Event()
def reader():
    started.set()
    probe_guest.pop("other", 0.9)
inside.body = lambda: probe_guest.pop("queue", 0.5)
thread = threading.Thread(target=reader)
thread.start()
started.wait()
keyed.get("a")
thread.join()
""",
    "a reply for a loop that is closed": """
from collections.abc import Sequence

class Words(Sequence):
    def __len__(self):
        server("resume")
        cache.get("x")
        return 2

    def __getitem__(self, index):
        return ["GET", "x"][index]

def once():
    loop = asyncio.new_event_loop()
    async def main():
        begun(probe_guest.aecho(os.urandom(1000)))
    loop.run_until_complete(main())
    loop.close()

server("pause")
once()
once()
probe_guest.reply(Words())
""",
}


@pytest.mark.usefixtures("guests")
@pytest.mark.parametrize("nested", NESTED.values(), ids=NESTED.keys())
def test_libraries_within_one_another_hold_the_gil_when_they_think_so(fresh_server: ValkeyServer, nested: str) -> None:
    setting = cache_setting(fresh_server)
    caches = {"default": setting, "keyed": setting | {"KEY_FUNCTION": "support.guests.plain_key"}}
    with Program(KEYED + nested + '\nreport("done")\n', caches, "asyncio") as program:
        while (word := program.report()) != "done":
            getattr(fresh_server, word)()
            program.tell()
        assert program.exit_code() == (0, "")
