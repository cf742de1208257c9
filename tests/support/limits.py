"""Limits for tests that count: they wait for the server as a cache does, so that a slow machine is no outage."""

from __future__ import annotations

from typing import Any

import pytest


def be_patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Has Throttle, Quota, Stream and Gate wait for longer than 100 ms, unless a test says how long."""
    from django_vcache import _vcache, admission

    for name in ("Throttle", "Quota", "Stream", "Gate"):
        patient = _patient(getattr(_vcache, name))
        monkeypatch.setattr(_vcache, name, patient)
        monkeypatch.setattr(admission, name, patient)


def _patient(base: Any) -> Any:
    def new(cls: Any, *args: Any, **kwargs: Any) -> Any:
        return base.__new__(cls, *args, **{"deadline": None, **kwargs})

    return type(base.__name__, (base,), {"__new__": new, "__doc__": base.__doc__})
