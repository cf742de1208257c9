"""The commands that ``python -m django_vcache`` and ``manage.py vcache_hotpath`` have in common: their arguments, and
what they do and say.
"""

import os
import shutil
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Sequence
from pathlib import Path

from django_vcache import scaffold, stubs
from django_vcache.crates import CrateError, source
from django_vcache.crates.project import Crate, load

__all__ = ["add_new", "add_stubs", "add_vendor", "new", "vendor", "write_stubs"]

Say = Callable[[str], object]

_NEXT = """\
{folder} is a crate of two hot paths. Build it{rust}:

    pip install {folder}

and call it from a view, on the connection of CACHES["default"]:

    import {name}

    await {name}.aspend(project_id, 3)

{readme} says how to test and to change it."""


def add_new(parser: ArgumentParser) -> None:
    parser.add_argument("name", metavar="NAME", help="of the crate and of its Python package, such as shop_hot")
    parser.add_argument("--path", type=Path, default=Path(), metavar="DIR", help="the folder to put it in (default: .)")
    parser.add_argument(
        "--vcache",
        metavar="VERSION_OR_PATH",
        help="the crate vcache to build with (default: a copy of the source that django-vcache carries)",
    )


def new(options: Namespace, say: Say) -> int:
    """Starts a crate. The exit status.

    Raises:
        CrateError: the crate cannot be made.
    """
    folder = scaffold.create(options.name, options.path, options.vcache)
    # `pip install shop_hot` would ask PyPI: a path needs a slash.
    shown = str(folder) if folder.is_absolute() else os.path.join(".", folder)
    rust = "" if shutil.which("cargo") else ", which needs Rust (https://rustup.rs)"
    say(_NEXT.format(folder=shown, name=options.name, rust=rust, readme=folder / "README.md"))
    return 0


def add_stubs(parser: ArgumentParser, *, has_project: bool) -> None:
    parser.add_argument(
        "module",
        metavar="MODULE",
        nargs="?" if has_project else None,
        help=f"the compiled module, such as shop_hot._native{' (default: those of the project)' * has_project}",
    )
    parser.add_argument("--check", action="store_true", help="write nothing: show what differs, and exit with 1 if so")
    parser.add_argument("--output", type=Path, metavar="FILE", help="the file (default: beside the package's source)")


def write_stubs(options: Namespace, say: Say, crates: Sequence[Crate] = ()) -> int:
    """Writes the stubs of the module that is named, or of those of `crates`, or shows how they differ. The exit status.

    Raises:
        StubError: there are no stubs, or the file cannot be read or written.
    """
    wanted = [(options.module, options.output)] if options.module else [(each.module, each.stubs) for each in crates]
    if not options.check:
        for module, output in wanted:
            say(f"wrote {stubs.write(module, output)}")
        return 0
    differences = [difference for each in wanted if (difference := stubs.difference(*each))]
    for difference in differences:
        say(difference.rstrip("\n"))
    return 1 if differences else 0


def add_vendor(parser: ArgumentParser) -> None:
    parser.add_argument("crate", metavar="PATH", type=Path, help="the crate's folder, such as shop_hot")


def vendor(options: Namespace, say: Say) -> int:
    """Makes the copy of the Rust source in a crate the installed one. The exit status.

    Raises:
        CrateError: there is no crate, or it does not build with such a copy.
    """
    crate = load(options.crate)
    if crate.vendored is None:
        raise CrateError(
            f"{options.crate}/Cargo.toml does not build with a copy in the crate's folder. For one, write vcache = "
            f'{{ path = "{source.VENDORED}/vcache" }} into it, and exclude = ["{source.VENDORED}"] below [workspace]'
        )
    was = source.problem(crate.vendored)
    source.copy_into(crate.vendored)
    before = "" if was else ", as it was before"
    say(f"{os.path.relpath(crate.vendored)} is the Rust source of django-vcache {source.version()}{before}")
    return 0
