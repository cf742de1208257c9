"""What the commands ask before they destroy something, and ``--noinput``, with which they do not."""

from argparse import ArgumentParser
from collections.abc import Mapping
from typing import Any

from django.core.management.base import BaseCommand, CommandError

__all__ = ["add_noinput", "confirm"]


def add_noinput(parser: ArgumentParser) -> None:
    """The option, as Django's own commands have it."""
    parser.add_argument(
        "--noinput",
        "--no-input",
        action="store_false",
        dest="interactive",
        help="do not ask before anything is deleted or forgotten",
    )


def confirm(command: BaseCommand, options: Mapping[str, Any], effect: str) -> None:
    """Asks whether to go on, but with ``--noinput``. The question goes to stderr: a program may read stdout.

    Args:
        effect: a sentence on what is about to happen.

    Raises:
        CommandError: the answer is not "yes", or there is no input to read one from.
    """
    if not options["interactive"]:
        return
    command.stderr.write(f"{effect}\nType 'yes' to continue, or 'no' to cancel: ", style_func=str, ending="")
    command.stderr.flush()
    try:
        answer = input()
    except EOFError as error:
        raise CommandError(
            "there is no input to answer from: nothing was changed. Add --noinput to go ahead"
        ) from error
    except KeyboardInterrupt as error:
        raise CommandError("cancelled: nothing was changed") from error
    if answer.strip().lower() != "yes":
        raise CommandError("cancelled: nothing was changed")
