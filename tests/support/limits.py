"""Limits for tests that count: they wait for the server as a cache does, so that a slow machine is no outage, and their
days and months do not end in the middle of a test."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest


def be_patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Has Throttle, Quota, Stream and Gate wait for longer than 100 ms, unless a test says how long; and has quotas
    count where it is about noon, unless a test says where."""
    from django_vcache import _vcache, admission

    for name in ("Throttle", "Quota", "Stream", "Gate"):
        preset: dict[str, Any] = {"deadline": None}
        if name == "Quota":
            preset["timezone"] = where_it_is_noon()
        patient = _patient(getattr(_vcache, name), preset)
        monkeypatch.setattr(_vcache, name, patient)
        monkeypatch.setattr(admission, name, patient)


def where_it_is_noon() -> str:
    """A time zone in which midnight is half a day away."""
    ahead = 12 - datetime.now(UTC).hour
    # The names of these zones say how far they are behind.
    return f"Etc/GMT{-ahead:+d}"


def _patient(base: Any, preset: dict[str, Any]) -> Any:
    def new(cls: Any, *args: Any, **kwargs: Any) -> Any:
        # The parts of a gate have its deadline, or none.
        forced = {"deadline": None} if base.__name__ == "Gate" else {}
        return base.__new__(cls, *args, **{**preset, **kwargs, **forced})

    return type(base.__name__, (base,), {"__new__": new, "__doc__": base.__doc__})
