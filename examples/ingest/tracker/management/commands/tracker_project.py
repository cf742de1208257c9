"""``manage.py tracker_project NAME``: makes a project, and prints what its clients are configured with."""

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand

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
        for given in options["names"]:
            name, _, rate = given.partition(":")
            project = Project.objects.filter(name=name).first() or Project(name=name)
            for field, limit in limits.items():
                if limit is not None:
                    setattr(project, field, limit)
            if rate:
                project.rate = int(rate)
            project.save()
            self.stdout.write(project.dsn(options["address"].rstrip("/")))
