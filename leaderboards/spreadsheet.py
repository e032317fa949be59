"""Texts in CSV files that spreadsheets would run as formulas (OWASP, "CSV Injection")."""

from __future__ import annotations

from typing import Any

_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def neutral(cell: Any) -> Any:
    """A cell as it is written: an apostrophe goes before a text that begins like a formula; numbers stay.

    Texts that begin with apostrophes and go on like a formula get one more, so that `restored` loses nothing.
    """
    return f"'{cell}" if isinstance(cell, str) and _begins_like_formula(cell) else cell


def restored(cell: str) -> str:
    """The text that `neutral` was given."""
    return cell[1:] if cell.startswith("'") and _begins_like_formula(cell) else cell


def _begins_like_formula(text: str) -> bool:
    return text.lstrip("'").startswith(_FORMULA)
