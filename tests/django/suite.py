"""Runs test cases of Django's own source distribution against our backend, and against our ASGI handler. The source is
fetched by pip, for exactly the installed version of Django, once; a module of ours is copied beside Django's own and
run by Django's runtests.py, in a process of its own with this interpreter.
"""

from __future__ import annotations

import ast
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
from dataclasses import dataclass
from pathlib import Path

import django

HERE = Path(__file__).parent
CACHE_DIR = HERE.parents[1] / ".build"
TIMEOUT = 150.0

_OUTCOME = re.compile(
    r"^(?P<test>\w+) \((?P<case>[\w.]+)\)(?:\n.*?)??(?: \.\.\. |\n)*(?<=\.\.\. )"
    r"(?P<outcome>ok|FAIL|ERROR|skipped|expected failure|unexpected success)",
    re.MULTILINE,
)


def fetch_django_source(cache_dir: Path = CACHE_DIR) -> Path:
    """Django's `tests` directory for the installed version, downloaded with pip when missing.

    pip is configured by its own means (PIP_INDEX_URL, pip.conf). It builds the source
    distribution's metadata and so needs to reach setuptools too.
    """
    version = django.get_version()
    target = cache_dir / f"django-{version}"
    if target.is_dir():
        return target / "tests"
    cache_dir.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache_dir, prefix="fetch-") as scratch:
        unpacked = _unpack(_download(version, Path(scratch)), Path(scratch) / "source")
        try:
            unpacked.rename(target)
        except OSError:
            if not target.is_dir():  # otherwise another run was faster, with the same bytes
                raise
    return target / "tests"


def _download(version: str, directory: Path) -> Path:
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--no-input"]
    command += ["download", "--quiet", "--no-deps", "--no-binary", "django"]
    command += ["--dest", str(directory), f"django=={version}"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    if done.returncode:
        raise RuntimeError(f"pip could not fetch Django's source:\n{done.stdout}{done.stderr}")
    [archive] = directory.glob("*.tar.gz")
    return archive


def _unpack(archive: Path, directory: Path) -> Path:
    with tarfile.open(archive) as source:
        wanted = [member for member in source.getmembers() if member.name.split("/")[1:2] == ["tests"]]
        source.extractall(directory, wanted, filter="data")
    [root] = directory.iterdir()
    return root


def written_tests(tests: Path, module: str, *classes: str) -> set[str]:
    """The names of the tests written in `classes` of a file of Django's, read from its source."""
    tree = ast.parse((tests / module).read_text(encoding="utf-8"))
    found = {node.name: node for node in tree.body if isinstance(node, ast.ClassDef)}
    return {
        item.name
        for name in classes
        for item in found[name].body
        if isinstance(item, ast.FunctionDef | ast.AsyncFunctionDef) and item.name.startswith("test_")
    }


@dataclass
class Result:
    """What one run of runtests.py said."""

    returncode: int
    output: str

    def outcomes(self, case: str) -> dict[str, str]:
        """Test name -> ok, FAIL, ERROR, skipped, for one TestCase class by its bare name."""
        return {
            match["test"]: match["outcome"]
            for match in _OUTCOME.finditer(self.output)
            if case in match["case"].split(".")
        }

    @property
    def count(self) -> int:
        """The number of tests that unittest says it ran."""
        [count] = re.findall(r"^Ran (\d+) tests? in", self.output, re.MULTILINE) or ["0"]
        return int(count)

    def check(self) -> None:
        """AssertionError with the end of the output unless everything passed."""
        tail = "\n".join(self.output.splitlines()[-150:])
        assert self.returncode == 0, f"Django's runtests.py failed:\n{tail}"


def run_cases(package: str, module: str, labels: list[str], **env: str) -> Run:
    """Classes of `module` (a file beside this one), run inside a Django test package."""
    tests = fetch_django_source()
    _install(HERE / f"{module}.py", tests / package)
    names = [f"{package}.{module}.{label}" for label in labels]
    return Run(tests, ["--settings=test_sqlite", "--parallel=1", *names], **env)


def run_packages(settings: str, packages: list[str], **env: str) -> Run:
    """Whole packages of Django's tests, with the settings in a file beside this one."""
    tests = fetch_django_source()
    _install(HERE / f"{settings}.py", tests)
    return Run(tests, [f"--settings={settings}", "--parallel=1", *packages], **env)


class Run:
    """runtests.py at work."""

    def __init__(self, tests: Path, arguments: list[str], **env: str) -> None:
        command = [sys.executable, "runtests.py", "--verbosity=2", "--noinput", *arguments]
        path = [str(HERE.parent), *filter(None, [os.environ.get("PYTHONPATH")])]
        self._output = tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace")  # noqa: SIM115  (close() does)
        self._process = subprocess.Popen(
            command,
            cwd=tests,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(path), **env},
            stdin=subprocess.DEVNULL,
            stdout=self._output,
            stderr=subprocess.STDOUT,
        )
        self._result: Result | None = None

    def result(self, timeout: float = TIMEOUT) -> Result:
        """Wait for the end. May be called again."""
        if self._result is None:
            try:
                returncode = self._process.wait(timeout)
            except subprocess.TimeoutExpired:
                self._process.kill()
                returncode = self._process.wait()
            self._output.seek(0)
            self._result = Result(returncode, self._output.read())
        return self._result

    def close(self) -> None:
        """End it, whether or not it is done."""
        self._process.kill()
        self._process.wait()
        self._output.close()


def _install(source: Path, directory: Path) -> None:
    """Copy in one step: two test runs may share the directory."""
    with tempfile.NamedTemporaryFile(dir=directory, delete=False) as scratch:
        pass
    shutil.copy(source, scratch.name)
    os.replace(scratch.name, directory / source.name)
