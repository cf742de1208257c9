"""Gates and streams by their dotted path, as ``VCACHE`` and the commands name them. A throttle or a quota that stands
alone may be named where a gate is, and is asked as one."""

from collections.abc import Mapping
from typing import NamedTuple

from django.utils.module_loading import import_string

from django_vcache import _vcache

__all__ = ["Alone", "import_gate", "import_stream"]


class Alone(NamedTuple):
    """A throttle or a quota that no gate has, with what the commands ask of a gate."""

    rule: _vcache.Throttle | _vcache.Quota

    @property
    def using(self) -> str:
        return self.rule.using

    @property
    def stream(self) -> None:
        """It has none."""

    @property
    def is_throttle(self) -> bool:
        return isinstance(self.rule, _vcache.Throttle)

    @property
    def rules(self) -> tuple[str, ...]:
        return (self.rule.name,)

    def peek(self, scope: Mapping[str, int | str]) -> tuple[_vcache.RuleState, ...]:
        rule = self.rule
        return (rule.peek(scope),)

    def reset(self, scope: Mapping[str, int | str], rule: str | None = None) -> int:
        return int(self.rule.reset(scope))

    def refund(self, receipt: str) -> _vcache.Refund:
        if isinstance(self.rule, _vcache.Throttle):
            raise ValueError("a throttle gives no receipts")
        return self.rule.refund(receipt)


def import_gate(path: str) -> _vcache.Gate | Alone:
    """The gate at a dotted path, such as ``"shop.limits.gate"``, or the throttle or quota that stands alone there.

    Raises:
        ValueError: it cannot be imported, or is something else.
    """
    gate = _imported(path, "gate")
    if isinstance(gate, _vcache.Throttle | _vcache.Quota):
        return Alone(gate)
    if not isinstance(gate, _vcache.Gate):
        raise ValueError(
            f"{path!r} is not a django_vcache.admission.Gate, nor a Throttle or Quota, but {type(gate).__name__}"
        )
    return gate


def import_stream(path: str) -> _vcache.Stream | None:
    """The stream at a dotted path, or that of the gate there, which may have none.

    Raises:
        ValueError: it cannot be imported, or is neither.
    """
    stream = _imported(path, "stream")
    if isinstance(stream, _vcache.Gate):
        return stream.stream
    if not isinstance(stream, _vcache.Stream):
        raise ValueError(f"{path!r} is not a django_vcache.admission.Stream, but {type(stream).__name__}")
    return stream


def _imported(path: str, what: str) -> object:
    try:
        found: object = import_string(path)
    # A module may raise anything while it is imported.
    except Exception as error:
        raise ValueError(f"the {what} {path!r} cannot be imported: {type(error).__name__}: {error}") from error
    return found
