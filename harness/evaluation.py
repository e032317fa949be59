"""Functions behind the commands that need no model, `score` and `submit`; nothing here imports PyTorch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from backbones.errors import InputError, UsageError
from harness.experiment import limited, require_limit
from harness.scoring import (
    Scores,
    dataset_name,
    predicted_subset,
    read_predictions,
    records_of,
    require_predictions,
    score_file,
)
from harness.workdir import write_bytes
from leaderboards import class_rows, leaks
from leaderboards import replicates as stored_replicates
from leaderboards import rows as result_rows
from leaderboards.rows import ResultRow
from tasks import registry
from tasks.common.checking import read_labels, read_samples
from tasks.common.reading import parsed_once


def score(
    task: str,
    predictions: str | Path | Sequence[str | Path],
    *,
    data: str | Path,
    split: str | Sequence[str] | None = None,
    limit: int | None = None,
    results: str | Path | None = None,
    classes: str | Path | None = None,
    replicates: str | Path | None = None,
    dataset: str | None = None,
    subset: bool = False,
    trained_on: Sequence[str] = (),
) -> list[ResultRow]:
    """Score a predictions file of ours or of anyone's against the annotations; needs no model and no image.

    Args:
        predictions: one file or folder, or one for each split; see `TaskAdapter.prediction_forms`.
        results: a results file to add the rows to.
        classes: a CSV file for the metrics of single classes, where the task has them.
        replicates: an .npz file for each metric at the bootstrap draws; see `leaderboards.replicates`.
        dataset: name of the data, where they are not the benchmark's own.
        subset: score the samples that have a prediction, and say in the rows how many of the split's they are.
        trained_on: what the weights behind the predictions have seen, as TASK:SPLIT texts.
    """
    adapter = registry.get(task)
    files = [Path(file) for file in ([predictions] if isinstance(predictions, str | Path) else predictions)]
    splits = [split or adapter.eval_split] if split is None or isinstance(split, str) else list(split)
    if len(files) != len(splits):
        raise UsageError(
            f"{len(files)} predictions files and {len(splits)} splits ({', '.join(splits)}): give a --split for each "
            "file, in the same order."
        )
    require_limit(limit)
    if results is not None:
        result_rows.require_readable(Path(results))
    scores = Scores()
    seen = leaks.parsed(trained_on, registry.names())
    for file, of in zip(files, splits, strict=True):
        if not adapter.split(of).labels:
            raise UsageError(
                f"The truth of {task}'s split {of} is not public ({adapter.split(of).server} scores it). Write the "
                f"file for the server: harness submit {task} {file} --data {data} --split {of}."
            )
        require_predictions(file, adapter)
        root = adapter.data_folder(Path(data))
        with parsed_once():
            whole = read_samples(adapter, root, of)
            labels = read_labels(adapter, root)
        name = dataset_name(adapter, of, whole, given=dataset)
        samples = limited(adapter, whole, limit)
        if subset:
            samples = predicted_subset(file, adapter, samples)
        scores += score_file(
            file,
            adapter,
            samples,
            root=root,
            split=of,
            labels=labels,
            dataset=name,
            whole=len(whole),
            trained_on=seen,
        )
    if classes is not None:
        if not scores.classes:
            raise UsageError(f"Task {task} has no metrics of single classes: leave --classes out.")
        class_rows.write(Path(classes), scores.classes)
    if replicates is not None:
        stored_replicates.write(Path(replicates), scores.replicates)
    if results is not None:
        result_rows.write(Path(results), scores.rows)
    return scores.rows


def submit(
    task: str,
    predictions: str | Path,
    *,
    data: str | Path,
    split: str,
    name: str = "multiway",
    out: str | Path | None = None,
) -> list[Path]:
    """Write the files for a split's test server, checked by its rules; returns their paths.

    Args:
        predictions: of the split, or of one that has all its samples (VQA's test-std has test-dev's).
        name: of the method, for servers that want it in the file's name.
        out: folder for the files; the predictions' own when not given.
    """
    adapter = registry.get(task)
    path = Path(predictions)
    facts = adapter.split(split)
    require_predictions(path, adapter)
    root = adapter.data_folder(Path(data))
    with parsed_once():
        samples = read_samples(adapter, root, split)
        labels = read_labels(adapter, root)
    larger = (lambda: read_samples(adapter, root, facts.within)) if facts.within else None
    records = read_predictions(path, adapter, samples, larger=larger)
    with records_of(path, adapter):
        files = adapter.submission(records, samples, split=split, name=name, labels=labels)
    for file in files:
        if facts.largest_file is not None and len(file.content) > facts.largest_file:
            raise InputError(
                f"{file.filename} would have {len(file.content):,} bytes, and {facts.server} takes "
                f"{facts.largest_file:,}. Look for predictions that are much longer than they should be in {path}."
            )
    targets = [(Path(out) if out else path.parent) / file.filename for file in files]
    for target, file in zip(targets, files, strict=True):
        write_bytes(target, file.content)
    return targets
