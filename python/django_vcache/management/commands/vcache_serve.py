"""``manage.py vcache_serve 0.0.0.0:8000``: uvicorn with the project's ASGI application, and hot routes answered below
it. This process becomes uvicorn's, so signals, workers and reloading are as if it had been started by itself."""

import os
import sys
from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from django_vcache.exceptions import ConfigurationError
from django_vcache.management.serving import Unserved, application, place

__all__ = ["Command"]

PROTOCOL = "django_vcache.uvicorn:HotProtocol"


class Command(BaseCommand):
    help = (
        "Serves the project's ASGI application with uvicorn, and answers hot routes below it. What follows -- goes to "
        "uvicorn as it is: manage.py vcache_serve 8000 -- --timeout-keep-alive 20"
    )
    # uvicorn's processes check the project as they load it.
    requires_system_checks = ()

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "addrport", nargs="?", metavar="ADDRESS:PORT", help="where to listen, or a port alone (127.0.0.1:8000)"
        )
        parser.add_argument("uvicorn", nargs="*", metavar="OPTION", help="after --: further options of uvicorn")
        parser.add_argument("--app", metavar="MODULE:NAME", help="the application; by default the project's")
        parser.add_argument("--host", help="the address to listen on")
        parser.add_argument("--port", type=int, help="the port to listen on; 0 takes a free one")
        parser.add_argument("--uds", metavar="PATH", help="a Unix socket to listen on instead")
        parser.add_argument("--workers", type=int, metavar="N", help="how many processes (WEB_CONCURRENCY, or 1)")
        parser.add_argument("--reload", action="store_true", help="start anew when a Python file changes")
        parser.add_argument(
            "--log-level", metavar="LEVEL", help="critical, error, warning, info, debug or trace (info)"
        )
        parser.add_argument("--no-access-log", action="store_true", help="write no line for each request")
        parser.add_argument(
            "--http", metavar="NAME", help="what reads requests that are not hot: auto, httptools, h11, zttp (auto)"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            import django_vcache.uvicorn  # noqa: F401
        except ImportError as error:
            raise CommandError(str(error)) from error
        command, environment = plan(options)
        if options["verbosity"] > 1:
            self.stdout.write(" ".join(command[1:]))
        self.stdout.flush()
        os.execve(command[0], command, {**os.environ, **environment})


def plan(options: dict[str, Any]) -> tuple[list[str], dict[str, str]]:
    """The program and its arguments, and the variables of the environment that it needs beside ours.

    Raises:
        CommandError: no application is found, or options that exclude each other are given.
    """
    from django_vcache.uvicorn._inner import VARIABLE, inner_class, named

    further = list(options["uvicorn"])
    listen = options["addrport"]
    if listen is not None and listen.startswith("-"):
        # After -- there is no telling it from the first option of uvicorn.
        further.insert(0, listen)
        listen = None
    if further and not further[0].startswith("-"):
        raise CommandError(
            f"{further[0]!r} is one argument too many: there is one address, and uvicorn's options begin after --"
        )
    environment = {}
    try:
        # A wrong name is an error here, and not in each of the processes.
        if options["http"]:
            named(options["http"], "--http")
            environment[VARIABLE] = options["http"]
        else:
            inner_class()
    except ConfigurationError as error:
        raise CommandError(str(error)) from error
    try:
        found = options["app"] or application()
        where = place(listen, options["host"], options["port"], options["uds"])
    except Unserved as error:
        raise CommandError(str(error)) from error
    command = [sys.executable, "-m", "uvicorn", "--http", PROTOCOL, *where]
    if options["workers"] is not None:
        command += ["--workers", str(options["workers"])]
    if options["reload"]:
        command.append("--reload")
    if options["log_level"]:
        command += ["--log-level", options["log_level"]]
    if options["no_access_log"]:
        command.append("--no-access-log")
    # Where manage.py is: Python puts it first, and uvicorn the folder that it was started in.
    command += ["--app-dir", sys.path[0] or os.getcwd(), *further, found]
    environment["DJANGO_SETTINGS_MODULE"] = os.environ.get("DJANGO_SETTINGS_MODULE", "")
    return command, {name: value for name, value in environment.items() if value}
