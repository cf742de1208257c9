"""``manage.py tracker_project NAME``: makes a project, and prints what its clients are configured with."""

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand

from tracker.models import Project


class Command(BaseCommand):
    help = "Makes a project unless there is one of this name, sets its limits, and prints its DSN."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("name")
        parser.add_argument("--address", default="http://127.0.0.1:8000", help="where the site is reached")
        parser.add_argument("--rate", type=int, help="events a minute; -1 is no limit")
        parser.add_argument("--events", type=int, help="events a month; -1 is no limit")
        parser.add_argument("--bytes", type=int, help="bytes a month; -1 is no limit")

    def handle(self, *args: Any, **options: Any) -> None:
        project = Project.objects.filter(name=options["name"]).first() or Project(name=options["name"])
        for field, option in (("rate", "rate"), ("events_quota", "events"), ("bytes_quota", "bytes")):
            if options[option] is not None:
                setattr(project, field, options[option])
        project.save()
        self.stdout.write(project.dsn(options["address"].rstrip("/")))
