"""The docstrings of the stubs are those of the compiled module."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

CHECKOUT = Path(__file__).parents[2]
SCRIPT = CHECKOUT / "scripts" / "docstrings.py"


def run(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *command], cwd=CHECKOUT, capture_output=True, text=True, check=False)


@pytest.fixture
def docstrings() -> Any:
    spec = importlib.util.spec_from_file_location("docstrings", SCRIPT)
    assert spec
    assert spec.loader
    spec.loader.exec_module(module := importlib.util.module_from_spec(spec))
    return module


@pytest.mark.parametrize(
    "command",
    [[str(SCRIPT), "--check"], ["-m", "django_vcache", "stubs", "django_vcache.hotpaths", "--check"]],
    ids=["_vcache.pyi", "hotpaths.pyi"],
)
def test_the_stubs_are_up_to_date(command: list[str]) -> None:
    done = run(*command)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def compiled() -> SimpleNamespace:
    class Gate:
        """A gate."""

        def admit(self, cost: int) -> bool:
            """Decides.

            - `cost`: units, with a line that goes on and on and on and on and on and on and on and on and on and on and
              on after it.

            ```python
            gate.admit(
                1)
            ```
            """
            raise NotImplementedError

        def peek(self) -> None: ...

        @property
        def name(self) -> str:
            """The name."""
            raise NotImplementedError

    def parse(rate: str) -> None:
        """Parses."""

    return SimpleNamespace(Gate=Gate, parse=parse)


STUB = """\
class Gate:
    def admit(self, cost: int) -> bool: ...
    def peek(self) -> None:
        \"\"\"What only the stub says.\"\"\"
    @property
    def name(self) -> str:
        \"\"\"What was
        said before.
        \"\"\"

class _Arguments:
    cost: int

def parse(
    rate: str,
) -> None: ...
"""

WRITTEN = """\
class Gate:
    \"\"\"A gate.\"\"\"

    def admit(self, cost: int) -> bool:
        \"\"\"Decides.

        - `cost`: units, with a line that goes on and on and on and on and on and on and on and on and on and on and on
          after it.

        ```python
        gate.admit(
            1)
        ```
        \"\"\"
    def peek(self) -> None:
        ...
    @property
    def name(self) -> str:
        \"\"\"The name.\"\"\"

class _Arguments:
    cost: int

def parse(
    rate: str,
) -> None:
    \"\"\"Parses.\"\"\"
"""


def test_docstrings_are_written_and_signatures_stay(docstrings: ModuleType) -> None:
    assert docstrings.written(STUB, compiled()) == WRITTEN
    assert docstrings.written(WRITTEN, compiled()) == WRITTEN


def test_a_name_that_the_module_has_not_is_an_error(docstrings: ModuleType) -> None:
    with pytest.raises(AttributeError, match="gone"):
        docstrings.written("def gone() -> None: ...", compiled())


def test_a_long_line_is_filled(docstrings: ModuleType) -> None:
    first, second, end = docstrings.docstring("word " * 30, " " * 8)
    assert first.startswith('        """word word')
    assert 110 < len(first) <= 120
    assert second.startswith("        word")
    assert end == '        """'
