"""Result rows: one per metric of a run, with everything needed to repeat and to compare it.

`results.csv` has the columns of `ResultRow` in their order. Writers hold a lock; they append, or where rows are
replaced they replace the file in one move (`leaderboards.csv_file`).

Files of other versions are read: a column that a file lacks is unknown, and `schema` is 1 where it is absent. A column
that this version does not know stays in the file as it is, after the others. Before a file's columns change, it is
copied to `results.schema-N.csv` beside it. Texts that a spreadsheet would run are written with an apostrophe before
them (`leaderboards.spreadsheet`).
"""

from __future__ import annotations

import math
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, get_type_hints

from leaderboards import csv_file
from leaderboards.csv_file import ResultsError
from leaderboards.spreadsheet import neutral, restored

# Version of the columns and of their meaning; goes up with either.
# 2: data_sha256 covers inputs, low and high follow from it, train_* and predict_* columns.
# 3: low and high of a proportion of 0 or 100 percent are Wilson's; bootstrap_draws is empty there.
# 4: dataset has a benchmark's name only where the samples are its own; subset.
# 5: trained_on, leak, server and receipt; values of test servers have no interval.
# 6: predictions_checked.
# 7: grid, variant, cell and code_change.
# 8: pretraining, whose recipe stood under `recipe` in rows of weights that were not fine-tuned.
SCHEMA = 8
LONGEST = 100_000  # characters of a cell; readers of CSV files have limits of their own
UNNAMED = "unnamed, in the layout of "  # `dataset` of data in a benchmark's layout that nobody has named begins so


def _column(doc: str, **options: Any) -> Any:
    return field(metadata={"doc": doc}, **options)


@dataclass(frozen=True, kw_only=True)
class ResultRow:
    """One metric of one run. Empty text and None mean "not known".

    `weights` and the columns from `recipe` to `train_peak_memory` say how the weights were made. They are stored in
    the fine-tuned file (`TRAINED`), so that a row says the same whether `harness run` or `harness predict` made it.
    """

    task: str = _column("adapter name, such as imagenet")
    dataset: str = _column("data set as its authors call it, or as --dataset does; else whose layout it is in")
    split: str = _column("part of the data set, such as val")
    metric: str = _column("metric name, such as top1")
    unit: str = _column("percent or points")
    value: float | None = _column("the metric; empty when it could not be computed, see note")
    low: float | None = _column(
        "lower end of the 95% interval: percentile bootstrap, or Wilson's for proportions of 0 or 100%"
    )
    high: float | None = _column("upper end of it")
    n: int = _column("samples that the metric is over")
    subset: str = _column("samples scored of those in the split, where not all are: 300 of 5000", default="")
    bootstrap_draws: int | None = _column(
        "draws behind low and high, seeded by data_sha256; empty if Wilson's", default=None
    )
    backbone: str = _column("backbone name", default="")
    weights: str = _column(
        "file that fine-tuning started from, or that predicted without it; none: random values", default=""
    )
    weights_sha256: str = _column("its sha256", default="")
    released: str = _column("the released BEiT-3 checkpoint whose name `weights` has", default="")
    pretraining: str = _column("recipe of `harness pretrain` that made `weights`; empty of others", default="")
    trained_on: str = _column(
        "TASK:SPLIT of what the weights have seen, declared or known of released weights, joined by spaces", default=""
    )
    finetuned_sha256: str = _column("of the fine-tuned file that predicted; empty when `weights` did", default="")
    parameters: int | None = _column("parameters of backbone and head", default=None)
    resolution: int | None = _column("image side in pixels", default=None)
    tokenizer_sha256: str = _column("of the tokenizer's .spm file, for tasks with text", default="")
    recipe: str = _column("name of the fine-tuning recipe; empty when nothing was fine-tuned", default="")
    recipe_altered: str = _column("fields of it that were changed, joined by spaces", default="")
    recipe_sha256: str = _column("of its fields as JSON, placement on the machine left out", default="")
    recipe_deviations: str = _column("where the recipe differs from its source, joined by '; '", default="")
    seed: int | None = _column("of fine-tuning", default=None)
    selected: str = _column("how the fine-tuned state was chosen; empty for the last step's", default="")
    train_steps: int | None = _column("optimizer steps behind the weights", default=None)
    train_data_sha256: str = _column("as data_sha256, of the training samples", default="")
    train_images_sha256: str = _column("as images_sha256, of the training samples", default="")
    train_processes: int | None = _column("processes that fine-tuned", default=None)
    train_micro_batch: int | None = _column("samples of a process at once in fine-tuning", default=None)
    train_precision: str = _column("of fine-tuning: bf16, fp16 or fp32", default="")
    train_device: str = _column("hardware that fine-tuned", default="")
    train_package: str = _column("version and git commit of the package that fine-tuned", default="")
    train_libraries: str = _column("as libraries, of fine-tuning", default="")
    train_seconds: float | None = _column("wall time of fine-tuning, interruptions left out", default=None)
    train_peak_memory: int | None = _column("as peak_memory, of fine-tuning since its last start", default=None)
    predict_recipe: str = _column("recipe whose fields shaped the prediction", default="")
    predict_altered: str = _column("those of them that were changed, joined by spaces", default="")
    predict_fields: str = _column("all that shape a prediction (sizes, crop, tokens, beams) as JSON", default="")
    predict_package: str = _column("version and git commit of the package that predicted", default="")
    predict_libraries: str = _column("as libraries, of prediction", default="")
    data_sha256: str = _column("of the split's ids, inputs (paths, texts or tokens) and annotations as JSON lines")
    images_sha256: str = _column("of the split's image files, with --verify-images", default="")
    metric_version: int = _column("goes up when the same predictions would score differently")
    predictions_sha256: str = _column("of the predictions file")
    predictions_checked: str = _column(
        "yes where they are what was predicted, by the checksum stored then; empty where none is", default=""
    )
    leak: str = _column(
        "why what the weights were trained on flatters the value; empty if it is not known to", default=""
    )
    server: str = _column("test server whose value was entered by hand; empty when the harness scored", default="")
    receipt: str = _column("date and the server's own name of that submission", default="")
    package_version: str = _column("of the multiway-harness that scored")
    package_commit: str = _column("git commit of the package, '-dirty' with local changes; empty when installed")
    libraries: str = _column("versions of the libraries that move numbers, name=version joined by spaces")
    device: str = _column("hardware that predicted", default="")
    precision: str = _column("of prediction: bf16, fp16 or fp32", default="")
    processes: int | None = _column("processes that predicted", default=None)
    predict_seconds: float | None = _column("wall time of prediction", default=None)
    samples_per_second: float | None = _column("of prediction, data loading included", default=None)
    peak_memory: int | None = _column("bytes of prediction: GPU memory on a GPU, else resident memory", default=None)
    started: str = _column("UTC time at which the run began, ISO 8601")
    run_id: str = _column("random name of the run; rows of one run share it")
    grid: str = _column("grid of ablations that the run is a cell of", default="")
    variant: str = _column("row of the grid", default="")
    cell: str = _column("sha256 of the cell's identity: everything that decides its number, as JSON", default="")
    code_change: str = _column("why a cell of other code counts, as the user says", default="")
    note: str = _column("why there is no value, and how to get one", default="")
    schema: int = _column("version of these columns and of their meaning", default=SCHEMA)


COLUMNS = tuple(column.name for column in fields(ResultRow))
# What a fine-tuned file says of itself.
TRAINED = (
    "weights", "weights_sha256", "released", "pretraining", "trained_on", "recipe", "recipe_altered", "recipe_sha256",
    "recipe_deviations", "seed", "selected", *(name for name in COLUMNS if name.startswith("train_")),
)  # fmt: skip
# What a prediction says of itself, beside its file.
PREDICTED = (
    *TRAINED, "finetuned_sha256", "tokenizer_sha256", "backbone", "parameters", "resolution",
    *(name for name in COLUMNS if name.startswith("predict_")), "images_sha256", "device", "precision", "processes",
    "samples_per_second", "peak_memory", "started", "run_id",
)  # fmt: skip
# A file without one of these is not of ours.
NEEDED = tuple(column.name for column in fields(ResultRow) if column.default is MISSING)

_TYPES = get_type_hints(ResultRow)


def unfit(columns: Mapping[str, Any]) -> list[str]:
    """Names of the columns whose value is of another type than the column's, not finite, or too long for a cell."""
    return [name for name, value in columns.items() if not _fits(value, _TYPES[name])]


def _fits(value: Any, kind: Any) -> bool:
    if kind is str:
        return isinstance(value, str) and len(value) <= LONGEST and "\0" not in value and _is_utf8(value)
    if value is None:
        return kind not in (int, float)
    if type(value) is int:
        return abs(value) < 1 << 63
    return type(value) is float and kind not in (int, int | None) and math.isfinite(value)


def _is_utf8(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:  # half of a pair, from a file name that is not UTF-8
        return False
    return True


_Cells = Mapping[str, Any]  # a row by column, as text or as the values that become text


def write(path: Path, rows: Sequence[ResultRow]) -> None:
    """Add rows to a results file; rows of the same run, split and metric are replaced.

    Rows of other runs keep their cells as they are, those of unknown columns too.

    Raises:
        ResultsError: the file is not one of ours, or cannot be written, or a row has a value that its column cannot
            hold; it is unchanged then.
    """
    for row in rows:
        if wrong := unfit(vars(row)):
            raise ResultsError(
                f"The row of {row.metric!r:.40} was not written to {path}: column {wrong[0]} would hold "
                f"{vars(row)[wrong[0]]!r:.60}, which {path.name} cannot. Predict again, or remove the .json beside the "
                "predictions."
            )
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with csv_file.locked(path):
            _add(path, [{name: neutral(cell) for name, cell in asdict(row).items()} for row in rows])
    except OSError as error:
        raise ResultsError(
            f"The results file {path} cannot be written ({error.strerror}). Free some space or fix the folder's "
            "permissions and run the same command again: nothing that was in the file is lost."
        ) from error


def _add(path: Path, added: Sequence[_Cells]) -> None:
    if not path.exists() or not path.stat().st_size:
        csv_file.replace(path, COLUMNS, added)
        return
    columns = csv_file.columns_of(path, NEEDED)
    runs = {row["run_id"] for row in added}
    if set(columns) >= set(COLUMNS) and csv_file.append(path, columns, added, absent=sorted(runs)):
        return
    columns, cells = _read_cells(path)
    replaced = {_key(row) for row in added}
    kept = [row for row in cells if _key(row) not in replaced]
    wanted = columns if set(columns) >= set(COLUMNS) else _with_others(columns)
    if wanted != columns:
        _keep_copy(path, schema=max((_typed(path, "schema", row["schema"], int) for row in cells), default=1))
    csv_file.replace(path, wanted, [*kept, *added])


def read(path: Path) -> list[ResultRow]:
    """All rows of a results file, typed; unknown columns are left out.

    Raises:
        ResultsError: not a results file of ours, or a value of another type.
    """
    columns, cells = _read_cells(path)
    known = [name for name in COLUMNS if name in columns or name == "schema"]
    return [ResultRow(**{name: _typed(path, name, row[name], _TYPES[name]) for name in known}) for row in cells]


def require_readable(path: Path) -> None:
    """Check a results file that rows will be added to, if there is one.

    Raises:
        ResultsError: rows cannot be added to it.
    """
    if path.exists():
        _read_cells(path)


def _read_cells(path: Path) -> tuple[tuple[str, ...], list[dict[str, str]]]:
    """The columns of a results file, and its rows; those written before `schema` existed have 1 there."""
    columns, rows = csv_file.read(path, NEEDED)
    for row in rows:
        row["schema"] = row.get("schema") or "1"
    return columns, rows


def _with_others(columns: Sequence[str]) -> tuple[str, ...]:
    """Our columns in their order, then a file's own."""
    return (*COLUMNS, *(name for name in columns if name not in COLUMNS))


def _typed(path: Path, name: str, text: str, kind: Any) -> Any:
    if kind is str:
        return restored(text)
    if text == "" and kind not in (int, float):
        return None
    try:
        return int(text) if kind in (int, int | None) else float(text)
    except ValueError:
        raise ResultsError(
            f"{path}: column {name} holds {text!r}, which is not a number. Fix or remove that row."
        ) from None


def _key(row: _Cells) -> tuple[str, str, str, str]:
    return row["run_id"], row["task"], row["split"], row["metric"]


def _keep_copy(path: Path, *, schema: int) -> None:
    """Copy a file to a name that is still free."""
    stem = f"{path.stem}.schema-{schema}"
    names = (stem if number == 1 else f"{stem}.{number}" for number in range(1, 1_000_000))
    free = next(path.with_name(name + path.suffix) for name in names if not path.with_name(name + path.suffix).exists())
    shutil.copy2(path, free)
