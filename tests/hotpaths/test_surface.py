"""How the hot paths look to Python, which connection they use, and what they say when there is none."""

from __future__ import annotations

import asyncio
import inspect
import textwrap
from typing import Any

import pytest
from support.caches import cache_setting
from support.driver import LOOPS
from support.programs import run_program
from support.server import ValkeyServer

NAMES = ["allow", "aallow", "enqueue", "aenqueue", "read", "aread", "connection_id", "aconnection_id"]
PARAMETERS = {
    "allow": ["key", "limit", "period", "cost"],
    "aallow": ["key", "limit", "period", "cost"],
    "enqueue": ["stream", "payload", "maxlen"],
    "aenqueue": ["stream", "payload", "maxlen"],
    "read": ["key"],
    "aread": ["key"],
    "connection_id": [],
    "aconnection_id": [],
}


@pytest.mark.parametrize("name", NAMES)
def test_signatures_and_docstrings_speak_of_python_arguments_only(name: str) -> None:
    from django_vcache import hotpaths

    function = getattr(hotpaths, name)
    assert list(inspect.signature(function).parameters) == PARAMETERS[name]
    assert "conn" not in function.__text_signature__
    assert len(inspect.getdoc(function)) > 100
    assert "&mut" not in function.__doc__
    assert function.__name__ == name


def test_defaults_are_in_the_signature() -> None:
    from django_vcache import hotpaths

    assert inspect.signature(hotpaths.allow).parameters["cost"].default == 1
    assert inspect.signature(hotpaths.enqueue).parameters["maxlen"].default is None


def test_the_module_exports_what_it_documents() -> None:
    from django_vcache import hotpaths

    assert sorted(hotpaths.__all__) == sorted(NAMES)


def test_arguments_go_by_position_and_by_name(hot: Any) -> None:
    assert hot.allow("k", 10, 3600).remaining == 9
    assert hot.allow("k", 10, 3600, 2).remaining == 7
    assert hot.allow("k", limit=10, period=3600, cost=3).remaining == 4
    assert hot.allow(period=3600.0, key="k", limit=10).remaining == 3
    for wrong in ({}, {"key": "k"}, {"key": "k", "limit": 1, "period": 1, "nonsense": 1}, {"conn": 1}):
        with pytest.raises(TypeError):
            hot.allow(**wrong)


def test_hot_paths_use_the_connection_of_the_default_alias(hot: Any, server: ValkeyServer) -> None:
    from django.core.cache import caches

    before = caches["default"].execute("CLIENT", "ID")
    server.execute("CONFIG", "RESETSTAT")
    hot.enqueue("events", b"x")
    hot.allow("k", 1, 60)
    assert int(server.info("stats")["total_connections_received"]) == 0
    assert caches["default"].execute("CLIENT", "ID") == before


def test_an_awaited_hot_path_is_an_ordinary_coroutine(run: Any, default_alias: None) -> None:
    from django_vcache import hotpaths

    async def main() -> None:
        async with asyncio.timeout(10):
            first, second = await asyncio.gather(hotpaths.aallow("k", 2, 3600), hotpaths.aenqueue("s", b"x"))
        assert first.allowed
        assert second
        shielded = asyncio.shield(hotpaths.aenqueue("s", b"y"))
        assert await asyncio.wait_for(shielded, 10)
        task = asyncio.ensure_future(hotpaths.aenqueue("s", b"z"))
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await hotpaths.aallow("k", 2, 3600)

    run(main())


def test_awaiting_without_a_loop_says_what_to_call(default_alias: None) -> None:
    from django_vcache import hotpaths

    with pytest.raises(RuntimeError, match=r"loop.*blocking form"):
        hotpaths.aallow("k", 1, 60).send(None)


UNCONFIGURED = """
errors = []
for call in (lambda: hotpaths.allow("k", 1, 60), lambda: hotpaths.enqueue("s", b"x")):
    try:
        call()
    except exceptions.ConfigurationError as error:
        errors.append(str(error))

async def main():
    for call in (lambda: hotpaths.aallow("k", 1, 60), lambda: hotpaths.aenqueue("s", b"x")):
        try:
            await call()
        except exceptions.ConfigurationError as error:
            errors.append(str(error))

run(main())
report(errors)
"""


@pytest.mark.parametrize("loop", LOOPS)
def test_a_default_alias_of_another_backend_is_a_configuration_error(loop: str) -> None:
    caches = {"default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"}}
    errors = run_program(UNCONFIGURED, caches, loop)
    assert len(errors) == 4
    for error in errors:
        assert "'default'" in error
        assert "LocMemCache" in error
        assert "django_vcache.ValkeyCache" in error


@pytest.mark.parametrize("loop", LOOPS)
def test_a_missing_default_alias_is_a_configuration_error(loop: str, server: ValkeyServer) -> None:
    body = textwrap.indent(UNCONFIGURED, "    ")
    program = f"""
from django.test.utils import override_settings
with override_settings(CACHES={{"other": _request["caches"]["default"]}}):
{body}
"""
    errors = run_program(program, {"default": cache_setting(server)}, loop)
    assert len(errors) == 4
    for error in errors:
        assert "'default'" in error


@pytest.mark.parametrize("loop", LOOPS)
def test_the_alias_is_found_on_the_first_call_of_a_process(fresh_server: ValkeyServer, loop: str) -> None:
    source = """
        async def main():
            return await hotpaths.aenqueue("s", b"x")
        run(main())
        report(hotpaths.allow("k", 5, 60).remaining)
    """
    assert run_program(source, {"default": cache_setting(fresh_server, DB=2)}, loop) == 4
    assert fresh_server.info("keyspace")["db2"].startswith("keys=2")


def test_errors_name_the_alias_and_the_server(hot: Any) -> None:
    from django.test import override_settings

    from django_vcache.backend import publish_alias
    from django_vcache.exceptions import ConnectionError

    with ValkeyServer() as gone:
        setting = cache_setting(gone, CONNECT_TIMEOUT=2.0)
    with override_settings(CACHES={"default": setting}):
        publish_alias("default")
        for call in (lambda: hot.allow("k", 1, 60), lambda: hot.enqueue("s", b"x")):
            with pytest.raises(ConnectionError, match="cache 'default'.*" + gone.address):
                call()
