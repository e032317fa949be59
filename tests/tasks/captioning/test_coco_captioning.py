from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

import harness
import tasks
from backbones import InputError, UsageError
from backbones.errors import AbsentError
from harness.cli import main
from leaderboards.rows import ResultRow
from tasks.captioning.annotations import coco_samples, nocaps_samples
from tasks.common.images import open_image
from tests.conftest import FAST
from tests.support import captions as known
from tests.support.photographs import karpathy_split
from tests.support.shards import png
from tests.support.shards import write as write_shard
from tests.tasks.captioned import edit, write_coco

pytestmark = pytest.mark.usefixtures("kept_meteor")
ADAPTER = tasks.get("coco_captioning")
SHORT = (*FAST, "caption_length=8")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return write_coco(tmp_path / "coco")


def write_index(root: Path, split: str) -> None:
    rows = []
    for sample in ADAPTER.samples(root, split):
        image = int(sample.id.partition("#")[0])
        text = [7, 8, 9] if split == "train" else None
        rows.append({"image_path": sample.inputs["image"], "text_segment": text, "image_id": image})
    (root / f"coco_captioning.{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def write_references(root: Path, split: str) -> None:
    rows = [
        {"image_id": int(sample.id), "id": 10 * int(sample.id) + n, "caption": text}
        for sample in ADAPTER.samples(root, split)
        for n, text in enumerate(sample.annotation["captions"])
    ]
    (root / f"coco_karpathy_{split}_gt.json").write_text(json.dumps({"annotations": rows, "images": []}))


def results(root: Path, path: Path, change: object = lambda rows: rows) -> Path:
    rows = [{"image_id": int(s.id), "caption": s.annotation["captions"][0]} for s in ADAPTER.samples(root, "test")]
    path.write_text(json.dumps(change(rows)))
    return path


def by_metric(rows: list[ResultRow]) -> dict[str, ResultRow]:
    return {row.metric: row for row in rows}


def test_training_takes_captions_and_evaluation_images(root: Path) -> None:
    train, test = ADAPTER.samples(root, "train"), ADAPTER.samples(root, "test")
    # 24 images, half of them in train and restval, with two or three captions in turn.
    assert len(train) == 28
    assert {sample.inputs["image"].split("/")[0] for sample in train} == {"train2014", "val2014"}
    assert train[0].inputs == {"image": "train2014/COCO_train2014_000000000500.jpg", "text": "A red picture, 0."}
    assert [sample.id for sample in test[:2]] == ["504", "505"]
    assert test[0].annotation["captions"][0] == "A green picture, 4."
    sources = {ADAPTER.source(sample) for sample in train}
    assert not sources & {ADAPTER.source(sample) for sample in test}


def test_the_official_index_files_stand_in(root: Path) -> None:
    wanted = {split: ADAPTER.samples(root, split) for split in ("train", "test")}
    for split in wanted:
        write_index(root, split)
    write_references(root, "test")
    (root / "dataset_coco.json").unlink()
    assert ADAPTER.samples(root, "test") == wanted["test"]
    train = ADAPTER.samples(root, "train")
    assert [sample.inputs["image"] for sample in train] == [sample.inputs["image"] for sample in wanted["train"]]
    assert train[0].inputs["text"] == [7, 8, 9]
    (root / "coco_karpathy_test_gt.json").unlink()
    blind = ADAPTER.samples(root, "test")
    assert blind[0].annotation is None
    with pytest.raises(InputError, match="no reference captions, such as 504"):
        ADAPTER.score({sample.id: {"caption": "x"} for sample in blind}, blind)


def test_references_in_the_form_of_coco_are_enough_to_score(root: Path, tmp_path: Path) -> None:
    wanted = ADAPTER.samples(root, "test")
    write_index(root, "test")
    write_references(root, "test")
    (root / "dataset_coco.json").unlink()
    indexed = ADAPTER.samples(root, "test")
    (root / "coco_captioning.test.jsonl").unlink()
    assert ADAPTER.samples(root, "test") == indexed == wanted  # so their data hash is the same


def test_val2014_is_cocos_own_file(root: Path) -> None:
    wanted = [s for split in ("val", "test") for s in ADAPTER.samples(root, split)]
    with pytest.raises(AbsentError, match=r"captions_val2014\.json is absent"):
        ADAPTER.samples(root, "val2014")
    rows = [
        {"image_id": int(s.id), "id": n, "caption": text} for n in range(3) for s in wanted
        if n < len(s.annotation["captions"]) for text in [s.annotation["captions"][n]]
    ]  # fmt: skip
    images = [{"id": int(s.id), "file_name": s.inputs["image"].removeprefix("val2014/")} for s in wanted]
    (root / "annotations").mkdir()
    file = root / "annotations" / "captions_val2014.json"
    file.write_text(json.dumps({"images": images, "annotations": rows}))
    assert ADAPTER.samples(root, "val2014") == wanted
    file.write_text(json.dumps({"images": [*images, {"id": 7}], "annotations": rows}))
    with pytest.raises(InputError, match="image 7 has no caption"):
        ADAPTER.samples(root, "val2014")


def test_published_scores(truth: Path, tmp_path: Path) -> None:
    """Every caption case of the manifest, through `harness score`, to the printed digit."""
    cases = known.cases(truth)
    assert cases
    for case in cases.values():
        root = tmp_path / case.id
        root.mkdir()
        images = [
            {
                "filepath": "val2014",
                "filename": f"{number}.jpg",
                "cocoid": image,
                "split": "test",
                "sentences": [{"raw": text, "sentid": 100 * number + n} for n, text in enumerate(texts)],
            }
            for number, (image, texts) in enumerate(zip(case.images, case.references, strict=True))
        ]
        (root / "dataset_coco.json").write_text(json.dumps({"images": images}))
        pairs = zip(case.images, case.candidates, strict=True)
        predictions = root / "results.json"
        predictions.write_text(json.dumps([{"image_id": image, "caption": text} for image, text in pairs]))
        rows = by_metric(harness.score("coco_captioning", predictions, data=root))
        for metric, printed in case.expected.items():
            row = rows[metric]
            if row.value is None:
                assert metric == "SPICE"
                assert "corenlp" in row.note
                continue
            assert f"{row.value / 100:.{len(printed.partition('.')[2])}f}" == printed, (case.id, metric)
            assert row.low <= row.value + 1e-9
            assert row.high >= row.value - 1e-9 or metric.startswith("BLEU")


@pytest.mark.java
def test_fine_tunes_predicts_and_scores(root: Path, spm: Path, tmp_path: Path) -> None:
    rows = harness.run(
        "coco_captioning", backbone="multiway_nano", data=root, out=tmp_path, tokenizer=spm, changes=SHORT
    )
    assert [row.metric for row in rows] == [metric.name for metric in ADAPTER.metrics]
    found = by_metric(rows)
    assert (found["CIDEr"].n, found["CIDEr"].split, found["CIDEr"].unit) == (8, "test", "points")
    if found["SPICE"].value is None:
        assert "stanford-corenlp-3.6.0.jar" in found["SPICE"].note


def test_real_photographs_are_captioned(truth: Path, spm: Path, tmp_path: Path) -> None:
    root = karpathy_split(truth, tmp_path / "coco")
    changes = [*SHORT, "image_size=32", "batch_size=64", "micro_batch=64", "steps=2", "epochs=0", "warmup_epochs=0"]
    rows = harness.run(
        "coco_captioning", backbone="multiway_nano", data=root, out=tmp_path, tokenizer=spm, changes=changes
    )
    assert by_metric(rows)["CIDEr"].n == len(ADAPTER.samples(root, "test")) == 64


def test_results_files_are_read_and_written(root: Path, tmp_path: Path) -> None:
    samples = ADAPTER.samples(root, "test")
    path = results(root, tmp_path / "results.json")
    records = {record["id"]: record for record in ADAPTER.read_official(path)}
    (submission,) = ADAPTER.submission(records, samples, split="test", name="ours")
    assert submission.filename == "captions_test_ours_results.json"
    assert json.loads(submission.content) == json.loads(path.read_text())
    as_object = tmp_path / "object.json"
    as_object.write_text(json.dumps({record["id"]: record["caption"] for record in records.values()}))
    assert {record["id"]: record for record in ADAPTER.read_official(as_object)} == records


def test_the_servers_own_split_has_no_references(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (root / "annotations").mkdir()
    rows = [{"id": 9, "file_name": "COCO_test2014_000000000009.jpg"}]
    (root / "annotations" / "image_info_test2014.json").write_text(json.dumps({"images": rows}))
    (sample,) = ADAPTER.samples(root, "test2014")
    assert (sample.id, sample.annotation) == ("9", None)
    assert sample.inputs["image"] == "test2014/COCO_test2014_000000000009.jpg"
    predictions = tmp_path / "test2014.jsonl"
    predictions.write_text(json.dumps({"id": "9", "caption": "a cat"}) + "\n")
    with pytest.raises(UsageError, match="harness submit coco_captioning"):
        harness.score("coco_captioning", predictions, data=root, split="test2014")
    (path,) = harness.submit("coco_captioning", predictions, data=root, split="test2014", name="ours")
    assert path.name == "captions_test2014_ours_results.json"
    assert json.loads(path.read_text()) == [{"image_id": 9, "caption": "a cat"}]
    small = dataclasses.replace(ADAPTER.splits["test2014"], largest_file=path.stat().st_size - 1)
    monkeypatch.setattr(type(ADAPTER), "splits", ADAPTER.splits | {"test2014": small})
    with pytest.raises(InputError, match="37 bytes, and COCO caption challenge takes 36"):
        harness.submit("coco_captioning", predictions, data=root, split="test2014", name="large")
    assert not path.with_name("captions_test2014_large_results.json").exists()


@pytest.mark.java
def test_an_empty_and_an_endless_prediction_are_scored(root: Path, tmp_path: Path) -> None:
    def change(rows: list[dict]) -> list[dict]:
        rows[0]["caption"] = ""
        rows[1]["caption"] = "red picture " * 900
        return rows

    plain = by_metric(harness.score("coco_captioning", results(root, tmp_path / "plain.json"), data=root))
    changed = by_metric(harness.score("coco_captioning", results(root, tmp_path / "changed.json", change), data=root))
    for metric in ("CIDEr", "METEOR", "ROUGE_L", "BLEU1"):
        assert 0 < changed[metric].value < plain[metric].value


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda rows: rows[1:], "1 missing: 504"),
        (lambda rows: [*rows, rows[0]], "1 duplicate: 504"),
        (lambda rows: [*rows, {"image_id": 1, "caption": "x"}], "1 unknown: 1"),
        (lambda rows: [{"image_id": 504, "caption": None}, *rows[1:]], "image 504 has no caption"),
        (lambda rows: [{"caption": "x"}, *rows[1:]], "entry 1 has no field 'image_id'"),
        (lambda rows: "captions", "is not a list"),
    ],
)
def test_predictions_that_do_not_fit_are_told(root: Path, tmp_path: Path, change: object, message: str) -> None:
    with pytest.raises(InputError, match=message):
        harness.score("coco_captioning", results(root, tmp_path / "results.json", change), data=root)


@pytest.mark.parametrize("split", ["train", "test"])
@pytest.mark.parametrize("text", ["", "  "])
def test_an_empty_caption_in_the_annotations_is_told(root: Path, split: str, text: str) -> None:
    def change(images: list[dict]) -> None:
        next(image for image in images if image["split"] == split)["sentences"][1]["raw"] = text

    edit(root / "dataset_coco.json", change)
    with pytest.raises(InputError, match=r"dataset_coco\.json: .*image 50\d.* is|has an empty caption"):
        ADAPTER.samples(root, split)


@pytest.mark.training
def test_a_caption_of_ten_thousand_characters_is_cut(root: Path, spm: Path, tmp_path: Path) -> None:
    def change(images: list[dict]) -> None:
        images[0]["sentences"][0]["raw"] = "a red picture of " * 600

    edit(root / "dataset_coco.json", change)
    assert harness.run(
        "coco_captioning", backbone="multiway_nano", data=root, out=tmp_path, tokenizer=spm, changes=SHORT
    )


@pytest.mark.training
def test_an_absent_image_is_told(root: Path, spm: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    (root / "val2014" / "COCO_val2014_000000000504.jpg").unlink()
    wrong = [finding.text for finding in ADAPTER.check(root, decode=False, progress=lambda x, _: x) if not finding.ok]
    assert any("test: 1 of 8 images absent" in text for text in wrong)
    arguments = ["run", "coco_captioning", "--backbone", "multiway_nano", "--data", str(root), "--out", str(tmp_path)]
    arguments += ["--tokenizer", str(spm), *[part for change in SHORT for part in ("--set", change)]]
    assert main(arguments) == 1
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert "COCO_val2014_000000000504.jpg is named in the annotations but absent" in error


def test_training_captions_in_shards(root: Path) -> None:
    evaluated = coco_samples(root, "test")
    members = {"a.png": png(3), "a.txt": b"a red picture\n", "b.png": png(4), "b.json": b'{"caption": "a blue one"}'}
    write_shard(root / "train-000.tar", members)
    captions = json.dumps({"captions": ["one of five", "two of five"]}).encode()
    write_shard(root / "train-001.tar", {"c.png": png(5), "c.json": captions})
    found = coco_samples(root, "train")
    assert [(sample.id, sample.inputs["text"]) for sample in found] == [
        ("train-000.tar/a#0", "a red picture"), ("train-000.tar/b#0", "a blue one"),
        ("train-001.tar/c#0", "one of five"), ("train-001.tar/c#1", "two of five"),
    ]  # fmt: skip
    assert [np.asarray(open_image(root / sample.inputs["image"]))[0, 0, 0] for sample in found] == [3, 4, 5, 5]
    assert coco_samples(root, "test") == evaluated
    nocaps = nocaps_samples(root.parent / "nocaps", "train")
    assert [open_image(Path(sample.inputs["image"])).size for sample in nocaps] == [(5, 4)] * 4


@pytest.mark.parametrize("content", [b"{}", b'{"captions": [3]}', b'{"captions": "one"}', b"[1]", b'{"caption": " "}'])
def test_a_sample_of_a_shard_without_a_caption_is_told(root: Path, content: bytes) -> None:
    write_shard(root / "train-000.tar", {"a.png": png(3), "a.json": content})
    with pytest.raises(InputError, match=r"train-000\.tar.*sample a"):
        coco_samples(root, "train")
