"""What an unknown name of a setting gets for an answer."""

from __future__ import annotations

import pytest

KNOWN = ["CLEAR", "CONNECT_TIMEOUT", "RESPONSE_TIMEOUT"]


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("CLAER", "Did you mean CLEAR?"),
        ("clear", "Names are in capitals: write CLEAR."),
        ("TIMEOUT", "Did you mean CONNECT_TIMEOUT or RESPONSE_TIMEOUT?"),
        ("NONSENSE", "Known are CLEAR, CONNECT_TIMEOUT, RESPONSE_TIMEOUT."),
        (7, "Known are CLEAR, CONNECT_TIMEOUT, RESPONSE_TIMEOUT."),
    ],
)
def test_the_hint_says_what_was_probably_meant(name: object, hint: str) -> None:
    from django_vcache._names import hint_for

    assert hint_for(name, KNOWN) == hint
