"""Result rows: one per metric of a run, with everything needed to repeat and to compare it.

`results.csv` has the columns of `ResultRow` in their order. Writers take a lock and replace the file in one move.
"""

from __future__ import annotations

import csv
import fcntl
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, get_type_hints


class ResultsError(Exception):
    """A results file that cannot be read or written. The message is one clear paragraph."""

    exit_code = 1


def _column(doc: str, **options: Any) -> Any:
    return field(metadata={"doc": doc}, **options)


@dataclass(frozen=True, kw_only=True)
class ResultRow:
    """One metric of one run. Empty text and None mean "not known"."""

    task: str = _column("adapter name, such as imagenet")
    dataset: str = _column("data set as its authors call it")
    split: str = _column("part of the data set, such as val")
    metric: str = _column("metric name, such as top1")
    unit: str = _column("percent or points")
    value: float | None = _column("the metric; empty when it could not be computed, see note")
    low: float | None = _column("lower end of the 95% bootstrap interval")
    high: float | None = _column("upper end of the 95% bootstrap interval")
    n: int = _column("samples that the metric is over")
    backbone: str = _column("backbone name", default="")
    weights: str = _column("file that fine-tuning started from, or that predicted without it", default="")
    weights_sha256: str = _column("its sha256", default="")
    parameters: int | None = _column("parameters of backbone and head", default=None)
    resolution: int | None = _column("image side in pixels", default=None)
    tokenizer_sha256: str = _column("of the tokenizer's .spm file, for tasks with text", default="")
    recipe: str = _column("recipe name; empty when nothing was fine-tuned", default="")
    recipe_altered: str = _column("recipe fields that were changed, joined by spaces", default="")
    recipe_sha256: str = _column("of the recipe's fields as JSON", default="")
    seed: int | None = _column("of training and of the bootstrap", default=None)
    data_sha256: str = _column("of the split's ids and annotations as JSON lines")
    metric_version: int = _column("goes up when the same predictions would score differently")
    predictions_sha256: str = _column("of the predictions file")
    package_version: str = _column("of multiway-harness")
    package_commit: str = _column("git commit of the package, '-dirty' with local changes; empty when installed")
    libraries: str = _column("versions of the libraries that move numbers, name=version joined by spaces")
    device: str = _column("hardware that predicted", default="")
    precision: str = _column("bf16 or fp32", default="")
    processes: int | None = _column("processes that predicted", default=None)
    train_seconds: float | None = _column("wall time of fine-tuning, interruptions left out", default=None)
    predict_seconds: float | None = _column("wall time of prediction", default=None)
    samples_per_second: float | None = _column("of prediction, data loading included", default=None)
    peak_memory: int | None = _column("bytes: GPU memory on a GPU, else resident memory", default=None)
    started: str = _column("UTC time at which the run began, ISO 8601")
    run_id: str = _column("random name of the run; rows of one run share it")
    note: str = _column("why there is no value, and what mends it", default="")


COLUMNS = tuple(column.name for column in fields(ResultRow))


def write(path: Path, rows: Sequence[ResultRow]) -> None:
    """Add rows to a results file; rows of the same run, split and metric are replaced.

    Raises:
        ResultsError: the file is not one of ours, or cannot be written; it is unchanged then.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with _locked(path):
            replaced = {_key(row) for row in rows}
            kept = [row for row in (read(path) if path.exists() else []) if _key(row) not in replaced]
            _replace(path, [*kept, *rows])
    except OSError as error:
        raise ResultsError(
            f"The results file {path} cannot be written ({error.strerror}). Free some space or mend the folder's "
            "permissions and run the same command again: nothing that was in the file is lost."
        ) from error


def read(path: Path) -> list[ResultRow]:
    """All rows of a results file, typed.

    Raises:
        ResultsError: other columns than ours, or a value of another type.
    """
    with path.open(newline="", encoding="utf-8") as file:
        reader = csv.DictReader(file)
        if tuple(reader.fieldnames or ()) != COLUMNS:
            raise ResultsError(
                f"{path} does not have the columns of this version's results. Move it away, or give another --out."
            )
        types = get_type_hints(ResultRow)
        return [
            ResultRow(**{name: _typed(path, name, text, types[name]) for name, text in row.items()}) for row in reader
        ]


def _typed(path: Path, name: str, text: str, kind: Any) -> Any:
    if kind is str:
        return text
    if text == "" and kind not in (int, float):
        return None
    try:
        return int(text) if kind in (int, int | None) else float(text)
    except ValueError:
        raise ResultsError(
            f"{path}: column {name} holds {text!r}, which is not a number. Mend or remove that row."
        ) from None


def _key(row: ResultRow) -> tuple[str, str, str, str]:
    return row.run_id, row.task, row.split, row.metric


def _replace(path: Path, rows: Sequence[ResultRow]) -> None:
    partial = path.with_name(path.name + ".partial")
    try:
        with partial.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, COLUMNS)
            writer.writeheader()
            writer.writerows(asdict(row) for row in rows)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    except OSError:
        partial.unlink(missing_ok=True)
        raise


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold the file's lock (advisory, on a file beside it that stays)."""
    with path.with_name(path.name + ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
