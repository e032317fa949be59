"""Published results as data: one CSV file for each table or source, with the columns of `PublishedRow`.

Every number stands once, as printed, digits included. What other tables repeat (an overview, a mean recall) is derived
from these rows. Task, split and metric are the names that the harness uses, so that a result row finds its counterpart.
"""

from __future__ import annotations

import csv
from dataclasses import MISSING, dataclass, field, fields
from decimal import Decimal, InvalidOperation
from functools import cache
from pathlib import Path
from typing import Any, get_type_hints

from backbones.errors import InputError
from backbones.files import reading

FOLDER = Path(__file__).parent

# How far another number may lie from a published one, and why.
ROUNDING = "rounding"  # half a unit of the last printed digit
INFERENCE = "inference"  # the same weights run by other code
SPREAD_MEASURED = "training, spread measured"  # of several runs: `runs` and `sd` are known
SPREAD_ASSUMED = "training, spread assumed"  # of a single run: `reason` says where the assumption is from
TOLERANCE_KINDS = (ROUNDING, INFERENCE, SPREAD_MEASURED, SPREAD_ASSUMED)


class PublishedError(InputError):
    """A file of published results that does not follow the schema. The message is one clear paragraph."""


def _doc(text: str) -> dict[str, str]:
    return {"doc": text}


@dataclass(frozen=True, kw_only=True)
class PublishedRow:
    """One published value of one metric. Empty text and None mean "not published" or "does not apply"."""

    source: str = field(metadata=_doc("document, such as arXiv 2208.10442"))
    table: str = field(metadata=_doc("table or section of it"), default="")
    model: str = field(metadata=_doc("model as the source calls it"))
    size: str = field(metadata=_doc("base, large or giant"), default="")
    variant: str = field(metadata=_doc("what sets it apart from the model's other rows, such as indomain"), default="")
    weights: str = field(metadata=_doc("released file without its suffix"), default="")
    released: bool = field(metadata=_doc("yes or no: the weights behind the value can be downloaded"))
    resolution: int | None = field(metadata=_doc("image side in pixels"), default=None)
    extra_data: str = field(
        metadata=_doc("training data beyond the benchmark's own, where the source names it"), default=""
    )
    protocol: str = field(metadata=_doc("how predictions were made, such as multi-scale"), default="")
    task: str = field(metadata=_doc("the harness's task"))
    split: str = field(metadata=_doc("its split; empty, with a note, where the source names none"), default="")
    metric: str = field(metadata=_doc("its metric"))
    unit: str = field(metadata=_doc("percent or points"))
    value: Decimal = field(metadata=_doc("the value as printed, digits included"))
    runs: int | None = field(metadata=_doc("runs behind the value"), default=None)
    sd: Decimal | None = field(metadata=_doc("standard deviation over them"), default=None)
    tolerance: Decimal = field(metadata=_doc("largest difference that counts as agreement, in the metric's unit"))
    tolerance_kind: str = field(metadata=_doc("one of TOLERANCE_KINDS"))
    reason: str = field(metadata=_doc("where the tolerance is from"))
    note: str = field(metadata=_doc("what a reader must know about the value"), default="")

    @property
    def digits(self) -> int:
        """Decimals that the source prints."""
        return -int(self.value.as_tuple().exponent)

    @property
    def name(self) -> str:
        """Model, size and variant as a table shows them."""
        return " ".join(part for part in (self.model, self.size, self.variant) if part)


COLUMNS = tuple(column.name for column in fields(PublishedRow))
_TYPES = get_type_hints(PublishedRow)


def read(path: Path) -> list[PublishedRow]:
    """All rows of one file.

    Raises:
        PublishedError: a column is missing or unknown, or a cell has another type; the message has file and line.
    """
    with reading(path, "published numbers"), path.open(newline="", encoding="utf-8-sig") as file:
        reader = csv.DictReader(file)
        found = tuple(reader.fieldnames or ())
        needed = [column.name for column in fields(PublishedRow) if column.default is MISSING]
        if absent := [name for name in needed if name not in found]:
            raise PublishedError(f"{path} has no column {', '.join(absent)}. The columns are {', '.join(COLUMNS)}.")
        if extra := [name for name in found if name not in COLUMNS]:
            raise PublishedError(f"{path} has the unknown column {extra[0]}. The columns are {', '.join(COLUMNS)}.")
        return [_row(path, reader.line_num, cells) for cells in reader]


@cache
def rows() -> tuple[PublishedRow, ...]:
    """Every published row of the package, file by file in the order of their names."""
    return tuple(row for path in sorted(FOLDER.glob("*.csv")) for row in read(path))


def _row(path: Path, line: int, cells: dict[str, str]) -> PublishedRow:
    if None in cells or None in cells.values():
        raise PublishedError(f"{path}, line {line}: the number of cells is not the number of columns. Fix that line.")
    try:
        return PublishedRow(**{name: _typed(text, _TYPES[name]) for name, text in cells.items()})
    except (ValueError, InvalidOperation):
        raise PublishedError(
            f"{path}, line {line}: a number or a yes/no is expected where there is none ({cells}). Fix that line."
        ) from None


def _typed(text: str, kind: Any) -> Any:
    if kind is str:
        return text
    if kind is bool:
        return ("no", "yes").index(text) == 1
    if text == "" and kind in (int | None, Decimal | None):
        return None
    return int(text) if kind == int | None else Decimal(text)
