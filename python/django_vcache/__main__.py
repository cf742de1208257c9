"""``python -m django_vcache``: start a crate of hot paths, and write the type stubs of one."""

import argparse
import os
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from . import scaffold, stubs

# Beside 0 for done, and 1 for stubs that --check finds out of date.
_FAILED = 2

_NEXT = """\
{folder} is a crate of two hot paths. Build it{rust}:

    pip install {folder}

and call it from a view, on the connection of CACHES["default"]:

    import {name}

    await {name}.aspend(project_id, 3)

{readme} says how to test and to change it.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command line, without the program's name; the exit status."""
    options = _parser().parse_args(arguments)
    try:
        return _new(options) if options.command == "new" else _stubs(options)
    except (scaffold.ScaffoldError, stubs.StubError) as error:
        print(f"error: {error}", file=sys.stderr)
        return _FAILED


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m django_vcache", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    new = commands.add_parser("new", help="start a crate of hot paths", description="Start a crate of hot paths.")
    new.add_argument("name", metavar="NAME", help="of the crate and of its Python package, such as shop_hot")
    new.add_argument("--path", type=Path, default=Path(), metavar="DIR", help="the folder to put it in (default: .)")
    new.add_argument(
        "--vcache",
        metavar="VERSION_OR_PATH",
        help="the crate vcache to build with (default: the crate in the checkout of django-vcache)",
    )

    write = commands.add_parser(
        "stubs", help="write a module's type stubs", description="Write the type stubs of a compiled module."
    )
    write.add_argument("module", metavar="MODULE", help="the compiled module, such as shop_hot._native")
    write.add_argument("--check", action="store_true", help="write nothing: show what differs, and exit with 1 if so")
    write.add_argument("--output", type=Path, metavar="FILE", help="the file (default: beside the package's source)")
    return parser


def _new(options: argparse.Namespace) -> int:
    folder = scaffold.create(options.name, options.path, options.vcache)
    # `pip install shop_hot` would ask PyPI: a path needs a slash.
    shown = str(folder) if folder.is_absolute() else os.path.join(".", folder)
    rust = "" if shutil.which("cargo") else ", which needs Rust (https://rustup.rs)"
    print(_NEXT.format(folder=shown, name=options.name, rust=rust, readme=folder / "README.md"), end="")
    return 0


def _stubs(options: argparse.Namespace) -> int:
    if not options.check:
        print(f"wrote {stubs.write(options.module, options.output)}")
        return 0
    difference = stubs.difference(options.module, options.output)
    print(difference, end="")
    return 1 if difference else 0


if __name__ == "__main__":
    sys.exit(main())
