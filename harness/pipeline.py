"""The stages of one experiment in its run folder: fine-tune, predict, score."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

from mmengine.model import BaseModel

from backbones import weights as weight_files
from harness import batch, distributed, origin, pictures, preflight, provenance, stored_origin, weight_report
from harness.device import device, reset_peak_memory
from harness.experiment import Experiment, limited
from harness.fingerprint import Fingerprint, fingerprint
from harness.inference import Predicted
from harness.inference import predict as predict_split
from harness.progress import note
from harness.scoring import Scores, dataset_name, score_file
from harness.training import fine_tune
from harness.validation import Validation
from harness.workdir import WorkDir, opened, write_json
from leaderboards import class_rows, replicates
from leaderboards import rows as result_rows
from leaderboards.rows import ResultRow
from tasks.adapter import Sample
from tasks.common.reading import parsed_once

Read = Callable[[str], Sequence[Sample]]  # a split's name to its samples, read when first asked for


def run(
    experiment: Experiment,
    *,
    results: Path,
    log: Sequence[str] = (),
    show: int = 0,
    columns: Mapping[str, str] | None = None,
) -> list[ResultRow]:
    """Fine-tune, predict and score; stages that are complete in the run's folder are skipped.

    Args:
        results: file that the rows are added to.
        log, show: see `harness.api.run`.
        columns: of the rows, about the grid that the run belongs to.
    """
    adapter = experiment.adapter
    _announce(experiment)
    preflight.require(experiment, whole=True, scores=True)
    distributed.decided(lambda: result_rows.require_readable(results))
    whole: Read = cache(experiment.whole)
    read: Read = cache(lambda split: limited(adapter, whole(split), experiment.limit))
    with parsed_once():
        train = read(adapter.train_split) if experiment.recipe.trains else []
        experiment = _fitted(experiment, train)
        tests = {split: read(split) for split in experiment.splits}
        if experiment.recipe.trains and experiment.recipe.validate:
            read(adapter.validates)
        experiment.require_context()
    wholes = _wholes(experiment, whole)
    for split, test in tests.items():
        preflight.require_no_leak(experiment, split, train=train, test=test)
    preflight.require_space(experiment, samples=sum(len(test) for test in tests.values()))
    digests = _digests(experiment)
    shaping = _shaping(experiment, read)
    prints = _fingerprints(experiment, {**shaping, **tests})
    identity = experiment.identity(**digests, stage="run")
    with opened(experiment.folder, identity, prints, only_predicted=tests.keys() - shaping.keys()) as work:
        counted = ", ".join(f"{len(test)} {split}" for split, test in tests.items())
        note(f"{adapter.name}: {len(train)} training and {counted} samples -> {work.folder}")
        stages = _Stages(experiment, work, tests, prints)
        weights = stages.fine_tune(read, weights_sha256=digests["weights_sha256"], log=log)
        stages.predict(weights)
        stages.show(count=show)
        return stages.score(results, wholes, columns or {})


class _Whole(NamedTuple):
    """A split, of which a run may have a part; fields as in `score_file`."""

    dataset: str
    whole: int


def _wholes(experiment: Experiment, whole: Read) -> dict[str, _Whole]:
    return {split: _whole(experiment, split, whole(split)) for split in experiment.splits}


def _whole(experiment: Experiment, split: str, samples: Sequence[Sample]) -> _Whole:
    """Facts about a split for its rows, from all of its samples."""
    name = distributed.decided(lambda: dataset_name(experiment.adapter, split, samples, given=experiment.dataset))
    return _Whole(name, len(samples))


def predict(
    experiment: Experiment, *, show: int, results: Path | None = None
) -> tuple[dict[str, Path], list[ResultRow]]:
    """Predict with the experiment's weights; returns the predictions file of each split, and rows.

    Args:
        show: see `harness.api.predict`.
        results: file that the rows are added to; without one nothing is scored.
    """
    _announce(experiment)
    preflight.require(experiment, whole=False, scores=results is not None)
    if results is not None:
        distributed.decided(lambda: result_rows.require_readable(results))
    whole: Read = cache(experiment.whole)
    with parsed_once():
        tests = {split: limited(experiment.adapter, whole(split), experiment.limit) for split in experiment.splits}
        experiment.require_context()
    preflight.require_space(experiment, samples=sum(len(test) for test in tests.values()), whole=False)
    prints = _fingerprints(experiment, tests)
    identity = experiment.identity(**_digests(experiment), stage="predict")
    with opened(experiment.folder, identity, prints, only_predicted=tests.keys()) as work:
        stages = _Stages(experiment, work, tests, prints)
        stages.predict(experiment.weights)
        stages.show(count=show)
        rows = [] if results is None else stages.score(results, _wholes(experiment, whole))
    return stages.targets, rows


def _fitted(experiment: Experiment, train: Sequence[Sample]) -> Experiment:
    """The experiment with a batch that fits the samples that --limit leaves of the training split."""
    if experiment.limit is None or not train:
        return experiment
    count = len(experiment.adapter.train_set(train, experiment.context))
    fitting, notice = batch.fitted(experiment, samples=count, processes=distributed.world_size())
    if notice:
        note(f"{experiment.adapter.name}: {notice}")
    return fitting


def _announce(experiment: Experiment) -> None:
    for notice in experiment.notices:
        note(notice)


def _digests(experiment: Experiment) -> dict[str, str]:
    return {
        "weights_sha256": weight_files.sha256(experiment.weights) if experiment.weights else "",
        "tokenizer_sha256": weight_files.sha256(experiment.tokenizer) if experiment.tokenizer else "",
    }


def _shaping(experiment: Experiment, read: Read) -> dict[str, Sequence[Sample]]:
    """Samples of the splits that decide the weights: the training split, and with keep=best the validation split."""
    if not experiment.recipe.trains:
        return {}
    adapter = experiment.adapter
    names = [adapter.train_split] + ([adapter.validates] if experiment.recipe.keep == "best" else [])
    return {split: read(split) for split in names}


def _fingerprints(experiment: Experiment, samples: Mapping[str, Sequence[Sample]]) -> dict[str, Fingerprint]:
    """Fingerprint of each split; one process computes them."""
    adapter, root, contents = experiment.adapter, experiment.data, experiment.verify_images
    return distributed.decided(
        lambda: {split: fingerprint(adapter, own, root, contents=contents) for split, own in samples.items()}
    )


@dataclass(frozen=True)
class _Stages:
    """The stages of an experiment whose run folder is open."""

    experiment: Experiment
    work: WorkDir
    tests: Mapping[str, Sequence[Sample]]  # of each split to predict
    prints: Mapping[str, Fingerprint]  # of these splits and those that shape the weights

    @property
    def targets(self) -> dict[str, Path]:
        """Predictions file of each split."""
        return {split: self.work.predictions(split) for split in self.tests}

    def fine_tune(self, read: Read, *, weights_sha256: str, log: Sequence[str]) -> Path:
        """Fine-tune if the recipe trains and the folder has no result yet; returns the weights to predict with."""
        experiment, adapter = self.experiment, self.experiment.adapter
        if not experiment.recipe.trains:
            return experiment.weights
        if distributed.decided(self.work.fine_tuned.exists):
            return self.work.fine_tuned
        samples = read(adapter.train_split)
        model = experiment.build_model()
        if experiment.weights:
            weight_report.load_to_train(model, experiment.weights, experiment.recipe)
        validation = self._validation(read)
        dataset = adapter.train_set(samples, experiment.context)
        taught = adapter.taught(samples)
        if len(dataset) < taught:
            note(f"{taught - len(dataset):,} of the {taught:,} training samples have nothing to learn from")
        data = self.prints[adapter.train_split]
        return fine_tune(
            model,
            dataset,
            experiment.recipe,
            folder=self.work.checkpoints,
            seed=experiment.seed,
            log=log,
            columns=origin.of_training(experiment, weights_sha256=weights_sha256, data=data),
            validation=validation,
            run=self.work.run_id,
        )

    def _validation(self, read: Read) -> Validation | None:
        """Make the validation during training; None if the recipe has none."""
        experiment, adapter, recipe = self.experiment, self.experiment.adapter, self.experiment.recipe
        if not recipe.validate:
            return None
        split = adapter.validates
        samples = limited(adapter, read(split), recipe.validate_limit)
        preflight.require_unseen(experiment, split, train=read(adapter.train_split), validation=samples)
        if recipe.keep == "best" and split in experiment.splits:
            note(
                f"The weights are chosen by their scores on {split}, which is scored too: its number will be flattering"
            )
        dataset = adapter.eval_set(samples, experiment.context)
        labels = experiment.context.labels
        return Validation(adapter, samples, dataset, recipe, labels=labels, split=split, folder=self.work.folder)

    def predict(self, weights: Path) -> None:
        """Predict each split whose predictions are not complete yet."""
        missing = distributed.decided(
            lambda: [split for split, path in self.targets.items() if not _is_predicted(path)]
        )
        model = self._loaded(weights) if missing else None
        for split in missing:
            dataset = self.experiment.adapter.eval_set(self.tests[split], self.experiment.context)
            reset_peak_memory(device())
            predicted = predict_split(
                model, dataset, self.tests[split], self.experiment.recipe, target=self.targets[split]
            )
            # Written before the score: it says who predicted, whoever scores.
            distributed.decided(lambda: self._write_origin(split, model, weights, predicted))  # noqa: B023
        distributed.decided(self._add_to_origins)

    def _loaded(self, weights: Path) -> BaseModel:
        """Build the model with weights of backbone and head."""
        experiment = self.experiment
        model = experiment.build_model()
        if weights == experiment.weights:
            resize = "image_size" in experiment.by_hand
            weight_report.load_to_predict(model, weights, experiment.recipe, resize=resize)
        else:  # just fine-tuned
            distributed.wait_for(weights)
            weight_files.load(model, weights)
        return model

    def _write_origin(self, split: str, model: BaseModel, weights: Path, predicted: Predicted) -> None:
        experiment = self.experiment
        columns = {
            **origin.of_weights(weights, weight_files.sha256(weights), experiment.trained_on),
            "tokenizer_sha256": weight_files.sha256(experiment.tokenizer) if experiment.tokenizer else "",
            **origin.of_prediction(experiment, model, predicted),
            "run_id": self.work.run_id,
            "started": self.work.started,
        }
        stored_origin.write(self.targets[split], columns)

    def _add_to_origins(self) -> None:
        """Add the hash of images verified after prediction; the run's folder guards that they are the same."""
        for split, path in self.targets.items():
            verified = self.prints[split].images_sha256
            if verified and stored_origin.read(path).get("images_sha256") != verified:
                known = stored_origin.read(path, sha256=provenance.predictions_sha256(path))
                stored_origin.write(path, {**known, "images_sha256": verified})

    def show(self, *, count: int) -> None:
        """Write pictures of `count` predictions of each split."""
        if count and self.experiment.adapter.pictures and distributed.rank() == 0:
            for split, test in self.tests.items():
                folder = self.work.folder / "pictures" / (split if len(self.tests) > 1 else "")
                pictures.write(self.experiment, test, self.targets[split], folder, count=count)

    def score(
        self, results: Path, wholes: Mapping[str, _Whole], columns: Mapping[str, str] = MappingProxyType({})
    ) -> list[ResultRow]:
        """Score all splits whose truth is public, and add the rows, with further columns, to `results`."""
        adapter = self.experiment.adapter
        public = [split for split in self.tests if adapter.split(split).labels]
        for split in self.tests:
            if split not in public:
                note(f"No score: the truth of {split} is not public. `harness submit` writes the server's file.")
        return distributed.decided(lambda: self._write_rows(public, results, wholes, columns)) if public else []

    def _write_rows(
        self, public: Sequence[str], results: Path, wholes: Mapping[str, _Whole], columns: Mapping[str, str]
    ) -> list[ResultRow]:
        experiment, scores = self.experiment, Scores()
        for split in public:
            scores += score_file(
                self.targets[split],
                experiment.adapter,
                self.tests[split],
                root=experiment.data,
                split=split,
                labels=experiment.context.labels,
                **wholes[split]._asdict(),
            )
        rows = [replace(row, **columns) for row in scores.rows]
        write_json(self.work.result, [asdict(row) for row in rows])
        replicates.write(self.work.replicates, scores.replicates)
        if scores.classes:
            class_rows.write(self.work.classes, scores.classes)
            note(f"Metrics of single classes: {self.work.classes}")
        result_rows.write(results, rows)
        return rows


def _is_predicted(target: Path) -> bool:
    return target.exists() and stored_origin.origin_file(target).exists()
