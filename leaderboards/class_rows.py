"""A metric of each class: a file beside a run's rows, since a leaderboard has no room for hundreds of them."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from backbones.files import replacing
from leaderboards.rows import ResultsError
from leaderboards.spreadsheet import neutral


@dataclass(frozen=True, kw_only=True)
class ClassRow:
    """One metric of one class over one split."""

    split: str  # part of the data set, such as val
    metric: str  # name, such as IoU
    of: str  # the class
    unit: str  # percent or points
    value: float | None  # None where it could not be computed, see note
    low: float | None  # ends of the 95% interval, as in ResultRow
    high: float | None
    n: int  # samples that the metric is over
    note: str = ""


def write(path: Path, rows: Sequence[ClassRow]) -> None:
    """A CSV file with a line for each row; it appears only once it is whole.

    Raises:
        ResultsError: it cannot be written; the file that was there is unchanged.
    """
    try:
        with replacing(path) as partial, partial.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, [column.name for column in fields(ClassRow)])
            writer.writeheader()
            writer.writerows({name: neutral(cell) for name, cell in asdict(row).items()} for row in rows)
    except OSError as error:
        raise ResultsError(
            f"The metrics of single classes cannot be written to {path} ({error.strerror}). Free some space, fix the "
            "permissions or name another file, and run the same command again."
        ) from error
