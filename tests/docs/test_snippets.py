"""The Python in the guides is Python, and their links lead somewhere."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest
from support.snippets import EXCUSED, blocks, excuse

CHECKOUT = Path(__file__).parents[2]
PAGES = [
    *(CHECKOUT / name for name in ("README.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md")),
    *sorted((CHECKOUT / "docs").rglob("*.md")),
    *sorted((CHECKOUT / "examples").glob("*/README.md")),
]

_BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\]\((?!https?:)([^)#\s]*)(#[^)\s]+)?\)")
_NAMED = re.compile(r"(?<![\w.-])docs/[\w/-]+\.md")
_HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)

pages = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(CHECKOUT)))


@pages
def test_python_blocks_compile(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    for block in _BLOCK.finditer(text):
        # Two columns are for people only.
        if block[1] == "python" and "# Before " not in block[2]:
            # What begins with a key is a part of a setting.
            source = f"{{{block[2]}}}" if re.match(r'"\w+":', block[2]) else block[2]
            line = text[: block.start()].count("\n") + 1
            # A snippet may await without saying in which function.
            compile("\n" * line + source, str(page), "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)


@pages
def test_links_lead_somewhere(page: Path) -> None:
    for path, anchor in _LINK.findall(_prose(page)):
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), path
        if anchor and target.suffix == ".md":
            assert anchor[1:] in _anchors(target), f"{path}{anchor}"


def test_what_the_code_says_of_the_guides_is_there() -> None:
    named = {
        (source.relative_to(CHECKOUT), path)
        for folder in ("python", "vcache", "hotpath-macros", "examples", "tests")
        for source in (CHECKOUT / folder).rglob("*")
        if source.suffix in {".py", ".pyi", ".rs", ".tmpl", ".toml"}
        and source.is_file()
        and "target" not in source.parts
        for path in _NAMED.findall(source.read_text(encoding="utf-8"))
    }
    assert len(named) >= 5
    assert [(str(source), path) for source, path in named if not (CHECKOUT / path).exists()] == []


# The pages whose snippets a test runs, all of them but those that are excused.
RUN_BY = {
    "README.md": (
        "test_admission_guide.py",
        "test_settings_page.py",
        "test_hot_routes_page.py",
        "../scaffold/test_build.py",
    ),
    "docs/deployment/processes.md": ("test_pages.py",),
    "docs/deployment/servers.md": ("test_pages.py",),
    "docs/howto/manage-limits.md": ("test_pages.py",),
    "docs/howto/migrating.md": ("test_pages.py",),
    "docs/reference/admission-settings.md": ("test_admission_guide.py",),
    "docs/reference/settings.md": ("test_pages.py",),
    "docs/topics/asgi.md": ("test_pages.py",),
    "docs/topics/async.md": ("test_pages.py",),
    "docs/topics/consumers.md": ("test_streams_page.py",),
    "docs/topics/decisions-and-refusals.md": ("test_admission_guide.py",),
    "docs/topics/decorators.md": ("test_admission_guide.py",),
    "docs/topics/frameworks.md": ("test_admission_guide.py",),
    "docs/topics/gates.md": ("test_admission_guide.py",),
    "docs/topics/hot-routes.md": ("test_hot_routes_page.py",),
    "docs/topics/hotpaths.md": ("../scaffold/test_build.py",),
    "docs/topics/included.md": ("test_pages.py",),
    "docs/topics/outages.md": ("test_pages.py",),
    "docs/topics/streams.md": ("test_admission_guide.py",),
    "docs/topics/testing.md": ("test_testing_page.py", "test_admission_guide.py", "../scaffold/test_build.py"),
    "docs/topics/throttles-and-quotas.md": ("test_admission_guide.py",),
    "docs/topics/values.md": ("test_pages.py",),
    "examples/quota_guest/README.md": ("../guests/test_guest_readme.py",),
}
# Each block of these is a file of a project, whose name it begins with.
FILES = {"docs/intro/quickstart.md", *(f"docs/howto/{path.name}" for path in (CHECKOUT / "docs/howto").glob("*.md"))}
FILES -= RUN_BY.keys()


def test_each_snippet_is_run_or_excused() -> None:
    missing = []
    excused = set()
    for page in PAGES:
        name = str(page.relative_to(CHECKOUT))
        for line, source in blocks(name):
            if why := excuse(name, source):
                excused.add(why)
            elif name in FILES:
                assert re.match(r"# shop/\w+\.py\n", source), f"{name}, line {line}: which file is it?"
            # The examples of docstrings name what their readers have: they only have to compile.
            elif name not in RUN_BY and not name.startswith("docs/reference/api/"):
                missing.append(f"{name}, line {line}")
    assert missing == [], "run these in a test, or give a reason in tests/support/snippets.py"
    assert excused == set(EXCUSED.values()), "an excuse is for a snippet that is gone"


@pytest.mark.parametrize("page", RUN_BY)
def test_the_tests_that_run_a_page_name_it(page: str) -> None:
    for test in RUN_BY[page]:
        assert page.removeprefix("docs/").removeprefix("topics/") in (Path(__file__).parent / test).read_text()


def _prose(page: Path) -> str:
    return _BLOCK.sub("", page.read_text(encoding="utf-8"))


def _anchors(page: Path) -> set[str]:
    """The names that GitHub gives to headings."""
    headings = _HEADING.findall(_prose(page))
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
