"""``manage.py tracker_project NAME``: makes a project, and prints what its clients are configured with."""

from argparse import ArgumentParser
from collections.abc import Iterator
from typing import Any

from django.core.exceptions import ValidationError
from django.core.management.base import BaseCommand, CommandError
from django.db import transaction

from tracker.models import Project


class Command(BaseCommand):
    help = "Makes projects, unless there are some of these names, sets their limits, and prints a DSN for each."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("names", nargs="+", metavar="NAME", help="NAME:RATE has its own limit of events a minute")
        parser.add_argument("--address", default="http://127.0.0.1:8000", help="where the site is reached")
        parser.add_argument("--rate", type=int, help="events a minute; -1 is no limit")
        parser.add_argument("--events", type=int, help="events a month; -1 is no limit")
        parser.add_argument("--bytes", type=int, help="bytes a month; -1 is no limit")

    def handle(self, *args: Any, **options: Any) -> None:
        limits = {"rate": options["rate"], "events_quota": options["events"], "bytes_quota": options["bytes"]}
        # All of them, or none.
        with transaction.atomic():
            projects = [saved(given, limits) for given in options["names"]]
        for project in projects:
            self.stdout.write(project.dsn(options["address"].rstrip("/")))


def saved(given: str, limits: dict[str, int | None]) -> Project:
    """The project of an argument, with these limits where they are given.

    Raises:
        CommandError: A project cannot have such a name or limit.
    """
    name, _, rate = given.partition(":")
    project = Project.objects.filter(name=name).first() or Project(name=name)
    for field, limit in limits.items():
        if limit is not None:
            setattr(project, field, limit)
    if rate:
        # What is no number is for the validation to say.
        project.rate = rate
    try:
        project.full_clean()
    except ValidationError as error:
        raise CommandError("\n".join(faults(project, given, error))) from error
    project.save()
    return project


def faults(project: Project, given: str, error: ValidationError) -> Iterator[str]:
    """A line for each field that is wrong: which, with which value, and what it may be."""
    for field, messages in error.message_dict.items():
        label = Project._meta.get_field(field).verbose_name
        yield f"{given}: {label} cannot be {getattr(project, field)!r}: {' '.join(messages)}"
