"""``manage.py vcache_routes``: the hot routes, and at which level each is answered."""

import json
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from django_vcache.routing._levels import Listed, listed

_LEVELS = {
    "early": "before Django's handler, in django_vcache.asgi; below ASGI with django_vcache.uvicorn:HotProtocol",
    "view": "as a view of Django's",
}


class Command(BaseCommand):
    help = "Lists the hot routes, in the order of the URLconf, and says of each at which level it is answered and why."
    requires_system_checks = ()

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--json", action="store_true", help="one JSON array, for programs")

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            routes = listed()
        except Exception as error:
            raise CommandError(f"the URLconf cannot be imported: {error!r}") from error
        if options["json"]:
            self.stdout.write(json.dumps([_as_dict(each) for each in routes], indent=2))
            return
        if not routes:
            self.stdout.write("There is no hot route. Place one with django_vcache.routing.hot() in urlpatterns.")
            return
        for each in routes:
            told = _as_dict(each)
            self.stdout.write(self.style.MIGRATE_HEADING(f"/{told['route']}"))
            for label, text in (
                ("methods", told["methods"]),
                ("target", f"{told['target']} ({told['kind']})"),
                ("name", told["name"] or "-"),
                ("answered", _LEVELS[told["level"]]),
                ("why not earlier", told["reason"]),
                ("instead of", ", ".join(told["instead_of"])),
            ):
                if text:
                    self.stdout.write(f"    {label + ':':17}{text}")


def _as_dict(each: Listed) -> dict[str, Any]:
    return {
        "route": each.placed.route,
        "name": each.placed.name,
        "methods": each.methods,
        "target": each.target.name,
        "kind": each.target.kind,
        "level": each.level,
        "reason": each.placed.reason,
        "instead_of": [f"{pattern.pattern.describe()} for {path}" for pattern, path in each.hidden],
    }
