"""Rows of part of a split, and of data in a benchmark's layout that are not the benchmark's."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import harness
import tasks
from backbones import InputError, UsageError
from harness.cli import main
from harness.experiment import plan
from harness.pipeline import _whole
from harness.scoring import predicted_subset, read_predictions
from leaderboards import replicates
from leaderboards.rows import read
from tasks.adapter import Sample
from tests.harness.test_cli import told
from tests.support import instances
from tests.support.instances import entries
from tests.tasks.captioned import write_coco
from tests.tasks.retrieval.test_base import write_features

LAYOUT = "unnamed, in the layout of ImageNet-1K (ILSVRC 2012)"


@pytest.fixture
def predictions(colours: Path, tmp_path: Path) -> list[dict]:
    """Of every validation image: right but for each fourth."""
    samples = tasks.get("imagenet").samples(colours, "val")
    return [{"id": s.id, "top": [(s.annotation["label"] + (number % 4 == 0)) % 3]} for number, s in enumerate(samples)]


def saved(path: Path, records: list[dict]) -> Path:
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return path


def test_a_subset_is_scored_when_asked_for_and_its_rows_say_so(
    colours: Path, tmp_path: Path, predictions: list[dict]
) -> None:
    part = saved(tmp_path / "part.jsonl", [predictions[8], predictions[3], predictions[5]])
    with pytest.raises(InputError, match="each of the split's 13 samples once"):
        harness.score("imagenet", part, data=colours)
    row = harness.score("imagenet", part, data=colours, subset=True)[0]
    assert row.value == pytest.approx(100 * 2 / 3)
    assert (row.n, row.subset) == (3, "3 of 13")
    whole = harness.score("imagenet", saved(tmp_path / "all.jsonl", predictions), data=colours, subset=True)[0]
    assert (whole.n, whole.subset) == (13, "")
    assert row.data_sha256 != whole.data_sha256  # which keeps their draws and their rows apart


def test_a_limit_says_so_too(colours: Path, tmp_path: Path, predictions: list[dict]) -> None:
    adapter = tasks.get("imagenet")
    ids = {s.id for s in adapter.limited(adapter.samples(colours, "val"), 4)}
    path = saved(tmp_path / "p.jsonl", [record for record in predictions if record["id"] in ids])
    assert harness.score("imagenet", path, data=colours, limit=4)[0].subset == "4 of 13"


@pytest.mark.parametrize("change", ["unknown", "duplicate", "none"])
def test_a_subset_still_has_each_of_its_samples_once(
    colours: Path, tmp_path: Path, predictions: list[dict], change: str
) -> None:
    records = {
        "unknown": [predictions[0], {"id": "val/none.JPEG", "top": [0]}],
        "duplicate": [predictions[0], predictions[0]],
        "none": [{"id": "val/none.JPEG", "top": [0]}],
    }[change]
    message = {"unknown": "1 unknown: val/none.JPEG", "duplicate": "1 duplicate", "none": "none of the 13 samples"}
    with pytest.raises(InputError, match=message[change]):
        harness.score("imagenet", saved(tmp_path / "p.jsonl", records), data=colours, subset=True)


def test_images_that_a_results_file_leaves_out_are_no_part_of_a_subset(tmp_path: Path) -> None:
    """Otherwise they count as images in which nothing was found."""
    data = instances.folder(tmp_path / "coco")
    rows = entries(tasks.get("coco_detection").samples(data, "val"))
    first = [row for row in rows if row["image_id"] == rows[0]["image_id"]]
    (tmp_path / "r.json").write_text(json.dumps(first))
    adapter = tasks.get("coco_detection")
    samples = adapter.samples(data, "val")
    part = predicted_subset(tmp_path / "r.json", adapter, samples)
    assert [sample.id for sample in part] == [str(rows[0]["image_id"])]
    values = []
    for scored in (part, samples):
        records = read_predictions(tmp_path / "r.json", adapter, scored)
        values.append(adapter.score(records, scored, labels=adapter.labels(data))[0].value)
    assert values[0] == pytest.approx(100)
    assert values[1] < 99


def test_a_subset_of_retrieval_needs_texts_with_their_images(tmp_path: Path) -> None:
    root = write_coco(tmp_path / "coco")
    adapter = tasks.get("coco_retrieval")
    samples = adapter.samples(root, "test")
    pair = [samples[0], next(s for s in samples if s.id == samples[0].annotation["texts"][1])]
    other = [samples[1], next(s for s in samples if s.id == samples[1].annotation["texts"][0])]
    file = write_features([*pair, *other], tmp_path)
    rows = harness.score("coco_retrieval", file, data=root, subset=True)
    assert {row.subset for row in rows} == {"4 of 28"}
    assert {row.metric: row.n for row in rows}["i2t_R1"] == 2
    for alone in ([pair[0]], [*pair, other[1]]):
        with pytest.raises(InputError, match="1 images are predicted without a text of theirs, or texts without"):
            adapter.subset(samples, {sample.id for sample in alone})


def test_data_in_a_benchmarks_layout_do_not_get_its_name(
    colours: Path, tmp_path: Path, predictions: list[dict], capsys: pytest.CaptureFixture
) -> None:
    path = str(saved(tmp_path / "p.jsonl", predictions))
    call = ["score", "imagenet", path, "--data", str(colours), "--results", str(tmp_path / "r.csv")]
    assert main(call) == 0
    assert f"imagenet val: {LAYOUT}" in capsys.readouterr().out
    assert read(tmp_path / "r.csv")[0].dataset == LAYOUT
    assert main([*call, "--dataset", "Colours"]) == 0
    assert read(tmp_path / "r.csv")[-1].dataset == "Colours"
    capsys.readouterr()
    assert main([*call, "--dataset", "ImageNet-1K (ILSVRC 2012)"]) == 2
    assert "its split val has 50,000 samples, and this one has 13" in told(capsys)


def test_the_benchmarks_own_samples_have_its_name() -> None:
    for name in tasks.names():
        adapter = tasks.get(name)
        for split, facts in adapter.splits.items():
            if facts.size is not None:
                assert adapter.official(split, range(facts.size))
                assert not adapter.official(split, range(facts.size - 1))


def test_held_out_questions_of_vqav2_are_known_by_their_ids() -> None:
    """The split has no official size: it is made of 1,000 images of val2014."""
    adapter = tasks.get("vqav2")
    own = [Sample(str(image * 1000 + n), {}, {"image": image}) for image in range(1, 1001) for n in range(3)]
    assert adapter.official("rest_val", own)
    assert not adapter.official("rest_val", own[:2997])
    assert not adapter.official("rest_val", [*own, Sample("7", {}, {"image": 1000})])
    assert not adapter.official("rest_val", [*own, Sample("8", {}, {"image": "a"})])


def test_a_run_names_its_data_before_it_starts(colours: Path, tmp_path: Path) -> None:
    def whole(**options: object) -> tuple[str, int]:
        experiment = plan("imagenet", backbone="multiway_nano", data=colours, out=tmp_path, **options)
        return tuple(_whole(experiment, "val", experiment.whole("val")))

    assert whole() == (LAYOUT, 13)
    assert whole(limit=4, dataset="Colours") == ("Colours", 13)
    with pytest.raises(UsageError, match="These are not ImageNet-1K"):
        whole(dataset="ImageNet-1K (ILSVRC 2012)")


def test_replicates_of_a_score_are_kept_when_asked_for(colours: Path, tmp_path: Path, predictions: list[dict]) -> None:
    files = {}
    for name, records in (("a", predictions), ("b", [{**record, "top": [0]} for record in predictions])):
        path = saved(tmp_path / f"{name}.jsonl", records)
        rows = harness.score("imagenet", path, data=colours, replicates=tmp_path / f"{name}.npz")
        (files[name],) = (one for one in replicates.read(tmp_path / f"{name}.npz") if one.metric == "top1")
        assert (files[name].draws, files[name].value) == (1000, rows[0].value)
        assert np.percentile(files[name].replicates, 2.5) == rows[0].low
    assert len(replicates.difference(files["a"], files["b"])) == 1000
