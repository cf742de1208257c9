"""Gates by their dotted path, as ``VCACHE["GATES"]`` and the commands name them."""

from django.utils.module_loading import import_string

from django_vcache import _vcache

__all__ = ["import_gate"]


def import_gate(path: str) -> _vcache.Gate:
    """The gate at a dotted path, such as ``"shop.limits.gate"``.

    Raises:
        ValueError: it cannot be imported, or is not a gate.
    """
    try:
        gate = import_string(path)
    # A module may raise anything while it is imported.
    except Exception as error:
        raise ValueError(f"the gate {path!r} cannot be imported: {type(error).__name__}: {error}") from error
    if not isinstance(gate, _vcache.Gate):
        raise ValueError(f"{path!r} is not a django_vcache.admission.Gate, but {type(gate).__name__}")
    return gate
