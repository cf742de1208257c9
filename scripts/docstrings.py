"""Writes the docstrings of ``_vcache.pyi``. They are those of the compiled module, so the ``///`` in Rust.

    python scripts/docstrings.py           # writes the stub
    python scripts/docstrings.py --check   # writes nothing: shows what differs, and exits with 1 if anything does

Types and signatures are written in the stub by hand, since the module has none.
"""

import argparse
import ast
import difflib
import inspect
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

from django_vcache import _vcache

STUB = Path(__file__).resolve().parents[1] / "python" / "django_vcache" / "_vcache.pyi"
WIDTH = 120

Documented = ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef


def main() -> int:
    """Writes or compares; the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="write nothing: show what differs, and exit with 1 if so")
    options = parser.parse_args()
    found = STUB.read_text(encoding="utf-8")
    wanted = written(found, _vcache)
    if not options.check:
        STUB.write_text(wanted, encoding="utf-8")
        return 0
    lines = difflib.unified_diff(found.splitlines(True), wanted.splitlines(True), STUB.name, "the compiled module")
    difference = "".join(lines)
    if difference:
        print(f"{difference}\nThe docstrings are not those of Rust. Build the module, and run: python {sys.argv[0]}")
    return 1 if difference else 0


def written(stub: str, module: object) -> str:
    """The stub with the docstrings of a module."""
    lines = stub.splitlines()
    # From the end, so that the numbers of the lines before hold.
    for node, made in sorted(documented(ast.parse(stub), module), key=lambda pair: -pair[0].lineno):
        indent = " " * (node.col_offset + 4)
        # What a class has of a static method says what static methods are.
        made = made.__func__ if isinstance(made, staticmethod) else made
        text = inspect.cleandoc(made.__doc__ or "")
        new = docstring(text, indent) if text else []
        first, alone = node.body[0], len(node.body) == 1
        end = first.end_lineno or first.lineno
        if ast.get_docstring(node) is not None:
            lines[first.lineno - 1 : end] = new or [f"{indent}..."] * alone
        elif new and alone:
            # `def f() -> int: ...`
            lines[end - 1] = lines[end - 1].removesuffix(" ...")
            lines[end:end] = new
        elif new:
            lines[first.lineno - 1 : first.lineno - 1] = [*new, ""]
    return "\n".join(lines) + "\n"


def documented(tree: ast.Module, module: object) -> Iterator[tuple[Documented, object]]:
    """The classes, functions, methods and properties of a stub, each with what is in the module.

    Raises:
        AttributeError: the module has no such name.
    """
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node, getattr(module, node.name)
        elif isinstance(node, ast.ClassDef) and hasattr(module, node.name):
            made = getattr(module, node.name)
            yield node, made
            for member in node.body:
                if isinstance(member, ast.FunctionDef | ast.AsyncFunctionDef) and not member.name.startswith("__"):
                    yield member, inspect.getattr_static(made, member.name)


def docstring(text: str, indent: str) -> list[str]:
    """The lines of a docstring. Paragraphs and items of lists are filled, blocks of code stay as they are."""
    lines: list[str] = []
    for chunk in chunks(text):
        if len(chunk) > 1 and chunk[0].startswith("```"):
            lines += [f"{indent}{line}".rstrip() for line in chunk]
            continue
        lines += textwrap.wrap(
            " ".join(line.strip() for line in chunk),
            WIDTH,
            initial_indent=indent if lines else f'{indent}"""',
            subsequent_indent=f"{indent}  " if chunk[0].startswith("- ") else indent,
            break_long_words=False,
            break_on_hyphens=False,
        ) or [""]
    if len(lines) == 1 and len(lines[0]) <= WIDTH - 3:
        return [f'{lines[0]}"""']
    return [*lines, f'{indent}"""']


def chunks(text: str) -> Iterator[list[str]]:
    """The lines of each paragraph, item or block of code, and of each empty line between them."""
    chunk: list[str] = []
    fenced = False
    for line in text.splitlines():
        fence = line.startswith("```")
        if not fenced and chunk and (fence or not line or not chunk[0] or line.startswith("- ")):
            yield chunk
            chunk = []
        chunk.append(line)
        fenced ^= fence
    yield chunk


if __name__ == "__main__":
    sys.exit(main())
