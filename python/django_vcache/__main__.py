"""``python -m django_vcache``: start a crate of hot paths, write its type stubs, renew the Rust source in it."""

import argparse
import sys
from collections.abc import Sequence

from django_vcache.crates import CrateError, cli, source

# Beside 0 for done, and 1 for stubs that --check finds out of date.
_FAILED = 2


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command line, without the program's name; the exit status."""
    options = _parser().parse_args(arguments)
    try:
        match options.command:
            case "new":
                return cli.new(options, print)
            case "stubs":
                return cli.write_stubs(options, print)
            case "vendor":
                return cli.vendor(options, print)
            case _:
                print(source.folder())
                return 0
    except CrateError as error:
        print(f"error: {error}", file=sys.stderr)
        return _FAILED


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m django_vcache", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def add(name: str, what: str) -> argparse.ArgumentParser:
        return commands.add_parser(name, help=what, description=f"{what[0].upper()}{what[1:]}.")

    cli.add_new(add("new", "start a crate of hot paths"))
    cli.add_stubs(add("stubs", "write the type stubs of a compiled module"), has_project=False)
    cli.add_vendor(add("vendor", "renew the Rust source that a crate has a copy of, after an upgrade of django-vcache"))
    add("crate-path", "print the folder with the source of the crates vcache and hotpath-macros")
    return parser


if __name__ == "__main__":
    sys.exit(main())
