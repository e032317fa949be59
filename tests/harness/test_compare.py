"""`harness compare`, on runs whose predictions are made here."""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict, replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

import tasks
from harness import changes, evaluation
from harness.changes import Change, changed, with_gains
from harness.cli import main
from tasks.adapter import Sample


def scored(folder: Path, colours: Path, *, wrong: int, **columns: object) -> Path:
    """A run's folder with predictions of which the first `wrong` are wrong."""
    samples = tasks.get("imagenet").samples(colours, "val")
    path = folder / "predictions" / "val.jsonl"
    path.parent.mkdir(parents=True)
    with path.open("w") as file:
        for number, sample in enumerate(samples):
            label = sample.annotation["label"]
            top = [(label + (number < wrong)) % 3, (label + 2) % 3]
            file.write(json.dumps({"id": sample.id, "top": top, "probability": [0.6, 0.4]}) + "\n")
    rows = evaluation.score("imagenet", path, data=colours, replicates=folder / "replicates.npz")
    (folder / "result.json").write_text(json.dumps([asdict(replace(row, **columns)) for row in rows]))
    return folder


@pytest.fixture(scope="module")
def runs(colours: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("runs")
    for name, wrong, columns in (
        ("good", 1, {"recipe_sha256": "g", "seed": 0}),
        ("good1", 2, {"recipe_sha256": "g", "seed": 1}),
        ("bad", 9, {"recipe_sha256": "b", "seed": 0}),
        ("bad1", 10, {"recipe_sha256": "b", "seed": 1}),
        ("middle", 2, {"recipe_sha256": "m", "seed": 0}),
    ):
        scored(root / name, colours, wrong=wrong, **columns)
    shutil.copytree(root / "good", root / "copy")
    return root


def answer(capsys: pytest.CaptureFixture, *arguments: object) -> dict:
    assert main(["compare", *map(str, arguments), "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_a_copy_is_the_same_to_the_last_digit(runs: Path, capsys: pytest.CaptureFixture) -> None:
    found = answer(capsys, runs / "good", runs / "copy")
    own = next(pair for pair in found["pairs"] if pair["metric"][2] == "top1")["difference"]
    assert (own["value"], own["low"], own["high"], own["p"], own["equivalent"]) == (0, 0, 0, 1, True)
    assert found["changed"] == {"imagenet val": [0, 13]}


def test_a_difference_and_the_samples_behind_it(runs: Path, colours: Path, capsys: pytest.CaptureFixture) -> None:
    found = answer(capsys, runs / "good", runs / "bad", "--data", colours)
    own = next(pair for pair in found["pairs"] if pair["metric"][2] == "top1")["difference"]
    assert own["value"] == pytest.approx(100 * 8 / 13) and 0 < own["low"] < own["value"] < own["high"]
    assert own["p"] < 0.01 and not own["equivalent"]
    assert found["changed"] == {"imagenet val": [8, 13]}
    assert {change["gain"] for change in found["changes"]} == {100.0} and len(found["changes"]) == 8


def test_seeds_are_one_side_and_shown_beside(
    runs: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "140")  # no cell is broken into lines
    found = answer(capsys, *(runs / name for name in ("good", "good1", "bad", "bad1")))
    assert len(found["sides"]) == 2
    own = next(pair for pair in found["pairs"] if pair["metric"][2] == "top1")["difference"]
    assert own["seeds"]["points"] == pytest.approx([100 * 8 / 13] * 2)
    assert main(["compare", *(str(runs / name) for name in ("good", "good1", "bad", "bad1"))]) == 0
    text = capsys.readouterr().out
    assert "differences of single seeds" in text and "+61.538 +61.538" in text


def test_three_runs_are_ranked_in_tie_groups(runs: Path, capsys: pytest.CaptureFixture) -> None:
    found = answer(capsys, *(runs / name for name in ("bad", "good", "middle")))
    ranks = next(own for own in found["ranks"] if own["metric"][2] == "top1")
    assert [Path(side).name for side in ranks["sides"]] == ["good", "middle", "bad"]
    assert ranks["groups"] == [1, 1, 2]
    assert all(pair["adjusted"] >= pair["difference"]["p"] for pair in found["pairs"])
    assert main(["compare", *(str(runs / name) for name in ("bad", "good", "middle"))]) == 0
    assert "adjusted for the 3 pairs" in capsys.readouterr().out


def test_two_laboratories_compare_by_files_of_replicates(runs: Path, capsys: pytest.CaptureFixture) -> None:
    found = answer(capsys, runs / "good" / "replicates.npz", runs / "bad" / "replicates.npz")
    assert found["pairs"][0]["difference"]["value"] == pytest.approx(100 * 8 / 13) and found["changed"] == {}


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["good"], 2, "two runs or more"),
        (["good", "good"], 2, "is given twice"),
        (["good", "absent"], 1, "is not a scored run"),
        (["good", "bad", "--margin", "0"], 2, "above 0"),
        (["good", "bad", "--show", "1"], 2, "--show needs --data"),
    ],
)
def test_wrong_calls(
    runs: Path, capsys: pytest.CaptureFixture, arguments: list[str], status: int, message: str
) -> None:
    paths = [str(runs / part) if part in ("good", "bad", "absent") else part for part in arguments]
    assert main(["compare", *paths]) == status
    assert message in capsys.readouterr().err


def test_records_of_every_kind_are_compared(tmp_path: Path) -> None:
    records = {
        "same": ({"caption": "a dog"}, {"caption": "a dog"}),
        "text": ({"caption": "a dog"}, {"caption": "a cat"}),
        "label": ({"label": 1, "margin": 0.5}, {"label": 0, "margin": 0.5}),
        "number": ({"label": 1, "margin": 0.5}, {"label": 1, "margin": 0.4}),
        "list": ({"top": [1, 2]}, {"top": [1, 2, 3]}),
    }
    for at, name in enumerate(("one.jsonl", "other.jsonl")):
        lines = [json.dumps({"id": key, **pair[at]}) + "\n" for key, pair in records.items()]
        (tmp_path / name).write_text("".join(lines))
    found, total = changed(tmp_path / "one.jsonl", tmp_path / "other.jsonl")
    assert total == 5 and found[0].id == "list" and {change.id for change in found} == records.keys() - {"same"}
    assert changes._apart(np.zeros(3), np.ones(3)) == 1 and changes._apart(np.ones(3), np.ones(3)) == 0


def test_a_task_whose_samples_need_one_another_keeps_the_order() -> None:
    adapter = tasks.get("coco_retrieval")
    change = Change(id="text:1", one={}, other={}, size=1.0)
    samples = [Sample("image:1", {"image": "a.jpg"}, {}), Sample("text:1", {"text": "a"}, {"image": "image:1"})]
    assert with_gains([change], adapter, samples, labels=None) == [change]


def test_pictures_have_both_predictions_one_above_the_other(tmp_path: Path) -> None:
    adapter = SimpleNamespace(
        picture=lambda sample, record, root, *, labels: Image.new("RGB", (4, record["height"]), labels[record["is"]])
    )
    change = Change(id="a/b", one={"height": 2, "is": 0}, other={"height": 3, "is": 1}, size=1.0)
    samples, labels = [Sample("a/b", "x", 0)], ("red", "blue")
    (path,) = changes.write_pictures([change], adapter, samples, tmp_path, tmp_path / "out", labels=labels)
    picture = Image.open(path)
    assert path.name == "a_b.png" and picture.size == (4, 5)
    assert picture.getpixel((0, 0)) == (255, 0, 0) and picture.getpixel((0, 4)) == (0, 0, 255)
