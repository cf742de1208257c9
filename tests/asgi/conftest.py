"""Every test of the handler begins and ends without lanes. The fixtures of its views and middleware are found here."""

from __future__ import annotations

import pytest
from support.asgi import drained  # noqa: F401
from support.asgi_middleware import middleware_site  # noqa: F401
from support.asgi_views import app, signal, view_site  # noqa: F401


@pytest.fixture(autouse=True)
def _no_lanes(drained: None) -> None:  # noqa: F811
    pass
