"""Every test of hot routes begins and ends without lanes."""

from __future__ import annotations

import pytest
from support.asgi import drained  # noqa: F401


@pytest.fixture(autouse=True)
def _no_lanes(drained: None) -> None:  # noqa: F811
    pass
