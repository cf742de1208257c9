"""What clients send to a server, as the server itself tells: MONITOR, on its own connection. Of a cluster, each
node tells."""

from __future__ import annotations

import re
from types import TracebackType

from support.resp import Control
from support.server import ValkeyServer

# A moment, the database, who sent it, and the command's name.
_LINE = re.compile(r'[\d.]+ \[\d+ (?P<who>[^\]]+)\] "(?P<name>[^"]*)"')


class _Feed(Control):
    def line(self) -> str:
        line = self._reply()
        assert isinstance(line, str)
        return line


class Monitor:
    """Watches a server from the beginning of a block to its end."""

    def __init__(self, server: ValkeyServer) -> None:
        self._server = server
        self._asked = 0

    def sent(self) -> list[str]:
        """The commands that came over any connection since this was asked before, the test's own included. What a
        script calls is not sent by anybody."""
        # The server tells in the order in which it works: all that was answered before the mark comes before it.
        self._asked += 1
        mark = f"mark {self._asked}"
        names = []
        for node, feed in zip(self._server.nodes, self._feeds, strict=True):
            node.execute("ECHO", mark)
            while mark not in (line := feed.line()):
                found = _LINE.match(line)
                assert found, line
                if found["who"] != "lua":
                    names.append(found["name"].upper())
        return names

    def __enter__(self) -> Monitor:
        self._feeds = [_Feed(node.socket_path) for node in self._server.nodes]
        for feed in self._feeds:
            assert feed.execute("MONITOR") == "OK"
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for feed in self._feeds:
            feed.close()
