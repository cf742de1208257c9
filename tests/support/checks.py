"""System checks, run under other settings."""

from __future__ import annotations

from typing import Any

from django.core.checks import run_checks
from django.test import override_settings

LOCMEM = {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"}


def found(deploy: bool = False, **settings: Any) -> dict[str, str]:
    """What the checks say, by their ids."""
    with override_settings(**settings):
        messages = run_checks(tags=["vcache"], include_deployment_checks=deploy)
    return {message.id: f"{message.msg} {message.hint or ''}" for message in messages if message.id}
