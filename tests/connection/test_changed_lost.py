"""A wait goes on when the connection is lost: what changed meanwhile ends it, and otherwise it watches again.
Where the server refuses to tell of changes, it is asked from time to time. A forked child's waits are its own.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from support.caches import cache_setting, make_cache
from support.load import failures, works_again
from support.programs import Program
from support.server import ValkeyServer, wait_until
from support.waits import FORMS, HANG, Waiting, until_watched, watched

PATIENCE = 60.0


@pytest.fixture(params=FORMS)
def form(request: pytest.FixtureRequest) -> str:
    return request.param


def kill_connections(server: ValkeyServer, *meanwhile: Any) -> None:
    """The server drops all clients, and does something before one of them can be back."""
    server.execute("MULTI")
    server.execute("CLIENT", "KILL", "TYPE", "normal")
    if meanwhile:
        server.execute(*meanwhile)
    dropped = server.execute("EXEC")
    assert isinstance(dropped, list)
    assert isinstance(dropped[0], int)
    assert dropped[0] >= 1


def until_under_way(server: ValkeyServer, cache: Any, waiting: Waiting, count: int = 1) -> None:
    """Waits until a key is watched, and the process knows: replies come in order, and this one comes last."""
    until_watched(server, waiting, count=count)
    cache.get("another")


MEANWHILE = {
    "created": (None, ("SET", ":1:k", "v")),
    "set": ("v", ("SET", ":1:k", "other")),
    "deleted": ("v", ("DEL", ":1:k")),
    "flushed": ("v", ("FLUSHALL",)),
}


@pytest.mark.parametrize("change", MEANWHILE)
def test_what_changed_while_the_connection_was_lost_ends_the_wait(
    fresh_server: ValkeyServer, form: str, change: str
) -> None:
    before, command = MEANWHILE[change]
    cache = make_cache(fresh_server)
    if before is not None:
        cache.set("k", before)
    waiting = Waiting(form, cache, "k", PATIENCE)
    until_under_way(fresh_server, cache, waiting)
    kill_connections(fresh_server, *command)
    assert waiting.result() is True


@pytest.mark.parametrize("before", [None, "v"], ids=["there is none", "there is one"])
def test_a_lost_connection_alone_is_no_change(fresh_server: ValkeyServer, form: str, before: str | None) -> None:
    """The wait goes on over the next connection, as often as it takes."""
    cache = make_cache(fresh_server)
    if before is not None:
        cache.set("k", before)
    waiting = Waiting(form, cache, "k", PATIENCE)
    for lost in range(3):
        # The server goes on counting those that are gone.
        until_under_way(fresh_server, cache, waiting, count=lost + 1)
        kill_connections(fresh_server)
    until_under_way(fresh_server, cache, waiting, count=4)
    fresh_server.execute("SET", ":1:k", "other")
    assert waiting.result() is True
    assert len(fresh_server.clients()) == 1


def test_the_end_of_the_time_comes_also_after_a_lost_connection(fresh_server: ValkeyServer, form: str) -> None:
    begun = time.monotonic()
    cache = make_cache(fresh_server)
    waiting = Waiting(form, cache, "k", 1.0)
    until_under_way(fresh_server, cache, waiting)
    kill_connections(fresh_server)
    assert waiting.result() is False
    assert time.monotonic() - begun >= 0.99


@pytest.mark.parametrize("before", [None, "v"], ids=["there was none", "there was one"])
def test_a_wait_over_a_restart_ends_by_a_change_or_with_an_error(
    fresh_server: ValkeyServer, form: str, before: str | None
) -> None:
    """As any call, a wait may fail while there is no server, and its caller looks again then. It does not hang, and it
    does not say that nothing has changed. The next one is told of changes by the new server."""
    cache = make_cache(fresh_server)
    if before is not None:
        cache.set("k", before)
    waiting = Waiting(form, cache, "k", PATIENCE)
    until_under_way(fresh_server, cache, waiting)
    # The new one has no keys.
    fresh_server.restart()
    wait_until(lambda: works_again(cache))
    again = Waiting(form, cache, "k", PATIENCE)
    until_watched(fresh_server, again)
    fresh_server.execute("SET", ":1:k", "new")
    assert again.result() is True
    with contextlib.suppress(*failures()):
        assert waiting.result() is True


def test_without_a_server_it_fails_as_any_call_or_ends_in_time(fresh_server: ValkeyServer, form: str) -> None:
    """A wait that cannot begin is an error. One that has begun may go on until its time is over, for the server may be
    back before, or be an error then; but it does not outlive its time."""
    cache = make_cache(fresh_server, CONNECT_TIMEOUT=1.0, RESPONSE_TIMEOUT=1.0)
    begun = time.monotonic()
    waiting = Waiting(form, cache, "k", 2.0)
    until_under_way(fresh_server, cache, waiting)
    fresh_server.kill()
    with contextlib.suppress(*failures()):
        assert waiting.result() is False
    assert time.monotonic() - begun < 2.0 + 5.0
    with pytest.raises(failures()):
        Waiting(form, cache, "k", PATIENCE).result()


# A server that refuses.


@pytest.fixture(scope="module")
def reluctant() -> Iterator[ValkeyServer]:
    with ValkeyServer(users=["web on >pw ~* &* +@all -client|tracking"]) as server:
        yield server


@pytest.mark.parametrize("ignores", [False, True])
@pytest.mark.parametrize("form", FORMS)
def test_a_key_that_may_not_be_read_is_an_error(form: str, ignores: bool) -> None:
    """To answer at once, as for a change or for the end of the time, would have a caller ask again without end."""
    from django_vcache.exceptions import ResponseError

    with ValkeyServer(users=["web on >pw ~* &* +@all -get"]) as server:
        cache = make_cache(server, USERNAME="web", PASSWORD="pw", IGNORE_EXCEPTIONS=ignores)
        waiting = Waiting(form, cache, "k", PATIENCE)
        with pytest.raises(ResponseError, match="get"):
            waiting.result()


def test_a_key_that_holds_no_string_has_not_changed_when_the_time_is_over(server: ValkeyServer, form: str) -> None:
    cache = make_cache(server)
    for key in (":1:still", ":1:list"):
        server.execute("RPUSH", key, "x")
    assert Waiting(form, cache, "still", 0.3).result() is False
    # The server counts the first key as watched until it changes, so the second wait has another key.
    waiting = Waiting(form, cache, "list", PATIENCE)
    until_watched(server, waiting, count=2)
    server.execute("RPUSH", ":1:list", "y")
    assert waiting.result() is True


def warnings_of(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [
        record.getMessage()
        for record in caplog.records
        if record.name == "django_vcache" and record.levelno == logging.WARNING
    ]


def test_a_server_that_refuses_to_tell_is_asked_and_the_log_says_so_once(
    reluctant: ValkeyServer, caplog: pytest.LogCaptureFixture
) -> None:
    """It takes longer then, so whoever runs it wants to know which right is missing; once, not with every wait."""
    reluctant.execute("FLUSHALL")
    cache = make_cache(reluctant, USERNAME="web", PASSWORD="pw")
    cache.set("still", "v")
    for form in FORMS:
        still = Waiting(form, cache, "still", 0.8)
        waiting = Waiting(form, cache, "k", PATIENCE)
        # When it looks is not known, so there is a change after each look.
        until = time.monotonic() + HANG
        while not waiting.is_over and time.monotonic() < until:
            reluctant.execute("INCR", ":1:k")
            threading.Event().wait(0.02)
        assert waiting.result() is True
        assert still.result() is False
        gone = Waiting(form, cache, "k", PATIENCE)
        threading.Event().wait(0.3)
        reluctant.execute("DEL", ":1:k")
        assert gone.result() is True
    assert watched(reluctant) == 0
    assert len(reluctant.clients()) == 1
    [warning] = warnings_of(caplog)
    assert "TRACKING" in warning.upper()
    # All else works on that connection as before.
    assert cache.get("still") == "v"


def test_a_server_that_tells_is_worth_no_warning(
    fresh_server: ValkeyServer, form: str, caplog: pytest.LogCaptureFixture
) -> None:
    cache = make_cache(fresh_server)
    waiting = Waiting(form, cache, "k", PATIENCE)
    until_under_way(fresh_server, cache, waiting)
    kill_connections(fresh_server)
    until_watched(fresh_server, waiting, count=2)
    fresh_server.execute("SET", ":1:k", "v")
    assert waiting.result() is True
    assert warnings_of(caplog) == []


FORKED = """
import warnings
warnings.simplefilter("ignore", DeprecationWarning)

form = _request["loop"]

def wait(name):
    async def awaited():
        return await cache.await_changed("k", 60)
    report([name, cache.wait_changed("k", 60) if form == "blocking" else run(awaited())])

cache.set("warm", 1)
waiting = threading.Thread(target=wait, args=("parent",))
waiting.start()
wait_for_word()
pid = os.fork()
if pid == 0:
    code = 1
    try:
        wait("child")
        wait("child again")
        code = 0
    finally:
        os._exit(code)
waiting.join()
report(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
report([cache.get("warm"), cache.execute("CLIENT", "ID")])
"""


def test_a_forked_child_waits_for_itself(fresh_server: ValkeyServer, form: str) -> None:
    """Parent and child wait for one key over a connection each, and a change wakes both of them."""
    with Program(FORKED, {"default": cache_setting(fresh_server)}, form) as program:
        until_watched(fresh_server)
        program.tell()
        until_watched(fresh_server, count=2)
        [parents, childs] = fresh_server.clients()
        fresh_server.execute("SET", ":1:k", 1)
        assert sorted([program.report(HANG), program.report(HANG)]) == [["child", True], ["parent", True]]
        until_watched(fresh_server)
        fresh_server.execute("SET", ":1:k", 2)
        reports = [program.report(HANG) for _ in range(3)]
        assert ["child again", True] in reports
        assert 0 in reports
        [_, own] = next(each for each in reports if isinstance(each, list) and each[0] == 1)
        assert str(own) == min(parents["id"], childs["id"], key=int)
        program.end()
