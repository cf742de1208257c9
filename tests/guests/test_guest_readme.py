"""The README of the example crate does what it says."""

from __future__ import annotations

import json
import types
from typing import Any

import pytest
from support.guests import default_on
from support.server import ValkeyServer
from support.snippets import execute


@pytest.mark.usefixtures("_importable")
def test_the_snippet_of_the_example(server: ValkeyServer, run: Any) -> None:
    module: Any = types.ModuleType("readme")
    with default_on(server):
        run(execute("examples/quota_guest/README.md", module))
        answer = run(module.view(None, 42))
        assert (answer.status_code, json.loads(answer.content)) == (200, {"left": 997})
        assert run(module.view(None, 43)).status_code == 429
