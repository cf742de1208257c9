"""Names in settings that are unknown: what was probably meant."""

import difflib
from collections.abc import Iterable

__all__ = ["hint_for"]


def hint_for(name: object, known: Iterable[str]) -> str:
    """What to write in place of a setting's name.

    >>> hint_for("DEADLNE", ["DEADLINE", "PREFIX"])
    'Did you mean DEADLINE?'
    >>> hint_for("prefix", ["DEADLINE", "PREFIX"])
    'Names are in capitals: write PREFIX.'
    """
    known = list(known)
    written = str(name).upper()
    near = difflib.get_close_matches(written, known, n=3)
    if near[:1] == [written]:
        return f"Names are in capitals: write {written}."
    return f"Did you mean {' or '.join(near)}?" if near else f"Known are {', '.join(known)}."
