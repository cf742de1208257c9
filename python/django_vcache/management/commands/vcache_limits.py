"""``manage.py vcache_limits org=1 project=42``: the state of every rule of the gates, as a table or as JSON; and resets
and refunds on request."""

import json
from argparse import ArgumentParser
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

from django.core.management.base import BaseCommand, CommandError

from django_vcache import _vcache
from django_vcache.admission.gates import import_gate
from django_vcache.admission.settings import current
from django_vcache.exceptions import ConfigurationError, VcacheError

__all__ = ["Command"]

ALL = object()
"""``--reset`` without a rule."""

Scope = dict[str, int | str]
T = TypeVar("T")


class Command(BaseCommand):
    help = (
        "Shows the state of every rule of the gates in VCACHE['GATES'], or of one gate, for a scope: "
        "manage.py vcache_limits org=1 project=42"
    )
    # A gate that cannot be imported is one of its own errors.
    requires_system_checks = ()

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("scope", nargs="*", metavar="NAME=VALUE", help="whom to look at, such as org=1 project=42")
        parser.add_argument("--gate", metavar="PATH", help="the dotted path of one gate, such as shop.limits.gate")
        parser.add_argument(
            "--reset", nargs="?", const=ALL, metavar="RULE", help="forget what was charged, by one rule or by all"
        )
        parser.add_argument(
            "--refund", metavar="RECEIPT", help="give back what the admission with this receipt charged"
        )
        parser.add_argument("--json", action="store_true", help="print JSON")

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            gates = _gates(options["gate"])
            scope, rule = _scope(options["scope"]), options["reset"]
            if isinstance(rule, str) and "=" in rule:
                # `--reset org=1`: argparse takes what follows for the rule, whose name has no such character.
                scope, rule = _scope([rule]) | scope, ALL
            done: dict[str, Any] = {}
            if options["refund"] is not None:
                done["refunded"] = _refund(gates, options["refund"])
            if not scope and (rule is not None or not done):
                raise CommandError("whose limits? Give a scope, such as org=1 project=42")
            if rule is not None:
                done["reset"] = self._reset(gates, scope, rule)
            states = self._peek(gates, scope) if scope else {}
        except (ValueError, ConfigurationError) as error:
            raise CommandError(str(error)) from error
        except VcacheError as error:
            raise CommandError(f"the server could not be asked: {error}") from error
        if options["json"]:
            plain = {path: [_plain(state) for state in rules] for path, rules in states.items()}
            self.stdout.write(json.dumps({"scope": scope, "gates": plain, **done}, indent=2))
            return
        for text in _told(done):
            self.stdout.write(self.style.SUCCESS(text))
        for path, rules in states.items():
            self.stdout.write(self.style.MIGRATE_HEADING(path))
            for line in _table(rules):
                self.stdout.write(f"  {line}")

    def _peek(self, gates: dict[str, _vcache.Gate], scope: Scope) -> dict[str, tuple[_vcache.RuleState, ...]]:
        return self._of_each(gates, lambda gate: gate.peek(scope))

    def _reset(self, gates: dict[str, _vcache.Gate], scope: Scope, rule: Any) -> list[str]:
        """The rules that were reset, as ``<gate>: <rule>``."""
        chosen = {path: gate for path, gate in gates.items() if rule is ALL or rule in gate.rules}
        if not chosen:
            known = ", ".join(sorted({name for gate in gates.values() for name in gate.rules}))
            raise CommandError(f"no rule is called {rule!r}; there are {known}")

        def reset(gate: _vcache.Gate) -> list[str]:
            gate.reset(scope, None if rule is ALL else rule)
            return [name for name in gate.rules if rule is ALL or name == rule]

        return [f"{path}: {name}" for path, names in self._of_each(chosen, reset).items() for name in names]

    def _of_each(self, gates: dict[str, _vcache.Gate], ask: Callable[[_vcache.Gate], T]) -> dict[str, T]:
        """What each gate says. One that is by other entries of the scope is told of, unless all are."""
        answers: dict[str, T] = {}
        problems = []
        for path, gate in gates.items():
            try:
                answers[path] = ask(gate)
            except (ValueError, LookupError) as error:
                # The latter is a limit's callable that wants another entry.
                problems.append(f"{path}: {type(error).__name__}: {error}")
        if not answers:
            raise CommandError("; ".join(problems))
        for problem in problems:
            self.stderr.write(self.style.WARNING(problem))
        return answers


def _gates(path: str | None) -> dict[str, _vcache.Gate]:
    paths = current().gates if path is None else (path,)
    if not paths:
        raise CommandError("there is no gate: list them in VCACHE['GATES'], or name one with --gate shop.limits.gate")
    return {each: import_gate(each) for each in paths}


def _scope(words: Iterable[str]) -> Scope:
    scope: Scope = {}
    # All of it may be one argument, in quotes.
    for word in (part for given in words for part in (given.split() if _is_several(given) else [given])):
        name, equals, value = word.partition("=")
        if not (name and equals):
            raise CommandError(f"{word!r} is not NAME=VALUE, such as org=1")
        # A limit that is a callable of the scope gets a number where the application has one.
        number = value.removeprefix("-")
        plain = number.isascii() and number.isdecimal() and str(int(number)) == number
        scope[name] = int(value) if plain else value
    return scope


def _is_several(word: str) -> bool:
    parts = word.split()
    return len(parts) > 1 and all("=" in part for part in parts)


def _refund(gates: dict[str, _vcache.Gate], receipt: str) -> bool:
    """Whether the receipt was refunded now, and not before, by the gate that it belongs to."""
    refused = []
    for path, gate in gates.items():
        try:
            return gate.refund(receipt).refunded
        except ValueError as error:
            refused.append(f"{path}: {error}")
    raise CommandError(f"no gate takes this receipt: {'; '.join(refused)}")


def _told(done: dict[str, Any]) -> Iterable[str]:
    if "refunded" in done:
        yield "refunded" if done["refunded"] else "nothing to refund: that was done before"
    for rule in done.get("reset", ()):
        yield f"reset {rule}"


def _plain(state: _vcache.RuleState) -> dict[str, Any]:
    return {
        "name": state.name,
        "kind": state.kind,
        "limit": state.limit,
        "burst": state.burst,
        "remaining": state.remaining,
        "used": state.used,
        "reset_after": state.reset_after,
        "window": state.window,
    }


def _table(rules: Iterable[_vcache.RuleState]) -> Iterable[str]:
    """Lines of columns, the numbers to the right."""
    rows = [("RULE", "KIND", "LIMIT", "BURST", "USED", "REMAINING", "RESETS IN")]
    for state in rules:
        is_throttle = state.kind == "throttle"
        limit = "unlimited" if state.limit < 0 else f"{state.limit} / {_length(state.window)}"
        burst = str(state.burst) if is_throttle and state.limit >= 0 else ""
        used = "" if is_throttle else str(state.used)
        remaining = "" if state.remaining is None else str(state.remaining)
        rows.append((state.name, state.kind, limit, burst, used, remaining, _length(state.reset_after)))
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        words = [word.ljust(width) for word, width in zip(row[:2], widths, strict=False)]
        numbers = [number.rjust(width) for number, width in zip(row[2:], widths[2:], strict=True)]
        yield "  ".join(words + numbers).rstrip()


def _length(seconds: float) -> str:
    """A length of time for people: ``12.5 s``, ``4 min``, ``3 h 20 min``, ``12 d``."""
    if seconds < 60:
        return f"{seconds:.3g} s"
    minutes = round(seconds / 60)
    days, hours, minutes = minutes // 1440, minutes // 60 % 24, minutes % 60
    parts = [f"{number} {unit}" for number, unit in ((days, "d"), (hours, "h"), (minutes, "min")) if number]
    return " ".join(parts[:2])
