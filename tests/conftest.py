"""Fixtures for every test: servers of our own, caches on them, and the two event loops. Django is
configured once, with no cache of ours; a test that needs `settings.CACHES` overrides it.
"""

from __future__ import annotations

import gc
import os
import sys
import weakref
from collections.abc import Callable, Coroutine, Generator, Iterator
from typing import Any, Protocol

import django
import pytest
from django.conf import settings
from support import chromium, postgres
from support import server as servers
from support.caches import make_cache
from support.clusters import ClusterServer
from support.driver import LOOPS, AsyncDriven, open_runner
from support.server import ValkeyServer, redis_binary

# Some tests panic a thousand times, and a backtrace each takes minutes to resolve. The programs that tests start
# inherit it.
os.environ["RUST_BACKTRACE"] = "0"

settings.configure(
    SECRET_KEY="vcache-tests",
    ALLOWED_HOSTS=["*"],
    CACHES={"default": {"BACKEND": "django.core.cache.backends.dummy.DummyCache"}},
    ROOT_URLCONF="support",
    # For users, and for the commands and system checks.
    INSTALLED_APPS=["django.contrib.contenttypes", "django.contrib.auth", "django_vcache"],
    USE_TZ=True,
)
django.setup()

# Ten thousand tests are collected, and stay until the end: nothing of them is garbage, to look for.
gc.disable()

Run = Callable[[Coroutine[Any, Any, Any]], Any]


class CacheFactory(Protocol):
    """Builds a cache on the session's server, or on another server or LOCATION."""

    def __call__(self, server: ValkeyServer | str | None = None, **options: Any) -> Any: ...


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """What a test printed or logged can be sent to another process: a lone surrogate has no form for that."""
    report = yield
    report.sections = [(name, text.encode(errors="backslashreplace").decode()) for name, text in report.sections]
    return report


# These files keep a processor busy for minutes. They begin first: at the end, one process would wait for them alone.
LONGEST = ("tests/scaffold/test_build.py", "tests/django/test_asgi_handler.py", "tests/guests/")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if over := config.getoption("--over"):
        left_out = [item for item in items if not _has_to_do_with(over, item)]
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in set(left_out)]
    items.sort(
        key=lambda item: next((at for at, name in enumerate(LONGEST) if item.nodeid.startswith(name)), len(LONGEST))
    )


def _has_to_do_with(over: str, item: pytest.Item) -> bool:
    if over == "tls":
        return item.get_closest_marker("plain_server") is None
    # A test that starts its own servers would run on the same ones as without the option.
    fixtures = item._fixtureinfo.name2fixturedefs  # type: ignore[attr-defined]
    asked = [fixtures[name][-1] for name in ("server", "open_server") if name in item.fixturenames]  # type: ignore[attr-defined]
    return any(each.scope == "session" for each in asked) and item.get_closest_marker("one_server") is None


def pytest_collection_finish() -> None:
    # Nor is it looked through when a test collects its own garbage, which would take seconds each time.
    gc.freeze()
    gc.enable()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--over",
        choices=["tls", "cluster"],
        help="every server of the tests speaks TLS, or the session's is a cluster of three nodes",
    )


def pytest_report_header(config: pytest.Config) -> str | None:
    match config.getoption("--over"):
        case "tls":
            return "over TLS: every server speaks TLS; without tests about a plain server (plain_server)"
        case "cluster":
            return (
                "over a cluster: the session's server is three nodes; without tests that do not use it or are about "
                "one server (one_server)"
            )
    return None


def pytest_configure(config: pytest.Config) -> None:
    servers.every_server_has_tls = config.getoption("--over") == "tls"


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if redis_binary() is None:
        terminalreporter.write_line("There is no redis-server 7 on PATH: the scripts of admission ran on Valkey only.")
    if postgres.programs() is None:
        terminalreporter.write_line(postgres.MISSING)
    if chromium.program() is None:
        terminalreporter.write_line(chromium.MISSING)


@pytest.fixture(scope="session")
def open_server(request: pytest.FixtureRequest) -> Callable[[], ValkeyServer | ClusterServer]:
    """Starts a server of the kind that the session's is. The caller stops it."""
    return ClusterServer if request.config.getoption("--over") == "cluster" else ValkeyServer


@pytest.fixture(scope="session")
def server(open_server: Callable[[], ValkeyServer | ClusterServer]) -> Iterator[ValkeyServer | ClusterServer]:
    """The session's server. It is empty when a test begins; do not kill, pause or configure it."""
    with open_server() as server:
        yield server


@pytest.fixture(autouse=True)
def _flush(request: pytest.FixtureRequest) -> None:
    if "server" in request.fixturenames:
        request.getfixturevalue("server").execute("FLUSHALL")


@pytest.fixture
def fresh_server() -> Iterator[ValkeyServer]:
    """A server for one test, which may kill, restart, pause or configure it."""
    with ValkeyServer() as server:
        yield server


@pytest.fixture(params=LOOPS)
def run(request: pytest.FixtureRequest) -> Iterator[Run]:
    """Runs a coroutine to its end; the test runs once on asyncio and once on uvloop."""
    with open_runner(request.param) as runner:
        yield runner.run


@pytest.fixture(params=["sync", *LOOPS])
def drive(request: pytest.FixtureRequest) -> Iterator[Callable[[Any], Any]]:
    """Wraps a cache so that the test's calls go through the sync half, then the async half."""
    if request.param == "sync":
        yield lambda cache: cache
        return
    with open_runner(request.param) as runner:
        yield lambda cache: AsyncDriven(cache, runner)


@pytest.fixture
def cache_factory(server: ValkeyServer, drive: Callable[[Any], Any]) -> CacheFactory:
    """`cache_factory(server, **options)`: caches to be called through both halves of the API."""

    def build(where: ValkeyServer | str | None = None, **options: Any) -> Any:
        return drive(make_cache(server if where is None else where, **options))

    return build


@pytest.fixture
def cache(cache_factory: CacheFactory) -> Any:
    """A cache with default options on the session's server."""
    return cache_factory()


@pytest.fixture
def no_other_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Checks see the limits of this test only: those of others may be wrong on purpose."""
    from django_vcache._vcache import aliases_in_use, aliases_with_streams, throttles_in_use
    from django_vcache.admission import checks
    from django_vcache.admission.views import found, limit

    monkeypatch.setattr(limit, "_all", weakref.WeakSet())
    if ninja := sys.modules.get("django_vcache.ninja"):
        monkeypatch.setattr(ninja, "_all", weakref.WeakSet())
    others = set(checks.aliases_in_use())
    monkeypatch.setattr(checks, "aliases_in_use", lambda: set(aliases_in_use()) - others)
    throttles = set(found.throttles_in_use())
    ours = throttles_in_use
    monkeypatch.setattr(found, "throttles_in_use", lambda: [each for each in ours() if each not in throttles])
    storing = set(aliases_with_streams())
    monkeypatch.setattr(checks, "aliases_with_streams", lambda: set(aliases_with_streams()) - storing)
