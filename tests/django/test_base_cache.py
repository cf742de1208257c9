"""Django's own suite passes on our backend, unmodified, through the sync and the async methods,
and every test of Django's class was really run. The runs mostly sleep, waiting for keys to
expire, so they all start at once, each on a server of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing

import pytest
from suite import Run, fetch_django_source, run_cases, written_tests
from support.server import ValkeyServer

CULLING = {"test_cull", "test_zero_cull", "test_cull_delete_when_store_empty"}
# Cases that make no sense through the async methods (vcache_suite.py says why), and what takes
# their place.
NOT_ASYNC = {
    "test_get_or_set_racing",
    "test_cache_write_for_model_instance_with_deferred",
    "test_cache_read_for_model_instance_with_deferred",
}
INSTEAD = {"test_aget_or_set_racing", "test_evaluated_queryset_with_deferred"}
MIDDLEWARE = {
    "MiddlewareTests": "CacheMiddlewareTest",
    "UtilsTests": "CacheUtils",
    "PrefixedUtilsTests": "CacheUtils",
    "HeadTests": "CacheHEADTest",
    "I18nTests": "CacheI18nTest",
    "TemplateResponseTests": "TestWithTemplateResponse",
}
RUNS = {
    "sync": ("cache", "vcache_suite", ["ValkeyCacheTests"]),
    "shared": ("cache", "vcache_suite", ["SharedTests"]),
    "asyncio": ("cache", "vcache_suite", ["AsyncioTests"]),
    "uvloop": ("cache", "vcache_suite", ["UvloopTests"]),
    "middleware": ("cache", "vcache_suite", list(MIDDLEWARE)),
    "sessions": ("sessions_tests", "vcache_sessions", ["CacheSessions", "CachedDatabaseSessions"]),
}


@pytest.fixture(scope="module")
def runs(open_server: Callable[[], ValkeyServer]) -> Iterator[dict[str, Run]]:
    with ExitStack() as stack:
        started = {}
        for name, (package, module, labels) in RUNS.items():
            server = stack.enter_context(open_server())
            run = run_cases(package, module, labels, VCACHE_URL=server.url)
            started[name] = stack.enter_context(closing(run))
        yield started


def base_cache_tests() -> set[str]:
    return written_tests(fetch_django_source(), "cache/tests.py", "BaseCacheTests")


def test_django_has_the_tests_this_suite_was_written_for() -> None:
    assert len(base_cache_tests()) >= 54  # 5.2 has 54, 6.1 has 62
    assert base_cache_tests() >= CULLING | NOT_ASYNC


@pytest.mark.parametrize(("name", "case"), [("sync", "ValkeyCacheTests"), ("shared", "SharedTests")])
def test_base_cache_tests_pass_unmodified(runs: dict[str, Run], name: str, case: str) -> None:
    result = runs[name].result()
    result.check()
    # NOTE: of those that a decorator skips, CPython 3.12.1 says that they did not run.
    expected = dict.fromkeys(base_cache_tests(), "ok") | dict.fromkeys(CULLING, "skipped")
    assert result.outcomes(case) == expected
    assert len(expected) - len(CULLING) <= result.count <= len(expected)


@pytest.mark.parametrize(("name", "case"), [("asyncio", "AsyncioTests"), ("uvloop", "UvloopTests")])
def test_base_cache_tests_pass_through_the_async_methods(runs: dict[str, Run], name: str, case: str) -> None:
    if name == "uvloop":
        pytest.importorskip("uvloop")
    result = runs[name].result()
    result.check()
    skipped = CULLING | NOT_ASYNC
    expected = dict.fromkeys(base_cache_tests(), "ok") | dict.fromkeys(skipped, "skipped")
    expected |= dict.fromkeys(INSTEAD, "ok")
    assert result.outcomes(case) == expected
    assert len(expected) - len(skipped) <= result.count <= len(expected)


def test_cache_middleware_tests_pass(runs: dict[str, Run]) -> None:
    result = runs["middleware"].result()
    result.check()
    for case, base in MIDDLEWARE.items():
        names = written_tests(fetch_django_source(), "cache/tests.py", base)
        assert result.outcomes(case) == dict.fromkeys(names, "ok"), case


def test_session_tests_pass_sync_and_async(runs: dict[str, Run]) -> None:
    result = runs["sessions"].result()
    result.check()
    for case, base in [
        ("CacheSessions", "CacheSessionTests"),
        ("CachedDatabaseSessions", "CacheDBSessionTests"),
    ]:
        names = written_tests(fetch_django_source(), "sessions_tests/tests.py", "SessionTestsMixin", base)
        outcomes = result.outcomes(case)
        assert names <= outcomes.keys(), case
        assert set(outcomes.values()) == {"ok"}, case
