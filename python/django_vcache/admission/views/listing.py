"""The views that have a URL, and what ``@throttle`` limits of them: for the system checks and ``vcache_limits``."""

import contextlib
from collections.abc import Mapping
from typing import Any

from django.conf import settings
from django.urls import get_resolver

from django_vcache import _vcache
from django_vcache.admission.views.decorator import rules_of
from django_vcache.admission.views.keys import Value, charged
from django_vcache.admission.views.limit import Limit
from django_vcache.admission.views.paths import path_of
from django_vcache.exceptions import ConfigurationError

__all__ = ["LimitsOfViews", "problem_in_urls", "views_with_urls"]


def problem_in_urls() -> str | None:
    """The mistake in a decorator that keeps the URLs from being imported, or None."""
    if getattr(settings, "ROOT_URLCONF", None):
        # What else goes wrong there is for Django's own checks to tell.
        with contextlib.suppress(Exception):
            try:
                patterns: list[Any] = [get_resolver()]
                while patterns:
                    patterns += getattr(patterns.pop(), "url_patterns", ())
            except ConfigurationError as error:
                return str(error)
    return None


def views_with_urls() -> list[Any]:
    """The views that have a URL. Decorators are known once these are imported."""
    found: list[Any] = []
    if getattr(settings, "ROOT_URLCONF", None):
        # What goes wrong there is for Django's own checks to tell.
        with contextlib.suppress(Exception):
            patterns: list[Any] = [get_resolver()]
            while patterns:
                pattern = patterns.pop()
                patterns += getattr(pattern, "url_patterns", ())
                found.append(getattr(pattern, "callback", None))
    return [view for view in found if view is not None]


class LimitsOfViews:
    """What views limit by user or address, for the client that a scope's ``user`` and ``ip`` name. Asked as a gate."""

    def __init__(self, scope: Mapping[str, Value]) -> None:
        self.notes: list[str] = []
        """What is left out, and why."""
        self._charged: dict[tuple[str, Limit], tuple[_vcache.Throttle, Value]] = {}
        for view in views_with_urls():
            rules = rules_of(view)
            if rules is None:
                self.notes.append(f"{path_of(view)}: its limits by method_decorator have names only with a request")
            for limit, name in rules or ():
                value = charged(limit.key, scope.get("user"), scope.get("ip"))
                if value is not None:
                    self._charged[name, limit] = limit.rule(name).throttle, value

    @property
    def rules(self) -> tuple[str, ...]:
        return tuple(sorted({name for name, _ in self._charged}))

    def peek(self, scope: Mapping[str, Value]) -> tuple[_vcache.RuleState, ...]:
        states = []
        for (name, limit), (throttle, value) in sorted(self._charged.items(), key=lambda item: item[0][0]):
            if callable(limit.rate):
                self.notes.append(f"{name}: its rate is a callable of the request")
            else:
                states.append(throttle.peek(value))
        return tuple(states)

    def reset(self, scope: Mapping[str, Value], rule: str | None = None) -> int:
        chosen = [asked for (name, _), asked in self._charged.items() if rule in (name, None)]
        return sum(throttle.reset(value) for throttle, value in chosen)
