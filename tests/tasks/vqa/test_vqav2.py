from __future__ import annotations

import dataclasses
import itertools
import json
import shutil
from pathlib import Path

import pytest
import torch

import harness
import tasks
from backbones import InputError, UsageError
from backbones.multiway import Multiway
from backbones.tokenizer import BOS, EOS, Tokenizer
from harness.cli import main
from tasks.adapter import Sample, TaskContext
from tasks.bootstrap import Measurement
from tasks.common.packing import Packed
from tasks.recipe import changed
from tasks.vqa.recipes import RECIPES
from tasks.vqa.vocabulary import Vocabulary
from tests.backbones.test_multiway import SMALL
from tests.conftest import FAST
from tests.support.photographs import question_folder
from tests.support.questions import (
    TEST_DEV,
    VAL,
    VOCABULARY,
    annotation_row,
    answered,
    asked,
    colour_questions,
    image_name,
    question_row,
    write_annotations,
    write_index,
    write_labels,
    write_questions,
)

ADAPTER = tasks.get("vqav2")


@pytest.fixture(scope="module")
def colours(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Read only."""
    return colour_questions(tmp_path_factory.mktemp("vqa") / "coco")


@pytest.fixture
def folder(colours: Path, tmp_path: Path) -> Path:
    """A copy that a test may damage."""
    return Path(shutil.copytree(colours, tmp_path / "coco"))


def images(samples: list[Sample]) -> set[int]:
    return {sample.annotation["image"] for sample in samples}


def measured(predictions: dict[str, str], samples: list[Sample]) -> dict[str, Measurement]:
    found = ADAPTER.score({question: {"answer": answer} for question, answer in predictions.items()}, samples)
    return {measurement.metric: measurement for measurement in found}


# Splits


def test_training_is_both_parts_without_the_held_out_images(folder: Path) -> None:
    train, val, rest = (ADAPTER.samples(folder, split) for split in ("train", "val", "rest_val"))
    assert len(val) == 3 * len(VAL)
    held_out = images(rest)
    assert len(held_out) == len(VAL) // 2
    assert [sample for sample in val if sample.annotation["image"] in held_out] == rest
    assert images(train) == set(range(300, 324)) | set(VAL) - held_out
    ids = [sample.id for sample in train]
    assert len(ids) == len(set(ids)) == 3 * (24 + 7)
    assert not set(ids) & {sample.id for sample in rest}
    assert train[0] == (
        "300000",
        {"image": "train2014/COCO_train2014_000000000300.jpg", "text": "What colour is it?"},
        {
            "image": 300,
            "question_type": "what",
            "answer_type": "other",
            "answers": [*["red"] * 9, "A RED!"],
            "targets": {"red": 1.0},
        },
    )


def test_questions_without_an_answer_in_the_vocabulary_are_left_out_of_training_alone(folder: Path) -> None:
    write_labels(folder, ["red", "yes", "no", "one"])
    assert len(ADAPTER.samples(folder, "val")) == 3 * len(VAL)
    train = ADAPTER.samples(folder, "train")
    colour_asked = [sample for sample in train if sample.annotation["answer_type"] == "other"]
    assert {sample.annotation["image"] % 3 for sample in colour_asked} == {0}
    assert next(s for s in train if s.annotation["answer_type"] == "number").annotation["targets"] == {"one": 1.0}


def test_test_splits_have_no_truth(colours: Path) -> None:
    dev, std = (ADAPTER.samples(colours, split) for split in ("test-dev", "test-std"))
    assert (len(dev), len(std)) == (9, 15)
    assert {sample.annotation for sample in std} == {None}
    assert dev[0].id == "900000"
    assert ADAPTER.labels(colours).answers == VOCABULARY
    assert ADAPTER.splits["test-dev"].server == ADAPTER.splits["test-std"].server == "EvalAI challenge 830"
    sizes = {name: split.size for name, split in ADAPTER.splits.items()}
    assert sizes == {"train": None, "val": 214_354, "rest_val": None, "test-dev": 107_394, "test-std": 447_793}


def index_rows(samples: list[Sample], *, labelled: bool = True) -> list[dict]:
    """Index rows that the official code would write for the same samples."""
    rows = []
    for sample in samples:
        targets = sample.annotation["targets"] if labelled else {}
        labels = [VOCABULARY.index(answer) for answer in targets]
        row = {"image_path": sample.inputs["image"], "text_segment": [5, 6, 7], "labels": labels}
        rows.append({**row, "scores": list(targets.values()), "qid": int(sample.id)})
    return rows


def to_index_files(folder: Path) -> None:
    """The official index files in place of the questions and annotations."""
    train, val, rest = (ADAPTER.samples(folder, split) for split in ("train", "val", "rest_val"))
    is_train2014 = [sample.inputs["image"].startswith("train2014") for sample in train]
    write_index(folder, "train", index_rows([s for s, own in zip(train, is_train2014, strict=True) if own]))
    write_index(folder, "trainable_val", index_rows([s for s, own in zip(train, is_train2014, strict=True) if not own]))
    write_index(folder, "val", index_rows(val))
    write_index(folder, "rest_val", index_rows(rest))
    for name, split in (("test-dev", "test-dev"), ("test", "test-std")):
        write_index(folder, name, index_rows(ADAPTER.samples(folder, split), labelled=False))
    write_labels(folder, VOCABULARY)
    shutil.rmtree(folder / "vqa")


def test_index_files_alone_give_the_same_samples_with_token_ids_and_soft_labels(folder: Path) -> None:
    before = {split: ADAPTER.samples(folder, split) for split in ADAPTER.splits}
    to_index_files(folder)
    for split, samples in before.items():
        after = ADAPTER.samples(folder, split)
        assert [sample.id for sample in after] == [sample.id for sample in samples]
        for old, new in zip(samples, after, strict=True):
            assert new.inputs["image"] == old.inputs["image"]
            assert new.inputs["text"] == [5, 6, 7]
            if old.annotation is None:
                assert new.annotation is None
            else:
                assert new.annotation == {name: old.annotation[name] for name in ("image", "targets")}


def test_official_files_win_over_index_files_which_decide_what_is_held_out(folder: Path) -> None:
    kept = [sample for sample in ADAPTER.samples(folder, "val") if sample.annotation["image"] in (603, 610)]
    write_index(folder, "rest_val", index_rows(kept[:1] + kept[3:4]))  # the official code may drop questions
    rest = ADAPTER.samples(folder, "rest_val")
    assert rest == kept
    assert rest[0].inputs["text"] == "What colour is it?"
    assert not images(ADAPTER.samples(folder, "train")) & {603, 610}


def test_a_folder_without_questions(tmp_path: Path) -> None:
    for split, told in (
        (
            "train",
            r"neither v2_.*train2014_questions.json, v2_.*val2014_questions.json in its folder vqa nor vqa.train",
        ),
        ("test-std", r"neither v2_OpenEnded_mscoco_test2015_questions.json in its folder vqa nor vqa.test.jsonl"),
    ):
        with pytest.raises(InputError, match=told):
            ADAPTER.samples(tmp_path, split)
    write_questions(tmp_path, "val2014", [])
    with pytest.raises(InputError, match=r"not complete: v2_\S+val2014\S+ is there, and v2_\S+train2014\S+ is absent"):
        ADAPTER.samples(tmp_path, "train")
    write_questions(tmp_path, "test2015", [])
    with pytest.raises(InputError, match=r"Split test-std under .* has no questions"):
        ADAPTER.samples(tmp_path, "test-std")
    with pytest.raises(UsageError, match="Did you mean"):
        ADAPTER.samples(tmp_path, "test_dev")


def test_a_question_id_in_both_parts(folder: Path) -> None:
    write_questions(folder, "val2014", [*asked(VAL), question_row(300000, "Why?")])
    write_annotations(folder, "val2014", [*answered(VAL), annotation_row(300000, ["yes"] * 10)])
    (folder / "vqa" / "rest_val_images.json").write_text("[601]")
    with pytest.raises(InputError, match=r"1 question id\(s\) appear twice in train, such as 300000"):
        ADAPTER.samples(folder, "train")


# Items and model


def context(folder: Path, spm: Path, **changes: object) -> TaskContext:
    recipe = changed(RECIPES["nano"], [f"{name}={value}" for name, value in {"image_size": 32, **changes}.items()])
    return TaskContext(root=folder, recipe=recipe, tokenizer=Tokenizer(spm), labels=ADAPTER.labels(folder))


def test_training_items_have_dense_targets_and_evaluation_items_none(colours: Path, spm: Path) -> None:
    own = context(colours, spm)
    samples = ADAPTER.samples(colours, "train")[:3]
    items = ADAPTER.train_set(samples, own)
    batch = items.collate([items[0], items[1], items[2]])
    assert batch["image"].shape == (3, 3, 32, 32)
    assert batch["target"].tolist() == [[1, 0, 0, 0, 0, 0], [0, 1, 0, 0, 0, 0], [0, 0, 1, 0, 0, 0]]
    ids = [own.tokenizer.encode(sample.inputs["text"]) for sample in samples]
    longest = max(map(len, ids))
    for row, padding, expected in zip(batch["text"].tolist(), batch["text_padding"].tolist(), ids, strict=True):
        assert row[: len(expected) + 2] == [BOS, *expected, EOS]
        assert padding == [False] * (len(expected) + 2) + [True] * (longest - len(expected))
    assert ADAPTER.eval_set(samples, own)[0].keys() == {"image", "text"}


def test_questions_are_cut_to_64_tokens(colours: Path, spm: Path) -> None:
    sample = ADAPTER.samples(colours, "rest_val")[0]
    long = sample._replace(inputs={**sample.inputs, "text": "What colour is it? " * 20})
    text = ADAPTER.eval_set([long], context(colours, spm))[0]["text"]
    assert len(text) == 64
    assert text[-1] == EOS


def test_evaluation_sees_the_whole_image_with_half_as_mean_and_deviation(folder: Path, spm: Path) -> None:
    from PIL import Image

    sample = ADAPTER.samples(folder, "rest_val")[0]
    picture = Image.new("RGB", (64, 32), (255, 255, 255))
    picture.paste((0, 0, 0), (0, 0, 32, 32))  # the left half
    picture.save(folder / sample.inputs["image"], quality=100, subsampling=0)
    image = ADAPTER.eval_set([sample], context(folder, spm))[0]["image"]
    assert image.shape == (3, 32, 32)
    assert image[:, :, :14].max() < -0.95
    assert image[:, :, 18:].min() > 0.95


def test_evaluation_decodes_an_image_once_for_all_its_questions_and_training_every_time(
    colours: Path, spm: Path, decoded: list[Path]
) -> None:
    samples = [twice for sample in ADAPTER.samples(colours, "rest_val")[:4] for twice in (sample, sample)]
    own = context(colours, spm)
    items = ADAPTER.eval_set(samples, own)
    first, again = items[0]["image"], items[1]["image"]
    assert first.equal(again)
    for index in range(2, len(items)):
        assert items[index]["image"].equal(ADAPTER.eval_set(samples[index : index + 1], own)[0]["image"])
    images = [sample.inputs["image"] for sample in samples]
    changes = 1 + sum(left != right for left, right in itertools.pairwise(images))
    assert changes < len(samples)
    assert len(decoded) == changes + len(items) - 2  # those of the lone samples too
    trained = ADAPTER.train_set(ADAPTER.samples(colours, "train")[:1], own)
    decoded.clear()
    assert not trained[0]["image"].equal(trained[0]["image"])  # each time another crop
    assert len(decoded) == 2


def test_augmentation_follows_the_recipe(colours: Path, spm: Path) -> None:
    samples = ADAPTER.samples(colours, "train")[:1]
    for wanted in ("true", "false"):
        transform = ADAPTER.train_set(samples, context(colours, spm, rand_augment=wanted))._transform
        assert any(type(step).__name__ == "RandAugment" for step in transform.transforms) == (wanted == "true")


# Scores


@pytest.fixture
def published(truth: Path, tmp_path: Path) -> tuple[Path, list[dict]]:
    """The manifest's cases, and a folder in which their truth has the official names."""
    cases = [case for case in json.loads((truth / "manifest.json").read_text())["cases"] if case["task"] == "vqav2"]
    assert cases
    return tmp_path, cases


def test_official_scores_to_the_printed_digit(
    truth: Path, published: tuple[Path, list[dict]], capsys: pytest.CaptureFixture
) -> None:
    """Real questions and answers through `harness score`, against the official tool's figures."""
    root, cases = published
    for case in cases:
        data = root / case["id"]
        (data / "vqa").mkdir(parents=True)
        (data / "vqa" / "v2_OpenEnded_mscoco_val2014_questions.json").symlink_to((truth / case["questions"]).resolve())
        (data / "vqa" / "v2_mscoco_val2014_annotations.json").symlink_to((truth / case["annotations"]).resolve())
        arguments = ["score", "vqav2", str(truth / case["predictions"]), "--data", str(data), "--split", "val"]
        assert main([*arguments, "--json"]) == 0
        rows = {row["metric"]: row for row in json.loads(capsys.readouterr().out)}
        for kind, printed in case["expected"].items():
            row = rows["accuracy" if kind == "overall" else f"accuracy_{kind}"]
            digits = len(printed.partition(".")[2])
            assert f"{row['value']:.{digits}f}" == printed, (case["id"], kind)
            assert row["low"] < row["value"] < row["high"], (case["id"], kind)
        # Training answers are not among these files, and without them there is no vocabulary.
        assert rows["soft_score"]["value"] is None
        assert "answer2label.txt" in rows["soft_score"]["note"]


def test_official_and_soft_score_differ_where_they_should(tmp_path: Path) -> None:
    write_labels(tmp_path, ["2", "cat", "dog"])
    write_questions(tmp_path, "val2014", [question_row(number, "?") for number in (1000, 1001, 2000, 3000)])
    rows = [
        annotation_row(1000, [*["two"] * 8, *["2"] * 2], kind="number"),  # ten for the official code, two for BEiT-3's
        annotation_row(1001, [*["A cat"] * 7, *["cat"] * 3]),
        annotation_row(2000, ["fish"] * 10),  # not in the vocabulary
        annotation_row(3000, ["dog"] * 10),
    ]
    write_annotations(tmp_path, "val2014", rows)
    samples = ADAPTER.samples(tmp_path, "val")
    scores = measured({"1000": "2", "1001": "cat", "2000": "fish", "3000": "cat"}, samples)
    assert scores["accuracy"].value == pytest.approx(75)
    assert (scores["accuracy"].samples, scores["accuracy"].units) == (4, 3)  # two questions on one image
    assert scores["accuracy_number"].value == pytest.approx(100)
    assert scores["accuracy_other"].value == pytest.approx(200 / 3)
    assert scores["accuracy_yes/no"].unavailable == "there is no question of answer type yes/no"
    assert scores["soft_score"].value == pytest.approx(100 * (0.6 + 0.9 + 0) / 3)
    assert (scores["soft_score"].samples, scores["soft_score"].units) == (3, 2)


def test_text_image_ids_and_annotations_without_types_are_scored(tmp_path: Path) -> None:
    """As in TextVQA's and VizWiz's questions brought into this form."""
    root = tmp_path / "coco"
    names = ("003a8ae2ef43b901", "VizWiz_val_00000007.jpg")
    questions = [question_row(number, "What does it say?") | {"image_id": names[number // 2]} for number in range(4)]
    answers = (["stop"] * 10, [*["go"] * 2, *["Exit"] * 8], [*["a"] * 9, "b"], [*["unanswerable"] * 7, *["cola"] * 3])
    rows = [annotation_row(number, given) | {"image_id": names[number // 2]} for number, given in enumerate(answers)]
    for row in rows:
        for name in ("question_type", "answer_type", "multiple_choice_answer"):
            del row[name]
    for part in ("train2014", "val2014"):
        shifted = 10 if part == "train2014" else 0
        write_questions(root, part, [row | {"question_id": row["question_id"] + shifted} for row in questions])
        write_annotations(root, part, [row | {"question_id": row["question_id"] + shifted} for row in rows])
    write_labels(root, ["stop", "exit"])
    samples = ADAPTER.samples(root, "val")
    assert [s.inputs["image"] for s in samples][1:3] == [f"val2014/{names[0]}.jpg", f"val2014/{names[1]}"]
    found = measured({"0": "stop", "1": "go", "2": "b", "3": "cola"}, samples)
    assert found["accuracy"].value == pytest.approx(100 * (1 + 0.6 + 0.3 + 0.9) / 4)
    assert found["accuracy_other"].unavailable == "there is no question of answer type other"
    assert images(ADAPTER.samples(root, "rest_val")) < set(names)
    (root / "answer2label.txt").unlink()
    with pytest.raises(InputError, match="No answer occurs 9 times"):
        ADAPTER.labels(root)


def test_index_files_alone_have_a_soft_score_and_say_why_there_is_no_more(folder: Path) -> None:
    samples = ADAPTER.samples(folder, "rest_val")
    predictions = {sample.id: "yes" for sample in samples}
    before = measured(predictions, samples)
    to_index_files(folder)
    after = measured(predictions, ADAPTER.samples(folder, "rest_val"))
    assert after["soft_score"].value == before["soft_score"].value > 0
    for name in ("accuracy", "accuracy_yes/no", "accuracy_number", "accuracy_other"):
        assert not before[name].unavailable
        assert "needs each question's ten answers" in after[name].unavailable


def test_every_metric_is_declared(colours: Path) -> None:
    samples = ADAPTER.samples(colours, "rest_val")
    scores = measured({sample.id: "red" for sample in samples}, samples)
    assert list(scores) == [metric.name for metric in ADAPTER.metrics]
    assert [metric.name for metric in ADAPTER.metrics if metric.primary] == ["accuracy"]


def write_results(path: Path, samples: list[Sample], answer: str = "yes") -> list[dict]:
    results = [{"question_id": int(sample.id), "answer": answer} for sample in samples]
    path.write_text(json.dumps(results))
    return results


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda results: results[1:], r"1 missing: 6"),
        (lambda results: [*results, results[0]], r"1 duplicate: 6"),
        (lambda results: [*results, {"question_id": 5, "answer": "no"}], r"1 unknown: 5\)"),
        (lambda results: results[0], r"is not a list of \{\"question_id\""),
        (lambda results: [*results[1:], {"question_id": 1}], r"result 20 \(from 0\) has no field 'answer'"),
        (lambda results: [{**results[0], "answer": 3}, *results[1:]], r"no text under 'answer' \(found: 3\)"),
    ],
)
def test_predictions_that_are_not_each_question_once(colours: Path, tmp_path: Path, change, told: str) -> None:
    path = tmp_path / "results.json"
    path.write_text(json.dumps(change(write_results(path, ADAPTER.samples(colours, "rest_val")))))
    with pytest.raises(InputError, match=told):
        harness.score("vqav2", path, data=colours)


def test_results_of_a_challenge_and_records_of_ours_score_alike(colours: Path, tmp_path: Path) -> None:
    samples = ADAPTER.samples(colours, "rest_val")
    results = write_results(tmp_path / "results.json", samples)
    records = [json.dumps({"id": str(result["question_id"]), "answer": result["answer"]}) for result in results]
    (tmp_path / "ours.jsonl").write_text("\n".join(records) + "\n")
    values = [
        [(row.metric, row.value) for row in harness.score("vqav2", tmp_path / name, data=colours.parent)]
        for name in ("results.json", "ours.jsonl")
    ]
    assert values[0] == values[1]
    assert dict(values[0])["accuracy_yes/no"] > 0


def test_test_questions_are_not_scored(colours: Path, tmp_path: Path) -> None:
    write_results(tmp_path / "results.json", ADAPTER.samples(colours, "test-dev"))
    with pytest.raises(UsageError, match=r"not public \(EvalAI challenge 830 scores it\)"):
        harness.score("vqav2", tmp_path / "results.json", data=colours, split="test-dev")


# Submission


@pytest.mark.parametrize(("split", "part"), [("test-dev", "test-dev2015"), ("test-std", "test2015")])
def test_a_submission_has_every_question_once(colours: Path, split: str, part: str) -> None:
    samples = ADAPTER.samples(colours, split)
    predictions = {sample.id: {"answer": VOCABULARY[int(sample.id) % 6], "score": 0.5} for sample in reversed(samples)}
    (file,) = ADAPTER.submission(predictions, samples, split=split, name="mine", labels=ADAPTER.labels(colours))
    assert file.filename == f"vqa_OpenEnded_mscoco_{part}_mine_results.json"
    assert json.loads(file.content) == [
        {"question_id": int(sample.id), "answer": VOCABULARY[int(sample.id) % 6]} for sample in samples
    ]


def test_answers_that_no_submission_may_have(colours: Path) -> None:
    samples = ADAPTER.samples(colours, "test-dev")
    predictions = {sample.id: {"answer": "red"} for sample in samples}
    asked_second = f"{TEST_DEV[0]}001"
    predictions[asked_second] = {"answer": "Red"}
    options = {"split": "test-dev", "name": "x", "labels": ADAPTER.labels(colours)}
    with pytest.raises(InputError, match=f"Question {asked_second} has an answer outside the vocabulary of 6: 'Red'"):
        ADAPTER.submission(predictions, samples, **options)
    predictions[asked_second] = {"answer": None}
    with pytest.raises(InputError, match=f"The prediction of question {asked_second} has no text"):
        ADAPTER.submission(predictions, samples, **options)


def test_a_submission_needs_the_vocabulary(tmp_path: Path) -> None:
    write_questions(tmp_path, "test-dev2015", asked([900]))
    samples = ADAPTER.samples(tmp_path, "test-dev")
    predictions = {sample.id: {"answer": "red"} for sample in samples}
    with pytest.raises(InputError, match=r"against the answer vocabulary, which this data folder lacks"):
        ADAPTER.submission(predictions, samples, split="test-dev", name="x", labels=ADAPTER.labels(tmp_path))


@pytest.mark.parametrize("split", ["train", "val", "rest_val"])
def test_public_splits_are_not_submitted(split: str) -> None:
    with pytest.raises(UsageError, match=f"The truth of {split} is public.* Submissions are of test-dev and test-std"):
        ADAPTER.submission({}, [], split=split, name="x")


# Check


def findings(folder: Path, *, decode: bool = False) -> tuple[list[str], list[str]]:
    """Answers that match the annotators' and answers that do not."""
    found = harness.check("vqav2", data=folder, decode=decode)["vqav2"]
    return [f.text for f in found if f.ok], [f.text for f in found if not f.ok]


def test_check_counts_against_the_official_sizes(folder: Path) -> None:
    right, wrong = findings(folder.parent)
    assert wrong == []
    assert right[0] == "train2014: 72 questions (official: 443,757) on 24 images"
    assert right[1] == "val2014: 42 questions (official: 214,354) on 14 images"
    assert "answers: 6 (official: 3,129)" in right
    assert "test-dev2015: 9 questions (official: 107,394) on 3 images" in right
    assert "test2015: 15 questions (official: 447,793) on 5 images" in right
    assert "held-out images: 7, chosen by their ids" in right
    (folder / "vqa" / "rest_val_images.json").write_text("[600, 601, 602, 603, 604, 605, 606]")
    (told,) = [text for text in findings(folder)[0] if text.startswith("held-out")]
    assert told == f"held-out images: 7, from {folder / 'vqa' / 'rest_val_images.json'}"


def test_checking_and_scoring_write_nothing_into_the_data_folder(folder: Path, tmp_path: Path) -> None:
    before = sorted(folder.rglob("*"))
    findings(folder, decode=True)
    write_results(tmp_path / "results.json", ADAPTER.samples(folder, "rest_val"))
    harness.score("vqav2", tmp_path / "results.json", data=folder)
    assert sorted(folder.rglob("*")) == before


def test_check_names_what_is_wrong(folder: Path) -> None:
    for image in (601, 602):
        (folder / image_name("val2014", image)).unlink()
    (folder / image_name("train2014", 305)).write_text("this is no picture")
    rows = answered(VAL)
    rows[4]["answers"].pop()
    write_annotations(folder, "val2014", [*rows[1:], annotation_row(777000, ["yes"] * 10)])
    (folder / "vqa" / "v2_OpenEnded_mscoco_test2015_questions.json").write_text("{")
    _, wrong = findings(folder)
    assert len(wrong) == 5
    joined = "\n".join(wrong)
    assert "val2014: 1 question(s) have no annotation: 600000" in joined
    assert "val2014: 1 question(s) are annotated but not in the questions file: 777000" in joined
    assert "val2014: 1 question(s) do not have 10 answers" in joined
    absent = folder / image_name("val2014", 601)
    assert f"val2014: 2 of 14 images absent, such as {absent}. Restore them." in wrong
    assert "test2015_questions.json (VQA v2.0 questions) cannot be read" in joined
    broken = findings(folder, decode=True)[1]
    assert any(str(folder / image_name("train2014", 305)) in text and "not an image" in text for text in broken)
    assert sum("named in the annotations but absent" in text for text in broken) == 2


def test_check_of_index_files_alone(folder: Path) -> None:
    to_index_files(folder)
    right, wrong = findings(folder)
    assert wrong == []
    assert (
        "val: 42 questions (official: 214,354) on 14 images, from index files alone: token ids, no official"
        in "".join(right)
    )
    (folder / "answer2label.txt").unlink()
    wrong = findings(folder)[1]
    assert any("answer2label.txt" in text for text in wrong)


def test_check_of_an_empty_folder(tmp_path: Path) -> None:
    right, wrong = findings(tmp_path)
    assert any("v2_OpenEnded_mscoco_train2014_questions.json is absent. Put it there." in text for text in wrong)
    assert all(text.startswith("test") for text in right)  # without them there is nothing to submit, no more


# Whole runs


def run(data: Path, out: Path, spm: Path, *changes: str, **options: object) -> dict:
    rows = harness.run(
        "vqav2", backbone="multiway_nano", data=data, out=out, tokenizer=spm, changes=[*FAST, *changes], **options
    )
    return {row.metric: row for row in rows}


@pytest.mark.training
def test_a_run_fine_tunes_predicts_and_scores_the_held_out_questions(
    colours: Path, tmp_path: Path, spm: Path, capsys: pytest.CaptureFixture
) -> None:
    rows = run(colours, tmp_path, spm)
    assert rows["accuracy"].n == 21
    assert rows["accuracy"].split == "rest_val"
    assert 0 <= rows["accuracy"].low <= rows["accuracy"].value <= rows["accuracy"].high <= 100
    work = tmp_path / "vqav2" / "multiway_nano-seed0"
    records = [json.loads(line) for line in (work / "predictions" / "rest_val.jsonl").read_text().splitlines()]
    assert [record["id"] for record in records] == [sample.id for sample in ADAPTER.samples(colours, "rest_val")]
    assert {record["answer"] for record in records} <= set(VOCABULARY)
    assert all(0 < record["score"] < 1 for record in records)
    # The same weights answer the test questions, whose records become a submission.
    path = harness.predict(
        "vqav2",
        backbone="multiway_nano",
        weights=work / "checkpoints" / "final.safetensors",
        data=colours,
        out=tmp_path,
        tokenizer=spm,
        split="test-dev",
        changes=FAST,
    )
    predictions = {record["id"]: record for record in map(json.loads, path.read_text().splitlines())}
    samples = ADAPTER.samples(colours, "test-dev")
    (file,) = ADAPTER.submission(predictions, samples, split="test-dev", name="n", labels=ADAPTER.labels(colours))
    assert len(json.loads(file.content)) == 9


def test_validation_questions_are_not_scored_with_a_model_that_trained_on_them(
    colours: Path, tmp_path: Path, spm: Path
) -> None:
    with pytest.raises(UsageError, match="split val are in its training split"):
        run(colours, tmp_path, spm, split="val")


@pytest.mark.training
def test_an_image_that_is_absent_stops_the_run_with_its_name(folder: Path, tmp_path: Path, spm: Path) -> None:
    gone = folder / image_name("train2014", 303)
    gone.unlink()
    with pytest.raises(InputError, match=f"Image {gone} is named in the annotations but absent"):
        run(folder, tmp_path, spm)


@pytest.mark.training
def test_answers_that_depend_on_question_and_image_are_learnt(colours: Path, spm: Path) -> None:
    """The question alone tells the number, the image alone nothing: only both tell the colour."""
    torch.manual_seed(0)
    backbone = Multiway(dataclasses.replace(SMALL, final_norm=False, vocab_size=2048, max_text_positions=66))
    own = context(colours, spm)
    model = ADAPTER.model(backbone, own).train()
    items = ADAPTER.train_set(ADAPTER.samples(colours, "train"), own)
    batch = items.collate([items[index] for index in range(len(items))])
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=3e-3)
    for _ in range(60):
        loss = model(**batch, mode="loss")["loss"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    samples = ADAPTER.samples(colours, "rest_val")
    held_out = ADAPTER.eval_set(samples, own)
    with torch.no_grad():
        records = model.eval()(**held_out.collate([held_out[i] for i in range(len(held_out))]), mode="predict")
    scores = measured({s.id: record["answer"] for s, record in zip(samples, records, strict=True)}, samples)
    assert scores["accuracy"].value > 90


def test_real_photographs_go_the_full_way(truth: Path, tmp_path: Path, spm: Path) -> None:
    """Real questions on photographs of every shape, with RandAugment: two steps, predictions, scores."""
    data = question_folder(truth, tmp_path / "data" / "coco")
    train, rest = (ADAPTER.samples(data, split) for split in ("train", "rest_val"))
    assert len(train) > 30
    assert len(rest) > 10
    changes = ["epochs=1", "warmup_epochs=0", f"batch_size={len(train) // 2}", f"micro_batch={len(train) // 2}"]
    rows = run(tmp_path / "data", tmp_path, spm, *changes, "image_size=32", "rand_augment=true")
    assert rows["accuracy"].n == len(rest)
    kinds = [rows[f"accuracy_{kind}"] for kind in ("yes/no", "number", "other")]
    assert sum(row.n for row in kinds) == len(rest)
    total = sum(row.n * row.value for row in kinds)
    assert rows["accuracy"].value == pytest.approx(total / len(rest))
    assert rows["soft_score"].value is not None


def test_samples_of_a_large_set_are_bytes(colours: Path) -> None:
    samples = ADAPTER.samples(colours, "train")
    assert isinstance(samples, Packed)
    assert len(samples.content) / len(samples) < 450  # ten answers and their worth among them
    assert ADAPTER.samples(colours, "test-dev")[0].inputs.keys() == {"image", "text"}


def test_models_and_training_sets_are_built_from_the_vocabulary_that_was_read(colours: Path, spm: Path) -> None:
    given = dataclasses.replace(context(colours, spm), labels=Vocabulary(("red", "x", "yes", "no", "green", "blue")))
    assert ADAPTER.model(Multiway(SMALL), given).answers == given.labels.answers
    items = ADAPTER.train_set(ADAPTER.samples(colours, "train")[:1], given)
    assert items[0]["target"].tolist() == [1, 0, 0, 0, 0, 0]
    absent = dataclasses.replace(given, labels=None, root=colours / "train2014")
    with pytest.raises(InputError, match=r"annotations, of which .* is absent"):
        ADAPTER.model(Multiway(SMALL), absent)
