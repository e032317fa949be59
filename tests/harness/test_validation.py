"""Scores during the training: right, harmless to it, and each step's once."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

import harness
import tasks
from backbones import InputError, UsageError
from harness import checkpoint, loop, validation
from leaderboards.rows import read
from tasks.bootstrap import mean
from tasks.classification.imagenet import ImageNet
from tasks.recipe import changed
from tests.conftest import FAST
from tests.support.runs import NOISY, command, execute, final_weights, folder

CHANGES = (*FAST, *NOISY, "epochs=4")


def run(data: Path, out: Path, *changes: str, task: str = "imagenet", **options) -> list:
    return harness.run(task, backbone="multiway_nano", data=data, out=out, changes=[*CHANGES, *changes], **options)


def curve(out: Path) -> list[dict[str, str]]:
    with (folder(out) / "validation.csv").open() as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def validated(colours: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that is validated after each of its four epochs, its weights averaged. Read only."""
    out = tmp_path_factory.mktemp("validated")
    run(colours, out, "validate=1", log=["tensorboard"])
    return out


@pytest.mark.training
def test_validation_changes_no_bit_of_the_training(validated: Path, colours: Path, tmp_path: Path) -> None:
    run(colours, tmp_path)
    plain, looked_at = final_weights(tmp_path), final_weights(validated)
    assert all(tensor.equal(looked_at[name]) for name, tensor in plain.items())
    rows, others = (read(out / "results.csv") for out in (tmp_path, validated))
    assert [(row.value, row.recipe_altered, row.recipe_sha256) for row in rows] == [
        (row.value, row.recipe_altered, row.recipe_sha256) for row in others
    ]


@pytest.mark.training
def test_every_metric_has_a_row_after_each_epoch_and_the_last_is_the_runs_result(validated: Path) -> None:
    rows = curve(validated)
    assert [(row["step"], row["epoch"], row["metric"]) for row in rows] == [
        (str(3 * epoch), f"{epoch}.0", metric) for epoch in (1, 2, 3, 4) for metric in ("top1", "top5")
    ]
    results = read(validated / "results.csv")
    assert [(row["metric"], float(row["value"]), int(row["n"])) for row in rows[-2:]] == [
        (row.metric, row.value, row.n) for row in results
    ]
    assert {row["kept"] for row in rows} == {"False"}
    assert not (folder(validated) / "validation").exists()


def test_the_curve_goes_to_tensorboard(validated: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    (events,) = (folder(validated) / "checkpoints" / "log").rglob("events.out.tfevents.*")
    scalars = EventAccumulator(str(events)).Reload().Scalars("val/top1")
    expected = [(int(row["step"]), float(row["value"])) for row in curve(validated) if row["metric"] == "top1"]
    assert [event.step for event in scalars] == [step for step, _ in expected]
    assert [event.value for event in scalars] == pytest.approx([value for _, value in expected])


@pytest.mark.training
@pytest.mark.parametrize("where", ["before the checkpoint", "in the next epoch"])
def test_an_interrupted_run_has_the_rows_of_an_uninterrupted_one(
    where: str, validated: Path, colours: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed between the validation of step 6 and its checkpoint, that step is trained again and not scored again."""
    owner, name, call = {
        "before the checkpoint": (checkpoint, "save", 2),
        "in the next epoch": (loop, "optimizer_step", 8),
    }[where]
    real, calls = getattr(owner, name), []

    def killed(*args, **options) -> dict | None:
        calls.append(None)
        if len(calls) == call:
            raise KeyboardInterrupt
        return real(*args, **options)

    with monkeypatch.context() as patch:
        patch.setattr(owner, name, killed)
        with pytest.raises(KeyboardInterrupt):
            run(colours, tmp_path, "validate=1")
    assert [row["step"] for row in curve(tmp_path)] == ["3", "3", "6", "6"]
    run(colours, tmp_path, "validate=1")
    assert curve(tmp_path) == curve(validated)
    before = final_weights(validated)
    assert all(tensor.equal(before[name]) for name, tensor in final_weights(tmp_path).items())


@pytest.mark.training
def test_a_length_in_steps_is_validated_every_so_many_steps_and_at_the_end(colours: Path, tmp_path: Path) -> None:
    changes = ("image_size=16", "batch_size=8", "micro_batch=8", "workers=0", "steps=5", "validate=2")
    options = {"backbone": "multiway_nano", "data": colours, "out": tmp_path}
    harness.run("imagenet", changes=[*changes, "validate_limit=5"], **options)
    rows = [row for row in curve(tmp_path) if row["metric"] == "top1"]
    assert [(row["step"], row["n"]) for row in rows] == [("2", "5"), ("4", "5"), ("5", "5")]


@pytest.mark.training
def test_the_best_weights_are_kept_when_asked_for(
    colours: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of two equally good states the first; the scores here are made up, and the last is the worst."""
    scores, states, predict = iter([0.2, 0.8, 0.8, 0.1, 0.8]), [], validation.predict

    def seen(model, *args, **options) -> None:
        states.append({name: tensor.clone() for name, tensor in model.state_dict().items()})
        predict(model, *args, **options)

    monkeypatch.setattr(validation, "predict", seen)
    monkeypatch.setattr(ImageNet, "score", lambda self, predictions, samples, **_: [mean("top1", [next(scores)] * 13)])
    (row,) = run(colours, tmp_path, "validate=1", "keep=best")
    assert [row["kept"] for row in curve(tmp_path)] == ["True", "True", "False", "False"]
    kept = final_weights(tmp_path)
    assert all(tensor.equal(kept[name]) for name, tensor in states[1].items())
    assert not all(tensor.equal(kept[name]) for name, tensor in states[3].items())
    assert {"validate", "keep"} <= set(row.recipe_altered.split())
    assert row.selected == "best top1 on val"
    assert not (folder(tmp_path) / validation.BEST).exists()


@pytest.mark.training
def test_a_split_that_is_validated_on_and_scored_is_read_once(
    colours: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    samples = ImageNet.samples

    def counted(self: ImageNet, root: Path, split: str) -> list:
        asked.append(split)
        return samples(self, root, split)

    monkeypatch.setattr(ImageNet, "samples", counted)
    run(colours, tmp_path, "validate=1", "keep=best", "epochs=1", "warmup_steps=0")
    assert asked == ["train", "val"]


@pytest.mark.training
def test_a_choice_by_a_metric_without_a_value_is_told(
    colours: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ImageNet, "score", lambda self, predictions, samples, **_: [mean("top5", [1.0] * 13)])
    with pytest.raises(InputError, match="chosen by top1, which cannot be computed here"):
        run(colours, tmp_path, "validate=1", "keep=best")


def test_validation_is_an_alteration_only_when_it_chooses() -> None:
    recipe = tasks.get("imagenet").recipes["base"]
    assert changed(recipe, ["validate=1", "validate_limit=9"]).differs_from(recipe) == []
    chosen = changed(recipe, ["validate=1", "validate_limit=9", "keep=best"])
    assert chosen.differs_from(recipe) == ["validate", "validate_limit", "keep"]
    with pytest.raises(UsageError, match="give --validate N beside --keep best"):
        changed(recipe, ["keep=best"])
    with pytest.raises(UsageError, match="not -1"):
        changed(recipe, ["validate=-1"])


@pytest.mark.parametrize("task", tasks.names())
def test_what_is_validated_on_has_labels_and_is_no_test_set_where_there_is_another(task: str) -> None:
    adapter = tasks.get(task)
    assert adapter.split(adapter.validates).labels
    assert adapter.validates != "test" or not adapter.recipes["base"].trains


@pytest.mark.spawn
def test_two_processes_validate_as_one_does(colours: Path, tmp_path: Path) -> None:
    extra = ("--validate", "1", "--validate-limit", "11")
    changes = ("precision=fp32", "eps=1e-3", "micro_batch=4")
    for name, processes in (("one", 0), ("two", 2)):
        execute(command(colours, tmp_path / name, *changes, extra=extra), count=processes)
    one, two = curve(tmp_path / "one"), curve(tmp_path / "two")
    assert [(row["step"], row["n"]) for row in one] == [("3", "11"), ("3", "11"), ("6", "11"), ("6", "11")]
    assert one == two
