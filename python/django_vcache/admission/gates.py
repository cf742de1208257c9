"""Gates and streams by their dotted path, as ``VCACHE`` and the commands name them."""

from django.utils.module_loading import import_string

from django_vcache import _vcache

__all__ = ["import_gate", "import_stream"]


def import_gate(path: str) -> _vcache.Gate:
    """The gate at a dotted path, such as ``"shop.limits.gate"``.

    Raises:
        ValueError: it cannot be imported, or is not a gate.
    """
    gate = _imported(path, "gate")
    if not isinstance(gate, _vcache.Gate):
        raise ValueError(f"{path!r} is not a django_vcache.admission.Gate, but {type(gate).__name__}")
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
