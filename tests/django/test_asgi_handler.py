"""Django's own tests pass with our ASGI handler in the place of Django's, unmodified. They run in three processes at
once. In all of them the class and the async test client are ours. In two the blocking test client is, too.
"""

from __future__ import annotations

import faulthandler
import re
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, closing
from types import MappingProxyType
from typing import NamedTuple

import django
import pytest
from suite import Result, Run, run_packages

# For a machine with two cores on which other tests run as well.
PATIENCE = 900.0


class Part(NamedTuple):
    """Packages and modules of Django's tests, and at least how many tests they have and requests they make. Django 5.2
    has fewer than 6.1. That the requests came says that the classes were really swapped."""

    labels: list[str]
    tests: int
    requests: int
    env: Mapping[str, str] = MappingProxyType({})


# The modules that make requests. What hashes passwords and asks for them on a terminal takes minutes without any.
AUTH = [
    f"auth_tests.test_{module}"
    for module in (
        "admin_multidb",
        "auth_backends",
        "basic",
        "context_processors",
        "decorators",
        "login",
        "middleware",
        "mixins",
        "remote_user",
        "signals",
        "templates",
        "views",
    )
]
OUR_CLIENT = {"VCACHE_ASYNC_CLIENT": "1"}
PARTS = {
    # A test of middleware_exceptions wants the log of what is adapted when the blocking client loads middleware.
    "plain": Part(["asgi", "async", "handlers", "middleware_exceptions", "servers", "signals"], 220, 15),
    # In 5.2 the async half of RemoteUserMiddleware sets no `request.user`, under Django's handler as well.
    "auth": Part(AUTH, 400, 400, OUR_CLIENT) if django.VERSION >= (6,) else Part(AUTH, 320, 0),
    "client": Part(
        ["csrf_tests", "messages_tests", "middleware", "sessions_tests", "test_client", "urlpatterns", "view_tests"],
        1100,
        500,
        OUR_CLIENT,
    ),
}


@pytest.fixture(scope="module")
def runs() -> Iterator[dict[str, Run]]:
    with ExitStack() as stack:
        yield {
            name: stack.enter_context(closing(run_packages("vcache_handler", part.labels, **part.env)))
            for name, part in PARTS.items()
        }


def requests(result: Result) -> int:
    """How many requests our handler had."""
    return int(re.findall(r"^requests to our handler: (\d+)$", result.output, re.MULTILINE)[-1])


@pytest.mark.parametrize("name", PARTS)
def test_djangos_tests_pass_with_our_handler(runs: dict[str, Run], name: str) -> None:
    # The patience is longer than that of the test runner.
    faulthandler.cancel_dump_traceback_later()
    result = runs[name].result(PATIENCE)
    result.check()
    assert result.count >= PARTS[name].tests
    assert requests(result) >= PARTS[name].requests
