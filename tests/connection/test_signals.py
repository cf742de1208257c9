"""Signal handlers run while a blocking call waits, and may use the cache themselves."""

from __future__ import annotations

import os
import signal

from support.caches import cache_setting
from support.programs import Program
from support.server import ValkeyServer, wait_until


def test_a_signal_handler_may_call_the_cache_while_a_call_waits(fresh_server: ValkeyServer) -> None:
    """The call inside is answered at once, and the call outside is not robbed of its reply."""
    source = """
        seen = []

        def handler(number, frame):
            cache.set("from the handler".replace(" ", "-"), "x")
            seen.append(cache.get("from-the-handler"))

        signal.signal(signal.SIGUSR1, handler)
        cache.get("warm")
        report(os.getpid())
        answer = cache.execute("BLPOP", "queue", 0)
        report([seen, str(answer)])
    """
    with Program(source, {"default": cache_setting(fresh_server, RESPONSE_TIMEOUT=60.0)}, "asyncio") as program:
        pid = program.report()
        wait_until(lambda: any(client["cmd"] == "blpop" for client in fresh_server.clients()))
        os.kill(pid, signal.SIGUSR1)
        # With a deadline of a minute, a handler that waits for it would not be done in five seconds.
        wait_until(lambda: fresh_server.execute("EXISTS", ":1:from-the-handler") == 1)
        fresh_server.execute("RPUSH", "queue", "event")
        assert program.report() == [["x"], "[b'queue', b'event']"]
