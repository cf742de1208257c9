"""The Python in the guides is Python, and their links lead somewhere."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

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


def _prose(page: Path) -> str:
    return _BLOCK.sub("", page.read_text(encoding="utf-8"))


def _anchors(page: Path) -> set[str]:
    """The names that GitHub gives to headings."""
    headings = _HEADING.findall(_prose(page))
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
