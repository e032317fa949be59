"""The stages as functions: what the command line calls, and what a Python program may.

import harness
rows = harness.run("imagenet", backbone="multiway_nano", data="runs/toy")
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from backbones import weights as weight_files
from backbones.errors import InputError, UsageError
from harness import checkpoints, distributed, pictures, provenance
from harness.device import describe, device, peak_memory, precision
from harness.experiment import Experiment, limited, plan
from harness.inference import Predicted
from harness.inference import predict as predict_split
from harness.progress import note, track
from harness.scoring import origin_file, read_predictions, score_file
from harness.training import Trained, accumulation, fine_tune
from harness.workdir import CHECKPOINTS, FINAL, WorkDir, opened, write_bytes, write_json
from leaderboards import class_rows
from leaderboards import rows as result_rows
from leaderboards.rows import ResultRow
from tasks import registry
from tasks.adapter import Finding, Sample, TaskAdapter

RESULTS = "results.csv"


def run(
    tasks: str | Sequence[str], *, out: str | Path = "runs", log: Sequence[str] = (), show: int = 0, **options: Any
) -> list[ResultRow]:
    """Fine-tune, predict and score: one folder per task under `out`, rows added to `out/results.csv`.

    The same call again goes on where an interrupted one stopped, and recomputes no stage that is complete.

    Args:
        tasks: one task name or several.
        log: "tensorboard" and "wandb" for these besides local files.
        show: write pictures of that many predictions, for tasks that have them.
        options: see `harness.experiment.plan`.
    """
    names = [tasks] if isinstance(tasks, str) else list(tasks)
    experiments = [plan(name, out=out, **options) for name in names]  # every name is right before anything starts
    for experiment in experiments:
        pictures.require(experiment.adapter, count=show)
    distributed.start()
    return [row for experiment in experiments for row in _run_one(experiment, Path(out) / RESULTS, log, show)]


def _run_one(experiment: Experiment, results: Path, log: Sequence[str], show: int) -> list[ResultRow]:
    adapter = experiment.adapter
    _tell(experiment)
    train = experiment.samples(adapter.train_split) if experiment.recipe.trains else []
    test = experiment.samples(experiment.split)
    _require_no_leak(experiment, train, test)
    _require_batch(experiment)
    files = _digests(experiment)
    data = {"train": _data_sha256(experiment, train), "test": _data_sha256(experiment, test)}
    with opened(experiment.folder, experiment.identity(**files, data=data, stage="run")) as work:
        if experiment.implied:
            values = ", ".join(f"{name}={getattr(experiment.recipe, name)}" for name in experiment.implied)
            note(f"The length that --set gives implies {values}")
        note(f"{adapter.name}: {len(train)} training and {len(test)} {experiment.split} samples -> {work.folder}")
        origin: dict[str, Any] = dict(files)
        weights = experiment.weights
        if train:
            origin |= {
                "recipe": experiment.recipe.name,
                "recipe_altered": " ".join(experiment.altered),
                "recipe_sha256": provenance.recipe_sha256(experiment.recipe),
                "seed": experiment.seed,
            }
            trained = _fine_tune(experiment, work, train, log)
            weights = trained.weights
            origin["train_seconds"] = round(trained.seconds, 1)
        path = _predict(experiment, work, test, weights, origin)
        if show and distributed.rank() == 0:
            pictures.write(experiment, test, path, work.folder / "pictures", count=show)
        if not adapter.split(experiment.split).labels:
            note(f"No score: the truth of {experiment.split} is not public. `harness submit` writes the server's file.")
            return []
        return _score(experiment, work, test, path, results)


def _tell(experiment: Experiment) -> None:
    for notice in experiment.notices:
        note(notice)


def _fine_tune(experiment: Experiment, work: WorkDir, samples: Sequence[Sample], log: Sequence[str]) -> Trained:
    final = work.checkpoints / FINAL
    if trained := distributed.decided(lambda: _trained(final)):
        return trained
    model = experiment.build_model()
    if experiment.weights:
        checkpoints.load_to_train(model, experiment.weights, experiment.recipe)
    items = experiment.adapter.train_set(samples, experiment.setting)
    if len(items) < len(samples):
        note(f"{len(samples) - len(items):,} of the {len(samples):,} training samples have nothing to learn from")
    return fine_tune(model, items, experiment.recipe, folder=work.checkpoints, seed=experiment.seed, log=log)


def _trained(final: Path) -> Trained | None:
    """What an earlier start has fine-tuned to the end."""
    return Trained(final, float(weight_files.metadata(final)["train_seconds"])) if final.exists() else None


def _require_no_leak(experiment: Experiment, train: Sequence[Sample], test: Sequence[Sample]) -> None:
    """What is trained on must not be scored, unless the training split itself was asked for."""
    adapter = experiment.adapter
    if experiment.split == adapter.train_split:
        return
    shared = distributed.from_main(_shared(adapter, train, test) if distributed.rank() == 0 else None)
    if shared:
        raise UsageError(
            f"{len(shared):,} of the {len(test):,} samples of {adapter.name}'s split {experiment.split} are in its "
            f"training split too, such as {shared[0]}: the score would be worth nothing. Take --split "
            f"{adapter.eval_split}, or predict with weights that were trained on other data (`harness predict`)."
        )


def _shared(adapter: TaskAdapter, train: Sequence[Sample], test: Sequence[Sample]) -> list[str]:
    """Ids of test samples that are trained on; of the two sets the smaller one is held in memory."""
    tested = {adapter.source(sample) for sample in test}
    trained = {source for source in (adapter.source(sample) for sample in train) if source in tested}
    return [sample.id for sample in test if adapter.source(sample) in trained] if trained else []


def _require_batch(experiment: Experiment) -> None:
    """A batch that does not fit is told before there is a folder that holds the run to it."""
    final = experiment.folder / CHECKPOINTS / FINAL
    if experiment.recipe.trains and not distributed.decided(final.exists):
        accumulation(experiment.recipe, processes=distributed.world_size())


def _data_sha256(experiment: Experiment, samples: Sequence[Sample]) -> str:
    """Hash of a split; one process goes through the samples."""
    if distributed.rank() != 0:
        return distributed.from_main(None)
    return distributed.from_main(provenance.data_sha256(experiment.adapter, samples, experiment.data))


def _digests(experiment: Experiment) -> dict[str, str]:
    return {
        "weights_sha256": weight_files.sha256(experiment.weights) if experiment.weights else "",
        "tokenizer_sha256": weight_files.sha256(experiment.tokenizer) if experiment.tokenizer else "",
    }


def predict(
    task: str, *, backbone: str, weights: str | Path, out: str | Path = "runs", name: str | None = None, **options: Any
) -> Path:
    """Predict a split with fine-tuned weights (ours or official ones); returns the predictions file.

    Every tensor of backbone and head must be in the file. For options see `harness.experiment.plan`.
    """
    named = name or f"{backbone.replace('/', '-')}-{Path(weights).stem}"
    experiment = plan(task, backbone=backbone, weights=weights, out=out, name=named, **options)
    distributed.start()
    _tell(experiment)
    samples = experiment.samples(experiment.split)
    files = _digests(experiment)
    data = {"test": _data_sha256(experiment, samples)}
    with opened(experiment.folder, experiment.identity(**files, data=data, stage="predict")) as work:
        return _predict(experiment, work, samples, experiment.weights, files)


def score(
    task: str,
    predictions: str | Path,
    *,
    data: str | Path,
    split: str | None = None,
    limit: int | None = None,
    results: str | Path | None = None,
    classes: str | Path | None = None,
) -> list[ResultRow]:
    """Score a predictions file of ours or of anyone's against the annotations; needs no model and no image.

    Args:
        results: a results file to add the rows to.
        classes: a CSV file for the metrics of single classes, where the task has them.
    """
    adapter = registry.get(task)
    split = split or adapter.eval_split
    root = adapter.data_folder(Path(data))
    samples = limited(adapter, adapter.samples(root, split), limit)
    if not adapter.split(split).labels:
        raise UsageError(
            f"The truth of {task}'s split {split} is not public ({adapter.split(split).server} scores it). Write the "
            f"file for the server: harness submit {task} {predictions} --data {data} --split {split}."
        )
    scores = score_file(Path(predictions), adapter, samples, root=root, split=split)
    if classes is not None:
        if not scores.classes:
            raise UsageError(f"Task {task} has no metrics of single classes: leave --classes out.")
        class_rows.write(Path(classes), scores.classes)
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
    """Write the files that a split's test server takes, validated by the server's rules; returns their paths.

    Args:
        name: of the method, for servers that want it in the file's name.
        out: folder for the files; the predictions' own when not given.
    """
    adapter = registry.get(task)
    path = Path(predictions)
    samples = _samples(adapter, data, split)
    files = adapter.submission(read_predictions(path, adapter, samples), samples, split=split, name=name)
    facts = adapter.split(split)
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


def _samples(adapter: TaskAdapter, data: str | Path, split: str) -> Sequence[Sample]:
    adapter.split(split)
    return adapter.samples(adapter.data_folder(Path(data)), split)


def check(tasks: str | Sequence[str], *, data: str | Path, decode: bool = False) -> dict[str, list[Finding]]:
    """What each task finds in its data folder; `decode` opens every image too."""
    names = [tasks] if isinstance(tasks, str) else list(tasks)
    found = {}
    for name in names:
        adapter = registry.get(name)
        found[name] = adapter.check(adapter.data_folder(Path(data)), decode=decode, progress=track)
    return found


def _predict(
    experiment: Experiment, work: WorkDir, samples: Sequence[Sample], weights: Path, origin: dict[str, Any]
) -> Path:
    target = work.predictions(experiment.split)
    if distributed.decided(lambda: target.exists() and origin_file(target).exists()):
        return target
    model = experiment.build_model()
    if weights == experiment.weights:
        checkpoints.load_to_predict(model, weights, experiment.recipe, resize="image_size" in experiment.by_hand)
    else:  # just fine-tuned
        distributed.wait_for(weights)
        weight_files.load(model, weights)
    items = experiment.adapter.eval_set(samples, experiment.setting)
    predicted = predict_split(model, items, samples, experiment.recipe, target=target)
    # Written before the score: it says who predicted, whoever scores.
    facts = {**origin, **_origin(experiment, work, model, predicted)}
    distributed.decided(lambda: write_json(origin_file(target), facts))
    return target


def _origin(experiment: Experiment, work: WorkDir, model: Any, predicted: Predicted) -> dict[str, Any]:
    where = device()
    speed = predicted.samples / predicted.seconds if predicted.samples else None
    return {
        "backbone": experiment.backbone,
        "weights": experiment.weights.name if experiment.weights else "",
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "resolution": experiment.recipe.image_size,
        "device": describe(where),
        "precision": precision(experiment.recipe.precision, where),
        "processes": distributed.world_size(),
        "predict_seconds": round(predicted.seconds, 2),
        "samples_per_second": round(speed, 2) if speed else None,
        "peak_memory": peak_memory(where),
        "run_id": work.run_id,
        "started": work.started,
    }


def _score(
    experiment: Experiment, work: WorkDir, samples: Sequence[Sample], path: Path, results: Path
) -> list[ResultRow]:
    def written() -> list[ResultRow]:
        scores = score_file(path, experiment.adapter, samples, root=experiment.data, split=experiment.split)
        write_json(work.result, [asdict(row) for row in scores.rows])
        if scores.classes:
            class_rows.write(work.classes, scores.classes)
            note(f"Metrics of single classes: {work.classes}")
        result_rows.write(results, scores.rows)
        return scores.rows

    return distributed.decided(written)
