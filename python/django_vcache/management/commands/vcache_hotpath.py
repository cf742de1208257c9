"""``manage.py vcache_hotpath``: starts, builds and checks the project's crates of hot paths, and writes their stubs."""

from argparse import ArgumentParser, Namespace
from collections.abc import Callable
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

from django_vcache.admission.settings import current
from django_vcache.crates import CrateError, building, checking, cli
from django_vcache.crates.project import Crate, configured, load, project_folder
from django_vcache.exceptions import ConfigurationError

__all__ = ["Command"]


class Command(BaseCommand):
    help = "Starts, builds and checks the crates of hot paths in VCACHE['HOTPATHS'], or those beside manage.py."
    # The URLs may import a module that is not built yet.
    requires_system_checks = ()

    def add_arguments(self, parser: ArgumentParser) -> None:
        commands = parser.add_subparsers(dest="action", required=True, metavar="COMMAND")

        cli.add_new(commands.add_parser("new", help="start a crate"))
        build = commands.add_parser("build", help="build the project's crates, or one, into this environment")
        build.add_argument("crate", metavar="CRATE", nargs="?", type=Path, help="its folder")
        build.add_argument("--release", action="store_true", help="optimised, as pip builds it, which takes longer")
        build.add_argument("--update", action="store_true", help="renew the crate's copy of the Rust source first")
        cli.add_stubs(commands.add_parser("stubs", help="write the type stubs of the modules"), has_project=True)
        commands.add_parser("check", help="say what is wrong with the modules; exit with 1 if anything is")

    def handle(self, *args: Any, **options: Any) -> None:
        actions: dict[str, Callable[[Namespace], int]] = {
            "new": lambda given: cli.new(given, self.stdout.write),
            "build": self._build,
            "stubs": lambda given: cli.write_stubs(given, self.stdout.write, [] if given.module else self._crates()),
            "check": self._check,
        }
        try:
            status = actions[options["action"]](Namespace(**options))
        except (CrateError, ConfigurationError) as error:
            raise CommandError(str(error)) from error
        if status:
            raise SystemExit(status)

    def _build(self, options: Namespace) -> int:
        for crate in self._crates() if options.crate is None else [load(options.crate)]:
            if options.update and crate.vendored is not None:
                cli.vendor(Namespace(crate=crate.folder), self.stdout.write)
            building.install(crate, release=options.release)
            self.stdout.write(f"{crate.name} is installed from {crate.folder}")
        return 0

    def _check(self, options: Namespace) -> int:
        crates = self._crates()
        found = [problem for crate in crates for problem in checking.problems(crate)]
        for problem in found:
            self.stdout.write(problem)
        if not found:
            names = ", ".join(crate.name for crate in crates)
            self.stdout.write(f"{names}: built from its source as it is, with the stubs and the Rust source that fit")
        return 1 if found else 0

    def _crates(self) -> list[Crate]:
        paths = current().hotpaths
        if crates := configured(settings, paths):
            return crates
        where = f"in the folders of {project_folder(settings)}" if paths is None else "in VCACHE['HOTPATHS']"
        raise CrateError(
            f"there is no crate of hot paths {where}: start one with manage.py vcache_hotpath new shop_hot, or name "
            "its folder in VCACHE = {'HOTPATHS': [BASE_DIR / 'shop_hot']}"
        )
