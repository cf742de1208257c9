"""What a load generator saw, whichever it was."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

TOOLS = Path(__file__).parents[2] / "target" / "tools" / "bin"
"""Where the Makefile puts what it builds."""


class LoadError(Exception):
    """A load generator is not there, or its answer is not understood."""


@dataclass(frozen=True)
class Load:
    """What a run saw. Latencies are in milliseconds."""

    requests: int
    seconds: float
    mean: float
    p50: float
    p99: float
    refused: int
    """Answers that were no success."""
    failed: int
    """Requests without an answer: time-outs, and connections that broke."""

    @property
    def problem(self) -> str | None:
        """Why the round is void; None if each request was answered with success."""
        if self.refused or self.failed or not self.requests:
            return f"void: {self.refused} of {self.requests} answers are no success, {self.failed} have none"
        return None


def tool(name: str, how: str) -> str:
    """Where a program is.

    Raises:
        LoadError: it is neither on PATH nor among the tools that the Makefile builds.
    """
    found = shutil.which(name) or shutil.which(name, path=str(TOOLS))
    if found is None:
        raise LoadError(f"{name} was not found: {how}")
    return found
