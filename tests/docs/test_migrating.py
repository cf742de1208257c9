"""The page on migrating says of each option what its error says."""

from __future__ import annotations

from pathlib import Path

from django_vcache.foreign import table

PAGE = Path(__file__).parents[2] / "docs" / "howto" / "migrating.md"


def test_the_table_is_that_of_the_errors() -> None:
    # `python -c "from django_vcache.foreign import table; print(table())"` prints it.
    assert f"\n\n{table()}\n\n" in PAGE.read_text(encoding="utf-8")
