"""Behaviour that all retrieval tasks share, on COCO's adapter."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch

import harness
import tasks
from backbones import InputError, UsageError, weights
from backbones.tokenizer import Tokenizer
from harness.cli import main
from harness.experiment import limited, plan
from harness.predictions import PredictionWriter, read
from tasks.adapter import Sample, TaskContext
from tests.tasks.captioned import edit, write_coco

pytestmark = pytest.mark.usefixtures("few_draws")

ADAPTER = tasks.get("coco_retrieval")
FAST = ("image_size=16", "batch_size=6", "micro_batch=6", "epochs=1", "warmup_epochs=0", "workers=0", "precision=fp32")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return write_coco(tmp_path / "coco")


def context(root: Path, spm: Path, **changes: object) -> TaskContext:
    recipe = dataclasses.replace(ADAPTER.recipes["nano"], **changes)
    return TaskContext(root=root, recipe=recipe, tokenizer=Tokenizer(spm))


def write_index(root: Path, split: str, spm: Path) -> None:
    """The official index file in place of Karpathy's json."""
    encode, rows = Tokenizer(spm).encode, []
    for number, image in enumerate(ADAPTER.captioned_images(root, split)):
        for sentence in image.sentences:
            rows.append({"image_path": image.path, "text_segment": encode(sentence.text), "image_id": number})
    (root / f"coco_retrieval.{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


# Samples and data sets


def test_each_image_once_and_then_each_text_once(root: Path) -> None:
    samples = ADAPTER.samples(root, "test")
    assert [sample.id for sample in samples[:8]] == [f"image:{500 + n}" for n in (4, 5, 10, 11, 16, 17, 22, 23)]
    assert len(samples) == 8 + 4 * 2 + 4 * 3
    assert samples[1] == (
        "image:505",
        {"image": "val2014/COCO_val2014_000000000505.jpg"},
        {"texts": ["text:50", "text:51", "text:52"]},
    )
    assert samples[8:11] == [
        ("text:40", {"text": "A green picture, 4."}, {"image": "image:504"}),
        ("text:41", {"text": "number 4 is green"}, {"image": "image:504"}),
        ("text:50", {"text": "A blue picture, 5."}, {"image": "image:505"}),
    ]
    assert json.loads(json.dumps([sample.annotation for sample in samples])) == [s.annotation for s in samples]


def test_training_takes_a_pair_per_text(root: Path, spm: Path) -> None:
    samples = ADAPTER.samples(root, "train")
    texts = [sample for sample in samples if "text" in sample.inputs]
    items = ADAPTER.train_set(samples, context(root, spm))
    assert len(items) == len(texts) == 28
    encode = Tokenizer(spm).encode
    for index, text in enumerate(texts):
        item = items[index]
        assert item["tokens"].tolist() == [0, *encode(text.inputs["text"]), 2]
        # Whatever the crop, the brightest channel is the one that the caption names.
        number = int(text.annotation["image"].removeprefix("image:")) - 500
        assert item["image"].mean((1, 2)).argmax() == number % 3


def test_evaluation_sees_the_whole_image_with_mean_and_std_one_half(root: Path, spm: Path) -> None:
    from PIL import Image

    pixels = np.zeros((32, 64, 3), np.uint8)
    pixels[:, :32] = 255  # the left half
    samples = ADAPTER.samples(root, "test")
    Image.fromarray(pixels).save(root / samples[0].inputs["image"], quality=100)
    items = ADAPTER.eval_set(samples, context(root, spm))
    image = items[0]["image"]
    assert image.shape == (3, 80, 80)
    torch.testing.assert_close(image[:, 40, [2, 35, 45, 77]], torch.tensor([[1.0, 1.0, -1.0, -1.0]] * 3))
    assert [sorted(items[index]) for index in (7, 8)] == [["image"], ["tokens"]]
    assert len(items) == len(samples)


def test_a_limit_takes_images_evenly_with_all_their_texts(root: Path) -> None:
    for split, expected in (("train", [500, 507, 514]), ("test", [504, 510, 517])):
        samples = ADAPTER.samples(root, split)
        few = limited(ADAPTER, samples, 3)
        images = [sample for sample in few if "image" in sample.inputs]
        assert [image.id for image in images] == [f"image:{number}" for number in expected], split
        assert [sample.id for sample in few[3:]] == [text for image in images for text in image.annotation["texts"]]
    assert limited(ADAPTER, samples, 8) == limited(ADAPTER, samples, 9) == limited(ADAPTER, samples, 99) == samples


def test_the_official_index_files_give_the_same_data_under_ids_of_their_own(root: Path, spm: Path) -> None:
    before = {split: ADAPTER.samples(root, split) for split in ("train", "test")}
    for split in before:
        write_index(root, split, spm)
    assert ADAPTER.samples(root, "test") == before["test"]  # Karpathy's json wins
    (root / "dataset_coco.json").unlink()
    for split, samples in before.items():
        found = ADAPTER.samples(root, split)
        assert len(found) == len(samples)
        for mine, theirs in zip(samples, found, strict=True):
            if "image" in mine.inputs:
                assert theirs.inputs == mine.inputs
                assert len(theirs.annotation["texts"]) == len(mine.annotation["texts"])
            else:
                assert theirs.inputs["text"] == Tokenizer(spm).encode(mine.inputs["text"])
    test = ADAPTER.samples(root, "test")
    path = "val2014/COCO_val2014_000000000505.jpg"
    assert test[1] == (f"image:{path}", {"image": path}, {"texts": [f"text:{path}#{place}" for place in range(3)]})
    # The files number images of every split from 0; the ids do not run into each other.
    assert not {sample.id for sample in test} & {sample.id for sample in ADAPTER.samples(root, "train")}
    first = ADAPTER.train_set(ADAPTER.samples(root, "train"), context(root, spm))[0]
    assert first["tokens"].tolist() == [0, *Tokenizer(spm).encode("A red picture, 0."), 2]


# Whole runs


@pytest.mark.training
def test_fine_tuning_prediction_and_score_from_either_layout(
    root: Path, spm: Path, tmp_path: Path, capfd: pytest.CaptureFixture
) -> None:
    options = {"backbone": "multiway_nano", "tokenizer": spm, "data": root, "changes": FAST}
    rows = harness.run("coco_retrieval", out=tmp_path / "out", **options)
    assert "nothing to learn from" not in capfd.readouterr().err  # an image is an item by way of its texts
    assert [(row.metric, row.n) for row in rows][:3] == [("mean_R1", 28), ("i2t_R1", 8), ("i2t_R5", 8)]
    assert len(rows) == 8
    folder = tmp_path / "out" / "coco_retrieval" / "multiway_nano-seed0"
    records = read(folder / "predictions" / "test.jsonl")
    assert [record["id"] for record in records] == [sample.id for sample in ADAPTER.samples(root, "test")]
    features = np.stack([record["feature"] for record in records])
    assert features.dtype == np.float32
    assert features.shape == (28, 128)
    assert np.linalg.norm(features, axis=1) == pytest.approx(1, abs=1e-5)
    # By the definition, without our ranks.
    scores = features[8:] @ features[:8].T
    owner = np.array([[sample.annotation["image"] for sample in ADAPTER.samples(root, "test")[8:]]]).T
    right = owner == np.array([[record["id"] for record in records[:8]]])
    first = right[scores.argmax(0), np.arange(8)]
    assert rows[1].value == pytest.approx(100 * first.mean())
    # The same pictures and words by way of the index files: the same features.
    for split in ("train", "test"):
        write_index(root, split, spm)
    (root / "dataset_coco.json").unlink()
    tuned = folder / "checkpoints" / "final.safetensors"
    again = read(harness.predict("coco_retrieval", weights=tuned, out=tmp_path / "index", **options))
    assert [record["feature"].tolist() for record in again] == [record["feature"].tolist() for record in records]


@pytest.mark.training
def test_the_training_split_can_be_scored_too(root: Path, spm: Path, tmp_path: Path) -> None:
    options = {"backbone": "multiway_nano", "tokenizer": spm, "data": root, "out": tmp_path}
    rows = harness.run("coco_retrieval", split="train", limit=6, changes=FAST, **options)
    assert [row.n for row in rows if row.metric in ("i2t_R1", "t2i_R1")] == [6, 14]


# Bad input


@pytest.mark.training
def test_an_absent_image_is_told(root: Path, spm: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    gone = root / ADAPTER.samples(root, "test")[2].inputs["image"]
    gone.unlink()
    findings = harness.check("coco_retrieval", data=root)["coco_retrieval"]
    assert [finding.text for finding in findings if not finding.ok] == [
        f"test: 1 of 8 images absent, such as {gone}. Restore them."
    ]
    arguments = ["run", "coco_retrieval", "--backbone", "multiway_nano", "--data", str(root), "--out", str(tmp_path)]
    changes = [part for change in FAST for part in ("--set", change)]
    assert main([*arguments, "--tokenizer", str(spm), *changes]) == 1
    assert f"Image {gone} is named in the annotations but absent." in capsys.readouterr().err


@pytest.mark.parametrize("text", ["", "  \n"])
def test_an_empty_caption_is_told_with_sentence_and_image(root: Path, text: str) -> None:
    edit(root / "dataset_coco.json", lambda rows: rows[5]["sentences"][1].update(raw=text))
    expected = r"test: 1 empty captions, such as sentence 51 of image 505 \(val2014/COCO_val2014_000000000505.jpg\)"
    with pytest.raises(InputError, match=expected):
        ADAPTER.samples(root, "test")
    findings = harness.check("coco_retrieval", data=root)["coco_retrieval"]
    assert sum(not finding.ok and "sentence 51" in finding.text for finding in findings) == 1


def test_an_image_without_a_caption_is_told(root: Path) -> None:
    edit(root / "dataset_coco.json", lambda rows: rows[5].update(sentences=[]))
    with pytest.raises(InputError, match="test: 1 images without a caption, such as 505"):
        ADAPTER.samples(root, "test")


def test_a_split_without_images_and_a_folder_without_annotations_are_told(root: Path, tmp_path: Path) -> None:
    edit(root / "dataset_coco.json", lambda rows: [row.update(split="train") for row in rows])
    with pytest.raises(InputError, match="no image in the split val"):
        ADAPTER.samples(root, "val")
    with pytest.raises(InputError, match=r"neither dataset_coco\.json .* nor coco_retrieval\.val\.jsonl"):
        ADAPTER.samples(tmp_path, "val")


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"text_segment": None}, "line 4: text_segment is 'None', not a list of token ids"),
        ({"text_segment": ["a"]}, "line 4: text_segment is"),
        ({"image_id": [1]}, r"line 4: image_id is '\[1\]', not a number"),
        ({"image_path": "val2014/other.jpg"}, r"line 4: image_id 1 is val2014/other.jpg here and val2014/.*505.jpg"),
        ({"image_id": 77}, r"COCO_val2014_000000000505.jpg has more than one image_id"),
    ],
)
def test_a_wrong_index_line_is_told(root: Path, spm: Path, row: dict, message: str) -> None:
    write_index(root, "test", spm)
    (root / "dataset_coco.json").unlink()
    file = root / "coco_retrieval.test.jsonl"
    lines = file.read_text().splitlines()
    lines[3] = json.dumps(json.loads(lines[3]) | row)
    file.write_text("\n".join(lines))
    with pytest.raises(InputError, match=message):
        ADAPTER.samples(root, "test")


def write_features(samples: list[Sample], folder: Path, **changes: object) -> Path:
    """Predictions of the test split: the features that a perfect model would give, but for `changes` by id."""
    axis = {sample.id: number for number, sample in enumerate(s for s in samples if "image" in s.inputs)}
    writer = PredictionWriter(folder, rank=0)
    for sample in samples:
        feature = np.eye(len(axis), dtype=np.float32)[axis[(sample.annotation or {}).get("image", sample.id)]]
        writer.append([{"id": sample.id, "feature": changes.get(sample.id, feature)}])
    writer.close()
    return folder / "0-0.jsonl"


def test_perfect_features_score_100(root: Path, tmp_path: Path) -> None:
    path = write_features(ADAPTER.samples(root, "test"), tmp_path / "p")
    rows = harness.score("coco_retrieval", path, data=root)
    assert {row.value for row in rows} == {100.0}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"text:51": np.zeros(3, np.float32)}, "The feature of text:51 has 3 numbers, that of image:504 8"),
        ({"image:505": None}, "The prediction of image:505 has no list of numbers under 'feature'"),
    ],
)
def test_a_wrong_feature_is_told_by_score(
    root: Path, tmp_path: Path, change: dict, message: str, capsys: pytest.CaptureFixture
) -> None:
    path = write_features(ADAPTER.samples(root, "test"), tmp_path / "p", **change)
    assert main(["score", "coco_retrieval", str(path), "--data", str(root)]) == 1
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("kind", ["missing", "duplicate", "unknown"])
def test_predictions_of_another_set_are_told_by_score(root: Path, tmp_path: Path, kind: str) -> None:
    samples = ADAPTER.samples(root, "test")
    told = {"missing": samples[-1], "duplicate": samples[9], "unknown": Sample("text:9999", {}, samples[9].annotation)}
    wrong = {
        "missing": samples[:-1],
        "duplicate": [*samples, told["duplicate"]],
        "unknown": [*samples, told["unknown"]],
    }
    path = write_features(wrong[kind], tmp_path / "p")
    with pytest.raises(InputError, match=f"1 {kind}: {told[kind].id}"):
        harness.score("coco_retrieval", path, data=root)


@pytest.mark.parametrize("side", ["image", "text"])
def test_features_that_are_all_the_same_do_not_score(root: Path, tmp_path: Path, side: str) -> None:
    """Everything would tie: the score would be chance, of a model that nobody wants to hear of so late."""
    samples = ADAPTER.samples(root, "test")
    same = {sample.id: np.ones(8, np.float32) for sample in samples if sample.id.startswith(side)}
    path = write_features(samples, tmp_path / "p", **same)
    with pytest.raises(InputError, match=f"All {len(same)} {side} features are the same"):
        harness.score("coco_retrieval", path, data=root)


@pytest.mark.training
def test_cutting_texts_down_to_two_words_does_not_raise_the_recall(spm: Path, tmp_path: Path) -> None:
    """Most captions are the same then: they tie, and are worth no more than chance. The model is untrained."""
    root = write_coco(tmp_path / "many", images=120)  # 40 in test
    options = {"backbone": "multiway_nano", "tokenizer": spm, "data": root, "out": tmp_path / "out"}
    model = plan("coco_retrieval", changes=FAST, **options).build_model()
    weights.save(model.state_dict(), tmp_path / "random.safetensors")
    values = {}
    for tokens, distinct in ((64, 100), (4, 3)):
        changes = [*FAST, f"max_tokens={tokens}"]
        experiment = plan("coco_retrieval", changes=changes, **options)
        samples = [sample for sample in experiment.samples("test") if "text" in sample.inputs]
        items = experiment.adapter.eval_set(samples, experiment.context)
        assert len({tuple(items[index]["tokens"].tolist()) for index in range(len(items))}) == distinct
        path = harness.predict(
            "coco_retrieval", weights=tmp_path / "random.safetensors", changes=changes, name=f"{tokens}", **options
        )
        values[tokens] = {row.metric: row.value for row in harness.score("coco_retrieval", path, data=root)}
    chance, one_image = 2.5, 2.5  # % of 40 images
    for metric in ("i2t_R1", "mean_R1"):
        assert values[4][metric] <= max(values[64][metric], chance) + one_image


def test_a_file_of_an_unknown_form_is_told(root: Path, tmp_path: Path) -> None:
    (tmp_path / "features.npy").touch()
    with pytest.raises(UsageError, match=r"features\.npy is not a .jsonl file"):
        harness.score("coco_retrieval", tmp_path / "features.npy", data=root)


def test_check_counts_images_and_captions(root: Path) -> None:
    findings = harness.check("coco_retrieval", data=root)["coco_retrieval"]
    assert all(finding.ok for finding in findings)
    assert findings[2].text == (
        "test: 8 images (official: 5,000), 20 captions (official: 25,010), 2 to 3 captions an image"
    )
    broken = root / ADAPTER.samples(root, "val")[0].inputs["image"]
    broken.write_text("no picture")
    findings = harness.check("coco_retrieval", data=root, decode=True)["coco_retrieval"]
    assert [finding.ok for finding in findings] == [True, True, False, True]
    assert str(broken) in findings[2].text
