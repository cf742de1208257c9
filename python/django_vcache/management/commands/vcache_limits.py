"""``manage.py vcache_limits org=1 project=42``: the state of every rule of the gates, as a table or as JSON; and resets
and refunds on request. For ``user=5`` or ``ip=192.0.2.1`` the limits of decorated views are among them."""

import json
from argparse import ArgumentParser
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

from django.core.management.base import BaseCommand, CommandError

from django_vcache import _vcache
from django_vcache.admission.gates import Alone, import_gate
from django_vcache.admission.settings import current
from django_vcache.admission.views.listing import LimitsOfViews
from django_vcache.exceptions import ConfigurationError, VcacheError
from django_vcache.management.asking import add_noinput, confirm

__all__ = ["Command"]

ALL = object()
"""``--reset`` without a rule."""

VIEWS = "views"
"""Stands for the limits of decorated views, where a gate's dotted path does for others."""

NO_GATE = "there is no gate: list them in VCACHE['GATES'], or name one with --gate shop.limits.gate"

Scope = dict[str, int | str]
Limits = _vcache.Gate | Alone | LimitsOfViews
T = TypeVar("T")


class Command(BaseCommand):
    help = (
        "Shows the state of every rule of the gates in VCACHE['GATES'], or of one gate, for a scope: "
        "manage.py vcache_limits org=1 project=42. For user=5 or ip=192.0.2.1 also that of decorated views."
    )
    # The command reports a gate that cannot be imported itself.
    requires_system_checks = ()

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("scope", nargs="*", metavar="NAME=VALUE", help="whom to look at, such as org=1 project=42")
        parser.add_argument(
            "--gate",
            metavar="PATH",
            help="the dotted path of one gate, throttle or quota, such as shop.limits.gate; or 'views'",
        )
        parser.add_argument(
            "--reset", nargs="?", const=ALL, metavar="RULE", help="forget what was charged, by one rule or by all"
        )
        parser.add_argument(
            "--refund", metavar="RECEIPT", help="give back what the admission with this receipt charged"
        )
        add_noinput(parser)
        parser.add_argument("--json", action="store_true", help="print JSON")

    def handle(self, *args: Any, **options: Any) -> None:
        self._as_json = options["json"]
        self._report: dict[str, Any] = {"scope": {}, "gates": {}}
        self._options = options
        try:
            self._do(options["scope"], options["gate"], options["reset"], options["refund"])
        except (ValueError, ConfigurationError, CommandError) as error:
            self._end(str(error), error)
        except VcacheError as error:
            self._end(f"the server could not be asked: {error}", error)
        if self._as_json:
            self.stdout.write(json.dumps(self._report, indent=2))

    def _end(self, text: str, error: Exception) -> None:
        # What was done before is told all the same.
        if self._as_json and ("refunded" in self._report or self._report.get("reset")):
            self.stdout.write(json.dumps(self._report | {"error": text}, indent=2))
        raise CommandError(text) from error

    def _do(self, words: list[str], path: str | None, rule: Any, receipt: str | None) -> None:
        if not current().enabled:
            raise CommandError(
                "VCACHE['ENABLED'] is False: limits ask no server, so there is nothing to show or to reset"
            )
        if isinstance(rule, str) and "=" in rule:
            # `--reset org=1`: argparse takes what follows for the rule, whose name has no such character.
            if words:
                raise CommandError(
                    f"--reset {rule} names no rule: write the whole scope before --reset, such as org=1 project=42 "
                    "--reset"
                )
            words, rule = [rule], ALL
        scope = self._report["scope"] = _scope(words)
        if not scope and (rule is not None or receipt is None):
            raise CommandError("whose limits? Give a scope, such as org=1 project=42")
        limits = _limits(path, scope)
        chosen = {} if rule is None else _to_reset(limits, rule)
        if chosen:
            confirm(self, self._options, _effect(chosen, scope, rule))
        if receipt is not None:
            self._refund(limits, receipt)
        if chosen:
            self._reset(chosen, scope, rule)
        if scope:
            self._show(self._of_each(limits, lambda path, each: each.peek(scope)))
            for each in limits.values():
                for note in dict.fromkeys(each.notes if isinstance(each, LimitsOfViews) else ()):
                    self._warn(f"{VIEWS}: {note}")

    def _refund(self, limits: Mapping[str, Limits], receipt: str) -> None:
        """Refunds a receipt by the one that it belongs to."""
        refused = []
        for path, each in _to_refund(limits).items():
            try:
                refunded = each.refund(receipt).refunded
            except ValueError as error:
                refused.append(f"{path}: {error}")
                continue
            self._report |= {"refunded": refunded, "refunded_by": path}
            self._tell(
                f"refunded {path}"
                if refunded
                else f"nothing to give back in {path}: it was refunded before, or is not counted any more"
            )
            return
        raise CommandError(f"no gate takes this receipt: {'; '.join(refused)}")

    def _reset(self, chosen: Mapping[str, Limits], scope: Scope, rule: Any) -> None:
        done = self._report["reset"] = []

        def reset(path: str, each: Limits) -> None:
            names = each.rules if rule is ALL else (rule,)
            # A gate forgets all of its rules at once.
            at_once = rule is ALL and isinstance(each, _vcache.Gate)
            for together in [names] if at_once else [(name,) for name in names]:
                each.reset(scope, None if at_once else together[0])
                for name in together:
                    done.append(f"{path}: {name}")
                    self._tell(f"reset {path}: {name}")

        self._of_each(chosen, reset)

    def _show(self, states: Mapping[str, Iterable[_vcache.RuleState]]) -> None:
        self._report["gates"] = {path: [_plain(state) for state in rules] for path, rules in states.items()}
        for path, rules in {} if self._as_json else states.items():
            self.stdout.write(self.style.MIGRATE_HEADING(path))
            for line in _table(rules):
                self.stdout.write(f"  {line}")

    def _of_each(self, limits: Mapping[str, Limits], ask: Callable[[str, Limits], T]) -> dict[str, T]:
        """What each says. Those that cannot answer are warned of; if all of them cannot, the command fails."""
        answers: dict[str, T] = {}
        problems = []
        for path, each in limits.items():
            try:
                answers[path] = ask(path, each)
            except VcacheError:
                raise
            # A limit's callable may raise anything, or return what is no limit.
            except Exception as error:
                # What a scope lacks is said in words by the limit itself.
                kind = "" if isinstance(error, ValueError) else f"{type(error).__name__}: "
                problems.append(f"{path}: {kind}{error}")
        if not answers:
            raise CommandError("; ".join(problems))
        for problem in problems:
            self._warn(problem)
        return answers

    def _tell(self, text: str) -> None:
        """Says at once what was done: what comes after may fail."""
        if not self._as_json:
            self.stdout.write(self.style.SUCCESS(text))

    def _warn(self, text: str) -> None:
        self.stderr.write(self.style.WARNING(text))


def _limits(path: str | None, scope: Scope) -> dict[str, Limits]:
    """What is to be asked, by the paths that it is named by."""
    limits: dict[str, Limits] = {
        each: import_gate(each) for each in (current().gates if path is None else (path,)) if each != VIEWS
    }
    views = LimitsOfViews(scope) if path in (None, VIEWS) and scope.keys() & {"user", "ip"} else None
    if views and (views.rules or views.notes):
        limits[VIEWS] = views
    if limits:
        return limits
    if path == VIEWS:
        raise CommandError(
            "no view with a URL has a throttle by user or address, or no user=5 or ip=192.0.2.1 is given"
        )
    raise CommandError(NO_GATE)


def _to_reset(limits: Mapping[str, Limits], rule: Any) -> dict[str, Limits]:
    chosen = {path: each for path, each in limits.items() if (each.rules if rule is ALL else rule in each.rules)}
    if not chosen:
        known = ", ".join(sorted({name for each in limits.values() for name in each.rules}))
        raise CommandError(
            f"no rule is called {rule!r}; there are {known}" if rule is not ALL else "there are no rules"
        )
    # A rule whose key is the owner would take the user for the owner.
    if VIEWS in chosen and len(chosen) > 1:
        paths = " or ".join(f"--gate {path}" for path in chosen)
        raise CommandError(f"reset what? The scope may be meant for views and for gates: add {paths}")
    return chosen


def _effect(chosen: Mapping[str, Limits], scope: Scope, rule: Any) -> str:
    """What a reset does."""
    whose = " ".join(f"{name}={value}" for name, value in scope.items())
    rules = "; ".join(f"{path}: {', '.join(each.rules if rule is ALL else (rule,))}" for path, each in chosen.items())
    return f"This forgets what {whose} was charged by {rules}."


def _to_refund(limits: Mapping[str, Limits]) -> dict[str, _vcache.Gate | Alone]:
    """Those that give receipts. They must be on one server: a receipt does not say on which it was given."""
    found = {path: each for path, each in limits.items() if not isinstance(each, LimitsOfViews)}
    if not found:
        raise CommandError(NO_GATE)
    found = {path: each for path, each in found.items() if not (isinstance(each, Alone) and each.is_throttle)} or found
    if len({each.using for each in found.values()}) > 1:
        where = ", ".join(f"{path} on {each.using!r}" for path, each in found.items())
        raise CommandError(f"the receipt may be of several cache aliases ({where}): name its gate with --gate")
    return found


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
