"""Every test of the handler begins and ends without lanes. The fixtures of its views and middleware are found here."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from django.core.signals import request_started
from support.asgi import drained  # noqa: F401
from support.asgi_middleware import middleware_site  # noqa: F401
from support.asgi_views import app, signal, view_site  # noqa: F401


@pytest.fixture(autouse=True)
def _no_lanes(drained: None) -> None:  # noqa: F811
    pass


@pytest.fixture(autouse=True)
def _no_receiver_of_other_tests() -> Iterator[None]:
    """One that embedded servers need, once another test of this process has used one, is foreign to the handler."""
    from django_vcache._aliases import _renew_embedded

    was_connected = request_started.disconnect(_renew_embedded)
    yield
    if was_connected:
        request_started.connect(_renew_embedded)
