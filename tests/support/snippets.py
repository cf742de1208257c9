"""The snippets of Python in the guides: where they are, and which of them no test runs."""

from __future__ import annotations

import ast
import re
import types
from pathlib import Path
from typing import Any

CHECKOUT = Path(__file__).parents[2]
_BLOCK = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_FENCED = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)

EXCUSED = {
    ("docs/howto/migrating.md", 'await cache.aset("users", User'): "its first line is there to raise",
    ("docs/reference/hotpaths.md", "async def page(request, number)"): "the page's Rust is in no crate that is built",
    (
        "docs/reference/rust.md",
        "async def store(request, org, project)",
    ): "the page's Rust is in no crate that is built",
    ("docs/topics/below-asgi.md", "# workers.py"): "gunicorn is not installed for the tests",
    ("docs/topics/hot-routes.md", "from ._native import"): "a file of a crate, which the page changes by hand",
    ("docs/topics/hotpaths.md", "from ._native import"): "a file of a crate, which the page changes by hand",
    ("docs/topics/hotpaths.md", '"""Five awaits on the cache'): "it measures for minutes, and needs that change",
}
"""Snippets that only have to compile: the page and how the snippet begins, and why."""


def blocks(page: str, section: str = "") -> list[tuple[int, str]]:
    """The blocks of Python of a page of the checkout, or of one section of it, and the lines that they begin on."""
    text = (CHECKOUT / page).read_text(encoding="utf-8")
    begin = text.index(f"\n{section}\n") + 1 if section else 0
    # A comment in a block looks like a heading.
    prose = _FENCED.sub(lambda block: " " * len(block[0]), text)
    level = len(section) - len(section.lstrip("#"))
    end = re.compile(rf"^#{{1,{level}}} ", re.MULTILINE).search(prose, begin + 1) if section else None
    found = _BLOCK.finditer(text, begin, end.start() if end else len(text))
    return [(text[: block.start()].count("\n") + 1, block[1]) for block in found]


def excuse(page: str, source: str) -> str | None:
    """Why no test runs a block; None if one has to."""
    return next((why for (where, start), why in EXCUSED.items() if where == page and source.startswith(start)), None)


async def execute(page: str, module: types.ModuleType, section: str = "") -> None:
    """Runs the blocks of a page in a module, in their order. A part of a setting gets the name `setting`."""
    for line, source in blocks(page, section):
        if excuse(page, source):
            continue
        whole = f"setting = {{{source}}}" if re.match(r'"\w+":', source) else source
        code: Any = compile("\n" * line + whole, page, "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
        if (result := eval(code, module.__dict__)) is not None:
            await result
