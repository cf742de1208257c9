"""Connecting before the first request: what warm_up() does, and which processes do it by themselves."""

from __future__ import annotations

import logging
import socket
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from django.test import override_settings
from support.caches import cache_setting
from support.programs import Program, run_program
from support.server import ValkeyServer, wait_until

LOCMEM = {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"}


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> None:
    """This process passes for one that begins to serve."""
    monkeypatch.setattr(sys, "argv", ["/srv/venv/bin/uvicorn", "site.asgi:application"])


@pytest.fixture
def silent() -> Iterator[str]:
    """The URL of a server that takes connections and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield f"redis://127.0.0.1:{listening.getsockname()[1]}/0"


def scripts(server: ValkeyServer) -> int:
    return int(server.info("memory")["number_of_cached_scripts"])


@pytest.mark.parametrize("form", ["warm_up", "awarm_up"])
@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_the_first_decision_is_one_round_trip_and_no_connection(
    fresh_server: ValkeyServer, form: str, loop: str
) -> None:
    program = f"""
        import django_vcache
        from django_vcache.admission import Gate, Quota, Throttle
        gate = Gate([Throttle("org", "5/m")], [Quota("events", 100, "month")], owner="org")

        async def warm():
            return await django_vcache.awarm_up()

        report(django_vcache.warm_up() if {form!r} == "warm_up" else run(warm()))
        wait_for_word()
        report(gate.admit({{"org": 1}}).source)
    """
    with Program(program, {"default": cache_setting(fresh_server)}, loop) as running:
        assert running.report() is True
        assert fresh_server.command_counts().get("script|load") == 3
        fresh_server.execute("CONFIG", "RESETSTAT")
        running.tell()
        assert running.report() == "server"
        counts = {name: n for name, n in fresh_server.command_counts().items() if not name.startswith(("con", "info"))}
        # The script's own commands are counted as well.
        assert counts["evalsha"] == 1
        assert not {"eval", "hello"}.intersection(counts)
        running.end()


def test_a_server_that_is_away_is_a_warning_and_no_error(caplog: pytest.LogCaptureFixture) -> None:
    import django_vcache

    with ValkeyServer() as gone:
        away = cache_setting(gone)
    with override_settings(CACHES={"default": away}), caplog.at_level(logging.WARNING, "django_vcache"):
        assert django_vcache.warm_up() is False
    (record,) = caplog.records
    assert "cache 'default'" in record.getMessage()
    assert "at the start of this process" in record.getMessage()


def test_each_alias_that_is_given_is_met(server: ValkeyServer) -> None:
    import django_vcache
    from django_vcache.exceptions import ConfigurationError

    caches = {"default": LOCMEM, "limits": cache_setting(server), "sessions": cache_setting(server, DB=1)}
    with override_settings(CACHES=caches):
        # A mistake is told; what was not named is left out.
        with pytest.raises(ConfigurationError, match="'nowhere'"):
            django_vcache.warm_up("limits", "nowhere")
        with pytest.raises(ConfigurationError, match="LocMemCache"):
            django_vcache.warm_up("default")
        with pytest.raises(TypeError, match=r"warm_up\(\) takes the names of aliases, each an argument, not list"):
            django_vcache.warm_up(["limits"])  # type: ignore[arg-type]
        assert django_vcache.warm_up("limits", "sessions") is True
        with override_settings(VCACHE={"THROTTLE_ALIAS": "limits"}):
            assert django_vcache.warm_up() is True


def test_without_a_server_to_meet_the_answer_is_no(run: Any) -> None:
    import django_vcache

    for setting in (LOCMEM, {"BACKEND": "django_vcache.ValkeyCache", "LOCATION": "embedded://"}):
        with override_settings(CACHES={"default": setting}):
            assert django_vcache.warm_up() is False
            assert run(django_vcache.awarm_up()) is False


def test_an_alias_that_is_no_cache_is_told_in_words() -> None:
    import django_vcache
    from django_vcache.exceptions import ConfigurationError

    wrong: dict[str, Any] = {"default": LOCMEM, "empty": {}, "text": "redis://localhost"}
    with override_settings(CACHES=wrong):
        for alias in ("empty", "text"):
            with pytest.raises(ConfigurationError, match=rf"CACHES\['{alias}'\] is no dict with a BACKEND"):
                django_vcache.warm_up(alias)
        with pytest.raises(ConfigurationError, match=r"warm_up\(\) wants the cache alias 'nowhere'"):
            django_vcache.warm_up("nowhere")
    with override_settings(CACHES={"default": {}}):
        assert django_vcache.warm_up() is False


def test_a_user_without_leave_to_load_scripts_connects(server: ValkeyServer) -> None:
    import django_vcache

    server.execute("ACL", "SETUSER", "bare", "on", ">secret", "+@all", "-script", "~*")
    try:
        with override_settings(CACHES={"default": cache_setting(server, USERNAME="bare", PASSWORD="secret")}):
            assert django_vcache.warm_up() is True
    finally:
        server.execute("ACL", "DELUSER", "bare")


@pytest.mark.parametrize(
    ("argv", "environment", "serves"),
    [
        (["/venv/bin/uvicorn", "site.asgi:application"], {}, True),
        (["/venv/lib/python3.13/site-packages/uvicorn/__main__.py", "site.asgi:application"], {}, True),
        (["/venv/bin/granian"], {}, True),
        (["/venv/bin/gunicorn", "site.wsgi"], {}, True),
        # The process that loads the application serves nothing: it forks those that do.
        (["/venv/bin/gunicorn", "--preload", "site.wsgi"], {}, False),
        (["/venv/bin/gunicorn", "site.wsgi"], {"GUNICORN_CMD_ARGS": "--workers 3 --preload"}, False),
        (["manage.py", "runserver"], {"RUN_MAIN": "true"}, True),
        (["manage.py", "runserver", "--noreload"], {}, True),
        # The process that watches the files.
        (["manage.py", "runserver"], {}, False),
        (["manage.py", "migrate"], {}, False),
        (["/venv/bin/pytest"], {}, False),
        (["/srv/uvicorn/manage.py", "check"], {}, False),
        (["-c"], {}, False),
        ([""], {}, False),
    ],
    ids=str,
)
def test_a_process_that_serves_is_known(
    monkeypatch: pytest.MonkeyPatch, argv: list[str], environment: dict[str, str], serves: bool
) -> None:
    from django_vcache import _warming as warming

    monkeypatch.setattr(sys, "argv", argv)
    monkeypatch.delenv("RUN_MAIN", raising=False)
    monkeypatch.delenv("GUNICORN_CMD_ARGS", raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert warming._serves() is serves


APPLICATION = """
import sys
from django.conf import settings
sys.argv = {argv!r}
settings.configure(
    SECRET_KEY="x", INSTALLED_APPS=["django_vcache"], CACHES={caches!r}, VCACHE={vcache!r}, LOGGING_CONFIG=None
)
import django
django.setup()
{rest}
"""


def application(caches: dict[str, Any], rest: str, vcache: Any = None, program: str = "granian") -> str:
    source = APPLICATION.format(argv=[program], caches=caches, vcache=vcache or {}, rest=rest)
    done = subprocess.run([sys.executable, "-c", source], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


JOINED = "import threading\n[each.join() for each in threading.enumerate() if each.name.startswith('vcache-warm')]"


def test_a_server_with_the_application_connects_as_it_starts(fresh_server: ValkeyServer) -> None:
    caches = {"default": cache_setting(fresh_server)}
    assert application(caches, JOINED) == ""
    assert scripts(fresh_server) == 3
    fresh_server.execute("SCRIPT", "FLUSH")
    for vcache, program in (({"WARM_UP": False}, "granian"), ({}, "manage.py"), ({"NONSENSE": 1}, "granian")):
        assert application(caches, JOINED, vcache, program) == ""
        assert scripts(fresh_server) == 0


def test_a_server_that_cannot_connect_starts_all_the_same() -> None:
    with ValkeyServer() as gone:
        away = cache_setting(gone)
    said = application({"default": away}, JOINED)
    assert "cache 'default'" in said
    # Another backend's, and options that are wrong, are for others to tell.
    for setting in (LOCMEM, {"BACKEND": "no.such.Cache"}, {**away, "OPTIONS": {"NONSENSE": 1}}):
        assert application({"default": setting}, JOINED) == ""


def test_a_process_may_end_while_its_server_is_silent(silent: str) -> None:
    setting = {"BACKEND": "django_vcache.ValkeyCache", "LOCATION": silent}
    assert application({"default": setting}, "") == ""


def test_a_child_of_a_process_that_connects_is_fine(fresh_server: ValkeyServer) -> None:
    source = """
        from django_vcache._warming import warm_up_at_start
        sys.argv = ["granian"]
        warm_up_at_start()
        child = os.fork()
        cache.set("k", os.getpid())
        if child:
            os.waitpid(child, 0)
            report(cache.get("k") in (child, os.getpid()))
        else:
            os._exit(0)
    """
    assert run_program(source, {"default": cache_setting(fresh_server)}, "asyncio") is True
    wait_until(lambda: len(fresh_server.clients()) <= 1)


def test_an_embedded_server_is_not_started_before_it_is_needed(served: None) -> None:
    from django_vcache import _warming as warming

    setting = {"BACKEND": "django_vcache.ValkeyCache", "LOCATION": "embedded://"}
    with override_settings(CACHES={"default": setting}):
        assert warming._published(()) == []
