"""No test sees a pickle that an earlier one has loaded."""

import pytest
from support import codecs


@pytest.fixture(autouse=True)
def nothing_loaded() -> None:
    codecs.loaded.clear()
