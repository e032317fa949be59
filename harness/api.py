"""The stages as functions: what the command line calls, and what a Python program may.

import harness
rows = harness.run("imagenet", backbone="multiway_nano", data="runs/toy")
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, overload

from backbones import weights as weight_files
from backbones.errors import InputError, UsageError
from harness import checkpoints, distributed, origin, pictures, preflight
from harness.device import device, reset_peak_memory
from harness.experiment import Experiment, limited, plan
from harness.fingerprint import Fingerprint, fingerprint
from harness.inference import Predicted
from harness.inference import predict as predict_split
from harness.progress import note, track
from harness.scoring import Scores, origin_file, origin_of, read_predictions, score_file
from harness.training import fine_tune
from harness.validation import Validation
from harness.workdir import FINAL, WorkDir, opened, write_bytes, write_json
from leaderboards import class_rows
from leaderboards import rows as result_rows
from leaderboards.rows import ResultRow
from tasks import registry
from tasks.adapter import Finding, Sample, TaskAdapter

RESULTS = "results.csv"


def run(
    tasks: str | Sequence[str], *, out: str | Path = "runs", log: Sequence[str] = (), show: int = 0, **options: Any
) -> list[ResultRow]:
    """Fine-tune once, predict and score each split: a folder per task under `out`, rows added to `out/results.csv`.

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
    preflight.require(experiment, whole=True)
    train = experiment.samples(adapter.train_split) if experiment.recipe.trains else []
    tests = {split: experiment.samples(split) for split in experiment.splits}
    for split, test in tests.items():
        _require_no_leak(experiment, split, train, test)
    preflight.require_space(experiment, samples=sum(len(test) for test in tests.values()))
    files = _digests(experiment)
    printed = {adapter.train_split: train, **tests} if train else tests
    only_predicted = tests.keys() - {adapter.train_split}
    if train and experiment.recipe.keep == "best":
        printed[adapter.validates] = experiment.samples(adapter.validates)
        only_predicted -= {adapter.validates}
    prints = _fingerprints(experiment, printed)
    identity = experiment.identity(**files, stage="run")
    with opened(experiment.folder, identity, prints, only_predicted=only_predicted) as work:
        counted = ", ".join(f"{len(test)} {split}" for split, test in tests.items())
        note(f"{adapter.name}: {len(train)} training and {counted} samples -> {work.folder}")
        weights = experiment.weights
        if train:
            weights = _fine_tune(experiment, work, train, prints[adapter.train_split], files, log)
        paths = _predict(experiment, work, tests, weights, prints)
        _show(experiment, work, tests, paths, count=show)
        return _score(experiment, work, tests, results)


def _show(
    experiment: Experiment,
    work: WorkDir,
    tests: Mapping[str, Sequence[Sample]],
    paths: Mapping[str, Path],
    *,
    count: int,
) -> None:
    if count and distributed.rank() == 0:
        for split, test in tests.items():
            folder = work.folder / "pictures" / (split if len(tests) > 1 else "")
            pictures.write(experiment, test, paths[split], folder, count=count)


def _tell(experiment: Experiment) -> None:
    for notice in experiment.notices:
        note(notice)


def _fine_tune(
    experiment: Experiment,
    work: WorkDir,
    samples: Sequence[Sample],
    data: Fingerprint,
    files: Mapping[str, str],
    log: Sequence[str],
) -> Path:
    """The fine-tuned weights, which the folder may have already."""
    final = work.checkpoints / FINAL
    if distributed.decided(final.exists):
        return final
    model = experiment.build_model()
    if experiment.weights:
        checkpoints.load_to_train(model, experiment.weights, experiment.recipe)
    validation = _validation(experiment, work, samples)
    items = experiment.adapter.train_set(samples, experiment.setting)
    taught = experiment.adapter.taught(samples)
    if len(items) < taught:
        note(f"{taught - len(items):,} of the {taught:,} training samples have nothing to learn from")
    trained = fine_tune(
        model,
        items,
        experiment.recipe,
        folder=work.checkpoints,
        seed=experiment.seed,
        log=log,
        columns=origin.of_training(experiment, weights_sha256=files["weights_sha256"], data=data),
        validation=validation,
    )
    return trained.weights


def _validation(experiment: Experiment, work: WorkDir, train: Sequence[Sample]) -> Validation | None:
    """The validation during training, if the recipe has one."""
    adapter, recipe = experiment.adapter, experiment.recipe
    if not recipe.validate:
        return None
    split = adapter.validates
    samples = limited(adapter, experiment.samples(split), recipe.validate_limit)
    if shared := distributed.decided(lambda: _shared(adapter, train, samples)):
        raise UsageError(f"{shared[0]} is in the training split and in the validation split {split}.")
    if recipe.keep == "best" and split in experiment.splits:
        note(f"The weights are chosen by their scores on {split}, which is scored too: its number will be flattering")
    items = adapter.eval_set(samples, experiment.setting)
    return Validation(adapter, samples, items, recipe, split=split, folder=work.folder)


def _require_no_leak(experiment: Experiment, split: str, train: Sequence[Sample], test: Sequence[Sample]) -> None:
    """What is trained on must not be scored, unless the training split itself was asked for."""
    adapter = experiment.adapter
    if split == adapter.train_split:
        return
    if shared := distributed.decided(lambda: _shared(adapter, train, test)):
        raise UsageError(
            f"{len(shared):,} of the {len(test):,} samples of {adapter.name}'s split {split} are in its "
            f"training split too, such as {shared[0]}: the score would be worth nothing. Take --split "
            f"{adapter.eval_split}, or predict with weights that were trained on other data (`harness predict`)."
        )


def _shared(adapter: TaskAdapter, train: Sequence[Sample], test: Sequence[Sample]) -> list[str]:
    """Ids of test samples that are trained on; of the two sets the smaller one is held in memory."""
    tested = {adapter.source(sample) for sample in test}
    trained = {source for source in (adapter.source(sample) for sample in train) if source in tested}
    return [sample.id for sample in test if adapter.source(sample) in trained] if trained else []


def _fingerprints(experiment: Experiment, samples: Mapping[str, Sequence[Sample]]) -> dict[str, Fingerprint]:
    """The fingerprint of each split; one process goes through the samples."""
    adapter, root, contents = experiment.adapter, experiment.data, experiment.verify_images
    return distributed.decided(
        lambda: {split: fingerprint(adapter, own, root, contents=contents) for split, own in samples.items()}
    )


def _digests(experiment: Experiment) -> dict[str, str]:
    return {
        "weights_sha256": weight_files.sha256(experiment.weights) if experiment.weights else "",
        "tokenizer_sha256": weight_files.sha256(experiment.tokenizer) if experiment.tokenizer else "",
    }


@overload
def predict(task: str, *, split: str | None = None, **options: Any) -> Path: ...
@overload
def predict(task: str, *, split: Sequence[str], **options: Any) -> list[Path]: ...
def predict(
    task: str,
    *,
    backbone: str,
    weights: str | Path,
    split: str | Sequence[str] | None = None,
    out: str | Path = "runs",
    name: str | None = None,
    show: int = 0,
    **options: Any,
) -> Path | list[Path]:
    """Predict with fine-tuned weights, ours or official ones; returns the predictions file.

    Every tensor of backbone and head must be in the file. For options see `harness.experiment.plan`.

    Args:
        split: one, or several, for which the files are returned in the same order.
        show: write pictures of that many predictions of each split, for tasks that have them.
    """
    named = name or f"{backbone.replace('/', '-')}-{Path(weights).stem}"
    experiment = plan(task, backbone=backbone, weights=weights, split=split, out=out, name=named, **options)
    pictures.require(experiment.adapter, count=show)
    distributed.start()
    _tell(experiment)
    preflight.require(experiment, whole=False)
    tests = {split: experiment.samples(split) for split in experiment.splits}
    preflight.require_space(experiment, samples=sum(len(test) for test in tests.values()), whole=False)
    prints = _fingerprints(experiment, tests)
    identity = experiment.identity(**_digests(experiment), stage="predict")
    with opened(experiment.folder, identity, prints, only_predicted=tests.keys()) as work:
        paths = _predict(experiment, work, tests, experiment.weights, prints)
        _show(experiment, work, tests, paths, count=show)
    return paths[experiment.splits[0]] if split is None or isinstance(split, str) else list(paths.values())


def score(
    task: str,
    predictions: str | Path | Sequence[str | Path],
    *,
    data: str | Path,
    split: str | Sequence[str] | None = None,
    limit: int | None = None,
    results: str | Path | None = None,
    classes: str | Path | None = None,
) -> list[ResultRow]:
    """Score a predictions file of ours or of anyone's against the annotations; needs no model and no image.

    Args:
        predictions: one file, or one for each split.
        results: a results file to add the rows to.
        classes: a CSV file for the metrics of single classes, where the task has them.
    """
    adapter = registry.get(task)
    files = [Path(file) for file in ([predictions] if isinstance(predictions, str | Path) else predictions)]
    splits = [split or adapter.eval_split] if split is None or isinstance(split, str) else list(split)
    if len(files) != len(splits):
        raise UsageError(
            f"{len(files)} predictions files and {len(splits)} splits ({', '.join(splits)}): give a --split for each "
            "file, in the same order."
        )
    scores = Scores([], [])
    for file, of in zip(files, splits, strict=True):
        if not adapter.split(of).labels:
            raise UsageError(
                f"The truth of {task}'s split {of} is not public ({adapter.split(of).server} scores it). Write the "
                f"file for the server: harness submit {task} {file} --data {data} --split {of}."
            )
        root = adapter.data_folder(Path(data))
        samples = limited(adapter, adapter.samples(root, of), limit)
        scores += score_file(file, adapter, samples, root=root, split=of)
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
        predictions: of the split, or of one that has all its samples (VQA's test-std has test-dev's).
        name: of the method, for servers that want it in the file's name.
        out: folder for the files; the predictions' own when not given.
    """
    adapter = registry.get(task)
    path = Path(predictions)
    facts = adapter.split(split)
    samples = _samples(adapter, data, split)
    larger = (lambda: _samples(adapter, data, facts.within)) if facts.within else None
    records = read_predictions(path, adapter, samples, larger=larger)
    files = adapter.submission(records, samples, split=split, name=name)
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
    experiment: Experiment,
    work: WorkDir,
    tests: Mapping[str, Sequence[Sample]],
    weights: Path,
    prints: Mapping[str, Fingerprint],
) -> dict[str, Path]:
    """The predictions file of each split; those that are there already are kept."""
    targets = {split: work.predictions(split) for split in tests}
    missing = distributed.decided(lambda: [split for split, path in targets.items() if not _predicted(path)])
    if missing:
        model = experiment.build_model()
        if weights == experiment.weights:
            checkpoints.load_to_predict(model, weights, experiment.recipe, resize="image_size" in experiment.by_hand)
        else:  # just fine-tuned
            distributed.wait_for(weights)
            weight_files.load(model, weights)
    for split in missing:
        items = experiment.adapter.eval_set(tests[split], experiment.setting)
        reset_peak_memory(device())
        predicted = predict_split(model, items, tests[split], experiment.recipe, target=targets[split])
        # Written before the score: it says who predicted, whoever scores.
        distributed.decided(lambda: _write_origin(experiment, work, split, model, weights, predicted))  # noqa: B023
    distributed.decided(lambda: _add_to_origins(targets, prints))
    return targets


def _predicted(target: Path) -> bool:
    return target.exists() and origin_file(target).exists()


def _write_origin(
    experiment: Experiment, work: WorkDir, split: str, model: Any, weights: Path, predicted: Predicted
) -> None:
    columns = {
        **origin.of_weights(weights, weight_files.sha256(weights)),
        "tokenizer_sha256": weight_files.sha256(experiment.tokenizer) if experiment.tokenizer else "",
        **origin.of_prediction(experiment, model, predicted),
        "run_id": work.run_id,
        "started": work.started,
    }
    write_json(origin_file(work.predictions(split)), columns)


def _add_to_origins(targets: Mapping[str, Path], prints: Mapping[str, Fingerprint]) -> None:
    """Images may be verified long after they were predicted: the run's folder guards that they are the same."""
    for split, path in targets.items():
        known, verified = origin_of(path), prints[split].images_sha256
        if verified and known.get("images_sha256") != verified:
            write_json(origin_file(path), {**known, "images_sha256": verified})


def _score(
    experiment: Experiment, work: WorkDir, tests: Mapping[str, Sequence[Sample]], results: Path
) -> list[ResultRow]:
    """Rows of all splits whose truth is public."""
    adapter = experiment.adapter
    public = [split for split in tests if adapter.split(split).labels]
    for split in tests:
        if split not in public:
            note(f"No score: the truth of {split} is not public. `harness submit` writes the server's file.")
    if not public:
        return []

    def written() -> list[ResultRow]:
        scores = Scores([], [])
        for split in public:
            path = work.predictions(split)
            scores += score_file(path, adapter, tests[split], root=experiment.data, split=split)
        write_json(work.result, [asdict(row) for row in scores.rows])
        if scores.classes:
            class_rows.write(work.classes, scores.classes)
            note(f"Metrics of single classes: {work.classes}")
        result_rows.write(results, scores.rows)
        return scores.rows

    return distributed.decided(written)
