"""Cells and tables as texts: markdown, CSV, HTML and LaTeX."""

from __future__ import annotations

import csv
import html
import io
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from leaderboards.spreadsheet import neutral

if TYPE_CHECKING:
    import pandas as pd

# LaTeX's special characters (Lamport, LaTeX: A Document Preparation System, section 2.2.4).
_LATEX = str.maketrans(
    {
        "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
        "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "–": "--", "±": r"$\pm$",
        "▸": r"$\triangleright$", "≈": r"$\approx$", "→": r"$\rightarrow$", "≥": r"$\geq$", "≤": r"$\leq$",
    }
)  # fmt: skip
# Also what opens an image, a link, code, emphasis or HTML.
MARKDOWN = str.maketrans({mark: f"\\{mark}" for mark in "\\|*_`[]<>"} | {"\n": " ", "\r": " "})


def is_missing(value: Any) -> bool:
    """Check for an unknown value: None, NaN or pandas' NA."""
    return value is None or type(value).__name__ == "NAType" or (isinstance(value, float) and value != value)


def cell(value: Any) -> str:
    """A value for people: floats with up to three decimals, empty where unknown."""
    if is_missing(value):
        return ""
    return f"{value:.3f}" if isinstance(value, float) else str(value)


def records(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """Rows as JSON-able mappings; None where a value is unknown."""
    plain = frame.astype(object)
    return plain.where(frame.notna(), None).to_dict("records")


def csv_text(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """CSV with numbers as numbers; texts that a spreadsheet would run have an apostrophe before them."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow([neutral(name) for name in columns])
    writer.writerows([("" if is_missing(value) else neutral(value)) for value in row] for row in rows)
    return out.getvalue()


def markdown(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A GitHub table of texts; characters of markdown in them are escaped."""
    lines = [columns, ["---"] * len(columns), *rows]
    return "".join(
        "| " + " | ".join(text if number == 1 else text.translate(MARKDOWN) for text in line) + " |\n"
        for number, line in enumerate(lines)
    )


def latex(text: str) -> str:
    """A text with LaTeX's special characters escaped."""
    return text.translate(_LATEX)


def escaped(text: str) -> str:
    """A text for HTML, in elements and in attributes."""
    return html.escape(text, quote=True)
