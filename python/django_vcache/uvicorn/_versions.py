"""Which releases of uvicorn were tested. Its protocol classes are no stable API, so another release may differ in what
is used of them."""

import logging
import re
from importlib import metadata

__all__ = ["TESTED", "check"]

LOWEST = (0, 40)
HIGHEST = (0, 54)
TESTED = "uvicorn>=0.40,<0.55"
"""The requirement, as the extra ``uvicorn`` of the package has it."""

_INSTALL = f'pip install "{TESTED}"'


def check() -> None:
    """Warns of a release that is newer than the tested ones.

    Raises:
        ImportError: uvicorn is missing, or older than what can be used.
    """
    try:
        version = metadata.version("uvicorn")
    except metadata.PackageNotFoundError as error:
        raise ImportError(f"django_vcache.uvicorn needs uvicorn, which is not installed. Run: {_INSTALL}") from error
    if problem := too_old(version):
        raise ImportError(problem)
    if problem := too_new(version):
        logging.getLogger("uvicorn.error").warning("%s", problem)


def too_old(version: str) -> str:
    """A sentence about a version of uvicorn that cannot be used, or nothing."""
    if _numbers(version) >= LOWEST:
        return ""
    return f"django_vcache.uvicorn was tested with {TESTED}, and uvicorn {version} is older. Run: {_INSTALL}"


def too_new(version: str) -> str:
    """A sentence about a version of uvicorn that was not tested, or nothing."""
    if _numbers(version) <= HIGHEST:
        return ""
    return (
        f"django_vcache.uvicorn was tested with {TESTED}, not with uvicorn {version}. If it misbehaves, serve without "
        f"--http django_vcache.uvicorn:HotProtocol, or run: {_INSTALL}"
    )


def _numbers(version: str) -> tuple[int, ...]:
    found = re.match(r"(\d+)\.(\d+)", version)
    # What is no release, such as a build from a branch, is newer than all.
    return (int(found[1]), int(found[2])) if found else (10**6,)
